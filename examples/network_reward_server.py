"""Two networks in Python as rewards, for a stage `uses: served_reward`: HPSv3 (Ma et al. 2025) and DeQA-Score (You et al. 2025).

    pip install hpsv3                                  # HPSv3
    python3 network_reward_server.py hpsv3 8001 HPSv3.safetensors
    pip install torch transformers accelerate pillow   # DeQA-Score
    python3 network_reward_server.py deqa 8002 DeQA-Score-Mix3/

The weights are files of yours, of the models `MizzenAI/HPSv3` and `zhiyuanyou/DeQA-Score-Mix3`; `--device cpu` where there is no GPU. Each image is
judged alone, so that its score does not hang on the others of its batch.
"""
import argparse
import hashlib
import importlib.metadata
import pathlib
import threading

import torch
from PIL import Image

import reward_server


def hpsv3(weights, device):
    """HPSv3 gives a mean and a spread; the mean is the score (hpsv3/inference.py of its package)."""
    from hpsv3.inference import HPSv3RewardInferencer

    network = HPSv3RewardInferencer(checkpoint_path=str(weights), device=device)

    def score(image, prompt):
        mean, spread = network.reward([image], [prompt])[0].tolist()[:2]
        return {"value": mean, "parts": {"spread": spread}}

    return score, ["spread"]


def deqa(weights, device):
    """DeQA-Score looks at the image alone; its marks of 1 to 5 are divided by 5, as Flow-GRPO's reward server does."""
    from transformers import AutoModelForCausalLM

    # The model's own code is part of its folder: use one that you trust.
    network = AutoModelForCausalLM.from_pretrained(
        str(weights), trust_remote_code=True, attn_implementation="eager", torch_dtype=torch.float16
    ).to(device)

    def score(image, _):
        mark = network.score([image])[0].item()
        return {"value": mark / 5, "parts": {"mark": mark}}

    return score, ["mark"]


REWARDS = {"hpsv3": (hpsv3, "hpsv3"), "deqa": (deqa, "transformers")}


def digest_of(weights, versions):
    """All that the scores hang on: the weights' content, the packages, and this file."""
    whole = hashlib.sha256("\n".join(versions).encode())
    files = sorted(path for path in weights.rglob("*") if path.is_file()) if weights.is_dir() else [weights]
    for path in [pathlib.Path(__file__), *files]:
        with open(path, "rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("reward", choices=REWARDS)
    parser.add_argument("port", type=int)
    parser.add_argument("weights", type=pathlib.Path)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()

    open_network, package = REWARDS[args.reward]
    judge, measures = open_network(args.weights, args.device)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in (package, "torch")] + [args.device]
    one_at_a_time = threading.Lock()

    def score(rgb, shape, subject):
        height, width, _ = shape
        with one_at_a_time, torch.no_grad():
            return judge(Image.frombytes("RGB", (width, height), rgb), subject["text"])

    digest = digest_of(args.weights, versions)
    reward_server.serve(args.port, {"name": args.reward, "version": versions[0], "digest": digest, "measures": measures}, score)
