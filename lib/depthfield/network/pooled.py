"""A fully convolutional network with superpixel pooling like DCNF-FCSP, which combines maps of several scales.

Between pooling and the dense layers, superpixels may attend to each other: where a wall meets the floor shows how far
away all of it is.
"""

import keras
import tensorflow as tf
from keras import layers

from depthfield.network import encoders
from depthfield.network.layers import Attention, conv, last
from depthfield.network.pooling import pool


def plain(settings, start: float) -> keras.Model:
    """The network for a recipe's Plain settings; its initial outputs are near `start` (log metres)."""
    count = len(settings.widths) - encoders.Plain.FINEST
    return Pooled(encoders.Plain(settings.widths), count, settings, start)


def backbone(settings, start: float) -> keras.Model:
    """The same for Backbone settings."""
    network = Pooled(encoders.application(settings.application), len(encoders.STRIDES), settings, start)
    network.application = settings.application
    return network


class Pooled(keras.Model):
    """From a photo to z: an encoder, its maps combined at the finest scale, superpixel pooling, attention layers, and
    `dense` layers."""

    def __init__(self, encoder: layers.Layer, maps: int, settings, start: float):
        super().__init__(name="pooled")
        self.encoder = encoder
        self.laterals = [conv(settings.features, 1, name=f"lateral{index}") for index in range(maps)]
        self.context = layers.Dense(settings.features, name="context")
        self.merge = conv(settings.features, 3, name="merge")
        self.project = layers.Dense(settings.features, name="place") if settings.attention else None
        self.attention = [
            Attention(settings.features, settings.dropout, name=f"attention{index}")
            for index in range(settings.attention)
        ]
        self.dense = [layers.Dense(width, "relu", name=f"dense{index}") for index, width in enumerate(settings.dense)]
        self.last = last(start)

    def call(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """Return z, float32 [B, n], for a batch (see records.batches)."""
        maps = self.encoder(tf.cast(batch["image"], tf.float32))
        merged = self.context(tf.reduce_mean(maps[-1], axis=[1, 2]))[:, None, None, :]
        for lateral, fine in zip(reversed(self.laterals), reversed(maps), strict=True):
            merged = lateral(fine) + enlarge(merged, fine)
        merged = tf.nn.relu(self.merge(tf.nn.relu(merged)))
        merged = tf.concat([merged, positions(merged)], axis=-1)
        x = pool(merged, batch["superpixels"], tf.shape(batch["present"])[1])
        if self.project:
            x = self.project(x)
        for index, layer in enumerate(self.attention):
            x = layer(x, batch, salt=index)
        for layer in self.dense:
            x = layer(x)
        return self.last(x)[..., 0]


def enlarge(coarse: tf.Tensor, fine: tf.Tensor) -> tf.Tensor:
    """Enlarge `coarse` [B, h, w, C] to the height and width of `fine`, by nearest neighbour."""
    rows, columns = tf.shape(fine)[1], tf.shape(fine)[2]
    down = tf.range(rows) * tf.shape(coarse)[1] // rows
    right = tf.range(columns) * tf.shape(coarse)[2] // columns
    return tf.gather(tf.gather(coarse, down, axis=1), right, axis=2)


def positions(features: tf.Tensor) -> tf.Tensor:
    """Return row and column of each cell from -1 to 1, float32 [B, h, w, 2]: floors are low, ceilings high."""
    batch, rows, columns = tf.unstack(tf.shape(features)[:3])
    grid = tf.stack(tf.meshgrid(tf.linspace(-1.0, 1.0, rows), tf.linspace(-1.0, 1.0, columns), indexing="ij"), axis=-1)
    return tf.broadcast_to(grid, [batch, rows, columns, 2])
