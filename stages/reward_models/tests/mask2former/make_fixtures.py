#!/usr/bin/env python3
"""Makes the fixtures of Mask2Former: small random configurations of transformers' real class, with inputs and outputs.
Run it anywhere (python make_fixtures.py); it writes beside itself and everything is seeded.

Made with torch 2.11.0, transformers 5.23.0, on the CPU with one thread, f32.
"""
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

HERE = Path(__file__).resolve().parent
COCO = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote,
keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush"""
LABELS = [name.strip() for name in COCO.replace("\n", " ").split(",")]
STAGES = ["stage1", "stage2", "stage3", "stage4"]
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


def shake(model, seed):
    """Random values everywhere, norms and biases too. Offsets reach beyond the edges, tables are not small."""
    g = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=g)
        with torch.no_grad():
            if "embed" in name and p.ndim == 2 and "mask_embedder" not in name or "bias_table" in name:
                p.copy_(noise * 0.7)
            elif "sampling_offsets" in name:
                p.copy_(noise * (0.4 if p.ndim == 2 else 1.5))
            elif p.ndim >= 2:
                p.copy_(noise * 1.3 * p[0].numel() ** -0.5)
            elif name.endswith("bias"):
                p.copy_(noise * 0.2)
            else:
                p.copy_(1 + 0.2 * noise)
            if "mask_embedder.2" in name:
                p.mul_(0.2)  # so that mask logits are of order 1 as well
            # What a half holds: the files are half as long.
            p.copy_(p.half().float())
    return model.eval()


def make(folder, seed, shape, backbone, **sizes):
    backbone = SwinConfig(out_features=STAGES, embed_dim=4, mlp_ratio=2.0, drop_path_rate=0.0, **backbone)
    config = Mask2FormerConfig(
        backbone_config=backbone, id2label=dict(enumerate(LABELS)), label2id={n: i for i, n in enumerate(LABELS)},
        feature_size=32, num_queries=7, **sizes,
    )
    model = shake(Mask2FormerForUniversalSegmentation(config), seed)
    model.half().save_pretrained(HERE / folder)
    model.float()
    Mask2FormerImageProcessorPil(size={"height": 384, "width": 384}, num_labels=80).save_pretrained(HERE / folder)
    pictures = torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        out = model(pictures, output_hidden_states=True, output_auxiliary_logits=True)
    tensors = {
        "pictures": pictures, "classes": out.class_queries_logits, "masks": out.masks_queries_logits,
        "pixels": out.pixel_decoder_last_hidden_state,
    }
    tensors |= {f"map{i}": t for i, t in enumerate(out.encoder_hidden_states)}
    tensors |= {f"scale{i}": t for i, t in enumerate(out.pixel_decoder_hidden_states)}
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, HERE / f"{folder}.safetensors")
    # The masks of each round limit the next one's attention; some must be empty, most must not.
    blind, rows = 0, 0
    for i, round in enumerate(out.auxiliary_logits):
        size = out.pixel_decoder_hidden_states[i % 3].shape[-2:]
        seen = torch.nn.functional.interpolate(round["masks_queries_logits"], size=size, mode="bilinear") >= 0
        blind, rows = blind + int((~seen.flatten(2).any(-1)).sum()), rows + seen.shape[0] * seen.shape[1]
    print(f"{folder}: {sum(p.numel() for p in model.parameters())} parameters, {blind} of {rows} masks empty")


if __name__ == "__main__":
    # Widths that differ, shifts, six rounds over three scales, windows larger than the coarsest map.
    make("wide", 1, (2, 3, 43, 70), dict(depths=[2, 1, 2, 1], num_heads=[1, 2, 2, 4], window_size=5),
         mask_feature_size=20, hidden_dim=16, encoder_feedforward_dim=24, dim_feedforward=20, encoder_layers=2,
         decoder_layers=6, num_attention_heads=2)
    # Equal widths, so no projection between the decoders; no bias in the backbone's attention; an even window.
    make("equal", 2, (1, 3, 64, 41), dict(depths=[1, 2, 1, 1], num_heads=[2, 1, 4, 2], window_size=4, qkv_bias=False),
         mask_feature_size=16, hidden_dim=32, encoder_feedforward_dim=24, dim_feedforward=20, encoder_layers=1,
         decoder_layers=2, num_attention_heads=4, activation_function="gelu")
