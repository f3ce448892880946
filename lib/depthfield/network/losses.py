"""Training losses: functions of z [B, n], R [B, m], τ and a batch (see records.batches) that return one number.

All are means over the measured superpixels of a batch.
"""

import tensorflow as tf

from depthfield.field import random_field

SMOOTH = 0.02  # of log depth: smaller errors are squared, not absolute


def unary(z: tf.Tensor, weights: tf.Tensor, tau: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Return the squared error of z in log depth."""
    return mean_square(z, batch)


def answer(z: tf.Tensor, weights: tf.Tensor, tau: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Return the squared error of the field's answer y* = A⁻¹z in log depth."""
    return mean_square(random_field.answer(z, weights, batch["pairs"]), batch)


def absolute(z: tf.Tensor, weights: tf.Tensor, tau: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Return the absolute error of the field's answer in log depth, smoothed near 0."""
    error = random_field.answer(z, weights, batch["pairs"]) - batch["log_depth"]
    measured = tf.cast(batch["measured"], tf.float32)
    total = tf.reduce_sum(measured * (tf.sqrt(error**2 + SMOOTH**2) - SMOOTH))
    return tf.math.divide_no_nan(total, tf.reduce_sum(measured))


def published(z: tf.Tensor, weights: tf.Tensor, tau: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Return -log Pr(y | photo) as in the paper, with τ = 1."""
    return likelihood(z, weights, tf.ones_like(tau), batch)


def likelihood(z: tf.Tensor, weights: tf.Tensor, tau: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Return -log Pr(y | photo) at the precision `tau`."""
    missing = batch["present"] & ~batch["measured"]
    q, log_determinant = random_field.likelihood_terms(z, weights, batch["pairs"], batch["log_depth"], missing)
    measured = tf.reduce_sum(tf.cast(batch["measured"], tf.float32), axis=1)
    photos = random_field.negative_log_likelihood(q, log_determinant, measured, tau)
    return tf.math.divide_no_nan(tf.reduce_sum(photos), tf.reduce_sum(measured))


def mean_square(y: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Return the mean of (y - log depth)² over the measured superpixels of a batch."""
    measured = tf.cast(batch["measured"], tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(measured * (y - batch["log_depth"]) ** 2), tf.reduce_sum(measured))
