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
    """The settings that a patch file was made with; prediction applies them to a new photo."""

    superpixels: str  # see superpixels.parse
    similarities: tuple[str, ...]  # in the order of their columns
    width: int  # width of the photo when it was divided
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
    depth: np.ndarray  # float32 n: mean metres over the superpixel's measured pixels, NaN if there are none
    depth_map: np.ndarray  # float32 H×W metres, NaN without measurement
    source: str  # where the photo came from, for people
    group: str  # photos of a group are held out together; see samples.Sample
    settings: str  # Settings as JSON
    reading: str = ""  # the options that its depth was read with; see samples.Sample
    bounds: str = ""  # maximum size, WIDTHxHEIGHT pixels, each empty if not set


TEXTS = ("source", "group", "settings", "reading", "bounds")
# The dtype of each array, and its shape in H, W, n, m, K.
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

    image uint8 H×W×3; depth_map float32 H×W metres, NaN if not measured; for method see superpixels.parse; names
    are keys of similarity.SIMILARITIES. Raises Failure if the photo is too small.
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
    """Read a patch file; raises Failure naming it if it is not one, is damaged, or its arrays do not fit."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            patch = Patch(**{field: arrays[field] for field in Patch._fields})
    except FileNotFoundError:
        raise Failure(f"{path}: no such file") from None
    except KeyError as missing:
        lacks = missing.args[0].split()[0]
        raise Failure(f"{path}: not a patch file: {lacks} is missing; make it with make-patches") from None
    except (
        ValueError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        TypeError,
        AttributeError,
    ) as error:
        why = str(error) or type(error).__name__
        raise Failure(f"{path}: not a complete patch file ({why}); make it again with make-patches") from None
    problem = contradiction(patch)
    if problem:
        raise Failure(f"{path}: {problem}")
    return patch._replace(**{field: str(getattr(patch, field)) for field in TEXTS})


def contradiction(patch: Patch) -> str | None:
    """Say what is wrong with the arrays of a patch; None if nothing is."""
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
