"""What a recipe may name: networks and losses, one line each. Nothing here needs TensorFlow.

A function is named by its module in depthfield and its name; `resolve` imports it when it is used.
"""

import importlib
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Plain:
    """A small network of its own, to be trained from nothing: network.pooled."""

    widths: tuple[int, ...]  # channels of the encoder's maps, each half the size of the one before
    features: int  # channels of what is pooled over superpixels
    attention: int  # layers in which superpixels look at each other
    dropout: float  # in these layers
    dense: tuple[int, ...]  # widths of the dense layers between the pooled features and z


@dataclass(frozen=True)
class Backbone:
    """The same behind an encoder of keras.applications."""

    application: str  # its name there, such as ConvNeXtTiny
    features: int
    attention: int
    dropout: float
    dense: tuple[int, ...]


@dataclass(frozen=True)
class Fcsp:
    """DCNF-FCSP: network.fcsp."""

    blocks: tuple[int, ...]  # channels of the convolutions behind VGG16's
    dense: tuple[int, ...]


@dataclass(frozen=True)
class Patchwise:
    """DCNF: network.patchwise."""

    patch: int  # pixels of a side, around each superpixel's centre
    convolutions: tuple[str, ...]  # such as "64 11x11 /4 pool": channels, kernel, stride, what follows
    dense: tuple[int, ...]
    dropout: float  # in the dense layers but for the last two


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
    """The key of NETWORKS whose settings these are."""
    return next(name for name, network in NETWORKS.items() if type(settings) is network.settings)


def resolve(entry: str):
    """What an entry such as `network.losses:answer` names."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(f"depthfield.{module}"), name)
