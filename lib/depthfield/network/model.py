"""The model: a network for z, the weights β of the field, its precision τ, and the losses that train them.

τ makes the measured depths of whole photos most probable; as errors of neighbours go together, it does not make each
superpixel's own deviation right. For that there is `scale`, one factor for all. Both are set from held-out photos.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from depthfield.field import random_field
from depthfield.network import fcsp, patchwise, pooled
from depthfield.tool import Failure

# By the name of the class of their settings (training.recipe).
NETWORKS = {"Plain": pooled.plain, "Backbone": pooled.backbone, "Fcsp": fcsp.build, "Patchwise": patchwise.build}

SMOOTH = 0.02  # of log depth: an error below is squared rather than absolute


class DepthField(keras.Model):
    """The network's z and the field's pair weights for a batch; β ≥ 0 is learned."""

    def __init__(self, network: keras.Model, columns: list[int], start: str):
        super().__init__(name="field")
        self.network, self.columns = network, columns
        self.beta = self.add_weight(name="beta", shape=(len(columns),), initializer=start, constraint="non_neg")
        self.tau = self.add_weight(name="tau", shape=(), initializer="ones", trainable=False)
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones", trainable=False)

    def call(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """z [B, n] in log metres, 0 for padding, and R [B, m] (see field.random_field), both float32."""
        z = tf.where(batch["present"], self.network(batch), 0.0)
        similarities = tf.gather(batch["similarities"], self.columns, axis=2)
        return z, random_field.pair_weights(similarities, tf.convert_to_tensor(self.beta))

    def marginals(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The field's answer for a batch and its standard deviation, both float32 [B, n] in log depth."""
        z, weights = self(batch)
        y, deviation = random_field.marginals(z, weights, batch["pairs"], tf.convert_to_tensor(self.tau))
        return y, deviation * tf.convert_to_tensor(self.scale)


def build(recipe, similarities: Sequence[str], start: float) -> DepthField:
    """The model of `recipe` for photos made with `similarities`, variables and all.

    `start` is the network's first answer in log metres: the training photos' mean makes a good one. Raises Failure
    where the photos lack a similarity of the recipe's.
    """
    if lacking := [name for name in recipe.similarities if name not in similarities]:
        raise Failure(f"the photos were made without the similarities {', '.join(lacking)} (make-patches --force)")
    network = NETWORKS[type(recipe.network).__name__](recipe.network, start)
    columns = [similarities.index(name) for name in recipe.similarities]
    beta = "zeros" if recipe.loss == "unary" else "ones"  # what is trained without the field answers without it
    model = DepthField(network, columns, beta)
    superpixel = {"present": tf.ones([1, 1], tf.bool), "superpixels": tf.zeros([1, 64, 64], tf.int32)}
    no_pairs = {"pairs": tf.zeros([1, 1, 2], tf.int32), "similarities": tf.zeros([1, 1, len(similarities)])}
    model(superpixel | no_pairs | {"image": tf.zeros([1, 64, 64, 3], tf.uint8)})  # Keras makes variables at first use
    return model


# Losses: z [B, n], R [B, m], τ and a batch to one number.


def unary_loss(z: tf.Tensor, weights: tf.Tensor, tau: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Mean squared error of z in log depth, over measured superpixels."""
    return mean_square(z, batch)


def answer_loss(z: tf.Tensor, weights: tf.Tensor, tau: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Mean squared error of the field's answer y* = A⁻¹z in log depth, over measured superpixels."""
    return mean_square(random_field.answer(z, weights, batch["pairs"]), batch)


def absolute_loss(z: tf.Tensor, weights: tf.Tensor, tau: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Mean absolute error of the field's answer in log depth, over measured superpixels; near 0 it is smooth."""
    error = random_field.answer(z, weights, batch["pairs"]) - batch["log_depth"]
    measured = tf.cast(batch["measured"], tf.float32)
    total = tf.reduce_sum(measured * (tf.sqrt(error**2 + SMOOTH**2) - SMOOTH))
    return tf.math.divide_no_nan(total, tf.reduce_sum(measured))


def published_loss(z: tf.Tensor, weights: tf.Tensor, tau: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """-log Pr(y | photo) a measured superpixel as the paper has it: τ = 1."""
    return likelihood_loss(z, weights, tf.ones_like(tau), batch)


def likelihood_loss(z: tf.Tensor, weights: tf.Tensor, tau: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """-log Pr(y | photo) a measured superpixel, at the precision `tau`."""
    missing = batch["present"] & ~batch["measured"]
    q, log_determinant = random_field.likelihood_terms(z, weights, batch["pairs"], batch["log_depth"], missing)
    measured = tf.reduce_sum(tf.cast(batch["measured"], tf.float32), axis=1)
    photos = random_field.negative_log_likelihood(q, log_determinant, measured, tau)
    return tf.math.divide_no_nan(tf.reduce_sum(photos), tf.reduce_sum(measured))


def mean_square(y: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """The mean of (y - log depth)² over the measured superpixels of a batch."""
    measured = tf.cast(batch["measured"], tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(measured * (y - batch["log_depth"]) ** 2), tf.reduce_sum(measured))


LOSSES = {
    "unary": unary_loss,
    "answer": answer_loss,
    "absolute": absolute_loss,
    "likelihood": likelihood_loss,
    "published": published_loss,
}
