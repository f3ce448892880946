"""DCNF-FCSP, the paper's second network: VGG16's convolutions over the whole photo and superpixel pooling.

The pooling is that of the authors' code (do_sp_pooling.m). Two details are from memory of the paper: two blocks of
convolutions after VGG16's last, at its stride of 16, and layers of 128 and 16 after the pooling.
"""

import keras
import tensorflow as tf

from depthfield.network import encoders
from depthfield.network.layers import conv, hidden, last
from depthfield.network.pooling import pool


class Fcsp(keras.Model):
    """The network for a recipe's Fcsp settings; its initial outputs are near `start` (log metres)."""

    def __init__(self, settings, start: float):
        super().__init__(name="fcsp")
        self.encoder, self.application = encoders.vgg16(), "VGG16"
        numbered = enumerate(settings.blocks, start=6)
        self.blocks = [conv(width, 3, f"block{number}", activation="relu") for number, width in numbered]
        self.dense = hidden(settings.dense)
        self.last = last(start, logistic=True)

    def call(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """Return z, float32 [B, n], for a batch (see records.batches)."""
        x = self.encoder(keras.applications.vgg16.preprocess_input(tf.cast(batch["image"], tf.float32)))
        for block in self.blocks:
            x = block(x)
        x = pool(x, batch["superpixels"], tf.shape(batch["present"])[1])
        for layer in self.dense:
            x = layer(x)
        return self.last(x)[..., 0]
