"""Superpixels of a photo: their labels, pairs, centres and mean values."""

import numpy as np
from skimage.segmentation import slic

from depthfield.tool import Failure, UsageError

REFERENCE_PIXELS = 640 * 480  # a number of superpixels refers to a photo of this size
SMALLEST = 4  # least mean number of pixels per superpixel


def parse(text: str) -> tuple[str, int]:
    """Read `700` (SLIC, about 700 superpixels at 640×480) or `grid:40` (square cells of 40 pixels)."""
    method, _, size = text.rpartition(":")
    if method not in ("", "grid") or not size.isdecimal() or int(size) < 1:
        raise UsageError(f"superpixels are a number such as 700, or square cells such as grid:40, not {text!r}")
    return method or "slic", int(size)


def segment(image: np.ndarray, setting: str) -> np.ndarray:
    """Divide a photo, uint8 H×W×3, into superpixels by `setting` (see `parse`).

    Returns int32 H×W, labels 0..n-1, each label used. Superpixels cover the same area whatever the size of the photo.
    Raises Failure if the photo is too small for one superpixel.
    """
    method, size = parse(setting)
    height, width = image.shape[:2]
    if method == "grid":
        if min(height, width) < size:
            raise Failure(f"{width}×{height} pixels are too few for one superpixel of {size}×{size}")
        rows, columns = np.arange(height) // size, np.arange(width) // size
        labels = rows[:, None] * (columns[-1] + 1) + columns
    else:
        count = round(size * height * width / REFERENCE_PIXELS)
        if count < 1 or height * width < SMALLEST * count:
            raise Failure(f"{width}×{height} pixels are too few for superpixels at {size} to 640×480")
        # like the authors' vl_slic: no smoothing before, connected superpixels
        labels = slic(image, n_segments=count, compactness=10, sigma=0, start_label=0, channel_axis=2)
    return np.unique(labels, return_inverse=True)[1].reshape(height, width).astype(np.int32)


def pairs(labels: np.ndarray) -> np.ndarray:
    """Return the pairs of superpixels that share an edge between two pixels (4-connected).

    Returns int32 m×2, p < q, each pair once, in ascending order.
    """
    across = np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()])
    down = np.stack([labels[:-1].ravel(), labels[1:].ravel()])
    both = np.sort(np.concatenate([across, down], axis=1), axis=0)
    p, q = both[:, both[0] != both[1]].astype(np.int64)
    count = int(labels.max()) + 1
    return np.stack(np.divmod(np.unique(p * count + q), count), axis=1).astype(np.int32)


def centres(labels: np.ndarray) -> np.ndarray:
    """Return the mean row and column of each superpixel's pixels, float32 n×2."""
    grid = np.indices(labels.shape)
    return np.stack([mean(labels, axis) for axis in grid], axis=1).astype(np.float32)


def mean(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the mean of `values`, H×W, over each superpixel's pixels that are not NaN; float64 n, NaN if all are."""
    flat, values = labels.ravel(), np.asarray(values, np.float64).ravel()
    valid = ~np.isnan(values)
    count = int(flat.max()) + 1
    total = np.bincount(flat[valid], weights=values[valid], minlength=count)
    number = np.bincount(flat[valid], minlength=count)
    return np.divide(total, number, out=np.full(count, np.nan), where=number > 0)
