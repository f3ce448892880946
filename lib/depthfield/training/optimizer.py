"""Optimizers as plain functions of tensors, so that many steps run inside one graph on values read once.

Keras' own optimizers cannot: with TensorFlow they change variables only (`stateless_apply` raises), and on parameter
servers each change of a variable is a message. An optimizer here is a number of slots a parameter, all zeros at first,
and a function (gradient, slots, rate, step) -> (change of the parameter, slots), step counting from 1.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Optimizer(NamedTuple):
    slots: int
    update: Callable


def adam(gradient: tf.Tensor, slots: list[tf.Tensor], rate: tf.Tensor, step: tf.Tensor):
    """Adam with its published constants (Kingma and Ba 2015, algorithm 1)."""
    mean, square = slots
    mean = mean + (1 - 0.9) * (gradient - mean)
    square = square + (1 - 0.999) * (gradient * gradient - square)
    scale = rate * tf.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    return -scale * mean / (tf.sqrt(square) + 1e-8), [mean, square]


def momentum(gradient: tf.Tensor, slots: list[tf.Tensor], rate: tf.Tensor, step: tf.Tensor):
    """Gradient descent with momentum 0.9, as in the paper."""
    velocity = 0.9 * slots[0] - rate * gradient
    return velocity, [velocity]


OPTIMIZERS = {"adam": Optimizer(2, adam), "momentum": Optimizer(1, momentum)}


def learning_rate(recipe, step: tf.Tensor) -> tf.Tensor:
    """The rate at a step, float32: a linear rise over the first fiftieth of the training, then a half cosine to 0."""
    share = tf.minimum(tf.cast(step, tf.float32) / recipe.steps, 1.0)
    return recipe.learning_rate * tf.minimum(share * 50, 0.5 + 0.5 * tf.cos(math.pi * share))
