"""The model: a network for z, the weights β of the field, and its precision τ.

τ makes the measured depths of whole photos most probable. Because errors of neighbours are correlated, it does not make
each superpixel's own deviation right; `scale`, one factor for all, does. Both are set on held-out photos.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from depthfield.field import random_field
from depthfield.network import registry
from depthfield.tool import Failure


class DepthField(keras.Model):
    """The network's z and the field's pair weights for a batch; β ≥ 0 is learned."""

    def __init__(self, network: keras.Model, columns: list[int], start: str):
        super().__init__(name="field")
        self.network, self.columns = network, columns
        self.beta = self.add_weight(name="beta", shape=(len(columns),), initializer=start, constraint="non_neg")
        self.tau = self.add_weight(name="tau", shape=(), initializer="ones", trainable=False)
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones", trainable=False)

    def call(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return z [B, n] in log metres, 0 for padding, and R [B, m] (see field.random_field), both float32."""
        z = tf.where(batch["present"], self.network(batch), 0.0)
        similarities = tf.gather(batch["similarities"], self.columns, axis=2)
        # The changes that several workers push may add up to β < 0, where A may not be positive definite.
        beta = tf.maximum(tf.convert_to_tensor(self.beta), 0.0)
        return z, random_field.pair_weights(similarities, beta)

    def marginals(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the field's answer for a batch and its standard deviation, both float32 [B, n] in log depth."""
        z, weights = self(batch)
        y, deviation = random_field.marginals(z, weights, batch["pairs"], tf.convert_to_tensor(self.tau))
        return y, deviation * tf.convert_to_tensor(self.scale)


def build(recipe, similarities: Sequence[str], start: float) -> DepthField:
    """Build the model of `recipe`, with its variables, for photos made with `similarities`.

    `start` is the network's initial output in log metres; the mean of the training photos is a good choice. Raises
    Failure if the photos lack a similarity of the recipe.
    """
    if lacking := [name for name in recipe.similarities if name not in similarities]:
        raise Failure(f"the photos lack the similarities {', '.join(lacking)}; make them again (make-patches --force)")
    builder = registry.resolve(registry.NETWORKS[registry.kind(recipe.network)].builder)
    network = builder(recipe.network, start)
    columns = [similarities.index(name) for name in recipe.similarities]
    beta = "zeros" if recipe.loss == "unary" else "ones"  # a model trained without the field predicts without it
    model = DepthField(network, columns, beta)
    superpixel = {"present": tf.ones([1, 1], tf.bool), "superpixels": tf.zeros([1, 64, 64], tf.int32)}
    no_pairs = {"pairs": tf.zeros([1, 1, 2], tf.int32), "similarities": tf.zeros([1, 1, len(similarities)])}
    model(superpixel | no_pairs | {"image": tf.zeros([1, 64, 64, 3], tf.uint8)})  # Keras creates variables at first use
    return model

