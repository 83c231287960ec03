"""The original names of FLUX.1's transformer, and adapters as the programs that use these names read them.

The way back from original names to diffusers' is diffusers' own converter, and so is the second way of reading an adapter of
sd-scripts, so that a wrong table here shows. Both have the widths of the published model in their text; those of the small one
are put in.
"""
import inspect
import json  # noqa: F401  the converter's text needs what its module imports
import re

import torch
from diffusers.loaders import lora_conversion_utils, single_file_utils

DOUBLE = {
    "norm1.linear": "img_mod.lin", "norm1_context.linear": "txt_mod.lin", "attn.to_out.0": "img_attn.proj", "attn.to_add_out": "txt_attn.proj",
    "attn.norm_q": "img_attn.norm.query_norm", "attn.norm_k": "img_attn.norm.key_norm", "attn.norm_added_q": "txt_attn.norm.query_norm",
    "attn.norm_added_k": "txt_attn.norm.key_norm", "ff.net.0.proj": "img_mlp.0", "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0", "ff_context.net.2": "txt_mlp.2",
}
SINGLE = {"norm.linear": "modulation.lin", "proj_out": "linear2", "attn.norm_q": "norm.query_norm", "attn.norm_k": "norm.key_norm"}
FUSED = {
    ("transformer_blocks", "double_blocks"): {"img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
                                              "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")},
    ("single_transformer_blocks", "single_blocks"): {"linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")},
}
AROUND = {
    "x_embedder": "img_in", "context_embedder": "txt_in", "norm_out.linear": "final_layer.adaLN_modulation.1", "proj_out": "final_layer.linear",
    **{f"time_text_embed.{here}_embedder.linear_{n}": f"{there}_in.{layer}_layer"
       for here, there in (("timestep", "time"), ("guidance", "guidance"), ("text", "vector")) for n, layer in ((1, "in"), (2, "out"))},
}


def swapped(t):
    first, second = t.chunk(2)
    return torch.cat([second, first])


def fused_rows(state):
    """For each original weight that holds several of diffusers': their heights, from the top down."""
    return {there: [state[f"{name}.weight"].shape[0] for name in names] for there, names in fused_members(state).items()}


def fused_members(state):
    found = {}
    for (here, there), table in FUSED.items():
        blocks = {int(k.split(".")[1]) for k in state if k.startswith(here + ".")}
        for i in blocks:
            found |= {f"{there}.{i}.{fused}": [f"{here}.{i}.{n}" for n in names] for fused, names in table.items()}
    return found


def original(state):
    """diffusers' transformer under the original names."""
    out = {}
    for there, names in fused_members(state).items():
        for kind in ("weight", "bias"):
            out[f"{there}.{kind}"] = torch.cat([state[f"{n}.{kind}"] for n in names])
    parts = {n for names in fused_members(state).values() for n in names}
    for key, t in state.items():
        module, kind = key.rsplit(".", 1)
        if module in parts:
            continue
        if module in AROUND:
            out[f"{AROUND[module]}.{kind}"] = swapped(t) if module == "norm_out.linear" else t
            continue
        blocks, i, rest = module.split(".", 2)
        table, there = (DOUBLE, "double_blocks") if blocks == "transformer_blocks" else (SINGLE, "single_blocks")
        out[f"{there}.{i}.{table[rest]}.{'scale' if '_norm' in table[rest] else kind}"] = t
    return {k: v.contiguous() for k, v in out.items()}


def resized(function, module, width):
    """The library's function with the width of the small model in place of the published one's."""
    text = inspect.getsource(function).replace("12288", str(4 * width)).replace("3072", str(width))
    there = dict(vars(module))
    exec(re.sub(r"^@.*\n", "", text), there)
    return there[function.__name__]


def diffusers_names(state):
    """The way back, by diffusers' converter."""
    width = state["img_in.weight"].shape[0]
    return resized(single_file_utils.convert_flux_transformer_checkpoint_to_diffusers, single_file_utils, width)(dict(state))


def kohya_to_diffusers(lora, width):
    """An adapter of sd-scripts as diffusers' `load_lora_weights` takes it apart."""
    return resized(lora_conversion_utils._convert_kohya_flux_lora_to_diffusers, lora_conversion_utils, width)(
        {k: v.clone() for k, v in lora.items()})


def stems(state, rows):
    """For each name that an adapter's module may have: the original weight, and the rows of it that are meant."""
    found = {}
    for key, t in state.items():
        if t.ndim != 2:
            continue
        stem = key.removesuffix(".weight")
        for name in (stem, f"diffusion_model.{stem}", f"transformer.{stem}", "lora_unet_" + stem.replace(".", "_")):
            found[name] = (key, slice(0, t.shape[0]))
        first = 0
        for n, height in enumerate(rows.get(stem, ())):
            found[f"transformer.{stem}.{n}"] = (key, slice(first, first + height))
            first += height
    return found


def merged(state, lora, rows):
    """The weights with an adapter in original names: scale alpha over rank, 1 without an alpha (ComfyUI, sd-scripts)."""
    out, known = dict(state), stems(state, rows)
    for name, a in lora.items():
        for down, up in ((".lora_down.weight", ".lora_up.weight"), (".lora_A.weight", ".lora_B.weight")):
            if name.endswith(down):
                stem = name.removesuffix(down)
                key, part = known[stem]
                alpha = lora.get(f"{stem}.alpha")
                scale = 1.0 if alpha is None else alpha.item() / a.shape[0]
                out[key] = out[key].clone()
                out[key][part] += scale * (lora[stem + up].float() @ a.float())
    return out
