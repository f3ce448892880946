"""Superpixels of a photo and their pairs as TensorFlow operations.

Labels are int32 H×W, 0..n-1, each used. Square cells are those of field.superpixels. SLIC (Achanta et al. 2012) is
k-means of colour and position; here a pixel chooses among the centres of its own cell and the eight around it in a
fixed grid, not among all centres whose window contains it.
"""

import tensorflow as tf

from depthfield.field.in_graph import colour
from depthfield.field.superpixels import REFERENCE_PIXELS, SMALLEST, parse

COMPACTNESS = 10.0  # units of Lab that count as much as the distance of two centres
ITERATIONS = 5  # 10 and 20 did not change scores
AROUND = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1))


def segment(image: tf.Tensor, setting: str) -> tf.Tensor:
    """Divide a photo, uint8 H×W×3, into superpixels by `setting` (see field.superpixels.parse).

    Asserts that the photo is large enough for one superpixel.
    """
    method, size = parse(setting)
    height, width = tf.unstack(tf.shape(image)[:2])
    pixels = tf.strings.format("{}×{} pixels are too few for ", (width, height))
    if method == "grid":
        message = pixels + f"one superpixel of {size}×{size}"
        with tf.control_dependencies([tf.debugging.Assert(tf.minimum(height, width) >= size, [message])]):
            columns = (width + size - 1) // size
            return tf.range(height)[:, None] // size * columns + tf.range(width) // size
    count = tf.cast(tf.round(size * tf.cast(height * width, tf.float64) / REFERENCE_PIXELS), tf.int32)
    enough = (count >= 1) & (height * width >= SMALLEST * count)
    with tf.control_dependencies([tf.debugging.Assert(enough, [pixels + f"superpixels at {size} to 640×480"])]):
        return numbered(slic(image, tf.identity(count)))


def slic(image: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Divide into about `count` superpixels that follow colours, weighted as in skimage; some labels may be unused."""
    height, width = tf.unstack(tf.shape(image)[:2])
    spacing = tf.sqrt(tf.cast(height * width, tf.float32) / tf.cast(count, tf.float32))
    rows, columns = (
        tf.maximum(1, tf.cast(tf.round(tf.cast(n, tf.float32) / spacing), tf.int32)) for n in (height, width)
    )
    row, column = tf.range(height) * rows // height, tf.range(width) * columns // width
    candidates = [
        tf.clip_by_value(row + down, 0, rows - 1)[:, None] * columns + tf.clip_by_value(column + right, 0, columns - 1)
        for down, right in AROUND
    ]
    position = tf.cast(positions(height, width), tf.float32) / spacing
    pixels = tf.concat([tf.cast(colour.lab(colour.stretched(image)), tf.float32) / COMPACTNESS, position], axis=2)

    def nearest(centres: tf.Tensor) -> tf.Tensor:
        best, labels = tf.fill([height, width], tf.float32.max), tf.zeros([height, width], tf.int32)
        for candidate in candidates:
            distance = tf.reduce_sum((pixels - tf.gather(centres, candidate)) ** 2, axis=2)
            labels, best = tf.where(distance < best, candidate, labels), tf.minimum(distance, best)
        return labels

    def moved(centres: tf.Tensor) -> tf.Tensor:
        """Move each centre to the mean of the pixels nearest to it; one without pixels stays."""
        labels = nearest(centres)
        used = tf.math.bincount(tf.reshape(labels, [-1]), minlength=rows * columns) > 0
        return tf.where(used[:, None], mean(labels, pixels, rows * columns), centres)

    cells = row[:, None] * columns + column
    start = (0, mean(cells, pixels, rows * columns))
    _, centres = tf.while_loop(lambda done, _: done < ITERATIONS, lambda done, old: (done + 1, moved(old)), start)
    return nearest(centres)


def numbered(labels: tf.Tensor) -> tf.Tensor:
    """Renumber labels without gaps, in the same order."""
    used = tf.math.bincount(tf.reshape(labels, [-1])) > 0
    return tf.gather(tf.cumsum(tf.cast(used, tf.int32)) - 1, labels)


def pairs(labels: tf.Tensor) -> tf.Tensor:
    """Return the pairs of superpixels that share an edge between two pixels: int32 m×2, p < q, each once, ascending."""
    ends = [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]
    p, q = (tf.concat([tf.reshape(end, [-1]) for end in side], axis=0) for side in zip(*ends, strict=True))
    edge = tf.where(p != q)[:, 0]
    p, q = (tf.cast(tf.gather(end, edge), tf.int64) for end in (p, q))
    count = tf.cast(number(labels), tf.int64)
    key = tf.sort(tf.unique(tf.minimum(p, q) * count + tf.maximum(p, q)).y)
    return tf.cast(tf.stack([key // count, key % count], axis=1), tf.int32)


def number(labels: tf.Tensor) -> tf.Tensor:
    """Return n, int32."""
    return tf.reduce_max(labels) + 1


def positions(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Return row and column of each pixel, int32 H×W×2."""
    return tf.stack(tf.meshgrid(tf.range(height), tf.range(width), indexing="ij"), axis=2)


def mean(labels: tf.Tensor, values: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Return the mean of `values`, float H×W×C, over each superpixel's pixels; n×C for n = `count`."""
    flat = tf.reshape(values, [-1, values.shape[2]])
    return tf.math.unsorted_segment_mean(flat, tf.reshape(labels, [-1]), count)
