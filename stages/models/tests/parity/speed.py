#!/usr/bin/env python3
"""The pass of `parity_speed.rs` by diffusers and peft. Run alone: OMP_NUM_THREADS=1 python speed.py"""
import time

import torch
from diffusers import SD3Transformer2DModel
from peft import LoraConfig, get_peft_model

torch.set_num_threads(1)
model = SD3Transformer2DModel(sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=4, attention_head_dim=24,
                              num_attention_heads=4, joint_attention_dim=64, caption_projection_dim=96, pooled_projection_dim=64,
                              pos_embed_max_size=8, qk_norm="rms_norm")
x, t = torch.randn(96, 16, 8, 8), torch.rand(96) * 1000
context, pooled = torch.randn(96, 20, 64), torch.randn(96, 64)


def clock(what, run):
    for _ in range(5):
        run()
    each = []
    for _ in range(30):
        at = time.thread_time()
        run()
        each.append((time.thread_time() - at) * 1e3)
    each.sort()
    print(f"{what}: {each[15]:.2f} ms (fastest {each[0]:.2f})")


def forward(m):
    return m(hidden_states=x, timestep=t, encoder_hidden_states=context, pooled_projections=pooled, return_dict=False)[0]


with torch.no_grad():
    clock("forward", lambda: forward(model))
clock("forward and backward, all weights", lambda: forward(model).square().mean().backward())
names = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
wrapped = get_peft_model(model, LoraConfig(r=32, lora_alpha=64, init_lora_weights="gaussian", target_modules=[f"attn.{n}" for n in names]))
with torch.no_grad():
    clock("forward, LoRA", lambda: forward(wrapped))
clock("forward and backward, LoRA", lambda: forward(wrapped).square().mean().backward())
