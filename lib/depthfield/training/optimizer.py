"""Optimizers as functions of tensors, so that many steps run inside one graph on values that are read once.

Keras' own optimizers cannot do this: with TensorFlow they only change variables (`stateless_apply` raises), and on
parameter servers each change of a variable is a message. An optimizer here has the names of its slots, which have the
parameter's shape and start at zero, and a function (gradient, slots, rate, step) -> (change of the parameter, slots),
with slots by name and step counting from 1.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Optimizer(NamedTuple):
    slots: tuple[str, ...]
    update: Callable


def adam(gradient: tf.Tensor, slots: dict[str, tf.Tensor], rate: tf.Tensor, step: tf.Tensor):
    """Adam with its published constants (Kingma and Ba 2015, algorithm 1)."""
    mean = slots["mean"] + (1 - 0.9) * (gradient - slots["mean"])
    square = slots["square"] + (1 - 0.999) * (gradient * gradient - slots["square"])
    scale = rate * tf.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    return -scale * mean / (tf.sqrt(square) + 1e-8), {"mean": mean, "square": square}


def momentum(gradient: tf.Tensor, slots: dict[str, tf.Tensor], rate: tf.Tensor, step: tf.Tensor):
    """Gradient descent with momentum 0.9, as in the paper."""
    velocity = 0.9 * slots["velocity"] - rate * gradient
    return velocity, {"velocity": velocity}


ADAM = Optimizer(("mean", "square"), adam)
MOMENTUM = Optimizer(("velocity",), momentum)


AFTER = 0.01  # share of the highest rate, for steps after the schedule


def learning_rate(recipe, step: tf.Tensor, age: tf.Tensor) -> tf.Tensor:
    """Return the rate at a step, float32: a linear rise over 1/50 of the recipe's steps, then a half cosine to 0.

    The rise depends on `age`, the number of steps since the optimizer's slots were zero: after a restart in the middle
    of a training the rate rises again. Steps after the recipe's, of an extended run, have AFTER of the highest rate.
    """
    share, grown = (tf.cast(number, tf.float32) / recipe.steps for number in (step, age))
    scheduled = tf.where(share < 1, 0.5 + 0.5 * tf.cos(math.pi * share), AFTER)
    return recipe.learning_rate * tf.minimum(grown * 50, scheduled)
