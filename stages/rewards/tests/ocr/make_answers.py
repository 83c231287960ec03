"""Writes beside itself 60 rendered images and answers.json, what RapidOCR reads in each and where.

With the packages of `make peers` (rapidocr-onnxruntime 1.4.4 among them) and the models in .deps/ppocr:

    python stages/rewards/tests/ocr/make_answers.py

Images are written again only if they are not there, as their pixels are those of the FreeType that Pillow came with.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[3] / "tests" / "peers"))

from PIL import Image  # noqa: E402

from ocr import peer  # noqa: E402
from rendered import pictures  # noqa: E402

SEED, COUNT, LARGEST = 60, 60, 384


def main():
    reader, answers = peer(), []
    drawn = [(image, words) for image, words in pictures(3 * COUNT, SEED) if image.width <= LARGEST][:COUNT]
    for i, (image, words) in enumerate(drawn):
        file = HERE / f"{i:02}.png"
        if not file.exists():
            # 64 colours are enough for one colour of letters on another, and take a third of the space.
            image.quantize(64).save(file, optimize=True)
        # As colours: of a file with a palette RapidOCR's own loader takes the palette's numbers for levels of grey.
        lines = reader(Image.open(file).convert("RGB"))[0] or []
        answers.append({"words": words, "lines": [[text, corners] for corners, text, _ in lines]})
    (HERE / "answers.json").write_text("[\n" + ",\n".join(json.dumps(a) for a in answers) + "\n]\n")


if __name__ == "__main__":
    main()
