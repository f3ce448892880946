"""Superpixel pooling: a superpixel's feature is the mean, over its pixels, of the feature map enlarged to the photo.

The map is enlarged by nearest neighbour, as in the authors' do_sp_pooling.m, but never in memory: a superpixel
overlaps about a dozen cells of the map, and the number of its pixels in each is the weight of the cell.
"""

import tensorflow as tf


def pool(features: tf.Tensor, superpixels: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Return mean features of each superpixel, float32 [B, n, C], for n = `count`; zeros if it has no pixels.

    features float32 [B, h, w, C], covering the whole photo; superpixels int32 [B, H, W], labels below n, -1 = none.
    """
    batch, height, width = tf.unstack(tf.shape(features)[:3])
    owner, cell, pixels = meetings(superpixels, count, height, width)
    total = tf.math.unsorted_segment_sum(pixels, owner, batch * (count + 1))
    met = tf.gather(tf.reshape(features, [-1, features.shape[3]]), cell)
    shares = pixels / tf.gather(total, owner)
    pooled = tf.math.unsorted_segment_sum(shares[:, None] * met, owner, batch * (count + 1))
    return tf.reshape(pooled, [batch, count + 1, features.shape[3]])[:, :-1]


def owners(superpixels: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Return the superpixel of each pixel, int32 [B, H, W], numbered through the batch.

    Each photo has count + 1 numbers; the last is for pixels without a superpixel.
    """
    photo = tf.range(tf.shape(superpixels)[0])[:, None, None]
    return tf.where(superpixels < 0, count, superpixels) + photo * (count + 1)


def meetings(superpixels: tf.Tensor, count: tf.Tensor, height: tf.Tensor, width: tf.Tensor):
    """Return each superpixel with each cell of a height×width map that it overlaps.

    Returns superpixels and cells, int32 [E], and their common pixels, float32 [E]. Superpixels are numbered as by
    `owners`, cells alike, height·width per photo.
    """
    rows, columns = tf.unstack(tf.shape(superpixels)[1:])
    down = tf.range(rows) * height // rows
    right = tf.range(columns) * width // columns
    cell_of_pixel = down[:, None] * width + right[None, :]
    owner = owners(superpixels, count)
    cells = tf.cast(height * width, tf.int64)
    key = tf.reshape(tf.cast(owner, tf.int64) * cells + tf.cast(cell_of_pixel, tf.int64), [-1])
    # By runs along the rows: there are far fewer runs than pixels.
    begins = tf.where(tf.concat([[True], key[1:] != key[:-1]], axis=0))[:, 0]
    lengths = tf.concat([begins[1:], tf.shape(key, tf.int64)], axis=0) - begins
    key, index = tf.unique(tf.gather(key, begins))
    pixels = tf.math.unsorted_segment_sum(tf.cast(lengths, tf.float32), index, tf.size(key))
    owner = tf.cast(key // cells, tf.int32)
    cell = tf.cast(key % cells, tf.int32) + owner // (count + 1) * (height * width)
    return owner, cell, pixels
