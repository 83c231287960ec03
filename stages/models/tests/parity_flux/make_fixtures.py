#!/usr/bin/env python3
"""Makes the parity fixtures of FLUX.1: small random configurations of the real diffusers, transformers and peft classes,
with inputs and outputs. Run it beside its outputs:

    OMP_NUM_THREADS=1 python make_fixtures.py          everything but the next
    OMP_NUM_THREADS=1 python make_fixtures.py ours     the velocity that diffusers gives with the adapter files that we wrote

Made with torch 2.11.0, diffusers 0.42.1, transformers 5.24.0, peft 0.21.2 (scripts/peers.sh), on the CPU with one thread, f32.
"""
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

HERE = Path(__file__).resolve().parent
from original import diffusers_names, fused_rows, kohya_to_diffusers, merged, original, stems  # noqa: E402

sys.path.insert(0, str(HERE.parent / "parity"))
from make_fixtures import PROMPTS, clip_tokenizer, rand, shake, t5_tokenizer  # noqa: E402

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

# scripts/train_flux.py of Flow-GRPO, commit 74db691.
TARGETS = ["attn.to_k", "attn.to_q", "attn.to_v", "attn.to_out.0", "attn.add_k_proj", "attn.add_q_proj", "attn.add_v_proj",
           "attn.to_add_out", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"]


def save(name, **tensors):
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, HERE / f"{name}.safetensors")


def flux(seed, **over):
    config = dict(in_channels=64, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
                  joint_attention_dim=40, pooled_projection_dim=8, guidance_embeds=True, axes_dims_rope=(4, 6, 6))
    return shake(FluxTransformer2DModel(**(config | over)), seed)


def schnell():
    """Another shape, and no embedding of the guidance."""
    return flux(12, num_layers=1, num_single_layers=3, num_attention_heads=1, attention_head_dim=16, axes_dims_rope=(2, 4, 10),
                guidance_embeds=False)


def inputs(seed, b, h, w, length):
    return dict(latent=rand(seed, b, 16, h, w), sigma=torch.tensor([1.0, 0.5137, 0.0089286])[:b],
                context=rand(seed + 1, b, length, 40), pooled=rand(seed + 2, b, 8))


def packed(x):
    return FluxPipeline._pack_latents(x, *x.shape)


def unpacked(t, h, w):
    # The factor of a VAE without levels, so that height and width are those of the latent.
    return FluxPipeline._unpack_latents(t, h, w, 1)


def ids(h, w):
    return FluxPipeline._prepare_latent_image_ids(1, h // 2, w // 2, "cpu", torch.float32)


def run(model, i, guidance=3.5):
    """The transformer as FluxPipeline calls it, from latent to velocity."""
    b, _, h, w = i["latent"].shape
    embeds = model.get_base_model().config.guidance_embeds if hasattr(model, "get_base_model") else model.config.guidance_embeds
    out = model(hidden_states=packed(i["latent"]), timestep=i["sigma"], guidance=torch.full([b], guidance) if embeds else None,
                pooled_projections=i["pooled"], encoder_hidden_states=i["context"], txt_ids=torch.zeros(i["context"].shape[1], 3),
                img_ids=ids(h, w), return_dict=False)[0]
    return unpacked(out, h, w)


@torch.no_grad()
def modules(model, plain):
    """The modules one by one: positions, embedders, a double and a single block."""
    cos, sin = model.pos_embed(torch.cat([torch.zeros(5, 3), ids(6, 10)]))
    large_cos, large_sin = model.pos_embed(ids(4, 256))
    sigma, pooled = torch.tensor([1.0, 0.7271, 0.0125]), rand(71, 3, 8)
    guidance = torch.tensor([3.5, 1.0, 30.0])
    with_guidance = model.time_text_embed(sigma * 1000, guidance * 1000, pooled)
    without = plain.time_text_embed(sigma * 1000, pooled)
    x, text, cond = rand(72, 3, 15, 32), rand(73, 3, 5, 32), rand(74, 3, 32)
    block, single = model.transformer_blocks[1], model.single_transformer_blocks[0]
    rope = (cos, sin)
    text_out, x_out = block(hidden_states=x, encoder_hidden_states=text, temb=cond, image_rotary_emb=rope)
    text_single, x_single = single(hidden_states=x, encoder_hidden_states=text, temb=cond, image_rotary_emb=rope)
    latent = rand(75, 2, 16, 6, 10)
    save("modules", cos=cos, sin=sin, large_cos=large_cos, large_sin=large_sin, sigma=sigma, pooled=pooled, guidance=guidance,
         with_guidance=with_guidance, without=without, x=x, text=text, cond=cond, text_out=text_out, x_out=x_out,
         text_single=text_single, x_single=x_single, latent=latent, packed=packed(latent))


def whole(model, plain):
    i = inputs(21, 3, 6, 4, 7)
    i["latent"].requires_grad_(True)
    out = run(model, i)
    target = rand(25, *out.shape)
    ((out - target) ** 2).mean().backward()
    around = ("time_text_embed.", "x_embedder.", "context_embedder.", "norm_out.", "proj_out.")
    grads = {f"grad.{n}": p.grad for n, p in model.named_parameters() if n.startswith(around)}
    with torch.no_grad():
        other = run(model, i, 1.0)
    save("dev", **i, out=out, out_guidance_1=other, target=target, grad_latent=i["latent"].grad, **grads)
    model.zero_grad()
    i = inputs(31, 2, 4, 8, 5)
    i["latent"].requires_grad_(True)
    out = run(plain, i)
    target = rand(35, *out.shape)
    ((out - target) ** 2).mean().backward()
    grads = {f"grad.{n}": p.grad for n, p in plain.named_parameters()}
    save("schnell", **i, out=out, target=target, grad_latent=i["latent"].grad, **grads)
    plain.zero_grad()


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
    FluxPipeline.save_lora_weights(HERE, transformer_lora_layers=state, weight_name="lora_single.safetensors",
                                   transformer_lora_adapter_metadata=made.peft_config["default"].to_dict() | {"target_modules": sorted(TARGETS)})
    made.unload()


def fresh():
    return FluxTransformer2DModel.from_pretrained(HERE / "dev/transformer").eval()


@torch.no_grad()
def original_forms():
    """Adapters in the names of sd-scripts, ComfyUI and OneTrainer, and the velocities with them."""
    i = inputs(41, 3, 8, 4, 7)
    plain = fresh().state_dict()
    state, rows = original(plain), fused_rows(plain)
    back = diffusers_names(state)
    assert back.keys() == plain.keys() and all(torch.equal(back[k], v) for k, v in plain.items())
    out, width = {}, fresh().inner_dim

    def pair(lora, stem, rank, alpha, g, down="lora_down", up="lora_up", dtype=torch.float32):
        key, part = stems(state, rows)[stem]
        lora[f"{stem}.{down}.weight"] = (torch.randn(rank, state[key].shape[1], generator=g) * 0.3).to(dtype)
        lora[f"{stem}.{up}.weight"] = (torch.randn(part.stop - part.start, rank, generator=g) * 0.1).to(dtype)
        if alpha is not None:
            lora[f"{stem}.alpha"] = torch.tensor(float(alpha)).to(dtype)

    def apply(name, lora):
        model = fresh()
        model.load_state_dict(diffusers_names(merged(state, lora, rows)))
        out[name] = run(model, i)
        save(name, **lora)

    # B has no zeros, so that products of rank 3 for q, k and v are shared ones too.
    modules = [k.removesuffix(".weight") for k, t in state.items() if t.ndim == 2]
    g, lora = torch.Generator().manual_seed(3), {}
    for n, m in enumerate(sorted(modules)):
        rank = 1 + n % 3
        # diffusers' converter leaves alphas of the last layers out.
        pair(lora, "lora_unet_" + m.replace(".", "_"), rank, rank if m.startswith("final_layer") else 1 + n % 2, g)
    apply("kohya", lora)
    model = fresh()
    model.load_lora_adapter({k.removeprefix("transformer."): v for k, v in kohya_to_diffusers(lora, width).items()}, prefix=None)
    apart = (run(model, i) - out["kohya"]).abs().max().item()
    print(f"kohya: diffusers' own reading is {apart:.1e} away")
    assert apart < 2e-5
    g, lora = torch.Generator().manual_seed(4), {}
    for n, m in enumerate(["double_blocks.0.img_attn.qkv", "double_blocks.1.txt_attn.qkv", "double_blocks.1.img_mlp.0", "single_blocks.0.linear1",
                           "single_blocks.1.linear2", "single_blocks.1.modulation.lin", "final_layer.adaLN_modulation.1", "guidance_in.in_layer"]):
        pair(lora, f"diffusion_model.{m}", 2, None if n % 2 else 1.5, g, "lora_A", "lora_B", torch.float16)
    apply("comfyui", lora)
    g, lora = torch.Generator().manual_seed(5), {}
    for m in ("double_blocks.0.img_attn.qkv.0", "double_blocks.1.txt_attn.qkv.2", "single_blocks.0.linear1.3", "single_blocks.1.linear1.1",
              "single_blocks.0.linear2", "double_blocks.0.txt_mlp.2"):
        pair(lora, f"transformer.{m}", 2, 1, g)
    apply("onetrainer", lora)
    save("forms_out", **out)
    names = sorted(modules)
    table = dict(kohya=["lora_unet_" + n.replace(".", "_") for n in names], comfyui=[f"diffusion_model.{n}" for n in names])
    (HERE / "names.json").write_text(json.dumps(table, indent=1) + "\n")


def tables():
    """Noise levels as FluxPipeline asks for them."""
    rows = []
    dev = dict(use_dynamic_shifting=True, shift=3.0)
    for name, config in (("dev", dev), ("schnell", dict(shift=1.0)), ("static", dict(shift=3.0)),
                         ("linear", dev | dict(time_shift_type="linear")),
                         ("other", dev | dict(base_shift=0.25, max_shift=0.9, base_image_seq_len=64, max_image_seq_len=1024))):
        scheduler = FlowMatchEulerDiscreteScheduler(**config)
        for tokens in (15, 256, 1024, 1536, 4096, 6400):
            for steps in (1, 4, 6, 28, 50):
                c = scheduler.config
                mu = calculate_shift(tokens, c.base_image_seq_len, c.max_image_seq_len, c.base_shift, c.max_shift)
                scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
                if steps <= 6 or tokens in (15, 1536):
                    rows.append(dict(config=name, tokens=tokens, steps=steps, sigmas=[round(s, 9) for s in scheduler.sigmas.tolist()]))
        if name != "static":
            scheduler.save_pretrained(HERE / "schedulers" / name)
    (HERE / "sigmas.json").write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")


@torch.no_grad()
def text(pipe):
    g = torch.Generator().manual_seed(51)
    vocab = pipe.text_encoder.config.vocab_size
    tokens = torch.randint(0, vocab - 2, (3, 24), generator=g)
    for row, at in enumerate((5, 23, 11)):
        tokens[row, at:] = vocab - 1
    clip = pipe.text_encoder(tokens)
    context, pooled, _ = pipe.encode_prompt(prompt=PROMPTS, prompt_2=None, max_sequence_length=16)
    (HERE / "prompts.json").write_text(json.dumps(PROMPTS) + "\n")
    save("text", ids=tokens, pooler=clip.pooler_output, last=clip.last_hidden_state, context=context, pooled=pooled)


@torch.no_grad()
def end_to_end(name, pipe, steps, guidance, h, w):
    pipe.set_progress_bar_config(disable=True)
    latent = rand(61, 2, 16, h, w)
    seen = []
    keep = lambda _, step, t, k: (seen.append((t, k["latents"].clone())), k)[1]
    pictures = pipe(PROMPTS[:2], num_inference_steps=steps, guidance_scale=guidance, latents=packed(latent), height=8 * h, width=8 * w,
                    max_sequence_length=16, output_type="pt", callback_on_step_end=keep).images
    save(f"end_to_end_{name}", latent=latent, first=unpacked(seen[0][1], h, w), final=unpacked(seen[-1][1], h, w), pictures=pictures,
         timesteps=torch.stack([t for t, _ in seen]), sigmas=pipe.scheduler.sigmas)


def make():
    for old in ("dev", "schnell_parts", "lora", "schedulers"):
        shutil.rmtree(HERE / old, ignore_errors=True)
    folder = HERE / "dev"
    tok1, size, eos = clip_tokenizer(folder / "tokenizer", "<|endoftext|>", False)
    tok2, t5_size = t5_tokenizer(folder / "tokenizer_2")
    clip = CLIPTextModel(CLIPTextConfig(vocab_size=size, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
                                        projection_dim=12, max_position_embeddings=24, hidden_act="quick_gelu", bos_token_id=eos - 1,
                                        eos_token_id=2))
    t5 = T5EncoderModel(T5Config(vocab_size=t5_size, d_model=40, d_kv=8, d_ff=48, num_layers=2, num_heads=3, feed_forward_proj="gated-gelu",
                                 relative_attention_num_buckets=16, relative_attention_max_distance=20))
    vae = AutoencoderKL(block_out_channels=(4, 4, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                        layers_per_block=1, latent_channels=16, norm_num_groups=4, scaling_factor=0.3611, shift_factor=0.1159,
                        use_quant_conv=False, use_post_quant_conv=False)
    pipe = FluxPipeline(transformer=flux(1), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), vae=shake(vae, 2),
                        text_encoder=shake(clip, 3), tokenizer=tok1, text_encoder_2=shake(t5, 4), tokenizer_2=tok2)
    bare = {p: p.read_bytes() for p in (folder / "tokenizer").iterdir()}
    pipe.save_pretrained(folder)
    # As the published folders have them: vocab.json and merges.txt.
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    for path, data in bare.items():
        path.write_bytes(data)
    plain = schnell()
    plain.save_pretrained(HERE / "schnell_parts/transformer")
    fast = FlowMatchEulerDiscreteScheduler(shift=1.0)
    fast.save_pretrained(HERE / "schnell_parts/scheduler")
    tables()
    modules(pipe.transformer, plain)
    text(pipe)
    end_to_end("dev", pipe, 6, 3.5, 4, 6)
    dev = pipe.transformer
    pipe.transformer, pipe.scheduler = plain, fast
    end_to_end("schnell", pipe, 4, 0.0, 8, 4)
    whole(dev, plain)
    adapter(dev)
    original_forms()


@torch.no_grad()
def ours():
    """What diffusers and peft make of the adapter files in `ours/`, which the Rust test writes."""
    i = {k: v for k, v in load_file(HERE / "lora_out.safetensors").items() if k in ("latent", "sigma", "context", "pooled")}
    out = {}
    pipe = FluxPipeline.from_pretrained(HERE / "dev")
    pipe.load_lora_weights(HERE / "ours/pytorch_lora_weights.safetensors")
    out["diffusers"] = run(pipe.transformer, i)
    pipe = FluxPipeline.from_pretrained(HERE / "dev")
    pipe.load_lora_weights(HERE / "ours/heads.safetensors")
    out["heads, diffusers"] = run(pipe.transformer, i)
    out["heads, peft"] = run(PeftModel.from_pretrained(fresh(), HERE / "ours/heads"), i)
    width = pipe.transformer.inner_dim
    model = fresh()
    model.load_lora_adapter(kohya_to_diffusers(load_file(HERE / "ours/kohya.safetensors"), width), prefix="transformer")
    out["kohya"] = run(model, i)
    state, rows = original(fresh().state_dict()), fused_rows(fresh().state_dict())
    model = fresh()
    model.load_state_dict(diffusers_names(merged(state, load_file(HERE / "ours/comfyui.safetensors"), rows)))
    out["comfyui"] = run(model, i)
    out["peft"] = run(PeftModel.from_pretrained(fresh(), HERE / "ours/peft"), i)
    save("ours_out", **out)


if __name__ == "__main__":
    ours() if sys.argv[1:] == ["ours"] else make()
