"""Optimizers as plain functions of tensors, so that many steps run inside one graph on values read once.

Keras' own optimizers cannot: with TensorFlow they change variables only (`stateless_apply` raises), and on parameter
servers each change of a variable is a message. An optimizer here is the names of its slots, each as large as the
parameter and all zeros at first, and a function (gradient, slots, rate, step) -> (change of the parameter, slots), with
the slots by name and step counting from 1.
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


AFTER = 0.01  # of the highest rate, for steps beyond the schedule


def learning_rate(recipe, step: tf.Tensor, age: tf.Tensor) -> tf.Tensor:
    """The rate at a step, float32: a linear rise over a fiftieth of the recipe's steps, then a half cosine to 0.

    The rise goes by `age`, the steps that have made the optimizer's slots what they are: slots that begin anew in the
    middle of a training rise again. Steps beyond the recipe's, of a run that was extended, have AFTER of the highest
    rate.
    """
    share, grown = (tf.cast(number, tf.float32) / recipe.steps for number in (step, age))
    scheduled = tf.where(share < 1, 0.5 + 0.5 * tf.cos(math.pi * share), AFTER)
    return recipe.learning_rate * tf.minimum(grown * 50, scheduled)
