"""Similarities of neighbouring superpixels: texture, colour histogram, mean colour.

Each is S = exp(-γ‖f_p - f_q‖₂ / √dim) with the features f and the γ of the authors' code, in the order of their model
(gen_feature_info_pairwise.m, color_hist.m). Mean colour is in CIE LUV under D65 white; theirs uses illuminant E.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from skimage.color import rgb2gray, rgb2luv

from depthfield.field import superpixels

HISTOGRAM_BINS = 11  # per channel
TEXTURE_PATCH = 8  # pixels, square, around the centre of the superpixel's bounding box

# The eight neighbours of a pixel, in circular order.
RING = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))


def uniform_patterns() -> np.ndarray:
    """Return the bin, 0..57, of each of the 256 local binary patterns (Ojala, Pietikäinen, Mäenpää 2002).

    56 bins are for the uniform patterns with one arc of ones, by its start and length; one bin is for the two constant
    patterns, and one for all that change more than twice around the ring.
    """
    bins = np.full(256, 57)
    bins[[0, 255]] = 56
    for start in range(8):
        for length in range(1, 8):
            pattern = sum(1 << (start + step) % 8 for step in range(length))
            bins[pattern] = start * 7 + length - 1
    return bins


PATTERN_BINS = uniform_patterns()


def texture(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the square roots of the uniform-LBP histogram of the 8×8 grey patch at each superpixel; float64 n×58.

    Pixels on the patch's border have no full ring and are skipped; the photo is padded with zeros.
    """
    half = TEXTURE_PATCH // 2
    grey = np.pad(rgb2gray(image), half)
    centre = grey[1:-1, 1:-1]
    codes = np.zeros(centre.shape, np.int64)
    for bit, (down, right) in enumerate(RING):
        neighbour = grey[1 + down : grey.shape[0] - 1 + down, 1 + right : grey.shape[1] - 1 + right]
        codes |= (neighbour > centre).astype(np.int64) << bit
    patterns = PATTERN_BINS[codes]

    count = int(labels.max()) + 1
    rows, columns = np.indices(labels.shape)
    middle = []
    for axis in (rows, columns):
        low, high = np.full(count, axis.max()), np.zeros(count, np.int64)
        np.minimum.at(low, labels.ravel(), axis.ravel())
        np.maximum.at(high, labels.ravel(), axis.ravel())
        middle.append((low + high + 1) // 2)
    # patterns[r + half - 1] belongs to row r of the photo; the patch's inner rows are middle-half+1 .. middle+half-2
    reach = np.arange(TEXTURE_PATCH - 2)
    window = patterns[middle[0][:, None, None] + reach[:, None], middle[1][:, None, None] + reach]
    return np.sqrt(histogram(np.arange(count).repeat(reach.size**2), window.ravel(), count, 58))


def colour_histogram(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the shares of a superpixel's pixels in 11 equal bins per RGB channel; float64 n×33."""
    bins = (image.astype(np.int64) * HISTOGRAM_BINS) // 256
    flat, count = labels.ravel(), int(labels.max()) + 1
    channels = [histogram(flat, bins[..., channel].ravel(), count, HISTOGRAM_BINS) for channel in range(3)]
    return np.concatenate(channels, axis=1)


def mean_colour(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mean CIE LUV of each superpixel; float64 n×3."""
    luv = np.nan_to_num(rgb2luv(image))
    return np.stack([superpixels.mean(labels, luv[..., channel]) for channel in range(3)], axis=1)


def histogram(owner: np.ndarray, bins: np.ndarray, count: int, width: int) -> np.ndarray:
    """Return normalised histograms, float64 count×width, of `bins` for each `owner`, two int arrays of one length."""
    counts = np.bincount(owner * width + bins, minlength=count * width).reshape(count, width)
    return counts / counts.sum(axis=1, keepdims=True)


class Similarity(NamedTuple):
    features: Callable[[np.ndarray, np.ndarray], np.ndarray]
    gamma: float


SIMILARITIES = {
    "texture": Similarity(texture, 50.0),
    "histogram": Similarity(colour_histogram, 25.0),
    "colour": Similarity(mean_colour, 0.1),
}


def similarities(image: np.ndarray, labels: np.ndarray, pairs: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return the similarities `names` of each pair of superpixels.

    image uint8 H×W×3, labels int32 H×W, pairs int32 m×2. Returns float32 m×K in [0, 1], K = len(names).
    """
    columns = np.empty((len(pairs), len(names)), np.float32)
    for column, name in enumerate(names):
        features = SIMILARITIES[name].features(image, labels)
        distance = np.linalg.norm(features[pairs[:, 0]] - features[pairs[:, 1]], axis=1)
        columns[:, column] = np.exp(-SIMILARITIES[name].gamma * distance / np.sqrt(features.shape[1]))
    return columns
