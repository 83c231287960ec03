#!/usr/bin/env python3
"""What diffusers makes of the published configurations at full size, without any weights: shapes and floating-point operations.

    python stages/models/tests/parity_sd3/published.py

Writes `published.json` from the configurations in `published/`. They hold the values of the models' `transformer/config.json`, typed
by hand where the files themselves were not to be had; the numbers of parameters that come of them are 2.0, 8.1 and 2.2 billion.
Needs what `scripts/peers.sh` installs.
"""
import json
from pathlib import Path

import torch
from diffusers import SD3Transformer2DModel
from torch.utils.flop_counter import FlopCounterMode

HERE = Path(__file__).resolve().parent


@torch.no_grad()
def told(path):
    config = json.loads(path.read_text())
    with torch.device("meta"):
        model = SD3Transformer2DModel.from_config(config)
        inputs = dict(hidden_states=torch.empty(1, 16, 128, 96), timestep=torch.empty(1), encoder_hidden_states=torch.empty(1, 333, 4096),
                      pooled_projections=torch.empty(1, 2048))
        with FlopCounterMode(display=False) as counted:
            model(**inputs)
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    attention = sum(n for op, n in counted.get_flop_counts()["Global"].items() if "attention" in str(op) or "bmm" in str(op))
    return dict(parameters=sum(p.numel() for p in model.parameters()), linears=len(linears), linear_weights=sum(m.weight.numel() for m in linears),
                latent=[16, 128, 96], text_tokens=333, operations=counted.get_total_flops(), attention=attention)


if __name__ == "__main__":
    found = {path.stem: told(path) for path in sorted((HERE / "published").glob("*.json"))}
    (HERE / "published.json").write_text(json.dumps(found, indent=1) + "\n")
