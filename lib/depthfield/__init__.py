"""
Depth from one photo with Deep Convolutional Neural Fields.

What there is for Python programs:

Predictor
    Predicts the depth of photos with a trained run.
Prediction
    Depth and uncertainty of one photo.
train
    Trains a recipe on records.
read_photo
    Reads a photo upright.
Failure
    Raised when something cannot be done, with the reason in one line.

Each is imported when it is first asked for, as TensorFlow takes seconds. lib/README.md describes the modules.

Examples
--------
Train a recipe on records that ``to-tfrecord`` made, and predict the depth of photos with the run:

>>> from pathlib import Path
>>> from depthfield import Predictor, read_photo, train
>>> shards = Path("data/rooms/records").glob("train-*.tfrecord")
>>> train("demo", "runs/first", shards, settings=["steps=2000"])
PosixPath('runs/first/checkpoints/000002000.npz')
>>> predict = Predictor("runs/first")
>>> depth, sigma = predict(read_photo("holiday.jpg"))
>>> depth.shape, depth.dtype
((960, 1280), dtype('float32'))

Several photos at once, of any size, from files or from anywhere else as uint8 arrays of shape (H, W, 3):

>>> frames = [read_photo(path) for path in sorted(Path("frames").iterdir())]
>>> for depth, sigma in predict(frames):
...     print(f"{depth.mean():.2f} m, give or take {sigma.mean():.2f}")
2.31 m, give or take 0.27
2.35 m, give or take 0.28
"""

import importlib
import os

# TensorFlow reads both when it is first imported. Its log, and on a machine without a GPU even its errors, are noise to
# users of these commands. A lost server should raise an error at once, not hang.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")

_HOMES = {
    "Predictor": "prediction",
    "Prediction": "prediction",
    "train": "library",
    "read_photo": "samples.images",
    "Failure": "tool",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from depthfield import tool

    with tool.hushed():
        module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
