#!/usr/bin/env python3
"""Adapters in every published form for the small transformer of `../parity/pipeline`, and the velocities with them.

    python stages/models/tests/adapters/make_fixtures.py

Needs what `scripts/peers.sh` installs. Those of peft and diffusers are written and applied by these libraries; those in original
names are laid out and applied as original.py says, and come back through diffusers' own converter.
"""
import json
import shutil
from pathlib import Path

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from original import diffusers_names, merged, original, stems

HERE = Path(__file__).resolve().parent
PARITY = HERE.parent / "parity"
INPUTS = load_file(PARITY / "mmdit_dual.safetensors")


def fresh():
    return SD3Transformer2DModel.from_pretrained(PARITY / "pipeline/transformer").eval()


@torch.no_grad()
def velocity(model):
    return model(hidden_states=INPUTS["latent"], timestep=INPUTS["timestep"], encoder_hidden_states=INPUTS["context"],
                 pooled_projections=INPUTS["pooled"], return_dict=False)[0].contiguous()


def trained(seed, **config):
    """A wrapped transformer whose matrices are all random."""
    wrapped = get_peft_model(fresh(), LoraConfig(**config))
    g = torch.Generator().manual_seed(seed)
    for _, p in sorted((n, p) for n, p in wrapped.named_parameters() if "lora_" in n):
        p.data = torch.randn(p.shape, generator=g) * 0.2
    return wrapped


def kept(folder, config):
    """The configuration with its sets in order, without what names the machine."""
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    told = json.loads(path.read_text())
    told |= {k: sorted(told[k]) for k in ("target_modules", "exclude_modules") if isinstance(told.get(k), list)}
    path.write_text(json.dumps(told | {"base_model_name_or_path": None}, indent=2) + "\n")
    return config


def peft_forms(out):
    targets = ["attn.to_q", "attn.to_k", "attn2.to_q", "ff.net.0.proj", "ff_context.net.2", "proj_out", "context_embedder",
               "norm1_context.linear", "norm_out.linear", "timestep_embedder.linear_1"]
    config = dict(r=2, lora_alpha=3, use_rslora=True, target_modules=targets, exclude_modules=["transformer_blocks.1.attn.to_k"],
                  rank_pattern={"attn.to_q": 3, "^proj_out": 1}, alpha_pattern={"transformer_blocks.0.attn.to_q": 5})
    wrapped = trained(1, **config)
    out["patterns"] = velocity(wrapped)
    wrapped.save_pretrained(HERE / "patterns")
    kept(HERE / "patterns", config)
    assert torch.equal(velocity(PeftModel.from_pretrained(fresh(), HERE / "patterns")), out["patterns"])

    state = {k.removeprefix("base_model.model."): v for k, v in get_peft_model_state_dict(wrapped).items()}
    metadata = wrapped.peft_config["default"].to_dict() | {"target_modules": sorted(targets), "exclude_modules": config["exclude_modules"]}
    StableDiffusion3Pipeline.save_lora_weights(HERE, transformer_lora_layers=state, weight_name="packed.safetensors",
                                               transformer_lora_adapter_metadata=metadata)
    model = fresh()
    model.load_lora_adapter(HERE, weight_name="packed.safetensors", prefix="transformer")
    out["packed.safetensors"] = velocity(model)

    wrapped = trained(2, r=2, lora_alpha=2, target_modules=["to_v"], layers_to_transform=[0, 2], layers_pattern="transformer_blocks")
    out["layers"] = velocity(wrapped)
    wrapped.save_pretrained(HERE / "layers")
    kept(HERE / "layers", None)
    # As older versions of peft left the adapter's name in the keys.
    path = HERE / "layers/adapter_model.safetensors"
    save_file({k.replace(".weight", ".default.weight"): v for k, v in load_file(path).items()}, path)


def original_forms(out):
    state = original(fresh().state_dict())
    back = diffusers_names(state)
    for k, v in fresh().state_dict().items():
        assert torch.equal(back[k], v), k

    def apply(name, lora):
        model = fresh()
        model.load_state_dict(diffusers_names(merged(state, lora)))
        out[name] = velocity(model)
        save_file({k: v.contiguous() for k, v in lora.items()}, HERE / name)

    def pair(lora, stem, rank, alpha, g, down="lora_down", up="lora_up", dtype=torch.float32):
        key, rows, _ = stems(state)[stem]
        d_out, d_in = state[key].shape
        d_out = d_out if rows is None else d_out // 3
        lora[f"{stem}.{down}.weight"] = (torch.randn(rank, d_in, generator=g) * 0.2).to(dtype)
        lora[f"{stem}.{up}.weight"] = (torch.randn(d_out, rank, generator=g) * 0.2).to(dtype)
        if alpha is not None:
            lora[f"{stem}.alpha"] = torch.tensor(float(alpha)).to(dtype)

    modules = ["joint_blocks.0.x_block.attn.qkv", "joint_blocks.1.context_block.attn.qkv", "joint_blocks.1.x_block.attn2.qkv",
               "joint_blocks.0.x_block.mlp.fc1", "joint_blocks.0.x_block.adaLN_modulation.1", "joint_blocks.2.context_block.adaLN_modulation.1",
               "joint_blocks.1.context_block.attn.proj", "final_layer.adaLN_modulation.1", "final_layer.linear", "context_embedder",
               "y_embedder.mlp.2"]
    g, lora = torch.Generator().manual_seed(3), {}
    for i, m in enumerate(modules):
        pair(lora, "lora_unet_" + m.replace(".", "_"), 2 + i % 3, 1 + i % 2, g)
    apply("kohya.safetensors", lora)
    g, lora = torch.Generator().manual_seed(4), {}
    for i, m in enumerate(modules):
        pair(lora, f"diffusion_model.{m}", 2, None if i % 2 else 1.5, g, "lora_A", "lora_B", torch.float16)
    apply("comfyui.safetensors", lora)
    ours = ["transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_k", "transformer_blocks.1.attn2.to_v",
            "transformer_blocks.2.norm1_context.linear", "transformer_blocks.1.ff_context.net.0.proj", "norm_out.linear", "proj_out"]
    g, lora = torch.Generator().manual_seed(5), {}
    for i, m in enumerate(ours):
        pair(lora, "lora_transformer_" + m.replace(".", "_"), 1 + i % 3, 1, g, dtype=torch.bfloat16)
    apply("onetrainer.safetensors", lora)
    g, lora = torch.Generator().manual_seed(6), {}
    for m in ["joint_blocks.0.x_block.attn.qkv.0", "joint_blocks.1.context_block.attn.qkv.2", "joint_blocks.0.x_block.mlp.fc2",
              "final_layer.adaLN_modulation.1"]:
        pair(lora, f"transformer.{m}", 2, 1, g)
    apply("omi.safetensors", lora)
    # What the two readers of original names look for, in this model.
    names = sorted(stems(state))
    table = dict(kohya=[n for n in names if n.startswith("lora_unet_") and not n.endswith(("ln_q", "ln_k"))],
                 comfyui=[n for n in names if n.startswith("diffusion_model.") and not n.endswith(("ln_q", "ln_k"))])
    (HERE / "names.json").write_text(json.dumps(table, indent=1) + "\n")


def main():
    torch.set_num_threads(1)
    for old in ("patterns", "layers"):
        shutil.rmtree(HERE / old, ignore_errors=True)
    out = {}
    peft_forms(out)
    original_forms(out)
    save_file(out, HERE / "out.safetensors")


if __name__ == "__main__":
    main()
