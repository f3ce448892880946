"""Encoders: from photos, uint8 [B, H, W, 3], to feature maps, float32 [B, h, w, C], from fine to coarse.

An encoder is a Keras model or layer. Each map covers the whole photo; the finest has stride 8, the coarsest up to 32.
"""

import inspect

import keras
import tensorflow as tf
from keras import layers

from depthfield.network.layers import Residual, conv
from depthfield.tool import UsageError

STRIDES = (8, 16, 32)


class Plain(layers.Layer):
    """Halves the map at each of `widths`; from stride 8 on, a residual block follows, whose output is returned.

    It uses group normalisation, which has no moving statistics that workers would have to share.
    """

    FINEST = 2  # index in widths of the first map that is returned, at stride 8

    def __init__(self, widths: tuple[int, ...]):
        super().__init__(name="encoder")
        self.stages = [
            # the first map is large and has the photo's own statistics
            [conv(width, 5 if index == 0 else 3, stride=2, name=f"down{index}")]
            + ([layers.GroupNormalization(8, name=f"norm{index}")] if index else [])
            for index, width in enumerate(widths)
        ]
        self.blocks = [Residual(width, name=f"block{index}") for index, width in enumerate(widths)][self.FINEST :]

    def call(self, image: tf.Tensor) -> list[tf.Tensor]:
        x = tf.cast(image, tf.float32) / 127.5 - 1.0
        maps = []
        for index, stage in enumerate(self.stages):
            for layer in stage:
                x = layer(x)
            x = tf.nn.relu(x)
            if index >= self.FINEST:
                x = self.blocks[index - self.FINEST](x)
                maps.append(x)
        return maps


def vgg16() -> keras.Model:
    """VGG16's thirteen convolutions (Simonyan and Zisserman 2015), without weights: one map at stride 16."""
    model = whole("VGG16")
    return keras.Model(model.input, model.get_layer("block5_conv3").output, name="encoder")


def application(name: str) -> keras.Model:
    """A model of keras.applications without weights, with its last maps at STRIDES; it normalises its input itself.

    Raises UsageError if the name is unknown, the model does not normalise its input, or it has layers that behave
    differently in training (batch normalisation, stochastic depth): their statistics and randomness would differ
    between workers.
    """
    make = getattr(keras.applications, name, None)
    usable = ", ".join(other for other in dir(keras.applications) if other.startswith("ConvNeXt"))
    if not callable(make) or "include_preprocessing" not in inspect.signature(make).parameters:
        raise UsageError(f"recipe: network.application is one of {usable}, not {name!r}")
    model = whole(name)
    if other := sorted({type(layer).__name__ for layer in model.layers if trains_differently(layer)}):
        raise UsageError(
            f"recipe: {name} has layers that behave differently in training ({', '.join(other)}), which is not "
            f"supported; network.application is one of {usable}"
        )
    outputs = [layer.output for layer in model.layers]
    side = 256
    shapes = keras.Model(model.input, outputs).compute_output_shape((1, side, side, 3))
    last = {side // shape[1]: output for shape, output in zip(shapes, outputs, strict=True) if len(shape) == 4}
    return keras.Model(model.input, [last[stride] for stride in STRIDES], name="encoder")


def trains_differently(layer: layers.Layer) -> bool:
    """Whether a layer of keras.applications behaves differently in training."""
    stateful = any(not variable.trainable for variable in layer.weights) and not isinstance(layer, layers.Normalization)
    return stateful or isinstance(layer, layers.Dropout) or type(layer).__name__ == "StochasticDepth"


def whole(name: str, weights: str | None = None, top: bool = False) -> keras.Model:
    """Return the model of keras.applications; `weights` "imagenet" downloads them; `top` adds its classifier."""
    shape = (224, 224, 3) if top else (None, None, 3)
    return getattr(keras.applications, name)(include_top=top, weights=weights, input_shape=shape)
