"""The model: a network for z, the weights β of the field, and its precision τ.

τ makes the measured depths of whole photos most probable. Because errors of neighbours are correlated, it does not make
each superpixel's own deviation right; `scale`, one factor for all, does. Both are set on held-out photos.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from depthfield.field import random_field
from depthfield.network import registry
from depthfield.tool import Failure, showing


class Design(NamedTuple):
    """What a model is built from, besides its weights: what `build` needs of a recipe, and its other arguments."""

    network: object  # settings of one of registry.NETWORKS
    similarities: tuple[str, ...]  # those the field uses
    loss: str
    of_photos: tuple[str, ...]  # similarities that the photos were made with
    start: float  # the network's first answer in log metres


@keras.saving.register_keras_serializable("depthfield")
class DepthField(keras.Model):
    """The network's z and the field's pair weights for a batch; β ≥ 0 is learned.

    Keras saves and loads it as a .keras file; to load one, import this module before.
    """

    def __init__(self, network: keras.Model, columns: list[int], start: str, design: Design):
        super().__init__(name="field")
        self.network, self.columns = network, columns
        settings = {"kind": registry.kind(design.network)} | dataclasses.asdict(design.network)
        self.design = json.dumps(design._asdict() | {"network": settings})  # Keras would wrap anything but a text
        self.beta = self.add_weight(name="beta", shape=(len(columns),), initializer=start, constraint="non_neg")
        self.tau = self.add_weight(name="tau", shape=(), initializer="ones", trainable=False)
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones", trainable=False)

    def get_config(self) -> dict:
        """The design, with lists in place of tuples, as JSON has them."""
        return json.loads(self.design)

    @classmethod
    def from_config(cls, config: dict) -> "DepthField":
        """The model of such a design, variables and all, as new."""
        values = {key: _tuples(value) for key, value in config.items()}
        settings = values.pop("network")
        design = Design(registry.NETWORKS[settings.pop("kind")].settings(**settings), **values)
        return build(design, design.of_photos, design.start)

    def get_build_config(self) -> None:
        """Nothing: `build` makes the variables."""

    def call(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return z [B, n] in log metres, 0 for padding, and R [B, m] (see field.random_field), both float32."""
        z = tf.where(batch["present"], self.network(batch), 0.0)
        similarities = tf.gather(batch["similarities"], self.columns, axis=2)
        # The changes that several workers push may add up to β < 0, where A may not be positive definite.
        beta = tf.maximum(tf.convert_to_tensor(self.beta), 0.0)
        return z, random_field.pair_weights(similarities, beta)

    @property
    def calibrated(self) -> bool:
        """Whether τ and scale were set on held-out photos: until then τ is exactly 1. That of a fit is n / 2q, which is
        not; its scale may be 1, and is always 1 up to rounding where β = 0."""
        return float(self.tau) != 1

    def marginals(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the field's answer for a batch and its standard deviation, both float32 [B, n] in log depth."""
        z, weights = self(batch)
        y, deviation = random_field.marginals(z, weights, batch["pairs"], tf.convert_to_tensor(self.tau))
        return y, deviation * tf.convert_to_tensor(self.scale)


@showing("building the network")
def build(recipe, similarities: Sequence[str], start: float) -> DepthField:
    """Build the model of `recipe`, with its variables, for photos made with `similarities`.

    `recipe` is a Recipe, or the Design of another model. `start` is the network's initial output in log metres; the
    mean of the training photos is a good choice. Raises Failure if the photos lack a similarity of the recipe.
    """
    if lacking := [name for name in recipe.similarities if name not in similarities]:
        raise Failure(f"the photos lack the similarities {', '.join(lacking)}; make them again (make-patches --force)")
    builder = registry.resolve(registry.NETWORKS[registry.kind(recipe.network)].builder)
    network = builder(recipe.network, start)
    columns = [similarities.index(name) for name in recipe.similarities]
    beta = "zeros" if recipe.loss == "unary" else "ones"  # a model trained without the field predicts without it
    design = Design(recipe.network, recipe.similarities, recipe.loss, tuple(similarities), float(start))
    model = DepthField(network, columns, beta, design)
    superpixel = {"present": tf.ones([1, 1], tf.bool), "superpixels": tf.zeros([1, 64, 64], tf.int32)}
    no_pairs = {"pairs": tf.zeros([1, 1, 2], tf.int32), "similarities": tf.zeros([1, 1, len(similarities)])}
    model(superpixel | no_pairs | {"image": tf.zeros([1, 64, 64, 3], tf.uint8)})  # Keras creates variables at first use
    return model


def _tuples(value: object) -> object:
    """A value from JSON with tuples in place of lists, as settings have them."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(value) if isinstance(value, list) else value
