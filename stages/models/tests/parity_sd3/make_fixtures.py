#!/usr/bin/env python3
"""Fixtures of the other published forms of Stable Diffusion 3: `medium` is SD3-Medium's, `large` SD3.5-Large's.

    python stages/models/tests/parity_sd3/make_fixtures.py medium|large         # models, velocities, adapters, the pipeline
    python stages/models/tests/parity_sd3/make_fixtures.py medium|large ours    # what the libraries make of our adapter files

Needs what `scripts/peers.sh` installs. Encoders, tokenizers and autoencoder are those of `../parity/pipeline`: in the published
models they are the same. Everything is seeded. `ours` reads what `OPDFLOW_WRITE=1 cargo test -p opdflow-models --test parity_sd3`
writes.
"""
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

TESTS = Path(__file__).resolve().parent.parent


def beside(name, path):
    spec = importlib.util.spec_from_file_location(name, TESTS / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


common = beside("common", "parity/make_fixtures.py")
names = beside("names", "adapters/original.py")
from_seed, shake, run = common.rand, common.shake, common.run
PIPELINE = TESTS / "parity/pipeline"

# As published: SD3-Medium has 24 layers and 24 heads, no norm of q and k and no second attention, and its config.json, from
# before there were others, has no key for either. SD3.5-Large has 38 and 38, norms, no second attention. Both have a table of
# positions of 192, three times the 64 patches of 1024 pixels; SD3.5-Medium's has 384.
FORMS = {
    "medium": dict(seed=71, absent=("qk_norm", "dual_attention_layers"),
                   config=dict(num_layers=3, num_attention_heads=3, attention_head_dim=8, caption_projection_dim=24, qk_norm=None)),
    "large": dict(seed=81, absent=(),
                  config=dict(num_layers=4, num_attention_heads=4, attention_head_dim=4, caption_projection_dim=16, qk_norm="rms_norm")),
}
TARGETS = [f"attn.{n}" for n in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")]
ALL = TARGETS + ["norm1.linear", "norm1_context.linear", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
                 "context_embedder", "norm_out.linear", "proj_out", "text_embedder.linear_2"]


class Form:
    def __init__(self, name):
        self.name, self.form, self.at = name, FORMS[name], Path(__file__).resolve().parent / name
        self.seed = self.form["seed"]

    def save(self, name, **tensors):
        save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, self.at / f"{name}.safetensors")

    def fresh(self):
        return SD3Transformer2DModel.from_pretrained(self.at / "transformer").eval()

    def pipeline(self):
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(self.at / "scheduler")
        return StableDiffusion3Pipeline.from_pretrained(PIPELINE, transformer=self.fresh(), scheduler=scheduler)

    def models(self):
        config = dict(sample_size=8, patch_size=2, in_channels=16, out_channels=16, joint_attention_dim=40, pooled_projection_dim=24,
                      pos_embed_max_size=12, dual_attention_layers=())
        shake(SD3Transformer2DModel(**(config | self.form["config"])), self.seed).save_pretrained(self.at / "transformer")
        path = self.at / "transformer/config.json"
        told = {k: v for k, v in json.loads(path.read_text()).items() if k not in self.form["absent"]}
        path.write_text(json.dumps(told, indent=2) + "\n")
        # All that the published ones say.
        (self.at / "scheduler").mkdir()
        scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
        (self.at / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler, indent=2) + "\n")

    def velocity(self):
        model = self.fresh()
        i = common.mmdit_inputs(self.seed + 1, 3, 6, 10, 7, model.config)
        i["latent"].requires_grad_(True)
        out = run(model, i)
        target = from_seed(self.seed + 4, *out.shape)
        ((out - target) ** 2).mean().backward()
        grads = {f"grad.{n}": p.grad for n, p in model.named_parameters()}
        self.save("velocity", **i, out=out, target=target, grad_latent=i["latent"].grad, **grads)

    def inputs(self):
        return {k: v for k, v in load_file(self.at / "velocity.safetensors").items() if k in ("latent", "timestep", "context", "pooled", "target")}

    def adapter(self, name, targets, rank, alpha):
        """An adapter of peft, and with it the velocity and the gradients of its matrices."""
        wrapped = get_peft_model(self.fresh(), LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets))
        g = torch.Generator().manual_seed(self.seed + rank)
        for _, p in sorted((n, p) for n, p in wrapped.named_parameters() if "lora_" in n):
            p.data = torch.randn(p.shape, generator=g) * 0.1
        i = self.inputs()
        out = run(wrapped, i)
        ((out - i["target"]) ** 2).mean().backward()
        grads = {n.replace(".default", "").removeprefix("base_model.model."): p.grad
                 for n, p in wrapped.named_parameters() if p.requires_grad}
        wrapped.save_pretrained(self.at / name)
        (self.at / name / "README.md").unlink(missing_ok=True)
        path = self.at / name / "adapter_config.json"
        told = json.loads(path.read_text()) | {"target_modules": sorted(targets), "base_model_name_or_path": None}
        path.write_text(json.dumps(told, indent=2) + "\n")
        state = {k.removeprefix("base_model.model."): v for k, v in get_peft_model_state_dict(wrapped).items()}
        metadata = wrapped.peft_config["default"].to_dict() | {"target_modules": sorted(targets)}
        StableDiffusion3Pipeline.save_lora_weights(self.at, transformer_lora_layers=state, weight_name=f"{name}.safetensors",
                                                   transformer_lora_adapter_metadata=metadata)
        model = self.fresh()
        model.load_lora_adapter(self.at, weight_name=f"{name}.safetensors", prefix="transformer")
        assert torch.allclose(run(model, i), out, atol=1e-5)
        self.save(f"{name}_out", out=out, **{f"grad.{n}": t for n, t in grads.items()})

    @torch.no_grad()
    def end_to_end(self):
        pipe = self.pipeline()
        pipe.set_progress_bar_config(disable=True)
        latent, seen = from_seed(self.seed + 5, 2, 16, 6, 8), []
        keep = lambda _, step, t, k: (seen.append((t, k["latents"].clone())), k)[1]
        pictures = pipe(common.PROMPTS[:2], num_inference_steps=6, guidance_scale=7.0 if self.name == "medium" else 3.5, latents=latent,
                        height=48, width=64, max_sequence_length=16, output_type="pt", callback_on_step_end=keep).images
        self.save("end_to_end", latent=latent, first=seen[0][1], final=seen[-1][1], pictures=pictures, sigmas=pipe.scheduler.sigmas)

    def make(self):
        shutil.rmtree(self.at, ignore_errors=True)
        self.at.mkdir()
        self.models()
        self.velocity()
        self.adapter("lora", TARGETS, 2, 4)
        self.adapter("lora_all", ALL, 3, 6)
        self.end_to_end()

    @torch.no_grad()
    def ours(self):
        """What peft, diffusers and the readers of original names make of our files."""
        i, out = self.inputs(), {}
        out["peft"] = run(PeftModel.from_pretrained(self.fresh(), self.at / "ours/peft"), i)
        pipe = self.pipeline()
        pipe.load_lora_weights(self.at / "ours/pytorch_lora_weights.safetensors")
        out["diffusers"] = run(pipe.transformer, i)
        state = names.original(self.fresh().state_dict())
        for name in ("kohya", "comfyui"):
            model = self.fresh()
            model.load_state_dict(names.diffusers_names(names.merged(state, load_file(self.at / f"ours/{name}.safetensors"))))
            out[name] = run(model, i)
        self.save("ours_out", **out)


if __name__ == "__main__":
    form = Form(sys.argv[1])
    form.ours() if sys.argv[2:] == ["ours"] else form.make()
