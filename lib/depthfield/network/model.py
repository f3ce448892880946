"""The model: a network for z, the weights β of the field, its precision τ, and the losses that train them."""

import keras
import tensorflow as tf

from depthfield.field import random_field
from depthfield.network import pooled

NETWORKS = {"pooled": pooled.build}


class DepthField(keras.Model):
    """The network's z and the field's pair weights for a batch; β ≥ 0 is learned, τ is set from held-out photos."""

    def __init__(self, network: keras.Model, similarity_count: int):
        super().__init__(name="field")
        self.network = network
        self.beta = self.add_weight(name="beta", shape=(similarity_count,), initializer="ones", constraint="non_neg")
        self.tau = self.add_weight(name="tau", shape=(), initializer="ones", trainable=False)

    def call(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """z [B, n] in log metres, 0 for padding, and R [B, m] (see field.random_field), both float32."""
        z = tf.where(batch["present"], self.network(batch), 0.0)
        return z, random_field.pair_weights(batch["similarities"], tf.convert_to_tensor(self.beta))


def build(recipe, similarity_count: int, start: float) -> DepthField:
    """The model of `recipe` for patches with `similarity_count` similarities, variables and all.

    `start` is the network's first answer in log metres: the training photos' mean makes a good one.
    """
    model = DepthField(NETWORKS[recipe.network](recipe, start), similarity_count)
    superpixel = {"present": tf.ones([1, 1], tf.bool), "superpixels": tf.zeros([1, 64, 64], tf.int32)}
    no_pairs = {"pairs": tf.zeros([1, 1, 2], tf.int32), "similarities": tf.zeros([1, 1, similarity_count])}
    model(superpixel | no_pairs | {"image": tf.zeros([1, 64, 64, 3], tf.uint8)})  # Keras makes variables at first use
    return model


# Losses: z [B, n], R [B, m], τ and a batch to one number.


def unary_loss(z: tf.Tensor, weights: tf.Tensor, tau: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Mean squared error of z in log depth, over measured superpixels."""
    return mean_square(z, batch)


def answer_loss(z: tf.Tensor, weights: tf.Tensor, tau: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Mean squared error of the field's answer y* = A⁻¹z in log depth, over measured superpixels."""
    return mean_square(random_field.answer(z, weights, batch["pairs"]), batch)


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


LOSSES = {"unary": unary_loss, "answer": answer_loss, "likelihood": likelihood_loss}
