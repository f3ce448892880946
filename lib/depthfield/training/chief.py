"""The chief: one training from its first or last checkpoint to its end, readable from top to bottom."""

import json
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from depthfield import files, lease, tool
from depthfield.network import model as models
from depthfield.records import batches
from depthfield.records.augmentation import Augmentation
from depthfield.records.patches import Settings
from depthfield.tool import Failure, say
from depthfield.training import checkpoints, rounds, survey, transfer
from depthfield.training import recipe as recipes
from depthfield.training.optimizer import learning_rate
from depthfield.training.validation import Validation
from depthfield.training.workers import Cluster, Here

PATIENCE_SECONDS = 5  # for rounds in flight when training stops early


def train(
    recipe: recipes.Recipe, run: Path, shards: Sequence[Path], cluster: dict | None, end: float | None, init: str | None
) -> int:
    """Train `recipe` on the photos of `shards` in the folder `run`, on a cluster or in this process.

    Goes on from the newest good checkpoint of the run, or begins with the weights of `init` (see transfer). Returns
    tool.DONE at the recipe's last step; tool.RUN_ME_AGAIN at the time `end` (of time.monotonic), or on SIGTERM, SIGHUP
    or SIGUSR2; tool.INTERRUPTED on SIGINT; with everything saved. Raises Failure where the run cannot go on, or where
    another train-depth is at work on it.
    """
    stop = Stop(end)
    open_run(run)
    held = lease.take(run, give_up=stop.reason)
    if held is None:
        say(f"stopped before it began ({stop.reason()}); run me again")
        return stop.status()
    try:
        with held:
            files.sweep(run, run / "checkpoints")
            return Training(recipe, run, shards, cluster, init, held).go(stop)
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        told = error.message.splitlines()[0]
        raise Failure(
            f"{run}: a parameter server is lost ({told}); the same command goes on from the last checkpoint"
        ) from None


def open_run(run: Path) -> None:
    """Make the folder of a run, readable by its owner alone."""
    run.mkdir(parents=True, exist_ok=True)
    run.chmod(0o700)


class Stop:
    """Why to stop early: a signal that came, or the time that is over. SIGUSR1 only asks to save.

    SIGINT and SIGHUP stay ignored where they were: by a script that runs this in the background, and by nohup.
    """

    def __init__(self, end: float | None):
        self.end, self.signal, self.save = end, None, False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            ours = number not in (signal.SIGINT, signal.SIGHUP)  # train-depth itself ignores SIGUSR1 and SIGUSR2 so far
            if ours or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.note)

    def note(self, number: int, frame) -> None:
        if number == signal.SIGUSR1:  # Grid Engine is about to suspend the job, or a soft limit is reached
            self.save = True
        elif number != signal.SIGINT or self.signal is None:  # Ctrl-C reaches watch-nodes, too, which sends SIGTERM
            self.signal = signal.Signals(number)

    def reason(self) -> str | None:
        if self.signal is not None:
            return self.signal.name
        return "the time given is over" if self.end is not None and time.monotonic() >= self.end else None

    def status(self, otherwise: int = tool.RUN_ME_AGAIN) -> int:
        """The exit status: that of Ctrl-C, or else `otherwise`."""
        return tool.INTERRUPTED if self.signal == signal.SIGINT else otherwise


class Training:
    def __init__(
        self,
        recipe: recipes.Recipe,
        run: Path,
        shards: Sequence[Path],
        cluster: dict | None,
        init: str | None,
        held: lease.Lease,
    ):
        self.recipe, self.run, self.shards, self.lease = recipe, run, shards, held
        recipes.freeze(recipe, run / "recipe.toml")
        if not (run / "survey.json").exists():
            survey.write(run / "survey.json", survey.survey(shards, recipe.validation_share))
        self.survey = survey.read(run / "survey.json")
        if self.survey.photos <= self.survey.held_out:
            raise Failure("no photo is left to train on; lower validation_share")

        # Keras draws the seeds of its initialisers from here. TensorFlow's own global seed stays unset: with it the
        # workers of a cluster, whose shuffling has no seed, would all read the photos in one and the same order.
        random.seed(recipe.seed)
        self.place = Cluster(cluster) if cluster else Here()
        with self.place.scope():
            similarities = Settings.from_json(self.survey.settings).similarities
            self.model = models.build(recipe, similarities, self.survey.mean_log_depth)
            self.state = rounds.state(self.model, recipe)
        self.saved = self.restore()
        if init and not self.saved:
            transfer.begin(self.model, init, run / "init.json")
        self.validation = Validation(self.model, shards, self.survey.held_out_key)
        self.events = tf.summary.create_file_writer(str(run / "events"))

    def restore(self) -> Path | None:
        """Take the values of the newest good checkpoint, if there is one."""
        newest = checkpoints.newest(self.run / "checkpoints")
        if newest is None:
            return None
        path, values = newest
        variables = self.state.variables()
        checkpoints.fit(path, values, {name: tuple(variable.shape) for name, variable in variables.items()})
        for name, variable in variables.items():
            variable.assign(values[name])
        say(f"going on from {path}")
        return path

    def go(self, stop: Stop) -> int:
        recipe, begun = self.recipe, time.monotonic()
        first = step = int(self.state.step.numpy())
        tuning = rounds.make(self.state, recipe, recipe.round_steps, self.place.workers)
        frozen, thaw = transfer.frozen(self.model, self.run / "init.json"), int(recipe.frozen_share * recipe.steps)
        pretraining = rounds.make(self.state, recipe, recipe.round_steps, self.place.workers, frozen)
        summed = saved = begun
        validated, losses, photos, last = step, [], 0, begun
        say(
            f"{self.survey.photos - self.survey.held_out} photos to train on, {self.survey.held_out} held out; "
            f"step {step} of {recipe.steps}, {self.place.workers} at work; watch {self.run / 'metrics.jsonl'}"
        )

        def rounds_left() -> int:
            return 0 if stop.reason() else -(-(recipe.steps - step) // recipe.round_steps)

        def round():
            return pretraining if frozen and step < thaw else tuning

        for loss in self.place.rounds(round, self.batches, rounds_left):
            now = time.monotonic()
            if loss is None and stop.reason() and now - last > PATIENCE_SECONDS:
                break  # what is in flight is with a worker that may never answer
            step = int(self.state.step.numpy())
            if loss is not None:
                last = now
                if not np.isfinite(loss):
                    raise Failure(
                        f"the loss is not finite near step {step}; the last good checkpoint is {self.saved or 'none'}; "
                        "a lower learning_rate may help (--set learning_rate=...)"
                    )
                photos += recipe.round_steps * recipe.batch_size
                losses.append(float(loss))
            if now - summed >= recipe.summary_seconds and losses:
                self.summarise(step, np.mean(losses), photos / (now - summed))
                summed, losses, photos = now, [], 0
            if now - saved >= recipe.checkpoint_seconds or stop.save:
                stop.save = False
                self.save()
                saved = time.monotonic()
            if step - validated >= recipe.validation_steps and step < recipe.steps:
                self.validate(step)
                validated = step
                summed, losses, photos = time.monotonic(), [], 0  # the rate is of training alone

        if step >= recipe.steps:
            if step > first:
                self.validate(step)
                self.save()
            say(f"trained to step {step} in {time.monotonic() - begun:.0f} s: {self.saved}")
            return stop.status(tool.DONE)
        self.save()
        say(f"stopped at step {step} ({stop.reason()}), saved as {self.saved}; run me again to go on")
        return stop.status()

    def batches(self) -> tf.data.Dataset:
        """The batches of one worker; in this process their order follows from the seed."""
        seed = self.recipe.seed if isinstance(self.place, Here) else None
        how = Augmentation(self.recipe.mirror, self.recipe.crop, self.recipe.turn, self.recipe.colour)
        return batches.endless(self.shards, self.survey.held_out_key, self.recipe.batch_size, how, seed)

    def save(self) -> None:
        """Write a checkpoint, unless a value is not finite: a bad one must not take the place of a good one."""
        values = {name: variable.numpy() for name, variable in self.state.variables().items()}
        if all(np.isfinite(value).all() for value in values.values()):
            self.saved = checkpoints.save(self.run / "checkpoints", values, self.lease.check)

    def summarise(self, step: int, loss: float, rate: float) -> None:
        """Tell how training goes: a line on stderr, one of metrics.jsonl, TensorBoard's scalars."""
        numbers = {"loss": float(loss), "photos_per_second": rate}
        numbers["learning_rate"] = float(learning_rate(self.recipe, tf.constant(step)))
        betas = zip(self.recipe.similarities, self.model.beta.numpy(), strict=True)
        numbers |= {f"beta_{name}": float(value) for name, value in betas}
        self.record(step, "training", numbers)
        say(f"step {step} of {self.recipe.steps}, loss {loss:.4f}, {rate:.1f} photos/s")

    def validate(self, step: int) -> None:
        """Measure the held-out photos; τ is set on the way."""
        numbers = self.validation.run()
        self.record(step, "validation", numbers)
        with self.events.as_default(step):
            tf.summary.image("photo, truth, prediction, uncertainty", self.validation.pictures(), max_outputs=8)
        self.events.flush()
        say(f"step {step}: held-out photos rel {numbers['rel']:.3f}, delta1 {numbers['delta1']:.3f}")

    def record(self, step: int, kind: str, numbers: dict[str, float]) -> None:
        self.lease.check()
        line = {"step": step, "kind": kind, "time": round(time.time(), 3)} | numbers
        with (self.run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        with self.events.as_default(step):
            for name, value in numbers.items():
                tf.summary.scalar(f"{kind}/{name}", value)
        self.events.flush()
