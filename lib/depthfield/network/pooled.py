"""A small fully convolutional network with superpixel pooling, the shape of DCNF-FCSP, sized for a CPU.

Group normalisation in place of batch normalisation: it has no moving statistics that workers would have to share.
"""

import keras
import tensorflow as tf
from keras import layers

from depthfield.network.pooling import pool


def build(recipe, start: float) -> keras.Model:
    """The network of `recipe` (its keys widths, features, dense), its first answers near `start` (log metres)."""
    return Pooled(recipe.widths, recipe.features, recipe.dense, start)


class Pooled(keras.Model):
    """Photo to z: an encoder that halves the map at each of `widths`, its maps from stride 8 on brought together at
    stride 8, pooled over superpixels, and `dense` layers to one number each."""

    FINEST = 2  # the index in widths of the first map that is used: stride 8

    def __init__(self, widths: list[int], features: int, dense: list[int], start: float):
        super().__init__(name="pooled")
        self.stages = [
            [conv(width, 5 if index == 0 else 3, stride=2, name=f"down{index}"), *self.norm(index, width)]
            for index, width in enumerate(widths)
        ]
        self.blocks = [Residual(width, name=f"block{index}") for index, width in enumerate(widths)][self.FINEST :]
        self.laterals = [conv(features, 1, name=f"lateral{index}") for index in range(self.FINEST, len(widths))]
        self.context = layers.Dense(features, name="context")
        self.merge = conv(features, 3, name="merge")
        self.dense = [layers.Dense(width, "relu", name=f"dense{index}") for index, width in enumerate(dense)]
        self.last = layers.Dense(
            1, name="z", bias_initializer=keras.initializers.Constant(start),
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        )

    def norm(self, index: int, width: int) -> list[layers.Layer]:
        """Normalisation behind a stage; the first map is large and its statistics are the photo's own."""
        return [layers.GroupNormalization(8, name=f"norm{index}")] if index else []

    def call(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """z, float32 [B, n], for a batch (see records.batches)."""
        x = tf.cast(batch["image"], tf.float32) / 127.5 - 1.0
        maps = []
        for index, stage in enumerate(self.stages):
            for layer in stage:
                x = layer(x)
            x = tf.nn.relu(x)
            if index >= self.FINEST:
                x = self.blocks[index - self.FINEST](x)
                maps.append(x)
        merged = self.context(tf.reduce_mean(x, axis=[1, 2]))[:, None, None, :]
        for lateral, fine in zip(reversed(self.laterals), reversed(maps), strict=True):
            merged = lateral(fine) + enlarge(merged, fine)
        merged = tf.nn.relu(self.merge(tf.nn.relu(merged)))
        merged = tf.concat([merged, positions(merged)], axis=-1)
        x = pool(merged, batch["superpixels"], tf.shape(batch["present"])[1])
        for layer in self.dense:
            x = layer(x)
        return self.last(x)[..., 0]


class Residual(layers.Layer):
    """x + conv(relu(norm(conv(x)))), then relu."""

    def __init__(self, width: int, name: str):
        super().__init__(name=name)
        self.first, self.second = conv(width, 3, name="first"), conv(width, 3, name="second")
        self.norm = layers.GroupNormalization(8, name="norm")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(x + self.second(tf.nn.relu(self.norm(self.first(x)))))


def conv(width: int, size: int, name: str, stride: int = 1) -> layers.Layer:
    return layers.Conv2D(width, size, strides=stride, padding="same", kernel_initializer="he_normal", name=name)


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
