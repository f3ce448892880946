"""Checkpoints: all variables of a training in one `.npz`; training continues from the newest good one.

Beside the newest two there is best.npz, only the model, from when it was best on the held-out photos.
"""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from depthfield import files
from depthfield.tool import Failure, UsageError, inform, say, some

KEPT = 2
BEST = "best.npz"
SURVEY = "survey.json"  # what makes a folder a run
SHOWN = 3  # runs that a message names
CHOICES = ("best", "newest")
NOTES = ("made_with", "rel")  # entries of a file that are not variables


class Checkpoint(NamedTuple):
    path: Path
    values: dict[str, np.ndarray]  # of variables, by the names of State.variables
    made_with: str  # how its training photos were made (see Survey.made_with)
    rel: float | None  # on held-out photos of the datasets of its training only, for the best

    @property
    def step(self) -> int:
        return int(self.values["step"])

    def in_words(self, dataset: str) -> str:
        """Describe this checkpoint for people; `dataset` is what its photos were of."""
        if self.rel is None:
            return f"{self.path} (step {self.step})"
        score = f"rel {self.rel:.3f} on held-out photos of {dataset}"
        return f"{self.path} (step {self.step}; {score}; other places and cameras can be far worse)"


def save(folder: Path, values: dict[str, np.ndarray], made_with: str, check: Callable[[], None] = lambda: None) -> Path:
    """Write the values of all variables and keep the newest KEPT checkpoints.

    Calls `check` after writing but before renaming; if it raises, nothing changes.
    """
    path = write(folder / f"{int(values['step']):09d}.npz", values | {"made_with": made_with}, check)
    for old in found(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def save_best(
    folder: Path, values: dict[str, np.ndarray], made_with: str, rel: float, check: Callable[[], None]
) -> Path:
    """Write the values of a model and the step as the best so far, with its rel on the held-out photos."""
    return write(folder / BEST, values | {"made_with": made_with, "rel": rel}, check)


def write(path: Path, arrays: dict, check: Callable[[], None]) -> Path:
    with files.whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
        check()
    return path


def found(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder from which training can continue, oldest first."""
    return sorted(folder.glob("[0-9]*.npz"))


def newest(folder: Path) -> Checkpoint | None:
    """Return the newest complete checkpoint, or None; names and skips damaged ones."""
    return first_whole(reversed(found(folder)))


def best(folder: Path) -> Checkpoint | None:
    """Return the best checkpoint on held-out photos; None if none was validated yet, or it is damaged."""
    return first_whole([folder / BEST])


def first_whole(paths) -> Checkpoint | None:
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                values = {name: arrays[name] for name in arrays.files if name not in NOTES}
                rel = float(arrays["rel"]) if "rel" in arrays.files else None
                return Checkpoint(path, values, str(arrays["made_with"]), rel)
        except FileNotFoundError:  # a chief has replaced it by a newer one
            continue
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
            say(f"{path}: skipped, it is damaged ({str(error) or type(error).__name__})")
    return None


def chosen(run: Path, which: str | None) -> Checkpoint:
    """Return the checkpoint of a run to predict with: `best`, `newest`, or if None the best if there is one.

    Raises Failure if there is none.
    """
    folder = run / "checkpoints"
    checkpoint = best(folder) if which != "newest" else None
    if checkpoint is None and which == "best" and found(folder):
        raise Failure(f"{run}: no checkpoint was validated on held-out photos yet; use --checkpoint newest")
    checkpoint = checkpoint or newest(folder)
    if checkpoint is None:
        raise Failure(f"{run}: no checkpoint yet; train it with train-depth --run {run}")
    return checkpoint


def run_to_use(given: str | None) -> Path:
    """The run to predict with: `given`, or else $DEPTHFIELD_RUN, or else the one in $RUN_DIR (./runs) whose best
    checkpoint is newest. Where it was not given, it is said which it is and why.

    Raises UsageError where there is none, and Failure where the one named is no run.
    """
    if given:
        return check_run(Path(given))
    if named := os.environ.get("DEPTHFIELD_RUN"):
        inform(f"run {named}, as DEPTHFIELD_RUN says")
        return check_run(Path(named))
    runs = Path(os.environ.get("RUN_DIR") or "runs")
    trained = list(runs.glob(f"*/checkpoints/{BEST}"))
    if not trained:
        hint = "name one with --run DIR, or train one with train-depth"
        raise UsageError(f"no --run given, DEPTHFIELD_RUN is not set, and {runs} has no run with a {BEST}: {hint}")
    run = max(trained, key=lambda path: (path.stat().st_mtime, path)).parents[1]
    inform(f"run {run}, whose best checkpoint is the newest in {runs}; --run DIR takes another")
    return run


def check_run(run: Path) -> Path:
    """Return `run` if it is the folder of a run; raises Failure if not, naming the runs in it or beside it."""
    if (run / SURVEY).exists():
        return run
    inside = runs_in(run)
    found = inside or runs_in(run.parent)
    hint = f"; runs here: {some(found, SHOWN)}" if found else ""
    if inside:
        raise Failure(f"{run}: a folder of runs, not a run{hint}")
    if not run.exists():
        raise Failure(f"{run}: no such run{hint}")
    raise Failure(f"{run}: not a run of train-depth ({SURVEY} is missing){hint}")


def runs_in(folder: Path) -> list[Path]:
    """The runs in a folder, that with the newest checkpoint first."""
    changed = {file.parent: (file.parent / "checkpoints", file) for file in folder.glob(f"*/{SURVEY}")}
    newest = {run: max(path.stat().st_mtime for path in paths if path.exists()) for run, paths in changed.items()}
    return sorted(newest, key=lambda run: (newest[run], run), reverse=True)


def fit(checkpoint: Checkpoint, shapes: dict[str, tuple[int, ...]], made_with: str) -> None:
    """Raise Failure unless a checkpoint has the variables and shapes of `shapes`, and photos `made_with` these."""
    have = {name: value.shape for name, value in checkpoint.values.items()}
    wrong = sorted(name for name, shape in shapes.items() if have.get(name) != shape)
    if wrong:
        raise Failure(
            f"{checkpoint.path}: a checkpoint of another recipe: {', '.join(wrong[:3])} ... do not fit this model"
        )
    if checkpoint.made_with != made_with:
        raise Failure(
            f"{checkpoint.path}: its photos were made with {checkpoint.made_with}, but survey.json says {made_with}"
        )
