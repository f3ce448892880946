"""DCNF, the paper's first network: from a square patch around each superpixel's centre to z.

Patches are cut out inside the graph and never stored: 700 patches of 224×224 would take 105 MB per photo.
"""

import re
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import layers

from depthfield.network.layers import conv, dropout, hidden, last
from depthfield.network.pooling import owners
from depthfield.tool import UsageError


class Convolution(NamedTuple):
    width: int
    size: int
    stride: int
    pool: bool


def parse(text: str) -> Convolution:
    """Parse `64 11x11 /4 pool`: channels, kernel, a stride other than 1, and 3×3 maximum pooling of stride 2."""
    found = re.fullmatch(r"(\d+) (\d+)x\2(?: /(\d+))?( pool)?", text)
    if not found or not all(int(number) for number in found.groups("1")[:3]):
        raise UsageError(f"recipe: a convolution looks like 64 11x11 /4 pool, not {text!r}")
    return Convolution(int(found[1]), int(found[2]), int(found[3] or 1), bool(found[4]))


class Convolutions(layers.Layer):
    """Map patches [N, S, S, 3] to features [N, F]."""

    def __init__(self, shapes: list[Convolution]):
        super().__init__(name="encoder")
        self.shapes = shapes
        self.convolutions = [
            conv(shape.width, shape.size, f"conv{index}", shape.stride, "relu", "valid" if shape.stride > 1 else "same")
            for index, shape in enumerate(shapes, start=1)
        ]

    def call(self, x: tf.Tensor) -> tf.Tensor:
        for shape, layer in zip(self.shapes, self.convolutions, strict=True):
            x = layer(x)
            if shape.pool:  # as in MatConvNet: one row and column of padding, below and to the right
                x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]]), 3, 2, "VALID")
        return tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]])


class Patchwise(keras.Model):
    """The network for a recipe's Patchwise settings; its initial outputs are near `start` (log metres)."""

    def __init__(self, settings, start: float):
        super().__init__(name="patchwise")
        self.patch, self.dropout = settings.patch, settings.dropout
        self.encoder = Convolutions([parse(text) for text in settings.convolutions])
        self.dense = hidden(settings.dense)
        self.last = last(start)

    def call(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """Return z, float32 [B, n], for a batch (see records.batches)."""
        present = batch["present"]
        x = self.encoder(patches(batch["image"], batch["superpixels"], present, self.patch) / 127.5 - 1.0)
        for index, layer in enumerate(self.dense):
            x = layer(x)
            if index < len(self.dense) - 1:
                x = dropout(x, self.dropout, batch, salt=index)
        z = self.last(x)[..., 0]
        return tf.tensor_scatter_nd_update(tf.zeros_like(present, tf.float32), tf.where(present), z)


def patches(image: tf.Tensor, superpixels: tf.Tensor, present: tf.Tensor, size: int) -> tf.Tensor:
    """Cut out squares of `size` pixels around the centre of each present superpixel, with zeros beyond the photo.

    image uint8 [B, H, W, 3]; superpixels int32 [B, H, W]; present bool [B, n]. Returns float32 [number present, size,
    size, 3] in the order of tf.where(present).
    """
    centre = tf.gather_nd(centres(superpixels, tf.shape(present)[1]), tf.where(present))
    # The zeros are explicit: a rounding error decides what crop_and_resize takes to be beyond the photo.
    margin = size // 2 + 1
    padded = tf.pad(image, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
    first = tf.round(centre) + (margin - size // 2)
    ends = tf.cast(tf.shape(padded)[1:3] - 1, tf.float32)
    boxes = tf.concat([first / ends, (first + (size - 1)) / ends], axis=1)  # whose samples are pixels
    photo = tf.cast(tf.where(present)[:, 0], tf.int32)
    return tf.image.crop_and_resize(padded, boxes, photo, [size, size], "nearest")


def centres(superpixels: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Return the mean row and column of each superpixel's pixels, float32 [B, n, 2], for n = `count`."""
    batch, rows, columns = tf.unstack(tf.shape(superpixels))
    pixel = tf.stack(tf.meshgrid(tf.range(rows), tf.range(columns), indexing="ij"), axis=-1)
    pixel = tf.broadcast_to(tf.cast(pixel, tf.float32), [batch, rows, columns, 2])
    owner = tf.reshape(owners(superpixels, count), [-1])
    found = tf.math.unsorted_segment_mean(tf.reshape(pixel, [-1, 2]), owner, batch * (count + 1))
    return tf.reshape(found, [batch, count + 1, 2])[:, :-1]
