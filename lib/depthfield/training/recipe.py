"""Recipes: what to train and how, one TOML file each. All keys are required, and unknown keys are errors."""

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
from depthfield.tool import Failure, UsageError, detail

OPTIMIZERS = {"adam": "training.optimizer:ADAM", "momentum": "training.optimizer:MOMENTUM"}  # see registry.resolve
CHOICES = {"loss": tuple(registry.LOSSES), "optimizer": tuple(OPTIMIZERS), "wire": ("float32", "bfloat16")}


@dataclass(frozen=True)
class Recipe:
    """The settings of a training; times in seconds, depths in metres."""

    network: object  # a table; its `kind` is a key of registry.NETWORKS
    similarities: tuple[str, ...]  # the similarities that the field uses, among those of the photos
    loss: str
    unary_share: float  # share of the steps, at the start, that train only z with the unary loss
    optimizer: str
    learning_rate: float  # the highest rate of the schedule
    pairwise_rate: float  # learning rate of β, the weights of the field, relative to the network's
    weight_decay: float
    clip: float  # maximum norm of a gradient
    frozen_share: float  # share of the steps, at the start, that do not train weights from elsewhere
    batch_size: int  # photos per step of one worker
    steps: int  # total, over all workers
    round_steps: int  # of a worker between two exchanges with the parameter servers; 0 adapts them (see pace)
    wire: str  # type of the changes sent to the parameter servers
    mirror: bool  # whether to flip half of the photos left to right
    crop: float  # least share of a photo's height and width to cut out and enlarge; 1 for all
    turn: float  # maximum degrees to turn the camera to a side, and half that up or down
    colour: float  # how much to shift brightness, contrast, saturation and hue; 0 for none
    validation_share: float  # share of the training photos to hold out
    validation_steps: int  # steps between validations
    checkpoint_seconds: float  # time between checkpoints
    summary_seconds: float  # time between lines of metrics
    nearest: float  # predictions are clamped to nearest and farthest
    farthest: float
    seed: int

    def __post_init__(self):
        if not 0 < self.nearest < self.farthest:
            raise UsageError("recipe: nearest must be above 0 and below farthest")


# The minimum of a number, and the maximum if there is one; for a list, of each number.
BOUNDS = {
    "features": (1, None), "batch_size": (1, None), "steps": (1, None), "round_steps": (0, None), "seed": (0, None),
    "validation_steps": (1, None), "unary_share": (0, 1), "validation_share": (0, 0.9), "learning_rate": (0, None),
    "pairwise_rate": (0, None),
    "weight_decay": (0, None), "clip": (1e-9, None), "checkpoint_seconds": (0, None), "summary_seconds": (0, None),
    "frozen_share": (0, 1), "attention": (0, None), "patch": (8, None), "dropout": (0, 0.95), "crop": (0.2, 1),
    "turn": (0, 30), "colour": (0, 1), "widths": (1, None), "dense": (1, None), "blocks": (1, None),
}  # fmt: skip


def check(key: str, value: object, kind: type) -> None:
    """Raise UsageError, naming the key, unless `value` is valid for the key of a recipe."""
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
    """Load a recipe by name (a file in lib/recipes) or path, and apply `changes` of the form key=value.

    The key of a table is written as network.dense. Raises UsageError for an unknown recipe or key, a missing key, or a
    value out of range.
    """
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no recipe {name!r}; there are {', '.join(names())}, or name a .toml file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a recipe: {error}") from None
    detail(f"recipe {path}")
    for change in changes:
        key, value = parse_change(change)
        table, _, inner = key.rpartition(".")
        settings = values.get(table) if table else values
        if not isinstance(settings, dict):
            raise UsageError(f"{path}: unknown setting {key}; a recipe has no table {table}")
        settings[inner] = value
    return make(values, str(path))


def names() -> list[str]:
    """Return the names of the recipes in lib/recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def parse_change(change: str) -> tuple[str, object]:
    """Parse `key=value`, with the value as TOML, or else as a plain word."""
    key, equals, text = change.partition("=")
    if not equals:
        raise UsageError(f"--set takes KEY=VALUE, not {change!r}")
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key, text


def make(values: dict, where: str) -> Recipe:
    """Make a recipe from plain TOML values; whole numbers may stand for floats."""
    network = values.get("network")
    if not isinstance(network, dict) or network.get("kind") not in NETWORKS:
        raise UsageError(f"{where}: the recipe needs a table [network] with kind, one of {', '.join(NETWORKS)}")
    inner = {key: value for key, value in network.items() if key != "kind"}
    settings = filled(NETWORKS[network["kind"]].settings, inner, where, "network.")
    return filled(Recipe, values | {"network": settings}, where)


def filled(cls: type, values: dict, where: str, prefix: str = ""):
    """Make an instance of a dataclass from TOML values, and check each."""
    hints = typing.get_type_hints(cls)
    if unknown := sorted(values.keys() - hints.keys()):
        has = ", ".join(sorted(prefix + key for key in hints))
        raise UsageError(f"{where}: unknown setting {', '.join(prefix + key for key in unknown)}; there are {has}")
    if missing := sorted(hints.keys() - values.keys()):
        raise UsageError(f"{where}: the recipe lacks {', '.join(prefix + key for key in missing)}")
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    plain = {k: float(v) if hints[k] is float and type(v) is int else v for k, v in plain.items()}
    for key, value in plain.items():
        if key != "network":
            check(key, value, hints[key])
    return cls(**plain)


def tables(recipe: Recipe) -> dict:
    """Return a recipe as plain TOML values."""
    values = dataclasses.asdict(recipe)
    return values | {"network": {"kind": registry.kind(recipe.network)} | values["network"]}


# What may differ between the recipe that a run started with and a later one: nothing that defines the model.
MAY_CHANGE = ("steps", "validation_steps", "checkpoint_seconds", "summary_seconds")


def freeze(recipe: Recipe, path: Path) -> Recipe:
    """Return the recipe that a run trains with, see `begun_with`, and keep it in `path`."""
    recipe = begun_with(recipe, path)
    files.write_text(path, tomli_w.dumps(tables(recipe)))
    return recipe


def begun_with(recipe: Recipe, path: Path) -> Recipe:
    """Return `recipe`, but with the steps that the run whose recipe is in `path` started with, for schedules.

    Raises Failure if the run started with another recipe. A new run has no such file yet.
    """
    if path.exists():
        first = load(str(path))
        begun, now = flat(tables(first)), flat(tables(recipe))
        fixed = [key for key in begun.keys() | now.keys() if begun.get(key) != now.get(key) and key not in MAY_CHANGE]
        if fixed:
            differences = ", ".join(f"{key} = {begun.get(key)!r}, now {now.get(key)!r}" for key in sorted(fixed))
            begun_otherwise = f"this run started with another recipe ({differences})"
            raise Failure(f"{path.parent}: {begun_otherwise}; use another --run")
        recipe = dataclasses.replace(recipe, steps=first.steps)
    return recipe


def flat(values: dict, prefix: str = "") -> dict:
    """Flatten nested tables, with keys joined by dots."""
    found = {}
    for key, value in values.items():
        found |= flat(value, f"{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
