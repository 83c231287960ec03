#!/usr/bin/env python3
"""Makes the fixtures of the CLIP rewards: small random configurations of the published classes, images, and what the
published code makes of them. Run it beside its outputs (python make_fixtures.py); everything is seeded.

Made with torch 2.11.0, torchvision 0.26.0, transformers 5.23.0, pillow 12.0.0, hpsv2 1.2.0, on the CPU with one thread,
f32. Pillow 13 resizes some tall images columns first, which rounds otherwise. Besides these, hpsv2 needs timm,
ftfy and regex.
"""
import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms as T
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
TOKENIZERS = ROOT / "stages/models/tests/parity/pipeline"
SIDE = 20
SIZES = [(37, 29), (64, 64), (23, 51), (20, 20), (90, 41)]
PROMPTS = ["a photo of a red circle", 'The word "ABC" in White, 42 times!', "", "a very long prompt " * 12,
           "caf\u00e9 na\u00efve \u00fcber \u4f60\u597d \U0001f600"]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


def shake(module, seed):
    """Random values everywhere: weights by fan-in, small biases, norm weights around one."""
    g = torch.Generator().manual_seed(seed)
    for name, p in sorted(module.named_parameters()):
        noise = torch.randn(p.shape, generator=g)
        with torch.no_grad():
            if name == "logit_scale":
                p.fill_(2.3 + 0.01 * seed)
            elif "embedding" in name and "patch" not in name:
                p.copy_(noise * 0.5)
            elif p.ndim >= 2:
                p.copy_(noise * (p[0].numel() ** -0.5))
            elif name.endswith("bias"):
                p.copy_(noise * 0.1)
            else:
                p.copy_(1 + 0.2 * noise)
    return module.eval()


def hpsv2(module):
    """A module of the hpsv2 package without the package's own start, which asks for a vocabulary that it does not bring."""
    if "hpsv2" not in sys.modules:
        folder = Path(importlib.util.find_spec("hpsv2").submodule_search_locations[0])
        for name, at in (("hpsv2", folder), ("hpsv2.src", folder / "src"), ("hpsv2.src.open_clip", folder / "src/open_clip")):
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [str(at)]
    return importlib.import_module(f"hpsv2.src.open_clip.{module}")


def pictures():
    """Waves with noise and hard edges, so that filters over- and undershoot."""
    rng = np.random.default_rng(7)
    out = []
    for n, (w, h) in enumerate(SIZES):
        y, x = np.mgrid[0:h, 0:w]
        waves = np.stack([np.sin(x / (3 + c) + n) * np.cos(y / (2 + c)) for c in range(3)], -1)
        edge = np.where((x + 2 * y > w)[..., None], 90, -90)
        out.append(np.clip(128 + 60 * waves + edge + rng.normal(0, 25, (h, w, 3)), 0, 255).astype(np.uint8))
    return out


def resized(shown):
    """Pillow's bicubic filter: up, down, and each way with one side kept."""
    out = {}
    for n, picture in enumerate(shown):
        h, w = picture.shape[:2]
        for to in ((SIDE, SIDE), (11, 47), (w, 16), (43, h), (w, h)):
            small = Image.fromarray(picture).resize(to, Image.Resampling.BICUBIC)
            out[f"{n}.{to[0]}x{to[1]}"] = torch.from_numpy(np.array(small))
    return out


def pixels(shown, processors):
    """The ways in which published scores prepare images, all as tensors `[B, 3, SIDE, SIDE]`."""
    images = [Image.fromarray(p) for p in shown]
    floats = [torch.tensor(p.transpose(2, 0, 1), dtype=torch.uint8) / 255.0 for p in shown]
    normal = T.Normalize(mean=MEAN, std=STD)
    # OpenAI's, open_clip's and ImageReward's.
    pillow = T.Compose([T.Resize(SIDE, interpolation=T.InterpolationMode.BICUBIC), T.CenterCrop(SIDE), T.ToTensor(), normal])
    # Flow-GRPO's and DiffusionNFT's scorer of CLIP.
    scorer = T.Compose([T.Resize(SIDE), T.CenterCrop((SIDE, SIDE)), normal])
    padded = hpsv2("transform").image_transform(SIDE, is_train=False, mean=None, std=None, resize_longest_max=True)
    return dict(
        {f"processor.{n}": p(images=images, return_tensors="pt").pixel_values for n, p in processors.items()},
        pillow=torch.stack([pillow(i) for i in images]),
        tensor=torch.stack([scorer(f) for f in floats]),
        padded=torch.stack([padded(i) for i in images]),
    )


def clip_model(seed, act, eos, size):
    text = dict(vocab_size=size, hidden_size=8, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2,
                max_position_embeddings=24, hidden_act=act, bos_token_id=size - 2, eos_token_id=eos, pad_token_id=size - 1)
    vision = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, image_size=SIDE,
                  patch_size=6, hidden_act=act)
    return shake(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)), seed)


def hps_model(size, folder):
    """open_clip's layout, as a pickle of a training that the script turns into safetensors."""
    config = dict(embed_dim=12, vision_cfg=dict(image_size=SIDE, layers=2, width=24, head_width=12, patch_size=5),
                  text_cfg=dict(context_length=24, vocab_size=size, width=8, heads=2, layers=3))
    m = hpsv2("model")
    model = shake(m.CLIP(config["embed_dim"], m.CLIPVisionCfg(**config["vision_cfg"]), m.CLIPTextCfg(**config["text_cfg"])), 3)
    with tempfile.TemporaryDirectory() as folder_of_pickle:
        pickled = Path(folder_of_pickle) / "HPS.pt"
        torch.save({"epoch": 3, "name": "run", "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, pickled)
        script = [sys.executable, ROOT / "scripts/rewards_to_safetensors.py"]
        subprocess.run([*script, pickled, folder / "HPS.safetensors"], check=True)
        # What could run code is refused.
        torch.save({"state_dict": model}, pickled)
        assert subprocess.run([*script, pickled, folder / "no.safetensors"], capture_output=True).returncode == 1
        # The aesthetic head comes bare.
        torch.save({"layers.0.weight": torch.ones(2, 3).T}, pickled)
        subprocess.run([*script, pickled, Path(folder_of_pickle) / "head.safetensors"], check=True)
        assert load_file(Path(folder_of_pickle) / "head.safetensors")["layers.0.weight"].shape == (3, 2)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}, indent=1) + "\n")
    return model


def head(width):
    """The aesthetic stack with weights by a rule, which the tests make again: it would be the largest file here."""
    def rule(shape, n, scale):
        k = torch.arange(int(np.prod(shape)), dtype=torch.float64)
        return (((k * 7919 + n * 104729) % 2003 / 1001 - 1) * scale).to(torch.float32).view(shape)
    layers = []
    for n, out in enumerate((1024, 128, 64, 16, 1)):
        layer = torch.nn.Linear(width, out)
        layer.weight.data, layer.bias.data = rule((out, width), n, 2 * width**-0.5), rule((out,), n + 100, 0.1)
        layers.append(layer)
        width = out
    return torch.nn.Sequential(*layers)


def unit(x):
    return x / x.norm(p=2, dim=-1, keepdim=True)


def scores(shown, clip, clip_tokenizer, pick, pick_tokenizer, pick_processor, hps):
    """Each reward by the published code's own steps, and the embeddings on the way."""
    images = [Image.fromarray(p) for p in shown]
    made = pixels(shown, {"clip": CLIPImageProcessorPil.from_pretrained(HERE / "clip")})
    ids = lambda tok: tok(PROMPTS, padding="max_length", truncation=True, max_length=24, return_tensors="pt")
    out = {}
    texts = ids(clip_tokenizer)
    y = clip(pixel_values=made["tensor"], **texts)
    out |= {"clip.image": y.image_embeds, "clip.text": y.text_embeds, "clipscore": y.logits_per_image.diagonal() / 100}
    rows = unit(clip.get_image_features(made["processor.clip"]).pooler_output)
    out["aesthetic"] = head(12)(rows).squeeze(1)
    rows = unit(pick.get_image_features(pick_processor(images=images, return_tensors="pt").pixel_values).pooler_output)
    words = unit(pick.get_text_features(**pick_tokenizer(PROMPTS, padding=True, truncation=True, max_length=24, return_tensors="pt")).pooler_output)
    out |= {"pick.image": rows, "pick.text": words, "pickscore.raw": (pick.logit_scale.exp() * (words @ rows.T)).diag()}
    # hpsv2's tokenizer fills up with 0; the end of text is the same.
    tokens = texts.input_ids * texts.attention_mask
    y = hps(made["padded"], tokens)
    out |= {"hps.image": y[0], "hps.text": y[1], "hpsv2": torch.diagonal(y[0] @ y[1].T)}
    return out


def main():
    for folder in ("clip", "pick", "pick_processor", "hps"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir()
    # The older layout of tokenizer and sizes, the old end-of-text rule; and the newer of all three.
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(TOKENIZERS / "tokenizer" / name, HERE / "clip" / name)
    clip_tokenizer = CLIPTokenizer.from_pretrained(HERE / "clip")
    common = dict(do_resize=True, resample=3, do_center_crop=True, do_normalize=True, image_mean=MEAN, image_std=STD)
    write = lambda at, **what: (HERE / at / "preprocessor_config.json").write_text(json.dumps(common | what, indent=1) + "\n")
    write("clip", crop_size=SIDE, size=SIDE, feature_extractor_type="CLIPFeatureExtractor")
    write("pick_processor", crop_size=dict(height=SIDE, width=SIDE), size=dict(shortest_edge=SIDE + 3), do_rescale=True,
          rescale_factor=0.00392156862745098, do_convert_rgb=True, image_processor_type="CLIPImageProcessor")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZERS / "tokenizer_2" / name, HERE / "pick_processor" / name)
    pick_tokenizer = CLIPTokenizer.from_pretrained(HERE / "pick_processor")
    size = len(clip_tokenizer)
    clip, pick = clip_model(1, "quick_gelu", 2, size), clip_model(2, "gelu", size - 1, size)
    for name, model in (("clip", clip), ("pick", pick)):
        model.save_pretrained(HERE / name)
    # As older checkpoints come: with a buffer, and with a second description of the towers.
    tensors = load_file(HERE / "pick/model.safetensors")
    save_file(tensors | {"vision_model.embeddings.position_ids": torch.arange(10)[None]}, HERE / "pick/model.safetensors", metadata={"format": "pt"})
    config = json.loads((HERE / "pick/config.json").read_text())
    config["text_config_dict"] = {"hidden_size": config["text_config"].pop("hidden_size")}
    (HERE / "pick/config.json").write_text(json.dumps(config, indent=1) + "\n")
    hps = hps_model(size, HERE / "hps")
    shown = pictures()
    processor = {name: CLIPImageProcessorPil.from_pretrained(HERE / name) for name in ("clip", "pick_processor")}
    with torch.no_grad():
        made = {f"pixels.{n}": t for n, t in pixels(shown, processor).items()}
        expected = scores(shown, clip, clip_tokenizer, pick, pick_tokenizer, processor["pick_processor"], hps)
    put = {f"picture.{n}": torch.from_numpy(p) for n, p in enumerate(shown)} | {f"resized.{n}": t for n, t in resized(shown).items()}
    save_file({n: t.contiguous().clone() for n, t in (put | made).items()}, HERE / "pixels.safetensors")
    save_file({n: t.contiguous().clone() for n, t in expected.items()}, HERE / "scores.safetensors")
    (HERE / "prompts.json").write_text(json.dumps(PROMPTS) + "\n")


if __name__ == "__main__":
    main()
