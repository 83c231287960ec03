#!/usr/bin/env python3
"""Makes the fixtures of what stands round GenEval's detector: images resized by OpenCV, an image made ready, logits
with the objects that mmdetection would make of them, and what GenEval would say of their colours. mmdetection itself does not install beside a current torch;
its steps are written down here once more, all queries at once and on whole images, from its documentation and code.
Run it anywhere (python make_fixtures.py); it writes beside itself and everything is seeded.

Made with numpy 2.4.6, opencv-python-headless 5.0.0.93, pillow 12.0.0, torch 2.11.0, transformers 5.23.0, on the CPU
with one thread. OpenCV 4.10 gives the same bytes. The small CLIP is that of `../rewards/clip`.
"""
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import interpolate, normalize
from transformers import CLIPModel, CLIPTokenizer

HERE = Path(__file__).resolve().parent
LIMITS = (90, 64)  # instead of 1333x800, which would make large files
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
COLOURS = "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
torch.set_num_threads(1)


def photograph(rng, height, width):
    """Noise over a few soft patches, so that neither rounding nor smoothing goes unseen. uint8 [H, W, 3], RGB."""
    soft = cv2.resize(rng.uniform(0, 255, (4, 5, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(soft + rng.normal(0, 40, soft.shape), 0, 255).astype(np.uint8)


def resized(rng):
    """Larger, smaller, one of each, exactly half, a line."""
    tensors = {}
    for i, (before, after) in enumerate([((37, 53), (64, 92)), ((64, 90), (37, 53)), ((17, 30), (29, 11)),
                                         ((24, 40), (12, 20)), ((1, 7), (5, 16))]):
        picture = photograph(rng, *before)
        tensors[f"before{i}"] = torch.from_numpy(picture)
        tensors[f"after{i}"] = torch.from_numpy(cv2.resize(picture, after[::-1], interpolation=cv2.INTER_LINEAR))
    return tensors


def ready(picture):
    """mmdetection's test pipeline: Resize(keep_ratio), Pad(size_divisor=32, pad_val=128), Normalize."""
    height, width = picture.shape[:2]
    scale = min(max(LIMITS) / max(height, width), min(LIMITS) / min(height, width))
    fitted = int(width * scale + 0.5), int(height * scale + 0.5)
    picture = cv2.resize(picture, fitted, interpolation=cv2.INTER_LINEAR)
    padded = -(-fitted[1] // 32) * 32, -(-fitted[0] // 32) * 32
    full = np.full((*padded, 3), 128, np.uint8)
    full[: fitted[1], : fitted[0]] = picture
    x = (full.astype(np.float64) - MEAN) / STD
    return torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1)[None].contiguous(), fitted[::-1], padded


def objects(classes, masks, picture, fitted, padded, most=100):
    """MaskFormerHead.simple_test and MaskFormerFusionHead of mmdetection 2.x for one image, the surest first."""
    masks = interpolate(masks[None], size=padded, mode="bilinear", align_corners=False)[:, :, : fitted[0], : fitted[1]]
    masks = interpolate(masks, size=picture, mode="bilinear", align_corners=False)[0]
    sure = classes.softmax(-1)[:, :-1]
    values, indices = sure.flatten().sort(descending=True, stable=True)
    values, indices = values[:most], indices[:most]
    query, label = indices // sure.shape[1], indices % sure.shape[1]
    chosen = masks[query]
    inside = (chosen > 0).float()
    score = values * (chosen.sigmoid() * inside).flatten(1).sum(1) / (inside.flatten(1).sum(1) + 1e-6)
    boxes = torch.zeros(len(query), 4)
    for i, mask in enumerate(inside.numpy() > 0):
        if mask.any():
            ys, xs = np.nonzero(mask)
            boxes[i] = torch.tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    return {"query": query, "class": label, "score": score, "bounds": boxes, "inside": (masks > 0).to(torch.uint8)}


def colours(picture, found, names):
    """GenEval's color_classification: cosines of some objects with ten colours, `[objects, 10]`."""
    clip = HERE.parent / "rewards/clip"
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), CLIPTokenizer.from_pretrained(clip)
    side, length = model.config.vision_config.image_size, model.config.text_config.max_position_embeddings
    image, rows = Image.fromarray(picture), []
    for i, name in enumerate(names):
        mask = Image.fromarray(found["inside"][found["query"][i]].numpy() * 255)
        crop = Image.composite(image, Image.new("RGB", image.size, "#999"), mask).crop(found["bounds"][i].tolist())
        # open_clip's transform: the shorter side to `side`, the middle.
        width, height = crop.size
        long = int(side * max(width, height) / min(width, height))
        crop = crop.resize((side, long) if width <= height else (long, side), Image.Resampling.BICUBIC)
        left, top = (int(round((n - side) / 2)) for n in crop.size)
        x = torch.from_numpy(np.array(crop.crop((left, top, left + side, top + side)))).permute(2, 0, 1) / 255
        x = (x - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)
        with torch.no_grad():
            seen = normalize(model.visual_projection(model.vision_model(x[None]).pooler_output), dim=-1)
            row = []
            for c in COLOURS:
                texts = [f"a photo of a {c} {name}", f"a photo of a {c}-colored {name}", f"a photo of a {c} object"]
                ids = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
                said = normalize(model.text_projection(model.text_model(ids).pooler_output), dim=-1).mean(0)
                row.append((seen @ (said / said.norm())).item())
        rows.append(row)
    return torch.tensor(rows)


if __name__ == "__main__":
    rng = np.random.default_rng(7)
    save_file(resized(rng), HERE / "resized.safetensors")
    size = (41, 57)
    picture = photograph(rng, *size)
    pixels, fitted, padded = ready(picture)
    g = torch.Generator().manual_seed(8)
    classes = 2.5 * torch.randn(30, 5, generator=g)
    masks = interpolate(3 * torch.randn(30, 1, 4, 5, generator=g), size=(padded[0] // 4, padded[1] // 4), mode="bicubic")
    masks = masks[:, 0] - 3
    masks[3], masks[11] = -masks[3].abs() - 0.1, masks[11].abs() + 0.1  # nothing, and all
    found = objects(classes, masks, size, fitted, padded)
    found["colours"] = colours(picture, found, ["cup", "tv remote", "cup", "dog", "car"])
    tensors = {"picture": torch.from_numpy(picture), "pixels": pixels, "classes": classes, "masks": masks} | found
    save_file({k: v.contiguous() for k, v in tensors.items()}, HERE / "objects.safetensors")
    print(fitted, padded, "scores", found["score"].min(), found["score"].max(), "empty", int((found["score"] == 0).sum()),
          "boxes", found["bounds"][:5].tolist(), "colours", found["colours"].argmax(-1).tolist())
