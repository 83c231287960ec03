#!/usr/bin/env python3
"""Makes the parity fixtures of AuraFlow: small random configurations of the real diffusers, transformers and peft classes,
with inputs and outputs. Run it beside its outputs:

    OMP_NUM_THREADS=1 python make_fixtures.py          everything but the next
    OMP_NUM_THREADS=1 python make_fixtures.py ours     the velocity that diffusers gives with the adapter files that we wrote

Made with torch 2.11.0, diffusers 0.42.1, transformers 5.24.0, peft 0.21.2 (scripts/peers.sh), on the CPU with one thread, f32.
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, AutoencoderKL, FlowMatchEulerDiscreteScheduler
from diffusers.loaders.single_file_utils import convert_auraflow_transformer_checkpoint_to_diffusers as convert
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import UMT5Config, UMT5EncoderModel

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "parity"))
from make_fixtures import PROMPTS, rand, shake, t5_tokenizer  # noqa: E402

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

TARGETS = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"]


def save(name, **tensors):
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, HERE / f"{name}.safetensors")


def aura(seed):
    return shake(AuraFlowTransformer2DModel(sample_size=16, num_mmdit_layers=2, num_single_dit_layers=2, attention_head_dim=8,
                                            num_attention_heads=2, joint_attention_dim=40, caption_projection_dim=16,
                                            pos_embed_max_size=64), seed)


def umt5(seed, size, **over):
    config = dict(vocab_size=size, d_model=40, d_kv=8, d_ff=48, num_layers=2, num_heads=3, feed_forward_proj="gated-silu",
                  relative_attention_num_buckets=16, relative_attention_max_distance=20)
    return shake(UMT5EncoderModel(UMT5Config(**(config | over))), seed)


def fresh():
    return AuraFlowTransformer2DModel.from_pretrained(HERE / "pipeline/transformer").eval()


def inputs(seed, b, h, w, length):
    return dict(latent=rand(seed, b, 4, h, w), sigma=torch.tensor([1.0, 0.5137, 0.0089286])[:b], context=rand(seed + 1, b, length, 40))


def run(model, i):
    return model(hidden_states=i["latent"], timestep=i["sigma"], encoder_hidden_states=i["context"], return_dict=False)[0]


@torch.no_grad()
def modules(model, gelu):
    """The modules one by one: patches with their places, time, a joint and a single block, both kinds of feed-forward part of UMT5."""
    latent, sigma = rand(70, 2, 4, 6, 10), torch.tensor([1.0, 0.7271, 0.0125])
    x, text, cond = rand(72, 3, 15, 16), rand(73, 3, 5, 16), rand(74, 3, 16)
    time = model.time_step_proj(model.time_step_embed(sigma))
    text_out, x_out = model.joint_transformer_blocks[1](hidden_states=x, encoder_hidden_states=text, temb=cond)
    single = model.single_transformer_blocks[1](hidden_states=torch.cat([text, x], 1), temb=cond)
    g = torch.Generator().manual_seed(75)
    ids, mask = torch.randint(3, gelu.config.vocab_size, (3, 40), generator=g), torch.ones(3, 40, dtype=torch.long)
    mask[0, 1:], mask[1, 23:] = 0, 0
    states = gelu(input_ids=ids, attention_mask=mask)[0] * mask[:, :, None]
    save("modules", latent=latent, patches=model.pos_embed(latent), sigma=sigma, time=time, x=x, text=text, cond=cond, text_out=text_out,
         x_out=x_out, single=single, ids=ids, mask=mask, states=states)


def whole(model):
    i = inputs(21, 3, 6, 4, 7)
    i["latent"].requires_grad_(True)
    out = run(model, i)
    target = rand(25, *out.shape)
    ((out - target) ** 2).mean().backward()
    grads = {f"grad.{n}": p.grad for n, p in model.named_parameters()}
    save("velocity", **i, out=out, target=target, grad_latent=i["latent"].grad, **grads)
    model.zero_grad()


def wrapped(model):
    made = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, init_lora_weights="gaussian", target_modules=TARGETS))
    g = torch.Generator().manual_seed(2)
    for name, p in sorted((n, p) for n, p in made.named_parameters() if "lora_" in n):
        p.data = torch.randn(p.shape, generator=g) * (0.5 if "lora_A" in name else 0.1)
    return made


def adapter(model):
    i = inputs(41, 3, 8, 4, 7)
    with torch.no_grad():
        base = run(model, i)
    made = wrapped(model)
    out = run(made, i)
    target = rand(47, *out.shape)
    ((out - target) ** 2).mean().backward()
    grads = {n.replace(".default", "").removeprefix("base_model.model."): p.grad for n, p in made.named_parameters() if p.requires_grad}
    made.save_pretrained(HERE / "lora")
    (HERE / "lora/README.md").unlink(missing_ok=True)
    path = HERE / "lora/adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"target_modules": sorted(TARGETS)}, indent=2) + "\n")
    save("lora_out", **i, base=base, out=out, target=target, **{f"grad.{n}": t for n, t in grads.items()})
    state = {k.removeprefix("base_model.model."): v for k, v in get_peft_model_state_dict(made).items()}
    AuraFlowPipeline.save_lora_weights(HERE, transformer_lora_layers=state, weight_name="lora_single.safetensors",
                                       transformer_lora_adapter_metadata=made.peft_config["default"].to_dict() | {"target_modules": sorted(TARGETS)})
    made.unload()


class Asked(dict):
    """A checkpoint that has whatever diffusers' converter asks for: each tensor is its number and the negative of it."""

    def __init__(self, joint, single):
        super().__init__({f"double_layers.{i}.x": 0 for i in range(joint)} | {f"single_layers.{i}.x": 0 for i in range(single)})
        self.names = []

    def pop(self, name, default=None):
        self.names.append(name)
        n = float(len(self.names))
        return torch.tensor([n, -n])


def original_names(model):
    """From diffusers' names to the original ones, as the converter has them, with those whose halves are swapped."""
    asked = Asked(model.config.num_mmdit_layers, model.config.num_single_dit_layers)
    found = convert(asked)
    return {here: (asked.names[int(t.abs()[0]) - 1], t[0] < 0) for here, t in found.items()}


def original(model):
    """The model's weights as they were published."""
    state = model.state_dict()
    halves = lambda t: torch.cat(t.chunk(2)[::-1])
    made = {there: halves(state[here]) if swapped else state[here] for here, (there, swapped) in original_names(model).items()}
    again = convert(dict(made))
    assert again.keys() == state.keys() and all(torch.equal(again[k], v) for k, v in state.items())
    return made


def merged(state, lora):
    """ComfyUI's rule: up times down times alpha over the rank, onto the weight of that name."""
    state = dict(state)
    for key, up in lora.items():
        for ends, down in ((".lora_up.weight", ".lora_down.weight"), (".lora_B.weight", ".lora_A.weight")):
            if key.endswith(ends):
                stem = key.removesuffix(ends)
                a, alpha = lora[stem + down].float(), lora.get(f"{stem}.alpha")
                scale = 1.0 if alpha is None else alpha.item() / a.shape[0]
                name = stem.removeprefix("diffusion_model.") + ".weight"
                state[name] = state[name] + scale * (up.float() @ a)
    return state


def with_original(lora):
    model = fresh()
    model.load_state_dict(convert(merged(original(fresh()), lora)))
    return model


@torch.no_grad()
def original_form():
    """An adapter on every linear layer in the original names, as ComfyUI has them, in f16 and f32, and the velocity with it."""
    g, lora, state = torch.Generator().manual_seed(3), {}, original(fresh())
    names = sorted(k.removesuffix(".weight") for k, t in state.items() if k.endswith(".weight") and t.ndim == 2)
    for n, name in enumerate(names):
        rank, dtype, (d_out, d_in) = 1 + n % 2, torch.float16 if n % 3 == 0 else torch.float32, state[f"{name}.weight"].shape
        down, up = ("lora_down", "lora_up") if n % 2 else ("lora_A", "lora_B")
        lora[f"diffusion_model.{name}.{down}.weight"] = (torch.randn(rank, d_in, generator=g) * 0.3).to(dtype)
        lora[f"diffusion_model.{name}.{up}.weight"] = (torch.randn(d_out, rank, generator=g) * 0.1).to(dtype)
        if n % 4:
            lora[f"diffusion_model.{name}.alpha"] = torch.tensor(1.5, dtype=dtype)
    save("comfyui", **lora)
    save("comfyui_out", out=run(with_original(lora), inputs(41, 3, 8, 4, 7)))
    (HERE / "names.json").write_text(json.dumps([f"diffusion_model.{n}" for n in names], indent=1) + "\n")


def tables():
    """Noise levels as AuraFlowPipeline asks for them: by their number."""
    rows = []
    for shift in (1.0, 1.73, 3.0):
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
        for steps in (1, 2, 4, 6, 10, 28, 50):
            scheduler.set_timesteps(steps)
            rows.append(dict(shift=shift, steps=steps, sigmas=[round(s, 9) for s in scheduler.sigmas.tolist()]))
    (HERE / "sigmas.json").write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")


@torch.no_grad()
def text(pipe):
    # The last one holds the words of the token that fills up.
    prompts = PROMPTS + ["a <pad> b"]
    context, mask, none, _ = pipe.encode_prompt(prompt=prompts, max_sequence_length=16)
    (HERE / "prompts.json").write_text(json.dumps(prompts) + "\n")
    # The pipeline has the mask as wide as the states.
    save("text", context=context, mask=mask.view(*context.shape)[:, :, 0], none=none[:1])


@torch.no_grad()
def end_to_end(pipe, steps, guidance, h, w):
    pipe.set_progress_bar_config(disable=True)
    latent, seen = rand(61, 2, 4, h, w), []
    keep = lambda _, step, t, k: (seen.append(k["latents"].clone()), k)[1]
    pictures = pipe(PROMPTS[:2], num_inference_steps=steps, guidance_scale=guidance, latents=latent, height=8 * h, width=8 * w,
                    max_sequence_length=16, output_type="pt", callback_on_step_end=keep).images
    save("end_to_end", latent=latent, first=seen[0], final=seen[-1], pictures=pictures)


def make():
    for old in ("pipeline", "lora", "umt5_gelu"):
        shutil.rmtree(HERE / old, ignore_errors=True)
    folder = HERE / "pipeline"
    tokenizer, size = t5_tokenizer(folder / "tokenizer")
    vae = AutoencoderKL(block_out_channels=(4, 4, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                        layers_per_block=1, latent_channels=4, norm_num_groups=4, scaling_factor=0.13025, force_upcast=False)
    pipe = AuraFlowPipeline(tokenizer=tokenizer, text_encoder=umt5(4, size), vae=shake(vae, 2), transformer=aura(1),
                            scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73))
    pipe.save_pretrained(folder)
    gelu = umt5(5, 20, d_model=8, num_heads=2, d_kv=6, d_ff=12, num_layers=3, feed_forward_proj="gated-gelu")
    gelu.save_pretrained(HERE / "umt5_gelu")
    tables()
    modules(pipe.transformer, gelu)
    text(pipe)
    end_to_end(pipe, 6, 3.5, 8, 6)
    whole(pipe.transformer)
    adapter(pipe.transformer)
    original_form()


@torch.no_grad()
def ours():
    """What diffusers, peft and the reader of original names make of the adapter files in `ours/`, which the Rust test writes."""
    i = {k: v for k, v in load_file(HERE / "lora_out.safetensors").items() if k in ("latent", "sigma", "context")}
    out = {}
    pipe = AuraFlowPipeline.from_pretrained(HERE / "pipeline")
    pipe.load_lora_weights(HERE / "ours/pytorch_lora_weights.safetensors")
    out["diffusers"] = run(pipe.transformer, i)
    out["peft"] = run(PeftModel.from_pretrained(fresh(), HERE / "ours/peft"), i)
    out["comfyui"] = run(with_original(load_file(HERE / "ours/comfyui.safetensors")), i)
    save("ours_out", **out)


if __name__ == "__main__":
    ours() if sys.argv[1:] == ["ours"] else make()
