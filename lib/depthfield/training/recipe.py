"""Recipes: what to train and how, one TOML file each; everything is stated, nothing unknown is accepted."""

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from depthfield import files
from depthfield.home import RECIPES
from depthfield.network import registry
from depthfield.network.registry import NETWORKS
from depthfield.tool import Failure, UsageError

OPTIMIZERS = {"adam": "training.optimizer:ADAM", "momentum": "training.optimizer:MOMENTUM"}  # see registry.resolve
CHOICES = {"loss": tuple(registry.LOSSES), "optimizer": tuple(OPTIMIZERS), "wire": ("float32", "bfloat16")}


@dataclass(frozen=True)
class Recipe:
    """The settings of a training; times in seconds, depths in metres."""

    network: object  # a table; its `kind` is a key of registry.NETWORKS
    similarities: tuple[str, ...]  # those the field uses, out of those the photos were made with
    loss: str
    unary_share: float  # of the steps, at the start, that train z alone by the unary loss
    optimizer: str
    learning_rate: float  # at its highest
    pairwise_rate: float  # how many times faster β, the weights of the field, may move
    weight_decay: float
    clip: float  # the greatest norm of a gradient
    frozen_share: float  # of the steps, at the start, that leave weights taken from elsewhere as they are
    batch_size: int  # photos a step of one worker
    steps: int  # in all, over all workers
    round_steps: int  # that a worker takes between two exchanges with the parameter servers; 0 adapts it (see pace)
    wire: str  # the type in which differences travel to the parameter servers
    mirror: bool  # half the photos left for right
    crop: float  # the least share of a photo's height and width that is cut out and enlarged; 1 takes all of it
    turn: float  # degrees by which the camera may be turned to a side, and half that up or down
    colour: float  # how far brightness, contrast, saturation and hue are shifted, 0 not at all
    validation_share: float  # of the training photos, held out
    validation_steps: int  # between two validations
    checkpoint_seconds: float  # between two checkpoints
    summary_seconds: float  # between two lines of metrics
    nearest: float  # depth a prediction is clamped to
    farthest: float
    seed: int

    def __post_init__(self):
        if not 0 < self.nearest < self.farthest:
            raise UsageError("recipe: nearest must be above 0 and below farthest")


# The least a number may be, and the greatest where there is one; of a list, each of its numbers.
BOUNDS = {
    "features": (1, None), "batch_size": (1, None), "steps": (1, None), "round_steps": (0, None), "seed": (0, None),
    "validation_steps": (1, None), "unary_share": (0, 1), "validation_share": (0, 0.9), "learning_rate": (0, None),
    "pairwise_rate": (0, None),
    "weight_decay": (0, None), "clip": (1e-9, None), "checkpoint_seconds": (0, None), "summary_seconds": (0, None),
    "frozen_share": (0, 1), "attention": (0, None), "patch": (8, None), "dropout": (0, 0.95), "crop": (0.2, 1),
    "turn": (0, 30), "colour": (0, 1), "widths": (1, None), "dense": (1, None), "blocks": (1, None),
}  # fmt: skip


def check(key: str, value: object, kind: type) -> None:
    """Raise UsageError, naming the key, unless `value` is what a recipe's `key` may be."""
    items = value if isinstance(kind, types.GenericAlias) else (value,)
    wanted = typing.get_args(kind)[0] if isinstance(kind, types.GenericAlias) else kind
    if not isinstance(items, tuple) or not items or not all(type(item) is wanted for item in items):
        raise UsageError(
            f"recipe: {key} must be {'a list of ' if items is value else ''}{wanted.__name__}, not {value!r}"
        )
    if key in CHOICES and value not in CHOICES[key]:
        raise UsageError(f"recipe: {key} is one of {', '.join(CHOICES[key])}, not {value!r}")
    least, greatest = BOUNDS.get(key, (None, None))
    for item in items if least is not None else ():
        if not item >= least or (greatest is not None and item > greatest):
            bound = f"at least {least}" if greatest is None else f"from {least} to {greatest}"
            raise UsageError(f"recipe: {key} must be {bound}, not {item!r}")


def load(name: str, changes: list[str] = ()) -> Recipe:
    """The recipe of a name (a file of lib/recipes) or a path, with `changes` of the form key=value put in its place.

    A key of a table is written network.dense. Raises UsageError for an unknown recipe or key, a missing key, or a value
    out of its range.
    """
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no recipe {name!r}; there are {', '.join(names())}, or name a .toml file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a recipe: {error}") from None
    for change in changes:
        key, value = parse_change(change)
        table, _, inner = key.rpartition(".")
        settings = values.get(table) if table else values
        if not isinstance(settings, dict):
            raise UsageError(f"{path}: unknown setting {key}; a recipe has no table {table}")
        settings[inner] = value
    return make(values, str(path))


def names() -> list[str]:
    """The names of the recipes that come with the project."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def parse_change(change: str) -> tuple[str, object]:
    """Read `key=value`, the value as TOML would, or as a plain word."""
    key, equals, text = change.partition("=")
    if not equals:
        raise UsageError(f"--set takes KEY=VALUE, not {change!r}")
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key, text


def make(values: dict, where: str) -> Recipe:
    """A recipe from TOML's plain values; whole numbers may stand for others."""
    network = values.get("network")
    if not isinstance(network, dict) or network.get("kind") not in NETWORKS:
        raise UsageError(f"{where}: the recipe needs a table [network], its kind one of {', '.join(NETWORKS)}")
    inner = {key: value for key, value in network.items() if key != "kind"}
    settings = filled(NETWORKS[network["kind"]].settings, inner, where, "network.")
    return filled(Recipe, values | {"network": settings}, where)


def filled(cls: type, values: dict, where: str, prefix: str = ""):
    """An instance of a dataclass from TOML's values, each checked."""
    hints = typing.get_type_hints(cls)
    if unknown := sorted(values.keys() - hints.keys()):
        has = ", ".join(sorted(prefix + key for key in hints))
        raise UsageError(f"{where}: unknown setting {', '.join(prefix + key for key in unknown)}; there are {has}")
    if missing := sorted(hints.keys() - values.keys()):
        raise UsageError(f"{where}: the recipe does not say {', '.join(prefix + key for key in missing)}")
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    plain = {k: float(v) if hints[k] is float and type(v) is int else v for k, v in plain.items()}
    for key, value in plain.items():
        if key != "network":
            check(key, value, hints[key])
    return cls(**plain)


def tables(recipe: Recipe) -> dict:
    """A recipe as TOML's plain values."""
    values = dataclasses.asdict(recipe)
    return values | {"network": {"kind": registry.kind(recipe.network)} | values["network"]}


# What may differ between the recipe a run began with and the one it is resumed with: nothing the model is made of.
MAY_CHANGE = ("steps", "validation_steps", "checkpoint_seconds", "summary_seconds")


def freeze(recipe: Recipe, path: Path) -> Recipe:
    """The recipe a run trains by: `recipe`, but with the steps that it began with, by which schedules go.

    Keeps it in `path`. Raises Failure where the run began with another.
    """
    if path.exists():
        first = load(str(path))
        begun, now = flat(tables(first)), flat(tables(recipe))
        fixed = [key for key in begun.keys() | now.keys() if begun.get(key) != now.get(key) and key not in MAY_CHANGE]
        if fixed:
            differences = ", ".join(f"{key} = {begun.get(key)!r}, now {now.get(key)!r}" for key in sorted(fixed))
            begun_otherwise = f"this run was begun with another recipe ({differences})"
            raise Failure(f"{path.parent}: {begun_otherwise}; choose another run folder")
        recipe = dataclasses.replace(recipe, steps=first.steps)
    files.write_text(path, tomli_w.dumps(tables(recipe)))
    return recipe


def flat(values: dict, prefix: str = "") -> dict:
    """Tables within tables as one, their keys joined by dots."""
    found = {}
    for key, value in values.items():
        found |= flat(value, f"{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
