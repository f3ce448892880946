"""From superpixels back to pixels."""

import numpy as np

from depthfield.field import superpixels

COLOUR_REACH = 60.0  # of 255: how far colours may lie apart and still be taken for one surface


def smooth(values: np.ndarray, image: np.ndarray, labels: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Spread superpixel values over pixels without blurring them across edges of the photo.

    A pixel takes the mean of its own superpixel and those that touch it, each weighed by how near its centre and how
    like its mean colour the pixel is. values float n×C; image uint8 H×W×3; labels int32 H×W; pairs int32 m×2.
    Returns float32 H×W×C.
    """
    count, (height, width) = len(values), labels.shape
    centres = superpixels.centres(labels)
    colours = np.stack([superpixels.mean(labels, image[..., channel]) for channel in range(3)], axis=1)
    # about one superpixel's width, in pixels
    features = np.concatenate([centres / np.sqrt(height * width / count), colours / COLOUR_REACH], axis=1)
    features, values = features.astype(np.float32), values.astype(np.float32)
    grid = np.stack(np.indices(labels.shape), axis=-1) / np.sqrt(height * width / count)
    pixel = np.concatenate([grid, image / COLOUR_REACH], axis=2).reshape(-1, 5).astype(np.float32)

    own, total, sum_of_weights = labels.ravel(), 0.0, 0.0
    for candidates in neighbour_table(pairs, count).T:
        candidate = candidates[own]
        distance = ((pixel - features[candidate]) ** 2).sum(axis=1)
        weight = np.exp(-distance) * (candidate >= 0) + (candidate == own) * np.float32(1e-12)
        total = total + weight[:, None] * values[candidate]
        sum_of_weights = sum_of_weights + weight
    return (total / sum_of_weights[:, None]).reshape(height, width, -1)


def neighbour_table(pairs: np.ndarray, count: int) -> np.ndarray:
    """Each superpixel and those that touch it, int64 n×(1 + the most neighbours), padded by -1."""
    owner = np.concatenate([np.arange(count), pairs[:, 0], pairs[:, 1]])
    other = np.concatenate([np.arange(count), pairs[:, 1], pairs[:, 0]])
    order = np.argsort(owner, kind="stable")
    owner, other = owner[order], other[order]
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    neighbours = np.full((count, place.max() + 1), -1)
    neighbours[owner, place] = other
    return neighbours
