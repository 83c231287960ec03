#!/usr/bin/env python3
"""Makes the parity fixtures: small random configurations of the real diffusers, transformers and peft classes, with
inputs and outputs. Run it beside its outputs (python make_fixtures.py); everything is seeded.

Made with torch 2.11.0, diffusers 0.42.1, transformers 5.23.0, peft 0.21.0, on the CPU with one thread, f32.
"""
import json
import math
import os
import shutil
from collections import Counter
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

HERE = Path(__file__).resolve().parent
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

CORPUS = [
    "a photo of a red circle and a blue square", "two green triangles above a yellow star",
    'a sign that says "HELLO"', "a photograph of a bench left of a bear", "four clocks on a purple table",
    "the word \"opd\" written in white chalk", "a mountain landscape at sunset, oil painting", "a photo of three apples",
]
PROMPTS = [
    "a photo of a red circle", 'The word "ABC" in White, 42 times!', "", "  two   spaces\tand\na newline  ",
    "caf\u00e9 na\u00efve \u00fcber \u4f60\u597d \U0001f600", "it's they'll we've I'm don't!!! ... <|endoftext|> after",
    "a very long prompt " * 12, "\u0130stanbul \u212bngstr\u00f6m e\u0301 \u00a0nbsp",
]


def shake(module, seed):
    """Random values everywhere: weights by fan-in, small biases, norm weights around one, so that no error hides behind a zero."""
    g = torch.Generator().manual_seed(seed)
    for name, p in sorted(module.named_parameters()):
        noise = torch.randn(p.shape, generator=g)
        with torch.no_grad():
            if "embedding" in name or "shared" in name or "relative_attention_bias" in name:
                p.copy_(noise * 0.5)
            elif p.ndim >= 2:
                p.copy_(noise * (p[0].numel() ** -0.5))
            elif name.endswith("bias"):
                p.copy_(noise * 0.1)
            else:
                p.copy_(1 + 0.2 * noise)
    return module.eval()


def rand(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def save(name, **tensors):
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, HERE / f"{name}.safetensors")


def bytes_to_unicode():
    keep = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in keep]
    return {b: chr(c) for b, c in zip(keep + rest, keep + [256 + i for i in range(len(rest))])}


def write_bpe(folder, merges_wanted=120):
    """vocab.json and merges.txt laid out as CLIP's: bytes, bytes that end a word, merges, the two special tokens."""
    table = bytes_to_unicode()
    words = Counter()
    for line in CORPUS:
        for word in line.lower().replace('"', " ").replace(",", " ").split():
            chars = [table[b] for b in word.encode()]
            words[tuple(chars[:-1] + [chars[-1] + "</w>"])] += 1
    merges = []
    while len(merges) < merges_wanted:
        pairs = Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        merged = Counter()
        for word, n in words.items():
            out, i = [], 0
            while i < len(word):
                if word[i : i + 2] == best:
                    out.append("".join(best))
                    i += 2
                else:
                    out.append(word[i])
                    i += 1
            merged[tuple(out)] += n
        words = merged
    symbols = list(table.values())
    vocab = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocab)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    return len(vocab)


def clip_tokenizer(folder, pad, as_json):
    """The layouts in the wild: vocab.json + merges.txt with a tokenizer_config.json (SD3.5), or a tokenizer.json."""
    size = write_bpe(folder)
    vocab = json.loads((folder / "vocab.json").read_text())
    eos = vocab["<|endoftext|>"]
    special = lambda t, normalized: dict(content=t, lstrip=False, normalized=normalized, rstrip=False, single_word=False, special=True)
    added = {str(eos - 1): special("<|startoftext|>", True), str(eos): special("<|endoftext|>", True)}
    if pad == "!":
        added["0"] = special("!", False)
    config = dict(add_prefix_space=False, added_tokens_decoder=added, bos_token="<|startoftext|>", eos_token="<|endoftext|>",
                  pad_token=pad, unk_token="<|endoftext|>", do_lower_case=True, errors="replace", model_max_length=24,
                  tokenizer_class="CLIPTokenizer")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    tok = CLIPTokenizer.from_pretrained(folder)
    if as_json:
        shutil.rmtree(folder)
        tok.save_pretrained(folder)
        tok = CLIPTokenizer.from_pretrained(folder)
    return tok, size, eos


def t5_tokenizer(folder):
    # Frequent pieces with log frequencies; the trainer of the library gives other pieces on each run.
    pieces = Counter()
    for line in CORPUS:
        for word in line.split():
            word = "\u2581" + word
            pieces.update(word[i:j] for i in range(len(word)) for j in range(i + 1, min(i + 7, len(word)) + 1))
    keep = sorted(pieces, key=lambda p: (len(p) > 1, -pieces[p] * len(p), p))[:120]
    total = sum(pieces[p] for p in keep)
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + [(p, math.log(pieces[p] / total)) for p in keep]
    tok = T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=32)
    tok.save_pretrained(folder)
    return T5TokenizerFast.from_pretrained(folder), len(vocab)


def mmdit(seed, **over):
    config = dict(sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=3, attention_head_dim=16,
                  num_attention_heads=2, joint_attention_dim=40, caption_projection_dim=32, pooled_projection_dim=24,
                  pos_embed_max_size=8, qk_norm="rms_norm", dual_attention_layers=(0, 1))
    return shake(SD3Transformer2DModel(**(config | over)), seed)


def mmdit_inputs(seed, b, h, w, length, config):
    return dict(latent=rand(seed, b, config.in_channels, h, w), timestep=torch.tensor([1000.0, 513.7, 8.9286])[:b],
                context=rand(seed + 1, b, length, config.joint_attention_dim), pooled=rand(seed + 2, b, config.pooled_projection_dim))


def run(model, i):
    return model(hidden_states=i["latent"], timestep=i["timestep"], encoder_hidden_states=i["context"],
                 pooled_projections=i["pooled"], return_dict=False)[0]


def plain_fixture():
    """No norm of q and k, no second attention, a width that heads divide oddly, gradients of everything."""
    model = mmdit(11, num_layers=2, attention_head_dim=8, num_attention_heads=2, caption_projection_dim=16, qk_norm=None,
                  dual_attention_layers=(), joint_attention_dim=20, pooled_projection_dim=12, pos_embed_max_size=6, sample_size=12)
    model.save_pretrained(HERE / "mmdit_plain")
    i = mmdit_inputs(21, 3, 4, 6, 5, model.config)
    i["latent"].requires_grad_(True)
    out = run(model, i)
    target = rand(25, *out.shape)
    ((out - target) ** 2).mean().backward()
    grads = {f"grad.{n}": p.grad for n, p in model.named_parameters()}
    save("mmdit_plain", **i, out=out, target=target, grad_latent=i["latent"].grad, **grads)


def lora_fixtures(pipe):
    model = pipe.transformer
    i = mmdit_inputs(31, 3, 8, 4, 7, model.config)
    out = run(model, i)
    save("mmdit_dual", **i, out=out)
    targets = [f"attn.{n}" for n in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")]
    for rank, alpha in ((2, 4), (8, 16)):
        torch.manual_seed(rank)
        wrapped = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=targets))
        g = torch.Generator().manual_seed(rank)
        for name, p in sorted(wrapped.named_parameters()):
            if "lora_B" in name:
                p.data = torch.randn(p.shape, generator=g) * 0.1
        out = run(wrapped, i)
        target = rand(37, *out.shape)
        ((out - target) ** 2).mean().backward()
        grads = {n.replace(".default", "").removeprefix("base_model.model."): p.grad
                 for n, p in wrapped.named_parameters() if p.requires_grad}
        wrapped.save_pretrained(HERE / f"lora_r{rank}")
        (HERE / f"lora_r{rank}" / "README.md").unlink(missing_ok=True)
        # peft keeps the targets as a set and writes them in any order.
        path = HERE / f"lora_r{rank}" / "adapter_config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"target_modules": sorted(targets)}, indent=2) + "\n")
        save(f"lora_r{rank}_out", out=out, target=target, **{f"grad.{n}": t for n, t in grads.items()})
        if rank == 2:
            state = get_peft_model_state_dict(wrapped)
            state = {k.removeprefix("base_model.model."): v for k, v in state.items()}
            StableDiffusion3Pipeline.save_lora_weights(
                HERE, transformer_lora_layers=state, weight_name="lora_single.safetensors",
                transformer_lora_adapter_metadata=wrapped.peft_config["default"].to_dict() | {"target_modules": sorted(targets)})
        wrapped.unload()


def vae_fixture(vae):
    picture = rand(41, 2, 3, 32, 48).clamp(-1, 1)
    posterior = vae.encode(picture).latent_dist
    z = rand(43, 2, 16, 4, 6)
    save("vae", picture=picture, mean=posterior.mean, logvar=posterior.logvar, z=z, decoded=vae.decode(z).sample)
    # The other switches: quant convolutions, no attention in the middle, one level.
    small = shake(AutoencoderKL(block_out_channels=(8,), latent_channels=2, norm_num_groups=2, mid_block_add_attention=False), 44)
    small.save_pretrained(HERE / "vae_small")
    picture = rand(45, 1, 3, 5, 7)
    posterior = small.encode(picture).latent_dist
    save("vae_small", picture=picture, mean=posterior.mean, logvar=posterior.logvar, decoded=small.decode(posterior.mean).sample)


def tiles_fixture():
    """`enable_tiling`: the small VAE of one level, whose tiles are 32 latents wide."""
    vae = AutoencoderKL.from_pretrained(HERE / "vae_small").eval()
    z = rand(46, 1, 2, 45, 37)
    whole = vae.decode(z).sample
    vae.enable_tiling()
    save("vae_tiled", z=z, whole=whole, tiled=vae.decode(z).sample)


def long_fixture(pipe):
    """T5 at the lengths that the pipeline pads to, with a prompt, its end and padding."""
    out = {}
    for length in (128, 256):
        ids = torch.randint(3, pipe.text_encoder_3.config.vocab_size, (1, length), generator=torch.Generator().manual_seed(length))
        ids[0, length // 2], ids[0, length // 2 + 1 :] = 1, 0
        out |= {f"ids.{length}": ids, f"out.{length}": pipe.text_encoder_3(ids)[0]}
    save("text_long", **out)


def text_fixture(pipe):
    out = {}
    for n, enc in ((1, pipe.text_encoder), (2, pipe.text_encoder_2)):
        g = torch.Generator().manual_seed(50 + n)
        ids = torch.randint(0, enc.config.vocab_size - 2, (3, 24), generator=g)
        for row, at in enumerate((5, 23, 11)):
            ids[row, at:] = enc.config.vocab_size - 1
        y = enc(ids, output_hidden_states=True)
        out |= {f"clip{n}.ids": ids, f"clip{n}.hidden": y.hidden_states[-2], f"clip{n}.last": y.last_hidden_state, f"clip{n}.pooled": y.text_embeds}
    ids = torch.randint(0, pipe.text_encoder_3.config.vocab_size, (2, 40), generator=torch.Generator().manual_seed(53))
    out |= {"t5.ids": ids, "t5.out": pipe.text_encoder_3(ids)[0]}
    save("text", **out)


def prompt_fixture(pipe):
    rows = []
    for name, tok, length in (("tokenizer", pipe.tokenizer, 24), ("tokenizer_2", pipe.tokenizer_2, 24), ("tokenizer_3", pipe.tokenizer_3, 16)):
        ids = tok(PROMPTS, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        rows.append(dict(folder=name, length=length, prompts=PROMPTS, ids=ids.tolist()))
    (HERE / "tokens.json").write_text(json.dumps(rows) + "\n")
    encode = lambda **k: pipe.encode_prompt(prompt=PROMPTS, prompt_2=None, prompt_3=None, do_classifier_free_guidance=False, **k)
    context, _, pooled, _ = encode(max_sequence_length=16)
    t5, pipe.text_encoder_3 = pipe.text_encoder_3, None
    without, _, _, _ = encode(max_sequence_length=16)
    pipe.text_encoder_3 = t5
    save("prompts", context=context, pooled=pooled, context_without_t5=without[:, :, :])


def published():
    """A hash of the ids of the published vocabularies on published prompts, where they lie beside the checkout or where
    OPDFLOW_PUBLISHED says."""
    shared = Path(os.environ.get("OPDFLOW_PUBLISHED") or HERE.parents[4] / "shared")
    if not (shared / "tokenizers").is_dir() or not (shared / "prompts").is_dir():
        print("published vocabularies: not beside the checkout, left as they are")
        return
    prompts = []
    for name in ("ocr_test.txt", "drawbench.txt", "pickapic_sfw_test.txt"):
        text = open(shared / "prompts" / name, encoding="utf-8", newline="").read()
        prompts += [line for line in text.split("\n") if line]
    with open(shared / "prompts/geneval_test.jsonl", encoding="utf-8") as lines:
        prompts += [json.loads(line)["prompt"] for line in lines if line.strip()]
    for name, tok, length in (("clip", CLIPTokenizer.from_pretrained(shared / "tokenizers/clip"), 77),
                              ("t5", T5TokenizerFast.from_pretrained(shared / "tokenizers/t5"), 256)):
        hashed = 0xCBF29CE484222325
        for row in tok(prompts, padding="max_length", max_length=length, truncation=True).input_ids:
            for i in row:
                hashed = ((hashed ^ i) * 0x100000001B3) % 2**64
        (HERE / f"published_{name}.txt").write_text(f"{len(prompts)} {hashed:016x}\n")


def end_to_end(pipe):
    pipe.set_progress_bar_config(disable=True)
    prompts, latents = PROMPTS[:2], rand(61, 2, 16, 8, 8)
    seen = []
    keep = lambda _, step, t, k: (seen.append((t, k["latents"].clone())), k)[1]
    pictures = pipe(prompts, num_inference_steps=8, guidance_scale=4.5, latents=latents, height=64, width=64,
                    max_sequence_length=16, output_type="pt", callback_on_step_end=keep).images
    save("end_to_end", latents=latents, final=seen[-1][1], first=seen[0][1], pictures=pictures,
         timesteps=torch.stack([t for t, _ in seen]), sigmas=pipe.scheduler.sigmas)


def main():
    folder = HERE / "pipeline"
    for old in (folder, HERE / "mmdit_plain", HERE / "vae_small", HERE / "lora_r2", HERE / "lora_r8"):
        shutil.rmtree(old, ignore_errors=True)
    tok1, size, eos = clip_tokenizer(folder / "tokenizer", "<|endoftext|>", False)
    tok2, _, _ = clip_tokenizer(folder / "tokenizer_2", "!", True)
    tok3, t5_size = t5_tokenizer(folder / "tokenizer_3")
    clip = dict(vocab_size=size, num_hidden_layers=3, max_position_embeddings=24, bos_token_id=eos - 1)
    enc1 = CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=8, intermediate_size=16, projection_dim=8, num_attention_heads=2,
                                                      hidden_act="quick_gelu", eos_token_id=2, **clip))
    enc2 = CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=16, intermediate_size=32, projection_dim=16, num_attention_heads=2,
                                                      hidden_act="gelu", eos_token_id=eos, **clip))
    enc3 = T5EncoderModel(T5Config(vocab_size=t5_size, d_model=40, d_kv=8, d_ff=48, num_layers=2, num_heads=3, feed_forward_proj="gated-gelu",
                                   relative_attention_num_buckets=16, relative_attention_max_distance=20))
    vae = AutoencoderKL(block_out_channels=(4, 8, 8, 16), down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                        layers_per_block=1, latent_channels=16, norm_num_groups=4, scaling_factor=1.5305, shift_factor=0.0609,
                        use_quant_conv=False, use_post_quant_conv=False)
    pipe = StableDiffusion3Pipeline(
        transformer=mmdit(1), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=shake(vae, 2),
        text_encoder=shake(enc1, 3), tokenizer=tok1, text_encoder_2=shake(enc2, 4), tokenizer_2=tok2, text_encoder_3=shake(enc3, 5), tokenizer_3=tok3)
    bare = {p: p.read_bytes() for p in (folder / "tokenizer").iterdir()}
    pipe.save_pretrained(folder)
    # save_pretrained adds a tokenizer.json; the first tokenizer stays in the older layout.
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    for path, data in bare.items():
        path.write_bytes(data)
    with torch.no_grad():
        vae_fixture(pipe.vae)
        tiles_fixture()
        text_fixture(pipe)
        long_fixture(pipe)
        prompt_fixture(pipe)
        end_to_end(pipe)
    published()
    plain_fixture()
    lora_fixtures(pipe)


if __name__ == "__main__":
    main()
