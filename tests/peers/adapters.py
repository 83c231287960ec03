#!/usr/bin/env python3
"""Adapters against diffusers and peft themselves, both ways, on small random models, through the real program.

    OPDFLOW=target/release/opdflow python tests/peers/adapters.py [SEED..]

In: adapters that peft and diffusers write, and files in the names of sd-scripts, ComfyUI and OneTrainer, are given to
`opdflow generate`; its image is held against theirs. Out: `opdflow get --format` writes an adapter in each form, and the
library that reads it gives its image. Files in original names are applied as the published readers do
(stages/models/tests/adapters/original.py) and go through diffusers' converter. 45 dB at least.
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import StableDiffusion3Pipeline
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests/generate"), str(ROOT / "stages/models/tests/adapters")]
from original import diffusers_names, merged, original, stems  # noqa: E402
from pipelines import make, psnr  # noqa: E402

PROGRAM = os.environ.get("OPDFLOW", str(ROOT / "target/release/opdflow"))
LEAST = 45.0


def load(folder, variant):
    index = json.loads((folder / "model_index.json").read_text())
    absent = {n: None for n in ("text_encoder_3", "tokenizer_3") if not (index.get(n) or [None])[0]}
    pipe = StableDiffusion3Pipeline.from_pretrained(folder, variant=variant, torch_dtype=torch.float32, **absent)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(pipe, call, seed):
    with torch.no_grad():
        image = pipe(**call, generator=torch.Generator("cpu").manual_seed(seed), output_type="np").images[0]
    return (image * 255).round().astype(np.uint8)


def opdflow(place, *args):
    env = os.environ | {"OPDFLOW_STORE": str(place / "store")}
    ran = subprocess.run([PROGRAM, *map(str, args)], cwd=place, env=env, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"opdflow {' '.join(map(str, args))}: {ran.returncode}\n{ran.stderr}")
    return ran


def ours(place, folder, call, variant, seed, lora=None):
    args = ["-q", "generate", "--base", folder, "--prompt", call["prompt"], "--negative", call["negative_prompt"], "--seed", seed,
            "--steps", call["num_inference_steps"], "--guidance", call["guidance_scale"], "--width", call["width"], "--height",
            call["height"], "--max-sequence-length", call["max_sequence_length"], "-o", place / "out", "--overwrite"]
    opdflow(place, *args, *(["--variant", variant] if variant else []), *(["--lora", lora] if lora else []))
    return np.asarray(Image.open(place / "out/0000.png"))


def trained(transformer, seed, stabilised):
    """A wrapped transformer with ranks and alphas by pattern, exclusions, and matrices that are all random."""
    linears = [n for n, m in transformer.named_modules() if isinstance(m, torch.nn.Linear)]
    targets = ["attn.to_q", "attn.to_v", "attn.add_k_proj", "attn.to_out.0", "ff.net.0.proj", "proj_out", "norm_out.linear",
               "norm1_context.linear", "context_embedder", "norm1.linear"]
    targets += ["attn2.to_k"] if any(".attn2." in n for n in linears) else []
    config = LoraConfig(r=4, lora_alpha=6, use_rslora=stabilised, target_modules=targets,
                        exclude_modules=["transformer_blocks.0.attn.to_v"], rank_pattern={"attn.to_q": 2, "^proj_out": 1},
                        alpha_pattern={"transformer_blocks.0.attn.to_q": 3})
    wrapped = get_peft_model(transformer, config)
    g = torch.Generator().manual_seed(seed)
    for _, p in sorted((n, p) for n, p in wrapped.named_parameters() if "lora_" in n):
        p.data = torch.randn(p.shape, generator=g) * 0.15
    return wrapped


def in_original_names(state, seed, prefix):
    """A random adapter on a model's original weights: q, k and v in one product, ranks that differ."""
    g, lora = torch.Generator().manual_seed(seed), {}
    names = [s for s, (key, _, _) in stems(state).items() if s.startswith(prefix) and state[key].ndim == 2]
    for i, stem in enumerate(sorted(names)):
        key, rows, _ = stems(state)[stem]
        d_out, d_in = state[key].shape[0] // (1 if rows is None else 3), state[key].shape[1]
        rank = 1 + i % 3
        lora[f"{stem}.lora_down.weight"] = torch.randn(rank, d_in, generator=g) * 0.1
        lora[f"{stem}.lora_up.weight"] = torch.randn(d_out, rank, generator=g) * 0.1
        lora[f"{stem}.alpha"] = torch.tensor(float(1 + i % 2))
    return lora


def wear(transformer, weights):
    """Gives a transformer weights in original names, by diffusers' converter."""
    own = transformer.state_dict()
    transformer.load_state_dict({k: v for k, v in diffusers_names(weights).items() if k in own})


def held(found, what, one, other):
    db = psnr(one, other)
    found.append(db)
    print(f"  {what}: {db:.1f} dB", flush=True)


def one(seed):
    found = []
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        folder = place / "model"
        call, _, variant, about = make(folder, seed)
        print(f"seed {seed}: {about['layers']} blocks of {about['heads']} heads, second attention in {about['dual']}, {about['dtype']}", flush=True)
        plain = picture(load(folder, variant), call, seed)
        held(found, "without an adapter", ours(place, folder, call, variant, seed), plain)

        # In: what peft and diffusers write.
        pipe = load(folder, variant)
        wrapped = trained(pipe.transformer, seed, stabilised=seed % 2 == 1)
        wrapped.save_pretrained(place / "peft")
        state = {k.removeprefix("base_model.model."): v for k, v in get_peft_model_state_dict(wrapped).items()}
        config = wrapped.peft_config["default"].to_dict()
        config |= {k: sorted(config[k]) for k in ("target_modules", "exclude_modules") if config[k]}
        StableDiffusion3Pipeline.save_lora_weights(place / "single", transformer_lora_layers=state, transformer_lora_adapter_metadata=config)
        pipe = load(folder, variant)
        pipe.transformer = PeftModel.from_pretrained(pipe.transformer, place / "peft").base_model.model
        theirs = picture(pipe, call, seed)
        print(f"  the adapter moves the picture to {psnr(theirs, plain):.1f} dB of the base's")
        held(found, "peft's folder, by peft", ours(place, folder, call, variant, seed, place / "peft"), theirs)
        pipe = load(folder, variant)
        pipe.load_lora_weights(place / "single", weight_name="pytorch_lora_weights.safetensors")
        held(found, "diffusers' file, by diffusers", ours(place, folder, call, variant, seed, place / "single"), picture(pipe, call, seed))

        # Out: taken in by a recipe, and written for each reader.
        recipe = {"opdflow": 1, "name": "peers", "stages": {
            "base": {"uses": "base_model", "with": {"source": str(plain_copy(folder, variant, place))}},
            "lora": {"uses": "import_lora", "needs": {"base": "base.model"}, "with": {"source": str(place / "peft")}}}}
        (place / "r.yaml").write_text(json.dumps(recipe))
        opdflow(place, "run", "r.yaml", "--plain")
        for form in ("peft", "diffusers", "kohya", "comfyui"):
            opdflow(place, "get", "r.yaml", "lora.lora", "-o", place / f"out-{form}", "--format", form)
        pipe = load(folder, variant)
        pipe.load_lora_weights(place / "out-diffusers")
        held(found, "our file for diffusers, by load_lora_weights", picture(pipe, call, seed), theirs)
        pipe = load(folder, variant)
        pipe.transformer = PeftModel.from_pretrained(pipe.transformer, place / "out-peft").base_model.model
        held(found, "our folder for peft, by peft", picture(pipe, call, seed), theirs)
        readers = {"kohya": ("lora_unet_",), "comfyui": None}
        for form, prefixes in readers.items():
            pipe = load(folder, variant)
            weights = original(pipe.transformer.state_dict())
            wear(pipe.transformer, merged(weights, load_file(place / f"out-{form}/lora.safetensors"), prefixes))
            held(found, f"our file for {form}, by its reader's rule", picture(pipe, call, seed), theirs)

        # In: original names.
        for prefix, dtype in (("lora_unet_", torch.float32), ("diffusion_model.", torch.float16), ("lora_transformer_", torch.bfloat16)):
            pipe = load(folder, variant)
            weights = original(pipe.transformer.state_dict())
            lora = {k: v.to(dtype) for k, v in in_original_names(weights, seed, prefix).items()}
            save_file(lora, place / "x.safetensors")
            wear(pipe.transformer, merged(weights, lora))
            held(found, f"{prefix}.. in {str(dtype)[6:]}", ours(place, folder, call, variant, seed, place / "x.safetensors"), picture(pipe, call, seed))
    return min(found)


def plain_copy(folder, variant, place):
    """The same model without a variant: a stage takes the plain set."""
    if not variant:
        return folder
    pipe = load(folder, variant)
    pipe.save_pretrained(place / "plain")
    return place / "plain"


def main():
    torch.set_num_threads(1)
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    least = min(one(seed) for seed in [int(s) for s in sys.argv[1:]] or [0, 1, 2])
    print(f"adapters: the least is {least:.1f} dB, {LEAST} are asked for")
    sys.exit(int(least < LEAST))


if __name__ == "__main__":
    main()
