#!/usr/bin/env python3
"""Turns the pickled weights of published rewards into safetensors, which is what opdflow reads.

    python rewards_to_safetensors.py HPS_v2.1_compressed.pt hpsv2/model.safetensors
    python rewards_to_safetensors.py sac+logos+ava1-l14-linearMSE.pth head/model.safetensors
    python rewards_to_safetensors.py ImageReward.pt imagereward/model.safetensors

The pickle is read with weights_only, so that nothing in it is run. Tensors keep their names, shapes and dtypes; what is
not a tensor is left out. Needs torch and safetensors, no GPU.
"""
import argparse
import os
import pickle
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

# Under these keys a training keeps the network beside its optimizer.
INSIDE = ("state_dict", "model")


def tensors_of(loaded):
    """The named tensors of what a pickle held: itself, or what lies under one of the usual keys."""
    for key in INSIDE:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        sys.exit(f"expected named tensors, found {type(loaded).__name__}")
    found = {str(name): t for name, t in loaded.items() if isinstance(t, torch.Tensor)}
    if not found:
        sys.exit(f"no tensors here; the keys are {', '.join(map(str, list(loaded)[:8]))}")
    # What was trained on several GPUs has this before each name.
    if all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): t for name, t in found.items()}
    # Safetensors takes neither views nor tensors that share memory.
    return {name: t.detach().clone().contiguous() for name, t in sorted(found.items())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pickle", type=Path, help="the published file: .pt, .pth or .bin")
    parser.add_argument("output", type=Path, help="the file to write, ending in .safetensors")
    args = parser.parse_args()
    if args.output.suffix != ".safetensors":
        parser.error(f"{args.output} does not end in .safetensors")
    try:
        loaded = torch.load(args.pickle, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        sys.exit(f"{args.pickle}: no such file")
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        sys.exit(f"{args.pickle}: cannot be read as plain weights: {error}")
    tensors = tensors_of(loaded)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    part = args.output.with_suffix(".part")
    save_file(tensors, part, metadata={"format": "pt"})
    os.replace(part, args.output)
    print(f"{args.output}: {len(tensors)} tensors, {sum(t.numel() for t in tensors.values()):,} numbers")


if __name__ == "__main__":
    main()
