"""Fill from superpixel values to pixels as TensorFlow operations; see field.fill.smooth."""

import tensorflow as tf

from depthfield.field.fill import COLOUR_REACH
from depthfield.field.in_graph import superpixels


def smooth(values: tf.Tensor, image: tf.Tensor, labels: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
    """Return each pixel's mean of its superpixel and its neighbours, weighted by distance and difference in colour.

    values float32 n×C; image uint8 H×W×3; labels int32 H×W; pairs int32 m×2. Returns float32 H×W×C.
    """
    count, (height, width) = tf.shape(values)[0], tf.unstack(tf.shape(labels))
    # positions in units of a superpixel's width; float64, because small differences of large values matter
    spacing = tf.sqrt(tf.cast(height * width, tf.float64) / tf.cast(count, tf.float64))
    position = tf.cast(superpixels.positions(height, width), tf.float64) / spacing
    exact = tf.concat([position, tf.cast(image, tf.float64) / COLOUR_REACH], axis=2)
    centres = tf.cast(superpixels.mean(labels, exact, count), tf.float32)
    pixels, own = tf.reshape(tf.cast(exact, tf.float32), [-1, 5]), tf.reshape(labels, [-1])

    def add(candidates: tf.Tensor, total: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        candidate = tf.gather(candidates, own)
        there = tf.maximum(candidate, 0)
        distance = tf.reduce_sum((pixels - tf.gather(centres, there)) ** 2, axis=1)
        weight = tf.where(candidate >= 0, tf.exp(-distance), 0.0) + tf.where(candidate == own, 1e-12, 0.0)
        return total + weight[:, None] * tf.gather(values, there), weights + weight

    table = tf.transpose(neighbour_table(pairs, count))
    start = (0, tf.zeros([height * width, values.shape[1]]), tf.zeros([height * width]))
    _, total, weights = tf.while_loop(
        lambda column, *_: column < tf.shape(table)[0],
        lambda column, *sums: (column + 1, *add(table[column], *sums)),
        start,
    )
    return tf.reshape(total / weights[:, None], [height, width, values.shape[1]])


def neighbour_table(pairs: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Return each superpixel with its neighbours, int32 n×(1 + the most neighbours), padded with -1."""
    itself = tf.range(count)
    owner = tf.concat([itself, pairs[:, 0], pairs[:, 1]], axis=0)
    other = tf.concat([itself, pairs[:, 1], pairs[:, 0]], axis=0)
    order = tf.argsort(owner, stable=True)
    owner, other = tf.gather(owner, order), tf.gather(other, order)
    column = tf.range(tf.size(owner)) - tf.searchsorted(owner, owner)
    empty = tf.fill([count, tf.reduce_max(column) + 1], -1)
    return tf.tensor_scatter_nd_update(empty, tf.stack([owner, column], axis=1), other)
