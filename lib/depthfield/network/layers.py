"""Layers that several networks use."""

import keras
import tensorflow as tf
from keras import layers


def conv(
    width: int, size: int, name: str, stride: int = 1, activation: str | None = None, padding: str = "same"
) -> layers.Layer:
    """A convolution, initialised as in He et al. 2015."""
    return layers.Conv2D(
        width, size, strides=stride, padding=padding, activation=activation, kernel_initializer="he_normal", name=name
    )


def hidden(widths: tuple[int, ...]) -> list[layers.Layer]:
    """The paper's dense layers before z: rectified linear, the last one logistic."""
    kinds = ["relu"] * (len(widths) - 1) + ["sigmoid"]
    shapes = enumerate(zip(widths, kinds, strict=True))
    return [layers.Dense(width, kind, name=f"dense{index}") for index, (width, kind) in shapes]


def last(start: float, logistic: bool = False) -> layers.Layer:
    """The layer that returns z; its initial outputs are near `start`, in log metres.

    After `logistic` units, which vary little, its initial weights are larger: with small ones and a low learning rate,
    the layers before learn next to nothing for hundreds of steps (fcsp; dcnf-small, at ten times the rate, learns as
    well with either).
    """
    return layers.Dense(
        1,
        name="z",
        bias_initializer=keras.initializers.Constant(start),
        kernel_initializer=Balanced(stddev=0.25) if logistic else keras.initializers.RandomNormal(stddev=0.01),
    )


class Balanced(keras.initializers.RandomNormal):
    """Normal weights [inputs, outputs] that sum to 0 for each output, so that equal inputs give the bias."""

    def __call__(self, shape, dtype=None):
        weights = super().__call__(shape, dtype)
        return weights - tf.reduce_mean(weights, axis=0)


class Residual(layers.Layer):
    """relu(x + conv(relu(norm(conv(x))))). Group normalisation has no moving statistics for workers to share."""

    def __init__(self, width: int, name: str):
        super().__init__(name=name)
        self.first, self.second = conv(width, 3, name="first"), conv(width, 3, name="second")
        self.norm = layers.GroupNormalization(8, name="norm")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(x + self.second(tf.nn.relu(self.norm(self.first(x)))))


class Attention(layers.Layer):
    """A transformer layer over the superpixels of a photo (Vaswani et al. 2017), normalised before each part
    (Xiong et al. 2020)."""

    HEAD = 16  # channels of one head

    def __init__(self, width: int, dropout: float, name: str):
        super().__init__(name=name)
        self.dropout = dropout
        self.norms = [layers.LayerNormalization(name=f"norm{index}") for index in range(2)]
        heads = max(1, width // self.HEAD)
        self.attention = layers.MultiHeadAttention(heads, self.HEAD, name="look")  # the name in checkpoints
        self.dense = [layers.Dense(2 * width, "gelu", name="dense0"), layers.Dense(width, name="dense1")]

    def call(self, x: tf.Tensor, batch: dict[str, tf.Tensor], salt: int) -> tf.Tensor:
        """Map x [B, n, C] to the same shape; padding of the batch is masked. `salt` as in `dropout`."""
        normed = self.norms[0](x)
        attended = self.attention(normed, normed, attention_mask=batch["present"][:, None, :])
        x += dropout(attended, self.dropout, batch, 2 * salt)
        transformed = self.dense[1](self.dense[0](self.norms[1](x)))
        return x + dropout(transformed, self.dropout, batch, 2 * salt + 1)


def dropout(x: tf.Tensor, rate: float, batch: dict[str, tf.Tensor], salt: int) -> tf.Tensor:
    """Apply dropout if the batch has a `seed`, as in training; `salt` distinguishes the layers of a network.

    Keras' own layer keeps its seed in a variable, which workers would have to share.
    """
    if "seed" not in batch or not rate:
        return x
    return tf.nn.experimental.stateless_dropout(x, rate, seed=batch["seed"][0] + salt)
