#!/usr/bin/env python3
"""The passes of `full_size steps` by diffusers and peft, with the same options: prints a JSON object of the same form.

A round of distillation: at each of the student's states but the last a forward of the teacher and a forward and backward of the student,
which is also its way; at the last a forward. A round of DiffusionNFT: a rollout, then at each of its states but the last a forward of
the old policy, one of the base, a forward and backward of the trained one. Micro-batches are halved until they fit. With `--compile yes`
the transformer is compiled by torch.compile, once for each adapter and with and without gradients.
"""
import argparse
import json
import time

import torch
from diffusers import SD3Transformer2DModel
from peft import LoraConfig

TOKENS = 77 + 256


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--images", type=int)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", default="no")
    args = parser.parse_args()
    images = args.images or args.batch
    torch.set_num_threads(args.threads)
    device, dtype = torch.device(args.device), dict(bf16=torch.bfloat16, f32=torch.float32)[args.dtype]
    model = SD3Transformer2DModel.from_pretrained(args.model, subfolder="transformer", torch_dtype=dtype).to(device).requires_grad_(False)
    config, side = model.config, args.pixels // 8
    names = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    for name in ("student", "other"):
        model.add_adapter(LoraConfig(r=32, lora_alpha=64, init_lora_weights="gaussian", target_modules=[f"attn.{n}" for n in names]), name)
    # The adapter is f32, as ours is.
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    forward = torch.compile(model) if args.compile == "yes" else model

    def drawn(*shape):
        return torch.randn(*shape, device=device, dtype=dtype)

    def of(n):
        return dict(hidden_states=drawn(n, config.in_channels, side, side), timestep=torch.full((n,), 700.0, device=device),
                    encoder_hidden_states=drawn(n, TOKENS, config.joint_attention_dim), pooled_projections=drawn(n, config.pooled_projection_dim))

    def velocity(adapter, inputs, grad=False):
        if adapter is None:
            model.disable_adapters()
        else:
            model.enable_adapters()
            model.set_adapter(adapter)
        with torch.set_grad_enabled(grad), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return forward(**inputs, return_dict=False)[0].float()

    def train(inputs, goal):
        (velocity("student", inputs, True) - goal).square().mean().backward()

    def distillation(inputs):
        for _ in range(args.steps - 1):
            train(inputs, velocity("other", inputs))
        velocity("student", inputs)

    def reinforcement(inputs):
        for _ in range(args.steps):
            velocity("other", inputs)
        for _ in range(args.steps - 1):
            train(inputs, velocity("other", inputs) + velocity(None, inputs))

    def settle():
        if device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(work):
        # The first run sets up kernels, and compiles.
        if device.type == "cuda" or args.compile == "yes":
            work()
        settle()
        at = time.perf_counter()
        work()
        settle()
        return time.perf_counter() - at

    def measured(work, total):
        micro = min(args.batch, total)
        while True:
            try:
                parts = [of(min(micro, total - at)) for at in range(0, total, micro)]
                took = seconds(lambda: [work(part) for part in parts])
                return dict(seconds=took, micro_batch=micro, images_per_s=total / took)
            except torch.cuda.OutOfMemoryError:
                if micro == 1:
                    raise
            torch.cuda.empty_cache()
            micro = (micro + 1) // 2

    told = dict(batch=args.batch, images=images, pixels=args.pixels, steps=args.steps, dtype=args.dtype, device=args.device,
                threads=args.threads, compile=args.compile)
    told["forward"] = measured(lambda inputs: velocity("student", inputs), args.batch)
    told["opd_round"] = measured(distillation, images)
    told["nft_round"] = measured(reinforcement, max(images, 2))
    if device.type == "cuda":
        told["peak_allocated_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    print(json.dumps(told))


if __name__ == "__main__":
    main()
