"""Answer tables of GenEval 2 and DPG-Bench: their own functions on made-up questions and answers.

    git clone https://github.com/facebookresearch/GenEval2 && git -C GenEval2 checkout a6e82d2
    git clone https://github.com/TencentQQGYLab/ELLA && git -C ELLA checkout 3c228f1
    python3 generate.py GenEval2/evaluation.py ELLA/dpg_bench/compute_dpg_bench.py > answers.jsonl

What these files import and do not need for it (networks, images, tables) is replaced by stand-ins; the answers of the judge come from here.
"""
import contextlib
import importlib.util
import json
import math
import random
import sys
import tempfile
import types
from unittest.mock import MagicMock

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def gmean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values)) if all(values) else 0.0


def load(name, path):
    torch = MagicMock()
    torch.nn = types.SimpleNamespace(Module=object)
    stand_ins = {name: MagicMock() for name in ("transformers", "PIL", "tqdm", "numpy", "pandas", "accelerate", "accelerate.utils")}
    sys.modules.update(stand_ins, torch=torch, scipy=MagicMock())
    sys.modules["scipy.stats"] = types.SimpleNamespace(gmean=gmean)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    with contextlib.redirect_stdout(sys.stderr):
        spec.loader.exec_module(module)
    return module


def soft_tifa(module, dice):
    """Probabilities of first tokens, among them the forms of right and of wrong answers, in several writings."""
    questions, tables = [], {}
    for i in range(dice.randint(1, 4)):
        if dice.random() < 0.5:
            question, answer = f"How many things are in image {i}?", dice.choice(NUMBERS)
        else:
            question, answer = f"Is thing {i} red?", "Yes"
        words = [answer, dice.choice(NUMBERS), "no", "yes", str(dice.randint(1, 10)), "a"]
        tokens = {blank + case(word) for word in words for blank in ("", " ") for case in (str, str.capitalize, str.upper)}
        weights = {token: dice.random() ** 4 for token in sorted(tokens)}
        whole = sum(weights.values()) * (1 + dice.random())
        questions.append([question, answer])
        tables[question] = {token: weight / whole for token, weight in weights.items()}

    def send(prompt, _, answer_list):
        return "", sum(tables[prompt.removesuffix(" Answer in one word.")].get(answer, 0.0) for answer in answer_list)

    module.send_message_with_image = send
    mean, scores = module.soft_tifa(questions, "image.png")
    logarithms = [[[token, math.log(p)] for token, p in tables[question].items()] for question, _ in questions]
    return {"geneval2": {"questions": questions, "tokens": logarithms, "scores": scores, "mean": mean, "score": gmean(scores)}}


def dpg_bench(module, dice, folder):
    count = dice.randint(1, 7)
    questions = {i: f"Is there thing {i}?" for i in range(1, count + 1)}
    after = {}
    for i in questions:
        # Most hang on what stands before them, some on what follows.
        others = [j for j in questions if j != i and (j < i or dice.random() < 0.2)]
        after[i] = dice.sample(others, min(len(others), dice.randint(0, 2))) or [0]
    answers = {question: dice.choice(["yes", "yes", "no", "2"]) for question in questions.values()}
    judge = types.SimpleNamespace(vqa=lambda _, question: answers[question])
    asked = {"item": dict(qid2tuple={i: "entity - whole (x)" for i in questions}, qid2dependency=after, qid2question=questions)}
    args = types.SimpleNamespace(pic_num=1, res_path=f"{folder}/out.txt")
    score, _, original = module.compute_dpg_one_sample(args, asked, "images/item.png", judge, 512)
    return {"dpg_bench": {"after": list(after.values()), "answers": list(answers.values()), "score": score, "unconditional": sum(original.values()) / count}}


def main():
    dice = random.Random(1)
    geneval2, ella = load("geneval2", sys.argv[1]), load("ella", sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(40):
            print(json.dumps(soft_tifa(geneval2, dice)))
            print(json.dumps(dpg_bench(ella, dice, folder)))


if __name__ == "__main__":
    main()
