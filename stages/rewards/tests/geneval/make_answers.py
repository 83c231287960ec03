"""Writes answers.jsonl beside itself: what GenEval's own evaluator says of random detections.

    git clone https://github.com/djghosh13/geneval && git -C geneval checkout af4902f24d3ca90ebbb446dd9891a59e0f82725f
    pip install numpy==2.4.6
    python make_answers.py geneval

The evaluator is run, not copied: its file is executed from the checkout with stand-ins for its detector, its CLIP and its
images, so that every detection goes through its own thresholds and rules. A line is [metadata, objects, correct]; an
object is [class, left, top, right, bottom, confidence, colour]; the evaluator has its numbers in 32 bits.
"""

import json
import random
import subprocess
import sys
import types
from pathlib import Path

import numpy as np

COMMIT = "af4902f24d3ca90ebbb446dd9891a59e0f82725f"
SEED, CASES = 7, 2000
CLASSES = ["cup", "dog", "bench", "tv remote", "bird"]
RELATIONS = ["left of", "right of", "above", "below"]
TAGS = ["single_object", "two_object", "counting", "colors", "position", "color_attr"]


def evaluator(checkout):
    """The evaluator's own names, with what it would load replaced."""
    commit = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    if commit.stdout.strip() != COMMIT:
        sys.exit(f"{checkout} is at {commit.stdout.strip()}, not at {COMMIT}")

    def stand_in(name, **attributes):
        module = types.ModuleType(name)
        module.__dict__.update(attributes)
        sys.modules[name] = module
        return module

    data = stand_in("torch.utils.data", Dataset=object)
    cuda = types.SimpleNamespace(is_available=lambda: True)
    stand_in("torch", cuda=cuda, utils=stand_in("torch.utils", data=data))
    stand_in("pandas")
    stand_in("open_clip")
    stand_in("PIL", Image=types.SimpleNamespace(Image=object, open=lambda path: path))
    sys.modules["PIL"].ImageOps = types.SimpleNamespace(exif_transpose=lambda image: image)
    stand_in("mmdet", apis=stand_in("mmdet.apis", inference_detector=None, init_detector=None))
    metrics = stand_in("clip_benchmark.metrics", zeroshot_classification=types.SimpleNamespace())
    stand_in("clip_benchmark", metrics=metrics)

    path = Path(checkout) / "evaluation" / "evaluate_images.py"
    names = {"__name__": "evaluate_images", "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), names)
    # The defaults of its options, and a detector and a classifier that look things up: what would be the mask of an
    # object is here its colour, and what would be the path of a picture is the list of what is found in it.
    names |= {
        "THRESHOLD": 0.3,
        "COUNTING_THRESHOLD": 0.9,
        "MAX_OBJECTS": 16,
        "NMS_THRESHOLD": 1.0,
        "POSITION_THRESHOLD": 0.1,
        "classnames": CLASSES,
        "object_detector": None,
        "inference_detector": lambda detector, objects: by_class(objects),
        "color_classification": lambda image, found, classname: [colour for _, colour in found],
    }
    return names


def by_class(objects):
    """Boxes with confidences of each class, and colours, as mmdetection gives boxes and masks."""
    boxes, colours = [], []
    for name in CLASSES:
        own = [o for o in objects if o[0] == name]
        boxes.append(np.array([o[1:6] for o in own], np.float32).reshape(-1, 5))
        colours.append([o[6] for o in own])
    return boxes, colours


def clause(rng, colours, index, tag, count):
    """A clause of `include`."""
    made = {"class": rng.choice(CLASSES), "count": count}
    if tag in ("colors", "color_attr") or rng.random() < 0.05:
        made["color"] = rng.choice(colours[:4])
    if index and (tag == "position" or rng.random() < 0.05):
        made["position"] = [rng.choice(RELATIONS), rng.randrange(index)]
    return made


def metadata(rng, colours):
    """What is asked for: mostly as GenEval's prompts ask, now and then anything that the format allows."""
    tag = rng.choice(TAGS + ["position"] * 3 + ["counting"])
    clauses = {"two_object": 2, "position": 2, "color_attr": 2}.get(tag, 1) + (rng.random() < 0.1)
    many = tag == "counting" or rng.random() < 0.1
    count = lambda: rng.choice([1, 2, 2, 2, 3, 3, 3, 4, 4, 4] * 3 + [16, 17]) if many else 1  # noqa: E731
    asked = {"tag": tag, "include": [clause(rng, colours, i, tag, count()) for i in range(clauses)]}
    if tag == "counting" or rng.random() < 0.1:
        first = asked["include"][0]
        name = first["class"] if tag == "counting" else rng.choice(CLASSES)
        asked["exclude"] = [{"class": name, "count": first["count"] + 1}]
    return asked


def confidence(rng, threshold):
    """Mostly above the threshold, sometimes at it or next to it."""
    at = np.float32(threshold)
    kind = rng.random()
    if kind < 0.05:
        return float(rng.choice([at, np.nextafter(at, np.float32(0)), np.nextafter(at, np.float32(1))]))
    low = 0.05 if kind < 0.25 else threshold + 0.002
    return round(rng.uniform(low, 0.999), 3)


def box(rng, near):
    """A box; many lie about another one so that a relation is close to its limit."""
    part = rng.choice([1, 1, 10])
    step = lambda low, high: round(rng.randint(low * part, high * part) / part, 1)  # noqa: E731
    if near and rng.random() < 0.8:
        x, y = (round(place + step(-30, 30) * (rng.random() < 0.7), 1) for place in near)
    else:
        x, y = step(0, 100), step(0, 100)
    return [x, y, round(x + step(2, 40), 1), round(y + step(2, 40), 1)]


def objects(rng, asked, colours):
    """Detections: about as many of each class as are asked for, and some of others."""
    threshold = 0.9 if asked["tag"] == "counting" else 0.3
    found, near = [], None
    for part in asked["include"] + asked.get("exclude", []):
        many = max(0, part["count"] + rng.choice([0, 0, 0, 0, -1, 1, 2]))
        if rng.random() < 0.01:
            many = rng.randint(15, 19)
        for _ in range(many if part in asked["include"] or rng.random() < 0.3 else 0):
            colour = part.get("color") if rng.random() < 0.7 else None
            found.append([part["class"], *box(rng, near), confidence(rng, threshold), colour or rng.choice(colours)])
            near = found[-1][1:3]
    while rng.random() < 0.3:
        found.append([rng.choice(CLASSES), *box(rng, near), confidence(rng, threshold), rng.choice(colours)])
    rng.shuffle(found)
    # Which of two equally sure objects comes first is left open by the evaluator's sorting.
    unique = {(o[0], o[5]): o for o in found}
    return list(unique.values())


def main():
    names = evaluator(sys.argv[1])
    rng, colours = random.Random(SEED), names["COLORS"]
    lines, right = [], 0
    for _ in range(CASES):
        asked = metadata(rng, colours)
        found = objects(rng, asked, colours)
        correct = bool(names["evaluate_image"](found, asked | {"prompt": ""})["correct"])
        right += correct
        line = json.dumps([asked, found, correct], separators=(",", ":"))
        lines.append(line.replace(".0,", ","))
    Path(__file__).with_name("answers.jsonl").write_text("\n".join(lines) + "\n")
    print(f"{CASES} cases, {right} of them correct, NumPy {np.__version__}")


if __name__ == "__main__":
    main()
