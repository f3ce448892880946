"""Similarities of neighbouring superpixels as TensorFlow operations.

Each similarity of field.similarity has a function of the same name here for its features.
"""

from collections.abc import Sequence

import tensorflow as tf

from depthfield.field.in_graph import colour, superpixels
from depthfield.field.similarity import HISTOGRAM_BINS, PATTERN_BINS, RING, SIMILARITIES, TEXTURE_PATCH

GREY = (2125, 7154, 721)  # of 10000: skimage's rgb2gray in whole numbers, so that equal values compare as equal


def texture(image: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return the square roots of the uniform-LBP histogram of the 8×8 grey patch at each superpixel; float64 n×58."""
    half, reach = TEXTURE_PATCH // 2, tf.range(TEXTURE_PATCH - 2)
    height, width = tf.unstack(tf.shape(labels))
    grey = tf.pad(tf.reduce_sum(tf.cast(image, tf.int32) * GREY, axis=2), [[half, half], [half, half]])
    height, width = height + 2 * half - 2, width + 2 * half - 2  # pixels that have a full ring
    centre = grey[1:-1, 1:-1]
    codes = tf.zeros_like(centre)
    for bit, (down, right) in enumerate(RING):
        neighbour = grey[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        codes += tf.cast(neighbour > centre, tf.int32) * (1 << bit)
    patterns = tf.gather(tf.constant(PATTERN_BINS, tf.int32), codes)

    count, flat = superpixels.number(labels), tf.reshape(labels, [-1])
    position = tf.reshape(superpixels.positions(*tf.unstack(tf.shape(labels))), [-1, 2])
    low, high = (find(position, flat, count) for find in (tf.math.unsorted_segment_min, tf.math.unsorted_segment_max))
    middle = (low + high + 1) // 2
    rows, columns = middle[:, :1, None] + reach[:, None], middle[:, 1:, None] + reach  # [n, 6, 1] and [n, 1, 6]
    window = tf.gather(tf.reshape(patterns, [-1]), rows * width + columns)
    return tf.sqrt(histogram(tf.repeat(tf.range(count), (TEXTURE_PATCH - 2) ** 2), tf.reshape(window, [-1]), count, 58))


def colour_histogram(image: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return the shares of a superpixel's pixels in 11 equal bins per RGB channel; float64 n×33."""
    bins = tf.reshape(tf.cast(image, tf.int32) * HISTOGRAM_BINS // 256, [-1, 3])
    flat, count = tf.reshape(labels, [-1]), superpixels.number(labels)
    return tf.concat([histogram(flat, bins[:, channel], count, HISTOGRAM_BINS) for channel in range(3)], axis=1)


def mean_colour(image: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return the mean CIE LUV of each superpixel; float64 n×3."""
    return superpixels.mean(labels, colour.luv(tf.cast(image, tf.float64) / 255), superpixels.number(labels))


def histogram(owner: tf.Tensor, bins: tf.Tensor, count: tf.Tensor, width: int) -> tf.Tensor:
    """Return normalised histograms, float64 count×width, of `bins` for each `owner`, two int32 of one length."""
    counts = tf.math.bincount(owner * width + bins, minlength=count * width, maxlength=count * width, dtype=tf.float64)
    counts = tf.reshape(counts, [count, width])
    return counts / tf.reduce_sum(counts, axis=1, keepdims=True)


def similarities(
    image: tf.Tensor, labels: tf.Tensor, pairs: tf.Tensor, names: Sequence[str], wanted: Sequence[str]
) -> tf.Tensor:
    """Return the similarities `names` of each pair, float32 m×K in [0, 1]; 0 for pairs that are not `wanted`.

    image uint8 H×W×3, labels int32 H×W, pairs int32 m×2.
    """
    columns = []
    for name in names:
        if name in wanted:
            features = globals()[SIMILARITIES[name].features.__name__](image, labels)
            apart = tf.gather(features, pairs[:, 0]) - tf.gather(features, pairs[:, 1])
            distance = tf.norm(apart, axis=1) / features.shape[1] ** 0.5
            columns.append(tf.cast(tf.exp(-SIMILARITIES[name].gamma * distance), tf.float32))
        else:
            columns.append(tf.zeros_like(pairs[:, 0], tf.float32))
    return tf.stack(columns, axis=1)
