"""The original names of SD3's transformer, and adapters as the programs that use these names read them.

Written from the published readers: `mmdit_to_diffusers` and `model_lora_keys_unet` of ComfyUI (comfy/utils.py, comfy/lora.py),
`LoRANetwork` of sd-scripts (networks/lora_sd3.py), `convert_sd3_lora_key_sets` of OneTrainer. The way back from original names
to diffusers' is diffusers' own converter, so that a wrong table here shows.
"""
import torch
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

BLOCK = {
    "norm1.linear": "x_block.adaLN_modulation.1", "norm1_context.linear": "context_block.adaLN_modulation.1",
    "attn.to_out.0": "x_block.attn.proj", "attn.to_add_out": "context_block.attn.proj", "attn2.to_out.0": "x_block.attn2.proj",
    "attn.norm_q": "x_block.attn.ln_q", "attn.norm_k": "x_block.attn.ln_k", "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k", "attn2.norm_q": "x_block.attn2.ln_q", "attn2.norm_k": "x_block.attn2.ln_k",
    "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2", "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}
THIRDS = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
}
AROUND = {
    "context_embedder": "context_embedder", "pos_embed.proj": "x_embedder.proj", "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear", "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2", "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
}


def swapped(t):
    first, second = t.chunk(2)
    return torch.cat([second, first])


def original(state, prefix=""):
    """diffusers' transformer under the original names."""
    out, layers = {}, 1 + max(int(k.split(".")[1]) for k in state if k.startswith("transformer_blocks."))
    # Without a table of positions there is one that nobody reads, for the converter.
    out["pos_embed"] = state.get("pos_embed.pos_embed", torch.zeros(1, 1, 1))
    for here, there in AROUND.items():
        for kind in ("weight", "bias"):
            t = state[f"{here}.{kind}"]
            out[f"{there}.{kind}"] = swapped(t) if here == "norm_out.linear" else t
    for i in range(layers):
        block = lambda name: state.get(f"transformer_blocks.{i}.{name}")
        for kind in ("weight", "bias"):
            for here, there in BLOCK.items():
                t = block(f"{here}.{kind}")
                if t is not None:
                    last = here == "norm1_context.linear" and i == layers - 1
                    out[f"joint_blocks.{i}.{there}.{kind}"] = swapped(t) if last else t
            for there, three in THIRDS.items():
                parts = [block(f"{n}.{kind}") for n in three]
                if parts[0] is not None:
                    out[f"joint_blocks.{i}.{there}.{kind}"] = torch.cat(parts)
    return {prefix + k: v.contiguous() for k, v in out.items()}


def diffusers_names(state):
    """The way back, by diffusers' converter."""
    return convert_sd3_transformer_checkpoint_to_diffusers(dict(state))


def stems(state):
    """For each name that an adapter's module may have: the original weight, and the rows of it that are meant."""
    names, layers = {}, 1 + max(int(k.split(".")[1]) for k in state if k.startswith("joint_blocks."))
    for key in state:
        if key.endswith(".weight"):
            stem = key.removesuffix(".weight")
            names[f"lora_unet_{stem.replace('.', '_')}"] = names[f"diffusion_model.{stem}"] = (key, None, False)

    def unfused(here, key, rows, swap):
        if key in state:
            for name in (f"transformer.{here}", f"base_model.model.{here}", "lora_transformer_" + here.replace(".", "_"),
                         "lycoris_" + here.replace(".", "_")):
                names[name] = (key, rows, swap)

    for here, there in AROUND.items():
        unfused(here, f"{there}.weight", None, here == "norm_out.linear")
    for i in range(layers):
        for here, there in BLOCK.items():
            unfused(f"transformer_blocks.{i}.{here}", f"joint_blocks.{i}.{there}.weight", None,
                    here == "norm1_context.linear" and i == layers - 1)
        for there, three in THIRDS.items():
            for n, here in enumerate(three):
                unfused(f"transformer_blocks.{i}.{here}", f"joint_blocks.{i}.{there}.weight", n, False)
                # OneTrainer's newer names.
                if f"joint_blocks.{i}.{there}.weight" in state:
                    names[f"transformer.joint_blocks.{i}.{there}.{n}"] = (f"joint_blocks.{i}.{there}.weight", n, False)
    for key in state:
        if key.endswith(".weight"):
            names.setdefault(f"transformer.{key.removesuffix('.weight')}", (key, None, False))
    return names


ENDINGS = [("lora_down.weight", "lora_up.weight"), ("lora_A.weight", "lora_B.weight")]


def merged(state, lora, prefixes=None):
    """Original weights with an adapter added as ComfyUI's `LoRAAdapter` adds it: alpha over the rows of the down matrix, or
    1 without alpha. Only stems that begin with one of `prefixes` are read; what is left over fails."""
    out, left = {k: v.double() for k, v in state.items()}, set(lora)
    for stem, (key, rows, swap) in stems(state).items():
        if prefixes and not stem.startswith(prefixes):
            continue
        for down, up in ENDINGS:
            if f"{stem}.{down}" in lora:
                a, b = lora[f"{stem}.{down}"].double(), lora[f"{stem}.{up}"].double()
                alpha = lora.get(f"{stem}.alpha")
                scale = 1.0 if alpha is None else alpha.item() / a.shape[0]
                left -= {f"{stem}.{down}", f"{stem}.{up}", f"{stem}.alpha"}
                change = scale * b @ a
                if swap:
                    change = swapped(change)
                if rows is None:
                    out[key] += change
                else:
                    third = out[key].shape[0] // 3
                    out[key][rows * third:(rows + 1) * third] += change
    assert not left, f"nobody reads {sorted(left)[:5]}"
    return {k: v.float() for k, v in out.items()}
