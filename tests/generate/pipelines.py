#!/usr/bin/env python3
"""Random small StableDiffusion3Pipeline folders, and what diffusers makes of them, held against `opdflow generate`.

    python pipelines.py try FIRST LAST [--opdflow target/debug/opdflow]   seeds FIRST..LAST-1, through the real program
    python pipelines.py fixtures                                         the folders and images that tests/generate.rs reads

Needs torch 2.11.0, diffusers 0.42.1, transformers 5.23.0, peft 0.21.0, safetensors, sentencepiece (for T5 tokenizers that come
as spiece.model alone). Weights and choices follow from the seed.
"""
import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "stages/models/tests/parity"))
from make_fixtures import CORPUS, clip_tokenizer, shake, t5_tokenizer  # noqa: E402

PROMPTS = ["a photo of a red circle", 'a sign that says "HELLO"', "two green triangles above a yellow star",
           "caf\u00e9 \u4f60\u597d, it's 42", "a very long prompt " * 9, ""]


def spiece_tokenizer(folder):
    """A T5 tokenizer as it was saved before tokenizer.json: spiece.model alone."""
    import sentencepiece
    from transformers import T5TokenizerFast

    folder.mkdir(parents=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 3), model_prefix=str(folder / "spiece"), vocab_size=90, model_type="unigram",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2)
    (folder / "spiece.vocab").unlink()
    config = dict(tokenizer_class="T5Tokenizer", model_max_length=512, extra_ids=100, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tok = T5TokenizerFast.from_pretrained(folder)
    return tok, len(tok)


def make(folder, seed):
    """A folder, the arguments of one image, and the adapter if there is one."""
    r = random.Random(seed)
    heads, head = r.choice([1, 2, 3, 4]), r.choice([8, 12, 16, 24])
    width, layers = heads * head, r.randint(1, 5)
    channels, patch = r.choice([4, 8, 16]), r.choice([2, 2, 2, 1])
    levels, groups = r.randint(1, 4), r.choice([2, 4])
    widths = [groups * r.randint(1, 4) for _ in range(levels)]
    factor = 2 ** (levels - 1)
    limit = r.randint(5, 12)
    sizes = [limit, r.randint(1, limit)]
    r.shuffle(sizes)
    h, w = (n * factor * patch for n in sizes)
    has_t5, pieces = r.random() < 0.7, r.random() < 0.4
    tok1, size1, eos = clip_tokenizer(folder / "tokenizer", r.choice(["<|endoftext|>", "!"]), r.random() < 0.5)
    tok2, _, _ = clip_tokenizer(folder / "tokenizer_2", "!", r.random() < 0.5)
    tok3, size3 = (spiece_tokenizer if pieces else t5_tokenizer)(folder / "tokenizer_3")

    def clip(n):
        heads = r.choice([1, 2, 4])
        dim = heads * 2 * r.randint(2, 5)
        return shake(CLIPTextModelWithProjection(CLIPTextConfig(
            vocab_size=size1, hidden_size=dim, intermediate_size=r.choice([16, 40]), projection_dim=r.choice([8, 12]),
            num_attention_heads=heads, num_hidden_layers=r.randint(2, 4), max_position_embeddings=24, bos_token_id=eos - 1,
            hidden_act=r.choice(["gelu", "quick_gelu"]), eos_token_id=r.choice([2, eos]), layer_norm_eps=r.choice([1e-5, 1e-4]))), seed * 10 + n)

    enc1, enc2 = clip(1), clip(2)
    pooled = enc1.config.projection_dim + enc2.config.projection_dim
    joint = enc1.config.hidden_size + enc2.config.hidden_size + 2 * r.randint(0, 6)
    t5 = shake(T5EncoderModel(T5Config(
        vocab_size=size3 + r.choice([0, 28]), d_model=joint, d_kv=r.choice([4, 8]), d_ff=r.choice([24, 48]), num_layers=r.randint(1, 3),
        num_heads=r.randint(1, 3), feed_forward_proj=r.choice(["gated-gelu", "relu"]), relative_attention_num_buckets=r.choice([8, 32]),
        relative_attention_max_distance=r.choice([20, 128]))), seed * 10 + 3) if has_t5 else None
    transformer = shake(SD3Transformer2DModel(
        sample_size=r.randint(2, limit) * patch, patch_size=patch, in_channels=channels, out_channels=channels, num_layers=layers,
        attention_head_dim=head, num_attention_heads=heads, joint_attention_dim=joint, caption_projection_dim=width,
        pooled_projection_dim=pooled, pos_embed_max_size=None if random.Random(~seed).random() < 0.2 else limit, qk_norm=r.choice([None, "rms_norm"]),
        dual_attention_layers=tuple(i for i in range(layers) if r.random() < 0.4)), seed * 10 + 4)
    vae = shake(AutoencoderKL(
        block_out_channels=tuple(widths), down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=r.randint(1, 3), latent_channels=channels, norm_num_groups=groups, sample_size=r.choice([16, 32]) * factor,
        scaling_factor=r.choice([1.5305, 0.5]), shift_factor=r.choice([0.0609, 0.0, -0.2]), use_quant_conv=r.random() < 0.5,
        use_post_quant_conv=r.random() < 0.5, mid_block_add_attention=r.random() < 0.6), seed * 10 + 5)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=r.choice([1.0, 3.0, 2.2, 5.0]))
    dtype = r.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16])
    pipe = StableDiffusion3Pipeline(transformer, scheduler, vae, enc1, tok1, enc2, tok2, t5, tok3 if has_t5 or r.random() < 0.5 else None).to(dtype)
    variant = r.choice([None, None, "fp16"])
    shards = r.choice(["10GB", "40KB"])
    kept = (folder / "tokenizer_3/spiece.model").read_bytes() if pieces else None
    pipe.save_pretrained(folder, variant=variant, max_shard_size=shards)
    if pipe.tokenizer_3 is None:
        shutil.rmtree(folder / "tokenizer_3")
    elif kept:
        # The library writes its new form; the old folder has the old one alone.
        (folder / "tokenizer_3/tokenizer.json").unlink(missing_ok=True)
        (folder / "tokenizer_3/spiece.model").write_bytes(kept)
    call = dict(prompt=r.choice(PROMPTS), negative_prompt=r.choice(["", "blue"]), height=h, width=w, num_inference_steps=r.randint(1, 10),
                guidance_scale=r.choice([1.0, 4.5, 7.0]), max_sequence_length=r.choice([16, 77, 256]))
    lora = None
    if r.random() < 0.5:
        names = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj"] + (["to_add_out"] if layers > 1 else [])
        rank, names = r.choice([1, 2, 4]), [f"attn.{n}" for n in names]
        wrapped = get_peft_model(transformer.float(), LoraConfig(r=rank, lora_alpha=r.choice([2, 8]), target_modules=names))
        g = torch.Generator().manual_seed(seed)
        for _, p in sorted((n, p) for n, p in wrapped.named_parameters() if "lora_" in n):
            p.data = torch.randn(p.shape, generator=g) * 0.15
        state = {k.removeprefix("base_model.model."): v for k, v in get_peft_model_state_dict(wrapped).items()}
        metadata = wrapped.peft_config["default"].to_dict() | {"target_modules": names}
        wrapped.save_pretrained(folder.with_name(folder.name + ".peft"))
        StableDiffusion3Pipeline.save_lora_weights(folder.with_name(folder.name + ".lora"), transformer_lora_layers=state,
                                                   transformer_lora_adapter_metadata=metadata)
        lora = dict(scale=r.choice([1.0, 0.5]), form=r.choice(["peft", "lora"]))
    about = dict(seed=seed, width=width, heads=heads, layers=layers, dual=list(transformer.config.dual_attention_layers), patch=patch,
                 qk_norm=transformer.config.qk_norm, limit=limit, vae=widths, t5=has_t5 and t5.config.feed_forward_proj, spiece=pieces,
                 dtype=str(dtype)[6:], variant=variant, shards=shards, lora=lora, shift=scheduler.config.shift)
    return call, lora, variant, about


def reference(folder, call, lora, variant, seed, **over):
    """What diffusers makes of it: `[H, W, 3]`, 0 to 1."""
    index = json.loads((folder / "model_index.json").read_text())
    absent = {name: None for name in ("text_encoder_3", "tokenizer_3") if not (index.get(name) or [None])[0]}
    pipe = StableDiffusion3Pipeline.from_pretrained(folder, variant=variant, torch_dtype=torch.float32, **absent)
    pipe.set_progress_bar_config(disable=True)
    if lora:
        pipe.load_lora_weights(folder.with_name(folder.name + ".lora"), weight_name="pytorch_lora_weights.safetensors")
        over = over | dict(joint_attention_kwargs=dict(scale=lora["scale"]))
    if over.pop("tiling", False):
        pipe.vae.enable_tiling()
    with torch.no_grad():
        return pipe(**call, generator=torch.Generator("cpu").manual_seed(seed), output_type="np", **over).images[0]


def arguments(folder, call, lora, variant, seed):
    out = ["--base", str(folder), "--prompt", call["prompt"], "--negative", call["negative_prompt"], "--seed", str(seed),
           "--steps", str(call["num_inference_steps"]), "--guidance", str(call["guidance_scale"]), "--width", str(call["width"]),
           "--height", str(call["height"]), "--max-sequence-length", str(call["max_sequence_length"])]
    if lora:
        path = folder.with_name(f"{folder.name}.{lora['form']}")
        out += ["--lora", str(path), "--lora-scale", str(lora["scale"])]
    return out + (["--variant", variant] if variant else [])


def psnr(ours, theirs):
    error = float(np.mean((ours.astype(float) - theirs.astype(float)) ** 2))
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def one(program, seed):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        call, lora, variant, about = make(folder, seed)
        theirs = (reference(folder, call, lora, variant, seed) * 255).round().astype(np.uint8)
        ran = subprocess.run([program, "-q", "generate", *arguments(folder, call, lora, variant, seed), "-o", f"{place}/out"], capture_output=True, text=True)
        if ran.returncode:
            print(seed, "FAILED", ran.returncode, ran.stderr.strip(), about, call, flush=True)
            return 0.0
        ours = np.asarray(Image.open(f"{place}/out/0000.png"))
        found = psnr(ours, theirs) if ours.shape == theirs.shape else 0.0
        print(f"{seed}: {found:.1f} dB, spread {theirs.std():.0f}", ours.shape, about, call, flush=True)
        return found


def fixtures():
    """Folders whose forms the committed pipeline of stages/models does not have, each with diffusers' picture."""
    for name, seed in (("sharded", 23), ("pieces", 15)):
        folder = HERE / name
        for old in HERE.glob(f"{name}*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        call, lora, variant, _ = make(folder, seed)
        picture = (reference(folder, call, lora, variant, seed) * 255).round().astype(np.uint8)
        Image.fromarray(picture).save(HERE / f"{name}.png")
        for form in ("peft", "lora"):
            if form != lora["form"]:
                shutil.rmtree(HERE / f"{name}.{form}")
        (HERE / f"{name}.peft/README.md").unlink(missing_ok=True)
        if (path := HERE / f"{name}.peft/adapter_config.json").exists():
            # peft keeps the targets as a set and writes them in any order.
            config = json.loads(path.read_text())
            path.write_text(json.dumps(config | {"target_modules": sorted(config["target_modules"])}, indent=2) + "\n")
        args = arguments(Path(name), call, lora, variant, seed)
        (HERE / f"{name}.json").write_text(json.dumps(args) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["try", "fixtures"])
    parser.add_argument("seeds", type=int, nargs="*")
    parser.add_argument("--opdflow", default=str(ROOT / "target/debug/opdflow"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    if args.what == "fixtures":
        return fixtures()
    found = [one(args.opdflow, seed) for seed in range(*args.seeds)]
    print(f"{sum(f >= 45 for f in found)} of {len(found)} at 45 dB or more, the least {min(found):.1f}")
    sys.exit(int(min(found) < 45))


if __name__ == "__main__":
    main()
