"""Checkpoints: every variable of a training in one `.npz`, written whole; the newest good one is where to go on."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from depthfield import files
from depthfield.tool import Failure, say

KEPT = 2


def save(folder: Path, values: dict[str, np.ndarray], check: Callable[[], None] = lambda: None) -> Path:
    """Write the values of all variables, named as State.variables does, and keep the newest KEPT checkpoints.

    Calls `check` when all is written but not yet in its place; what that raises, leaves everything as it was.
    """
    path = folder / f"{int(values['step']):09d}.npz"
    with files.whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **values)
        check()
    for old in found(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def found(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the oldest first."""
    return sorted(folder.glob("[0-9]*.npz"))


def newest(folder: Path) -> tuple[Path, dict[str, np.ndarray]] | None:
    """The newest whole checkpoint and its values; damaged ones are named and passed over. None if there is none."""
    for path in reversed(found(folder)):
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return path, dict(arrays)
        except FileNotFoundError:  # a chief replaced it meanwhile by a newer one
            continue
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
            say(f"{path}: damaged, passed over ({str(error) or type(error).__name__})")
    return None


def fit(path: Path, values: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise Failure unless a checkpoint has just the variables of `shapes`, in these shapes."""
    other = {name: value.shape for name, value in values.items()}
    if other != shapes:
        wrong = sorted(name for name in shapes.keys() | other.keys() if shapes.get(name) != other.get(name))
        raise Failure(f"{path}: a checkpoint of another recipe: {', '.join(wrong[:3])} and so on do not fit this model")
