"""Patch files: a photo with its superpixels, pairs, similarities and depths in one `.npz`; needs no TensorFlow."""

import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from depthfield import files
from depthfield.field import similarity, superpixels
from depthfield.tool import Failure


class Settings(NamedTuple):
    """What a photo was made into patches by; prediction does the same to a new photo."""

    superpixels: str  # see superpixels.parse
    similarities: tuple[str, ...]  # in the order of the columns
    width: int  # of the photo's pixels when it was divided
    height: int

    def to_json(self) -> str:
        return json.dumps(self._asdict(), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Settings":
        values = json.loads(text)
        return Settings(**values | {"similarities": tuple(values["similarities"])})


class Patch(NamedTuple):
    """One photo, ready for the field: n superpixels, m pairs, K similarities."""

    image: np.ndarray  # uint8 H×W×3, RGB
    superpixels: np.ndarray  # int32 H×W, labels 0..n-1
    pairs: np.ndarray  # int32 m×2, p < q, each neighbouring pair once
    similarities: np.ndarray  # float32 m×K
    similarity_names: np.ndarray  # str K
    depth: np.ndarray  # float32 n: mean metres of the superpixel's measured pixels, NaN where there are none
    depth_map: np.ndarray  # float32 H×W metres, NaN where there is no measurement
    source: str  # where the photo came from, for people
    group: str  # what it is held out for validation with; see samples.Sample
    settings: str  # Settings as JSON
    reading: str = ""  # by what options its depth was read; see samples.Sample
    bounds: str = ""  # what it was fitted into, WIDTHxHEIGHT pixels, either left out where there was none


TEXTS = ("source", "group", "settings", "reading", "bounds")
# What each array must be: kind of dtype, and its shape in H, W, n, m, K.
LAYOUT = {
    "image": (np.uint8, ("H", "W", 3)),
    "superpixels": (np.int32, ("H", "W")),
    "pairs": (np.int32, ("m", 2)),
    "similarities": (np.float32, ("m", "K")),
    "similarity_names": (np.str_, ("K",)),
    "depth": (np.float32, ("n",)),
    "depth_map": (np.float32, ("H", "W")),
}


def make(
    image: np.ndarray, depth_map: np.ndarray, source: str, group: str, method: str, names: tuple[str, ...]
) -> Patch:
    """Divide a photo and measure its superpixels.

    image uint8 H×W×3; depth_map float32 H×W metres, NaN where unmeasured; method as superpixels.parse reads it; names
    out of similarity.SIMILARITIES. Raises Failure for a photo too small.
    """
    labels = superpixels.segment(image, method)
    pairs = superpixels.pairs(labels)
    height, width = labels.shape
    return Patch(
        image=image,
        superpixels=labels,
        pairs=pairs,
        similarities=similarity.similarities(image, labels, pairs, names),
        similarity_names=np.array(names),
        depth=superpixels.mean(labels, depth_map).astype(np.float32),
        depth_map=depth_map.astype(np.float32),
        source=source,
        group=group,
        settings=Settings(method, tuple(names), width, height).to_json(),
    )


def write(path: Path, patch: Patch) -> None:
    """Write a patch file, whole or not at all."""
    with files.whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **patch._asdict())


def read(path: Path) -> Patch:
    """Read a patch file; Failure naming it where it is none, is damaged, or its arrays contradict each other."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            patch = Patch(**{field: arrays[field] for field in Patch._fields})
    except FileNotFoundError:
        raise Failure(f"{path}: no such file") from None
    except KeyError as missing:
        raise Failure(f"{path}: not a patch file: {missing.args[0].split()[0]} is missing; see make-patches") from None
    except (
        ValueError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        TypeError,
        AttributeError,
    ) as error:
        raise Failure(f"{path}: not a whole patch file ({str(error) or type(error).__name__})") from None
    problem = contradiction(patch)
    if problem:
        raise Failure(f"{path}: {problem}")
    return patch._replace(**{field: str(getattr(patch, field)) for field in TEXTS})


def contradiction(patch: Patch) -> str | None:
    """What is wrong with the arrays of a patch, in words; None where nothing is."""
    sizes: dict = {}
    for field, (dtype, shape) in LAYOUT.items():
        array = getattr(patch, field)
        if not np.issubdtype(array.dtype, dtype):
            return f"{field} is {array.dtype}, not {np.dtype(dtype)}"
        if array.ndim != len(shape):
            return f"{field} has {array.ndim} dimensions, not {len(shape)}"
        for letter, length in zip(shape, array.shape, strict=True):
            if sizes.setdefault(letter, letter if isinstance(letter, int) else length) != length:
                return f"{field} is {'×'.join(map(str, array.shape))}, which does not fit the other arrays"
    count = sizes["n"]
    if not np.array_equal(np.unique(patch.superpixels), np.arange(count)):
        return f"its superpixels are not labelled 0 to {count - 1}"
    if np.any(patch.pairs[:, 0] >= patch.pairs[:, 1]) or np.any((patch.pairs < 0) | (patch.pairs >= count)):
        return "a pair of superpixels is out of order or out of range"
    if np.nanmin(patch.depth_map, initial=np.inf) <= 0:
        return "a depth is zero or negative"
    return None
