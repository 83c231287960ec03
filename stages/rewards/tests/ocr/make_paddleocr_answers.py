"""Writes paddleocr.json beside itself: what PaddleOCR 2.9.1 finds and reads in the images of make_answers.py with the defaults of
`lang="en"`, handed the images as RGB as the published rewards do.

Its steps are its own code, out of the wheel (`pip download --no-deps paddleocr==2.9.1`, then the wheel's path as the argument), with
PaddlePaddle itself replaced by a name that nothing is asked of. The networks are the bundled ones, because PaddleOCR's English ones
are not on PyPI: what is held against it is everything between and around them.

    python stages/rewards/tests/ocr/make_paddleocr_answers.py paddleocr-2.9.1-py3-none-any.whl
"""

import importlib.abc
import importlib.machinery
import json
import math
import sys
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import cv2
import numpy as np
import onnxruntime
from PIL import Image

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[3] / ".deps" / "ppocr"


class Missing(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a name that answers everything for each module that is not installed."""

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__ = [], spec
        return module

    def exec_module(self, module):
        pass


def load(wheel):
    """The wheel's modules, without PaddlePaddle."""
    folder = tempfile.mkdtemp()
    zipfile.ZipFile(wheel).extractall(folder)
    sys.meta_path.append(Missing())
    import paddle
    paddle.Tensor = type("Tensor", (), {})
    sys.path.insert(0, str(Path(folder) / "paddleocr"))
    sys.path.insert(0, folder)
    from ppocr.data.imaug.operators import DetResizeForTest, NormalizeImage
    from ppocr.postprocess.db_postprocess import DBPostProcess
    from ppocr.postprocess.rec_postprocess import CTCLabelDecode
    from tools.infer.predict_det import TextDetector
    from tools.infer.predict_rec import TextRecognizer
    from tools.infer.predict_system import sorted_boxes
    from tools.infer.utility import get_rotate_crop_image
    return SimpleNamespace(**{k: v for k, v in locals().items() if k not in ("folder", "wheel")})


def main():
    paddle = load(sys.argv[1])
    det = onnxruntime.InferenceSession(str(MODELS / "det.onnx"), providers=["CPUExecutionProvider"])
    rec = onnxruntime.InferenceSession(str(MODELS / "rec.onnx"), providers=["CPUExecutionProvider"])
    characters = rec.get_modelmeta().custom_metadata_map["character"]
    dictionary = Path(tempfile.mkdtemp()) / "characters.txt"
    dictionary.write_text(characters)
    decode = paddle.CTCLabelDecode(character_dict_path=str(dictionary), use_space_char=True)
    resize = paddle.DetResizeForTest(limit_side_len=960, limit_type="max")
    normalize = paddle.NormalizeImage(std=[0.229, 0.224, 0.225], mean=[0.485, 0.456, 0.406], scale="1./255.", order="hwc")
    boxes_of = paddle.DBPostProcess(thresh=0.3, box_thresh=0.6, max_candidates=1000, unclip_ratio=1.5, use_dilation=False,
                                    score_mode="fast", box_type="quad")
    detector = TextDetectorShape()
    shape = SimpleNamespace(rec_image_shape=[3, 48, 320], rec_algorithm="SVTR_LCNet", use_onnx=False)
    answers = []
    for file in sorted(HERE.glob("[0-9][0-9].png")):
        image = np.array(Image.open(file).convert("RGB"))
        data = normalize(resize({"image": image.copy()}))
        maps = det.run(None, {det.get_inputs()[0].name: data["image"].transpose(2, 0, 1)[None].astype(np.float32)})[0]
        found = boxes_of({"maps": maps}, data["shape"][None])[0]["points"]
        detector.order_points_clockwise = paddle.TextDetector.order_points_clockwise.__get__(detector)
        detector.clip_det_res = paddle.TextDetector.clip_det_res.__get__(detector)
        found = paddle.TextDetector.filter_tag_det_res(detector, found, image.shape)
        found = paddle.sorted_boxes(found)
        crops = [paddle.get_rotate_crop_image(image, box.copy()) for box in found]
        order = np.argsort([crop.shape[1] / float(crop.shape[0]) for crop in crops])
        texts = [None] * len(crops)
        for start in range(0, len(crops), 6):
            batch = order[start:start + 6]
            widest = max([320 / 48] + [crops[i].shape[1] * 1.0 / crops[i].shape[0] for i in batch])
            rows = [paddle.TextRecognizer.resize_norm_img(shape, crops[i], widest) for i in batch]
            out = rec.run(None, {rec.get_inputs()[0].name: np.stack(rows).astype(np.float32)})[0]
            for i, text in zip(batch, decode(out)):
                texts[i] = text
        kept = [[text, box.tolist()] for (text, score), box in zip(texts, found) if score >= 0.5 and not math.isnan(score)]
        answers.append({"lines": kept})
    (HERE / "paddleocr.json").write_text("[\n" + ",\n".join(json.dumps(a) for a in answers) + "\n]\n")


class TextDetectorShape:
    """Holds the methods of PaddleOCR's text detector that need nothing else of it."""


if __name__ == "__main__":
    main()
