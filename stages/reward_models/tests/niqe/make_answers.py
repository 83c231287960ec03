"""Writes answers.json: NIQE by BasicSR 1.4.2, which reproduces the authors' MATLAB code to five digits, for images that
integer arithmetic draws, with drawn statistics in the place of the published ones.

    tar xzf basicsr-1.4.2.tar.gz
    python make_answers.py basicsr-1.4.2    # with numpy, scipy and torch
"""
import importlib.util
import json
import pathlib
import sys
import types

import numpy as np
import scipy.ndimage

source = pathlib.Path(sys.argv[1]) / "basicsr"


def stub(name, **items):
    module = types.ModuleType(name)
    module.__dict__.update(items)
    sys.modules[name] = module


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module
    return module


# What its file imports and this use of it does not need.
stub("cv2")
stub("scipy.ndimage.filters", convolve=scipy.ndimage.convolve)
stub("basicsr")
stub("basicsr.metrics")
stub("basicsr.metrics.metric_util", reorder_image=None, to_y_channel=None)
stub("basicsr.utils")
stub("basicsr.utils.registry", METRIC_REGISTRY=types.SimpleNamespace(register=lambda: lambda f: f))
load("basicsr.utils.matlab_functions", source / "utils/matlab_functions.py")
theirs = load("theirs", source / "metrics/niqe.py")


def image(width, height, rough):
    """[height, width, 3], as `drawn` in niqe.rs draws it."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    noise = ((x * 73 + y * 151 + c * 199) * (x + 3 * y + 7)) % 251
    slope = (x * (2 + c) + y * (3 - c)) % 200
    square = 60 * (((x // 17) + (y // 13)) % 2)
    return ((slope * (8 - rough) + noise * rough) // 8 + square) * 4 // 6 % 256


def luma(rgb):
    return np.round(rgb @ np.array([65.481, 128.553, 24.966]) / 255.0 + 16.0)


half = np.arange(36)
mean = (half % 7) * 0.3 + 0.5
root = np.eye(36) + 0.1 * ((half[:, None] * 5 + half[None, :] * 3) % 4)
covariance = root @ root.T
window = np.load(source / "metrics/niqe_pris_params.npz")["gaussian_window"]
answers = []
for width, height, rough in [(192, 192, 1), (288, 96, 3), (200, 210, 6)]:
    blocks = []
    wrapped = theirs.compute_feature
    theirs.compute_feature = lambda block: (blocks.append(wrapped(block)), blocks[-1])[1]
    value = theirs.niqe(luma(image(width, height, rough).astype(np.float64)), mean, covariance, window)
    theirs.compute_feature = wrapped
    count = len(blocks) // 2
    features = [list(map(float, blocks[i] + blocks[count + i])) for i in range(count)]
    answers.append({"width": width, "height": height, "rough": rough, "features": features, "niqe": value})
place = pathlib.Path(__file__).with_name("answers.json")
place.write_text("[\n" + ",\n".join(json.dumps(a) for a in answers) + "\n]\n")
