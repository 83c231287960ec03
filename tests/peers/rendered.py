"""Images of short texts: sides, letter sizes, angles, colours, one or two lines, all from a seed.

`python rendered.py FOLDER COUNT` writes FOLDER/000.png and so on, and FOLDER/texts.json with the text of each. The font is
the one that Pillow carries, so that nothing else need be installed. Glyphs are drawn by FreeType, whose pixels may differ
a little from one release of Pillow to the next.
"""

import json
import math
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SEED = 20
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WORDS = ["HELLO", "OPEN", "Coffee", "STOP", "Bakery", "New York", "FLOWERS", "Exit 42", "happy birthday", "SALE 50%"]


def text(rng):
    """One to four letters most often, else a word, or two lines."""
    kind = rng.random()
    if kind < 0.6:
        return "".join(rng.choice(LETTERS) for _ in range(rng.randint(1, 4)))
    if kind < 0.85:
        return rng.choice(WORDS)
    return rng.choice(WORDS) + "\n" + "".join(rng.choice(LETTERS) for _ in range(rng.randint(2, 4)))


def colours(rng):
    """A background and letters that stand out from it."""
    while True:
        back, front = (tuple(rng.randint(0, 255) for _ in range(3)) for _ in range(2))
        grey = [sum(f * c for f, c in zip((0.299, 0.587, 0.114), colour)) for colour in (back, front)]
        if abs(grey[0] - grey[1]) > 70:
            return back, front


def picture(rng):
    """An image and its text, lines joined by a line feed."""
    words = text(rng)
    side = rng.choice([64, 96, 128, 192, 256, 384, 512])
    size = rng.choice([s for s in (14, 18, 24, 32, 40, 56, 72, 96) if side / 12 <= s <= side / 1.8])
    angle = rng.choice([0, 0, rng.uniform(-15, 15), rng.uniform(-15, 15)])
    stroke = rng.choice([0, 0, 1, 2]) if size >= 24 else 0
    back, front = colours(rng)
    # What is too wide for the picture is drawn smaller.
    while True:
        font = ImageFont.load_default(size)
        canvas = Image.new("RGB", (side, side), back)
        box = ImageDraw.Draw(canvas).multiline_textbbox((0, 0), words, font=font, stroke_width=stroke)
        width, height = box[2] - box[0], box[3] - box[1]
        turned = math.radians(abs(angle))
        wide = width * math.cos(turned) + height * math.sin(turned)
        high = width * math.sin(turned) + height * math.cos(turned)
        if max(wide, high) <= side - 4 or size <= 8:
            break
        size -= 2
    free = [max(0, (side - extent) / 2 - 2) for extent in (wide, high)]
    shift = [rng.uniform(-f, f) for f in free]
    at = (side / 2 - width / 2 - box[0], side / 2 - height / 2 - box[1])
    mask = Image.new("L", (side, side), 0)
    ImageDraw.Draw(mask).multiline_text(at, words, fill=255, font=font, stroke_width=stroke)
    mask = mask.rotate(angle, resample=Image.Resampling.BICUBIC, translate=tuple(shift))
    canvas.paste(Image.new("RGB", (side, side), front), mask=mask)
    return canvas, words


def pictures(count, seed=SEED):
    """The first `count` pictures with their texts."""
    rng = random.Random(seed)
    return [picture(rng) for _ in range(count)]


def main():
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    texts = []
    for i, (image, words) in enumerate(pictures(count)):
        image.save(folder / f"{i:03}.png", optimize=True)
        texts.append(words)
    (folder / "texts.json").write_text(json.dumps(texts, indent=0) + "\n")


if __name__ == "__main__":
    main()
