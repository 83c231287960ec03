#!/usr/bin/env python3
"""The passes of `full_size steps` by diffusers and peft, with the same options: prints the same JSON object.

A round of distillation: the student's trajectory of 3 steps of which 2 are trained, a forward of the teacher and a forward and
backward of the student at each. A round of DiffusionNFT: a rollout of 3 steps, then at 2 noise levels a forward of the
old policy, one of the base, a forward and backward of the trained one.
"""
import argparse
import json
import time

import torch
from diffusers import SD3Transformer2DModel
from peft import LoraConfig

STEPS, TRAINED, TOKENS = 3, 2, 77 + 256


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device, dtype = torch.device(args.device), dict(bf16=torch.bfloat16, f32=torch.float32)[args.dtype]
    model = SD3Transformer2DModel.from_pretrained(args.model, subfolder="transformer", torch_dtype=dtype).to(device).requires_grad_(False)
    config, side, b = model.config, args.pixels // 8, args.batch
    names = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    for name in ("student", "other"):
        model.add_adapter(LoraConfig(r=32, lora_alpha=64, init_lora_weights="gaussian", target_modules=[f"attn.{n}" for n in names]), name)
    x = torch.randn(b, config.in_channels, side, side, device=device, dtype=dtype)
    context = torch.randn(b, TOKENS, config.joint_attention_dim, device=device, dtype=dtype)
    pooled = torch.randn(b, config.pooled_projection_dim, device=device, dtype=dtype)
    t = torch.full((b,), 700.0, device=device)

    def velocity(adapter, grad=False):
        if adapter is None:
            model.disable_adapters()
        else:
            model.enable_adapters()
            model.set_adapter(adapter)
        with torch.set_grad_enabled(grad):
            return model(hidden_states=x, timestep=t, encoder_hidden_states=context, pooled_projections=pooled, return_dict=False)[0].float()

    def train(goal):
        (velocity("student", True) - goal).square().mean().backward()

    def distillation():
        for _ in range(TRAINED):
            train(velocity("other"))

    def reinforcement():
        for _ in range(STEPS):
            velocity("other")
        for _ in range(TRAINED):
            goal = velocity("other") + velocity(None)
            train(goal)

    def clock(work):
        if device.type == "cuda":
            work()
            torch.cuda.synchronize()
        at = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - at

    told = dict(batch=b, pixels=args.pixels, steps=STEPS, dtype=args.dtype, device=args.device, threads=args.threads,
                forward_s=clock(lambda: velocity("student")), opd_round_s=clock(distillation), nft_round_s=clock(reinforcement))
    if device.type == "cuda":
        told["peak_allocated_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    print(json.dumps(told))


if __name__ == "__main__":
    main()
