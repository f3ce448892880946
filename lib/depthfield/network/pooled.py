"""A fully convolutional network with superpixel pooling like DCNF-FCSP, its maps of all sizes brought together.

Between pooling and the dense layers superpixels may look at each other: where a wall meets the floor says how far away
all of it is.
"""

import keras
import tensorflow as tf
from keras import layers

from depthfield.network import encoders
from depthfield.network.layers import Attention, conv, last
from depthfield.network.pooling import pool


def plain(settings, start: float) -> keras.Model:
    """The network of a recipe's Plain settings, its first answers near `start` (log metres)."""
    count = len(settings.widths) - encoders.Plain.FINEST
    return Pooled(encoders.Plain(settings.widths), count, settings, start)


def backbone(settings, start: float) -> keras.Model:
    """The same for Backbone settings."""
    network = Pooled(encoders.application(settings.application), len(encoders.STRIDES), settings, start)
    network.application = settings.application
    return network


class Pooled(keras.Model):
    """Photo to z: an encoder's maps, brought together at the finest, pooled over superpixels, layers of attention, and
    `dense` layers to one number each."""

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
        """z, float32 [B, n], for a batch (see records.batches)."""
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
    """`coarse` [B, h, w, C] repeated to the height and width of `fine`, by nearest neighbour."""
    rows, columns = tf.shape(fine)[1], tf.shape(fine)[2]
    down = tf.range(rows) * tf.shape(coarse)[1] // rows
    right = tf.range(columns) * tf.shape(coarse)[2] // columns
    return tf.gather(tf.gather(coarse, down, axis=1), right, axis=2)


def positions(features: tf.Tensor) -> tf.Tensor:
    """Row and column of each cell from -1 to 1, float32 [B, h, w, 2]: floors are low, ceilings high."""
    batch, rows, columns = tf.unstack(tf.shape(features)[:3])
    grid = tf.stack(tf.meshgrid(tf.linspace(-1.0, 1.0, rows), tf.linspace(-1.0, 1.0, columns), indexing="ij"), axis=-1)
    return tf.broadcast_to(grid, [batch, rows, columns, 2])
