"""Networks and losses that a recipe may name, one line each. Nothing here needs TensorFlow.

An entry names a module of depthfield and a function in it; `resolve` imports it when needed.
"""

import importlib
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Plain:
    """A small network trained from scratch: network.pooled."""

    widths: tuple[int, ...]  # channels of the encoder's maps, each half the size of the one before
    features: int  # channels that are pooled over superpixels
    attention: int  # number of layers in which superpixels attend to each other
    dropout: float  # rate in these layers
    dense: tuple[int, ...]  # widths of the dense layers between the pooled features and z


@dataclass(frozen=True)
class Backbone:
    """The same after an encoder of keras.applications."""

    application: str  # the name of the model, such as ConvNeXtTiny
    features: int
    attention: int
    dropout: float
    dense: tuple[int, ...]


@dataclass(frozen=True)
class Fcsp:
    """DCNF-FCSP: network.fcsp."""

    blocks: tuple[int, ...]  # channels of the convolutions after VGG16's
    dense: tuple[int, ...]


@dataclass(frozen=True)
class Patchwise:
    """DCNF: network.patchwise."""

    patch: int  # side in pixels, around each superpixel's centre
    convolutions: tuple[str, ...]  # such as "64 11x11 /4 pool": channels, kernel, stride, pooling
    dense: tuple[int, ...]
    dropout: float  # rate in the dense layers except the last two


class Network(NamedTuple):
    settings: type  # the table [network] of a recipe
    builder: str  # (settings, first answer in log metres) -> a Keras model from a batch to z (see network)


NETWORKS = {
    "plain": Network(Plain, "network.pooled:plain"),
    "backbone": Network(Backbone, "network.pooled:backbone"),
    "fcsp": Network(Fcsp, "network.fcsp:Fcsp"),
    "patchwise": Network(Patchwise, "network.patchwise:Patchwise"),
}
LOSSES = {
    "answer": "network.losses:answer",
    "absolute": "network.losses:absolute",
    "unary": "network.losses:unary",
    "likelihood": "network.losses:likelihood",
    "published": "network.losses:published",
}


def kind(settings: object) -> str:
    """Return the key of NETWORKS that has these settings."""
    return next(name for name, network in NETWORKS.items() if type(settings) is network.settings)


def resolve(entry: str):
    """Import the function that an entry such as `network.losses:answer` names."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(f"depthfield.{module}"), name)
