"""Superpixel pooling: a superpixel's feature is the mean, over its pixels, of the feature map enlarged to the photo.

The map is enlarged by nearest neighbour, as in the authors' do_sp_pooling.m, but never in memory: each superpixel's
pixels are counted by the cell of the map they fall in, and the counts weigh the cells.
"""

import tensorflow as tf


def pool(features: tf.Tensor, superpixels: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Mean features of each superpixel, float32 [B, n, C], for n = `count`; zeros where a superpixel has no pixels.

    features float32 [B, h, w, C], covering the whole photo; superpixels int32 [B, H, W], labels below n, -1 = none.
    """
    weights = cell_shares(superpixels, count, tf.shape(features)[1], tf.shape(features)[2])
    cells = tf.reshape(features, [tf.shape(features)[0], -1, features.shape[3]])
    return tf.matmul(weights, cells)


def cell_shares(superpixels: tf.Tensor, count: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """The share of each superpixel's pixels that falls in each cell of a height×width map, float32 [B, n, h·w]."""
    batch, rows, columns = tf.unstack(tf.shape(superpixels))
    down = tf.range(rows) * height // rows
    right = tf.range(columns) * width // columns
    cell = down[:, None] * width + right[None, :]
    label = tf.where(superpixels < 0, count, superpixels)  # padding is counted in a row of its own, cut off below
    owner = tf.range(batch)[:, None, None] * (count + 1) + label
    counts = tf.math.bincount(
        tf.reshape(owner * (height * width) + cell, [-1]),
        minlength=batch * (count + 1) * height * width,
        maxlength=batch * (count + 1) * height * width,
        dtype=tf.float32,
    )
    counts = tf.reshape(counts, [batch, count + 1, height * width])[:, :-1]
    return tf.math.divide_no_nan(counts, tf.reduce_sum(counts, axis=2, keepdims=True))
