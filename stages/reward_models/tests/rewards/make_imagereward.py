#!/usr/bin/env python3
"""Makes the fixture of ImageReward: a small random network of the package's own classes, and its scores of the images
of make_fixtures.py. Run it beside that file; everything is seeded.

Made with torch 2.11.0, torchvision 0.26.0, transformers 5.23.0, pillow 12.0.0, image-reward 1.5, timm 1.0.24, on the CPU
with one thread, f32.
"""
import importlib
import importlib.util
import json
import shutil
import sys
import types
from pathlib import Path

import torch
import torchvision.transforms as T
import transformers
from PIL import Image
from safetensors.torch import save_file
from transformers import BertTokenizer

import make_fixtures
from make_fixtures import HERE, SIDE, head, pictures, shake

FOLDER = HERE / "imagereward"
WIDTH = 16
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789.,!?'\"-", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"),
         "photo", "of", "the", "red", "circle", "square", "cat", "##ing", "##s", "cafe", "naive", "very", "long", "prompt", "\u4f60"]
PROMPTS = ["a photo of a red circle", 'The CATS, "sitting" don\'t!', "", "a very long prompt " * 12,
           "caf\u00e9 na\u00efve \u00fcber \u4f60\u597d \U0001f600 x-ray 42\tnow\n"]


def package():
    """The package's modules, without its start, which wants the training's dependencies, and with what newer releases of
    transformers no longer have."""
    root = Path(importlib.util.find_spec("ImageReward").submodule_search_locations[0])
    for name, at in (("ImageReward", root), ("ImageReward.models", root / "models"), ("ImageReward.models.BLIP", root / "models/BLIP")):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(at)]
    fairscale = "fairscale.nn.checkpoint.checkpoint_activations"
    for depth in range(1, 5):
        name = ".".join(fairscale.split(".")[:depth])
        sys.modules[name] = types.ModuleType(name)
    sys.modules[fairscale].checkpoint_wrapper = lambda module: module
    utils = transformers.modeling_utils
    utils.apply_chunking_to_forward = lambda forward, size, dim, *tensors: forward(*tensors)
    utils.find_pruneable_heads_and_indices = utils.prune_linear_layer = None
    med = importlib.import_module("ImageReward.models.BLIP.med")
    med.BertModel.get_head_mask = lambda self, mask, layers: [None] * layers
    med.BertModel.invert_attention_mask = lambda self, mask: (1.0 - mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
    med.BertModel.all_tied_weights_keys = {}
    return importlib.import_module("ImageReward.ImageReward"), importlib.import_module("ImageReward.models.BLIP.blip_pretrain")


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    for part in ("model", "tokenizer"):
        (FOLDER / part).mkdir(parents=True)
    (FOLDER / "tokenizer/vocab.txt").write_text("\n".join(WORDS) + "\n")
    tokenizer = BertTokenizer.from_pretrained(FOLDER / "tokenizer")
    tokenizer.save_pretrained(FOLDER / "tokenizer")
    config = dict(architectures=["BertModel"], attention_probs_dropout_prob=0.1, hidden_act="gelu", hidden_dropout_prob=0.1,
                  hidden_size=WIDTH, initializer_range=0.02, intermediate_size=40, layer_norm_eps=1e-12, max_position_embeddings=40,
                  model_type="bert", num_attention_heads=2, num_hidden_layers=2, pad_token_id=0, type_vocab_size=2,
                  vocab_size=len(WORDS), encoder_width=WIDTH, add_cross_attention=True)
    (FOLDER / "model/med_config.json").write_text(json.dumps(config, indent=1) + "\n")
    reward, pretrain = package()
    vit = importlib.import_module("ImageReward.models.BLIP.vit")
    small = lambda *_: (vit.VisionTransformer(img_size=SIDE, patch_size=6, embed_dim=24, depth=2, num_heads=3), 24)
    pretrain.create_vit, pretrain.init_tokenizer = small, lambda: tokenizer
    torch.manual_seed(0)
    model = reward.ImageReward(med_config=str(FOLDER / "model/med_config.json"))
    shake(model, 5)
    model.preprocess = reward._transform(SIDE)
    stack = head(WIDTH)
    model.mlp.layers = torch.nn.Sequential(stack[0], torch.nn.Dropout(), stack[1], torch.nn.Dropout(), stack[2], torch.nn.Dropout(), stack[3], stack[4])
    model.eval()
    tensors = {n: t.contiguous().clone() for n, t in model.state_dict().items() if not n.startswith("mlp.")}
    save_file(tensors, FOLDER / "model/ImageReward.safetensors", metadata={"format": "pt"})
    with torch.no_grad():
        scores = [model.score(prompt, Image.fromarray(p)) for prompt, p in zip(PROMPTS, pictures())]
    ids = tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=35, return_tensors="pt").input_ids
    save_file({"imagereward": torch.tensor(scores), "ids": ids}, FOLDER / "scores.safetensors")
    (FOLDER / "prompts.json").write_text(json.dumps(PROMPTS) + "\n")


if __name__ == "__main__":
    main()
