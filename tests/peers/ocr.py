"""The text reader against RapidOCR 1.4.4 with the same two models, thresholds and sizes, on rendered texts.

RapidOCR runs without its classifier of turned lines, which we do not have, and without enlarging images first. The score
is that of the reward `ocr` in docs/reference/rewards.md. Fails if the mean score differs by 0.01 or more, or if there is an image
in which it reads something and we do not. `python tests/peers/ocr.py [COUNT]`, from the checkout.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

from rendered import pictures  # noqa: E402

ALLOWED = 0.01


def deps():
    return Path(os.environ.get("OPDFLOW_DEPS", ROOT / ".deps"))


def peer():
    """RapidOCR over the models that we use."""
    from rapidocr_onnxruntime import RapidOCR

    models = deps() / "ppocr"
    return RapidOCR(
        use_cls=False,
        intra_op_num_threads=1,
        inter_op_num_threads=1,
        det_model_path=str(models / "det.onnx"),
        det_limit_side_len=1,
        rec_model_path=str(models / "rec.onnx"),
    )


def read_by_peer(files):
    """The lines of each file, and seconds for one."""
    ocr = peer()
    start = time.perf_counter()
    found = [ocr(str(file))[0] or [] for file in files]
    return [[line[1] for line in lines] for lines in found], (time.perf_counter() - start) / len(files)


def read_by_us(files):
    """The same of our example `read`."""
    command = ["cargo", "run", "--release", "--quiet", "--package", "opdflow-rewards", "--example", "read", "--"]
    command += [f"--deps={deps()}", *map(str, files)]
    # One thread, as the peer has.
    environment = dict(os.environ, RAYON_NUM_THREADS="1")
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    *found, last = [json.loads(line) for line in done.stdout.splitlines()]
    return [[line["text"] for line in picture["lines"]] for picture in found], last["seconds"] / len(files)


def distance(a, b):
    """Levenshtein's."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def score(read, words):
    """The reward."""
    plain = lambda t: t.replace(" ", "").replace("\n", "").lower()  # noqa: E731
    read, words = plain("".join(read)), plain(words)
    return 1.0 if words in read else 1.0 - min(distance(read, words), len(words)) / len(words)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    with tempfile.TemporaryDirectory() as folder:
        files, texts = [], []
        for i, (image, words) in enumerate(pictures(count)):
            files.append(Path(folder) / f"{i:03}.png")
            image.save(files[-1])
            texts.append(words)
        theirs, their_time = read_by_peer(files)
        ours, our_time = read_by_us(files)
    scores = [[score(read, words) for read, words in zip(reads, texts)] for reads in (theirs, ours)]
    means = [sum(s) / len(s) for s in scores]
    blind = [i for i in range(count) if any(theirs[i]) and not any(ours[i])]
    same = sum(a == b for a, b in zip(theirs, ours))
    for i in range(count):
        if theirs[i] != ours[i]:
            print(f"  {i:03} {texts[i]!r}: RapidOCR {theirs[i]}, ours {ours[i]}")
    print(f"{count} pictures, one thread: mean score {means[0]:.4f} of RapidOCR, {means[1]:.4f} of ours; read alike {same}")
    print(f"per picture {1000 * their_time:.0f} ms of RapidOCR, {1000 * our_time:.0f} ms of ours")
    if blind:
        sys.exit(f"RapidOCR reads something in {blind}, and we do not")
    if abs(means[0] - means[1]) >= ALLOWED:
        sys.exit(f"the mean scores differ by {abs(means[0] - means[1]):.4f}, allowed is less than {ALLOWED}")


if __name__ == "__main__":
    main()
