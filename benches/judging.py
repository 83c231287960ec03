#!/usr/bin/env python3
"""How much of a round of training judging still takes, where it goes on beside the rollout.

    cargo build --release && benches/judging.py [--folder DIR] [--repeat 3]

Measured: rounds of a teacher of text on the miniature, whose judge reads 96 images a round, all at once after the rollout
(`micro_batch: 96`) and in parts of 24 beside it (`micro_batch: 24`), in turn, with one thread for the stage. A machine needs a second
core that is free. Computed: a round of Stable Diffusion 3.5 Medium's teachers at 512 pixels, from the seconds that the reader takes on
this machine for such an image and the operations that docs/how-to/sd35.md counts, on an H100 at 40 % of its peak.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROUNDS = 6
RECIPE = """opdflow: 1
name: judging
seed: 1
stages:
  base: {uses: base_model, with: {source: "bundled:mini"}}
  words: {uses: prompts, with: {task: ocr}}
  teacher:
    uses: train_teacher
    needs: {base: base.model, prompts: words.train}
    with:
      algorithm: {grpo_guard: {solver: {flow: {noise_level: 0.7}}, updates: 1}}
      reward: {REWARD: 1.0}
      iterations: 6
      sampling: {prompts: 8, group_size: 12, num_inference_steps: 8}
      samples: {prompts: 0}
      lora: {rank: 16, alpha: 16}
      micro_batch: MICRO
"""
# Of one round of 48 x 24 images: its operations (docs/how-to/sd35.md), the share of them that the rollout has (20 forwards of ten guided
# steps, beside nine guided gradients of about four forwards a half), and an H100 at 40 % of 989 TFLOP/s.
IMAGES, OPERATIONS, ROLLOUT, SPEED = 48 * 24, 168e15, 20 / (20 + 9 * 8), 0.4 * 989e12
# Images that are judged at a time (`micro_batch` of recipes/sd35).
PART = 24


# Images of 512 pixels with three lines of text on a ground that is not even.
DRAW = """
import pathlib
from PIL import Image, ImageDraw, ImageFont
folder = pathlib.Path("large")
folder.mkdir(exist_ok=True)
for i in range(16):
    image = Image.linear_gradient("L").resize((512, 512)).convert("RGB")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=56)
    for line, text in enumerate(["GRAND OPENING", f"ROOM {100 + i}", "WELCOME"]):
        draw.text((30, 60 + 140 * line), text, font=font, fill=(220, 40, 30))
    image.save(folder / f"{i:02}.png")
"""


def run(command, folder, threads="1"):
    env = {**os.environ, "OPDFLOW_STORE": str(folder / "store"), "OMP_NUM_THREADS": threads}
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {ran.returncode}\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}")
    return ran.stdout


def round_seconds(program, folder, reward, micro):
    """Seconds of a round, start and all else that does not come in every round aside."""
    (folder / "judging.yaml").write_text(RECIPE.replace("REWARD", reward).replace("MICRO", str(micro)))
    took = []
    for rounds in (ROUNDS // 3, ROUNDS):
        set_rounds = f"teacher.with.iterations={rounds}"
        out = run([program, "run", "judging.yaml", "--until", "teacher", "--force", "teacher", "--set", set_rounds, "--json"], folder)
        took.append(json.loads(out)["stages"]["teacher"]["seconds"])
    return (took[1] - took[0]) / (ROUNDS - ROUNDS // 3)


def reading_seconds(program, folder, threads):
    """Seconds that the reader takes for an image of 512 pixels, start aside."""
    python = folder / "venv/bin/python"
    if not python.exists():
        venv.create(folder / "venv", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "pillow==12.0.0"], check=True)
    run([python, "-c", DRAW], folder)
    paths = sorted((folder / "large").glob("*.png"))
    (folder / "one.txt").write_text('a sign with the word "WORD"\n')
    took = []
    for count in (4, 16):
        began = time.perf_counter()
        run([program, "score", "--reward", "ocr", "--prompts", "one.txt", "-j", str(threads), *map(str, paths[:count])], folder, str(threads))
        took.append(time.perf_counter() - began)
    return (took[1] - took[0]) / 12


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=ROOT / "target/release/opdflow", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or pathlib.Path(temporary)
        program = args.program.resolve()
        kinds = [("without judging", "looks", 24), ("after the rollout", "ocr", 96), ("beside the rollout", "ocr", 24)]
        times = {name: [] for name, _, _ in kinds}
        for _ in range(args.repeat):
            for name, reward, micro in kinds:
                times[name].append(round_seconds(program, folder, reward, micro))
        base = statistics.median(times["without judging"])
        print("| miniature, a round of 96 images | seconds | judging's share |\n|---|---:|---:|")
        for name, values in times.items():
            middle = statistics.median(values)
            share = "" if name == "without judging" else f"{max(0.0, 1 - base / middle):.0%}"
            print(f"| {name} | {middle:.2f} ({min(values):.2f} to {max(values):.2f}) | {share} |")
        print("\n| 512 pixels, a round of 1,152 images, computed | reading, s | after the rollout | beside it |\n|---|---:|---:|---:|")
        one = reading_seconds(program, folder, 1)
        whole = OPERATIONS / SPEED
        for threads in (1, 4, 8):
            reading = one * IMAGES / threads
            rollout = whole * ROLLOUT
            left = max(reading - rollout, reading * PART / IMAGES)
            print(f"| {threads} threads | {reading:.0f} | {reading / (whole + reading):.1%} | {left / (whole + left):.1%} |")
        print(f"\n{one:.3f} s an image on one thread; {whole:.0f} s a round without judging.")


if __name__ == "__main__":
    main()
