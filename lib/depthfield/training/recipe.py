"""Recipes: what to train and how, one TOML file each; everything is stated, nothing unknown is accepted."""

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from depthfield import files
from depthfield.tool import Failure, UsageError

FOLDER = Path(__file__).resolve().parents[2] / "recipes"

# Choices of words, checked before TensorFlow is imported; tests hold them to the tables that use them.
CHOICES = {
    "network": ("pooled",),
    "loss": ("answer", "unary", "likelihood"),
    "optimizer": ("adam", "momentum"),
}


@dataclass(frozen=True)
class Recipe:
    """The settings of a training; times in seconds, depths in metres."""

    network: str
    widths: tuple[int, ...]  # channels of the encoder's maps, each half the size of the one before
    features: int  # channels that are pooled over superpixels
    dense: tuple[int, ...]  # widths of the dense layers between the pooled features and z
    loss: str
    unary_share: float  # of the steps, at the start, that train z alone by the unary loss
    optimizer: str
    learning_rate: float  # at its highest
    weight_decay: float
    clip: float  # the greatest norm of a gradient
    batch_size: int  # photos a step of one worker
    steps: int  # in all, over all workers
    round_steps: int  # local steps between reading the parameters and pushing the difference
    mirror: bool  # half the photos left for right
    validation_share: float  # of the training photos, held out
    validation_steps: int  # between two validations
    checkpoint_seconds: float  # between two checkpoints
    summary_seconds: float  # between two lines of metrics
    nearest: float  # depth a prediction is clamped to
    farthest: float
    seed: int

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check(field.name, getattr(self, field.name), typing.get_type_hints(type(self))[field.name])
        if not 0 < self.nearest < self.farthest:
            raise UsageError("recipe: nearest must be above 0 and below farthest")


# The least a number may be, and the greatest where there is one.
BOUNDS = {
    "features": (1, None), "batch_size": (1, None), "steps": (1, None), "round_steps": (1, None), "seed": (0, None),
    "validation_steps": (1, None), "unary_share": (0, 1), "validation_share": (0, 0.9), "learning_rate": (0, None),
    "weight_decay": (0, None), "clip": (1e-9, None), "checkpoint_seconds": (0, None), "summary_seconds": (0, None),
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
    least, greatest = BOUNDS.get(key, (1, None) if items is value else (None, None))
    for item in items if least is not None else ():
        if not item >= least or (greatest is not None and item > greatest):
            bound = f"at least {least}" if greatest is None else f"from {least} to {greatest}"
            raise UsageError(f"recipe: {key} must be {bound}, not {item!r}")


def load(name: str, changes: list[str] = ()) -> Recipe:
    """The recipe of a name (a file of lib/recipes) or a path, with `changes` of the form key=value put in its place.

    Raises UsageError for an unknown recipe or key, a missing key, or a value out of its range.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no recipe {name!r}; there are {', '.join(names())}, or name a .toml file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a recipe: {error}") from None
    return make(values | dict(parse_change(change) for change in changes), str(path))


def names() -> list[str]:
    """The names of the recipes that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


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
    fields = {field.name for field in dataclasses.fields(Recipe)}
    if unknown := sorted(values.keys() - fields):
        raise UsageError(f"{where}: unknown setting {', '.join(unknown)}; a recipe has {', '.join(sorted(fields))}")
    if missing := sorted(fields - values.keys()):
        raise UsageError(f"{where}: the recipe does not say {', '.join(missing)}")
    hints = typing.get_type_hints(Recipe)
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Recipe(**{k: float(v) if hints[k] is float and type(v) is int else v for k, v in plain.items()})


# What may differ between the recipe a run began with and the one it is resumed with: nothing the model is made of.
MAY_CHANGE = ("steps", "validation_steps", "checkpoint_seconds", "summary_seconds")


def freeze(recipe: Recipe, path: Path) -> None:
    """Write the recipe of a run to `path`; Failure where the run began with another."""
    if path.exists():
        begun = load(str(path))
        changed = [key for key, value in dataclasses.asdict(begun).items() if getattr(recipe, key) != value]
        if fixed := [key for key in changed if key not in MAY_CHANGE]:
            told = ", ".join(f"{key} = {getattr(begun, key)!r}, now {getattr(recipe, key)!r}" for key in fixed)
            raise Failure(f"{path.parent}: this run was begun with another recipe ({told}); choose another run folder")
    files.write_text(path, tomli_w.dumps(dataclasses.asdict(recipe)))
