"""The event files of a run, which TensorBoard shows.

RUN/events/             training: scalars, and a page with the settings of the run
RUN/events/validation/  held-out photos: scores, pictures, histograms; and the run's hyper-parameters

The HPARAMS tab shows hyper-parameters beside all scalars of their folder, so scores have a folder of their own. It
shows the first five of them unasked, in the order of their tags.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from depthfield.training import recipe as recipes
from depthfield.training.recipe import Recipe
from depthfield.training.survey import Survey

SHARE = 0.01  # of the time, at most, that pictures may take
HOUSEKEEPING = ("checkpoint_seconds", "summary_seconds")  # no hyper-parameters: training is the same without them
TAGS = {name: f"wider/{name}" for name in ("delta2", "delta3")}  # of scores: behind those that the paper has


class Events:
    """Writes them. On a cluster validations have a thread of their own, beside that which writes of training."""

    def __init__(self, run: Path):
        self.run = run
        folders = {"training": run / "events", "validation": run / "events/validation"}
        self.writers = {kind: tf.summary.create_file_writer(str(folder)) for kind, folder in folders.items()}
        self.pictured, self.seconds = -np.inf, 0.0  # when pictures were last made, and what that took

    def settings(self, step: int, recipe: Recipe, survey: Survey, commands: Sequence[Mapping]) -> None:
        """Write the settings of the run, as a page and as hyper-parameters.

        A run that goes on writes both again: the page has one more command then, and the hyper-parameters, of the same
        folder, stay those of one run.
        """
        values = recipes.flat(recipes.tables(recipe))
        with self.writers["training"].as_default(step):
            tf.summary.text("run", page(self.run, values, survey, commands))
        with self.writers["validation"].as_default(step):
            chosen = {key: scalar(value) for key, value in values.items() if key not in HOUSEKEEPING}
            hparams.hparams(chosen, trial_id=trial(self.run))
        self.flush()

    def scalars(self, step: int, kind: str, numbers: Mapping[str, float]) -> None:
        """Write numbers by name; `kind` is training or validation."""
        with self.writers[kind].as_default(step):
            for name, value in numbers.items():
                tf.summary.scalar(f"{kind}/{TAGS.get(name, name)}", value)
        self.flush()

    def histogram(self, step: int, name: str, values: np.ndarray, what: str) -> None:
        """Write the distribution of values, which are `what`, in words."""
        with self.writers["validation"].as_default(step):
            tf.summary.histogram(name, values, description=what)
        self.flush()

    def pictures(self, step: int, make: Callable[[], Mapping[str, np.ndarray]], anyway: bool = False) -> None:
        """Write the panels that `make` gives, uint8 H×W×3 by the names of their photos.

        Not where they would take more than their SHARE of the time since they were last made, but `anyway`.
        """
        begun = time.monotonic()
        if self.seconds > SHARE * (begun - self.pictured) and not anyway:
            return
        with self.writers["validation"].as_default(step):
            for number, (name, panel) in enumerate(make().items(), start=1):
                what = f"{name}: photo, measured depth, prediction, and its uncertainty (one standard deviation)"
                tf.summary.image(f"pictures/{number}", panel[None], description=what)
        self.flush()
        self.pictured = time.monotonic()
        self.seconds = self.pictured - begun

    def flush(self) -> None:
        for writer in self.writers.values():
            writer.flush()


def scalar(value: object) -> bool | float | str:
    """A setting as a hyper-parameter may be; lists as text."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value


def trial(run: Path) -> str:
    """What the HPARAMS tab calls a run: its folder, and what that is in. Runs of one name would be taken for one."""
    *_, parent, name = run.absolute().parts
    return f"{name} in {parent}"


def page(run: Path, settings: Mapping[str, object], survey: Survey, commands: Sequence[Mapping]) -> str:
    """The settings of a run in Markdown."""
    photos = f"{survey.photos} photos, {survey.held_out} of them held out; {survey.made_with()}"
    rows = "".join(f"| {key} | {json.dumps(value)} |\n" for key, value in settings.items())
    told = "".join(f"\n{in_words(command)}\n" for command in commands)
    return f"# {trial(run)}\n\n{photos}\n\n## Recipe\n\n| setting | value |\n|---|---|\n{rows}\n## Commands\n{told}"


def in_words(command: Mapping) -> str:
    """A line of commands.jsonl in Markdown."""
    versions = ", ".join(f"{name} {command[name]}" for name in ("depthfield", "tensorflow", "python"))
    commit = f", commit {command['commit']}" if command.get("commit") else ""
    return f"{command['time']} on {command['host']}: {versions}{commit}\n\n    {command['command']}\n"
