"""Writes recipes/sd35/tiny/reward_models: what the small reward models of the recipes' trial run need beside the fixtures here.

A linear stack for the aesthetic predictor, and ImageReward's fixture with a linear stack, in half precision. Both stacks
are far narrower than the published one.
"""
import json
import pathlib

import torch
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
TO = HERE.parents[3] / "recipes/sd35/tiny/reward_models"


def stack(width, prefix):
    """The five layers under their published numbers, from `width` to 1."""
    torch.manual_seed(width)
    tensors = {}
    for number, out in [(0, 8), (2, 6), (4, 5), (6, 4), (7, 1)]:
        tensors[f"{prefix}layers.{number}.weight"] = torch.randn(out, width) * width**-0.5
        tensors[f"{prefix}layers.{number}.bias"] = torch.randn(out) * 0.1
        width = out
    return tensors


def write(tensors, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}, path)


own = HERE / "imagereward/model"
write(stack(12, ""), TO / "head.safetensors")
write({**load_file(own / "ImageReward.safetensors"), **stack(16, "mlp.")}, TO / "imagereward/model.safetensors")
(TO / "imagereward/med_config.json").write_text((own / "med_config.json").read_text())
sizes = {"image_size": 20, "patch_size": 6, "width": 24, "layers": 2, "heads": 3}
(TO / "imagereward/vit_config.json").write_text(json.dumps(sizes) + "\n")
