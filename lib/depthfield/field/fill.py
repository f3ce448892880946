"""Fill: from superpixel values back to pixels, by a fast edge-preserving mean or by the authors' colourisation."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu
from skimage.color import rgb2gray

from depthfield.field import superpixels

COLOUR_REACH = 60.0  # of 255: how much colours may differ and still count as one surface


def smooth(values: np.ndarray, image: np.ndarray, labels: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Spread superpixel values over pixels without blurring them across edges of the photo.

    Each pixel is the mean of its own superpixel and its neighbours, weighted by the distance to their centres and the
    difference to their mean colours. values float n×C; image uint8 H×W×3; labels int32 H×W; pairs int32 m×2. Returns
    float32 H×W×C.
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
    """Return each superpixel with its neighbours, int64 n×(1 + the most neighbours), padded with -1."""
    owner = np.concatenate([np.arange(count), pairs[:, 0], pairs[:, 1]])
    other = np.concatenate([np.arange(count), pairs[:, 1], pairs[:, 0]])
    order = np.argsort(owner, kind="stable")
    owner, other = owner[order], other[order]
    column = np.arange(len(owner)) - np.searchsorted(owner, owner)
    neighbours = np.full((count, column.max() + 1), -1)
    neighbours[owner, column] = other
    return neighbours


def colourise(values: np.ndarray, image: np.ndarray, labels: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Spread superpixel values from their centres as Levin, Lischinski and Weiss 2004 do colours: the authors' fill.

    In least squares of weight 1, each pixel is the mean of its 3×3 neighbours, weighted by similar grey values, and the
    pixel at a superpixel's centre has its value: (A + G)x = Gv, one sparse factorisation. Arguments and result as in
    `smooth`; pairs are not used.
    """
    height, width = labels.shape
    centre = np.rint(superpixels.centres(labels)).astype(np.int64)
    known = centre[:, 0] * width + centre[:, 1]
    given = np.zeros((height * width, values.shape[1]))
    given[known] = values
    weight = np.zeros(height * width)
    weight[known] = 1.0
    system = sparse.diags_array(1 + weight) - affinities(rgb2gray(image))
    solved = splu(system.tocsc()).solve(given * weight[:, None])
    return solved.astype(np.float32).reshape(height, width, -1)


def affinities(grey: np.ndarray) -> sparse.csr_array:
    """Return the weight of each of a pixel's 3×3 neighbours, as rows of a sparse matrix that sum to 1.

    exp(-(g_r - g_s)² / 2σ_r²), where σ_r² is 0.6/2 times the variance of the window, but large enough for the most
    similar neighbour to weigh at least 0.01: the constants of Levin's own code. grey is float H×W from 0 to 1.
    """
    height, width = grey.shape
    padded = np.pad(grey, 1, constant_values=np.nan)
    window = np.stack([padded[r : r + height, c : c + width] for r in range(3) for c in range(3)], axis=-1)
    around = np.delete(window, 4, axis=-1)
    difference = (around - grey[..., None]) ** 2
    twice_variance = np.maximum(0.6 * np.nanvar(window, axis=-1), np.nanmin(difference, axis=-1) / -np.log(0.01))
    likeness = np.nan_to_num(np.exp(-difference / np.maximum(twice_variance, 2e-6)[..., None]))
    likeness /= likeness.sum(axis=-1, keepdims=True)
    number = np.pad(np.arange(height * width).reshape(height, width), 1)
    columns = np.stack([number[r : r + height, c : c + width] for r in range(3) for c in range(3)], axis=-1)
    columns = np.delete(columns, 4, axis=-1)
    rows = np.broadcast_to(np.arange(height * width).reshape(height, width, 1), columns.shape)
    size = height * width
    return sparse.csr_array((likeness.ravel(), (rows.ravel(), columns.ravel())), shape=(size, size))


FILLS = {"smooth": smooth, "colourise": colourise}
