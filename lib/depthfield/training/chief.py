"""The chief: the training loop from the first or last checkpoint to the end, readable from top to bottom."""

import contextlib
import json
import random
import re
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf

from depthfield import files, lease, tool
from depthfield.network import model as models
from depthfield.records import batches
from depthfield.records.augmentation import Augmentation
from depthfield.records.shards import unread
from depthfield.tool import Failure, detail, inform, say, show, showing
from depthfield.training import checkpoints, provenance, rounds, survey, transfer
from depthfield.training import recipe as recipes
from depthfield.training.events import Events
from depthfield.training.gauge import Gauge
from depthfield.training.optimizer import AFTER, learning_rate
from depthfield.training.replicas import Replicas, cause
from depthfield.training.validation import Validation
from depthfield.training.workers import Cluster, Cut, Here

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # see Stop
UNREAD = (
    tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.PermissionDeniedError
)  # fmt: skip
WORKER = re.compile(r"remote target /job:worker/replica:0/task:(\d+)")
PATIENCE_SECONDS = 5  # for running rounds when training stops early


def train(
    recipe: recipes.Recipe, run: Path, shards: Sequence[Path], cluster: dict | None, end: float | None, init: str | None
) -> int:
    """Train `recipe` on the photos of `shards` in the folder `run`, on a cluster or in this process.

    Continues from the newest good checkpoint of the run, or starts with the weights of `init` (see transfer). Saves
    everything and returns tool.DONE at the recipe's last step, tool.RUN_ME_AGAIN at the time `end` (time.monotonic) or
    on SIGTERM, SIGHUP or SIGUSR2, or tool.INTERRUPTED on SIGINT. Raises Failure if the run cannot continue, or another
    train-depth is training it.
    """
    stop = Stop(end)
    try:
        with opened(run):
            held = lease.take(run, give_up=stop.reason)
            if held is None:
                say(f"stopped before it started ({stop.reason()}); run me again to continue")
                return stop.status()
            with held:
                files.sweep(run, run / "checkpoints")
                with beginning(run):
                    training = Training(recipe, run, shards, cluster, init, held)
                return training.go(stop)
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        raise Failure(
            f"{run}: lost a node of the cluster ({cause(error)}); run the same command to continue"
        ) from None
    except UNREAD as error:
        raise Failure(
            f"{reader(error, cluster or {})}cannot read {unread(error)}; shards must stay as they are while training, "
            "on a disk that all hosts share"
        ) from None


def reader(error: tf.errors.OpError, cluster: dict[str, list[str]]) -> str:
    """Return which worker could not read, `worker 0 on HOST: `, from an error of its step; nothing for the chief."""
    if match := WORKER.search(error.message):
        index = int(match[1])
        return f"worker {index} on {cluster['worker'][index].rpartition(':')[0]}: "
    return ""


def check(recipe: recipes.Recipe, run: Path, init: str | None) -> None:
    """Raise Failure or UsageError if `train` would for its recipe or first weights; downloads them, writes nothing."""
    recipe = recipes.begun_with(recipe, run / "recipe.toml")
    model = models.build(recipe, recipe.similarities, 0.0)
    if init and not checkpoints.found(run / "checkpoints"):
        transfer.check(model, init)


@showing("joining the cluster")
def join(cluster: dict) -> Cluster | Replicas:
    """Join a cluster.json as its chief; one without parameter servers trains by all-reduce."""
    return Cluster(cluster) if "ps" in cluster else Replicas(cluster, "chief", 0)


@contextlib.contextmanager
def opened(run: Path) -> Iterator[None]:
    """Create the folder of a run, readable only by its owner; remove it if the block fails with nothing in it."""
    new = not run.exists()
    run.mkdir(parents=True, exist_ok=True)
    run.chmod(0o700)
    try:
        yield
    except BaseException:
        if new and {path.name for path in run.iterdir()} <= {"lock"}:
            shutil.rmtree(run)
        raise


@contextlib.contextmanager
def beginning(run: Path) -> Iterator[None]:
    """Remove what the block writes to a new run if it fails: a mistyped setting must not be the run's for good."""
    new = not (run / "recipe.toml").exists()
    try:
        yield
    except BaseException:
        for name in ("recipe.toml", "survey.json", "photos.tsv", transfer.RECORD) if new else ():
            (run / name).unlink(missing_ok=True)
        raise


class Stop:
    """Why to stop early: a signal, or the time limit. SIGUSR1 only asks to save.

    SIGINT and SIGHUP stay ignored if they were: by a script that runs this in the background, or by nohup.
    """

    def __init__(self, end: float | None):
        self.end, self.signal, self.save = end, None, False
        for number in SIGNALS:
            ours = number not in (signal.SIGINT, signal.SIGHUP)  # train-depth has ignored SIGUSR1 and SIGUSR2 until now
            if ours or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.note)

    def note(self, number: int, frame) -> None:
        if number == signal.SIGUSR1:  # Grid Engine will suspend the job, or a soft limit is reached
            self.save = True
        elif number != signal.SIGINT or self.signal is None:  # Ctrl-C also reaches watch-nodes, which sends SIGTERM
            self.signal = signal.Signals(number)

    def reason(self) -> str | None:
        if self.signal is not None:
            return self.signal.name
        return "the time limit is reached" if self.end is not None and time.monotonic() >= self.end else None

    def status(self, otherwise: int = tool.RUN_ME_AGAIN) -> int:
        """Return the exit status: that of Ctrl-C, or else `otherwise`."""
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
        self.run, self.lease, self.until = run, held, recipe.steps
        self.recipe = recipe = recipes.freeze(recipe, run / "recipe.toml")
        # Joining a cluster renames all devices, and replicas must not have computed anything before.
        self.executor = join(cluster) if cluster else Here()
        begun = (run / "survey.json").exists()
        surveyed = survey.go_on(run, shards) if begun else survey.begin(run, shards, recipe.validation_share)
        self.survey, self.photos = surveyed
        if not self.photos.train:
            raise Failure("no photo is left to train on; use a lower validation_share (--set validation_share=...)")

        # The seed of Keras' initialisers.
        random.seed(recipe.seed)
        self.model = models.build(recipe, self.survey.similarities, self.survey.mean_log_depth)
        self.saved, self.first, slots = self.restore()
        if init and not self.saved:
            transfer.begin(self.model, init, self.survey, run)
        self.executor.begin(self.model, recipe, self.first, slots, transfer.frozen(self.model, run))
        if isinstance(self.executor, Replicas):
            self.executor.lead(self.survey, self.photos.train)
        best = checkpoints.best(run / "checkpoints")
        self.best = float("inf") if best is None else best.rel
        self.aside, self.attending = ThreadPoolExecutor(1), None  # works on a cut, on a cluster
        held_out = self.photos.held_out
        self.validation = Validation(self.model, held_out or self.photos.train, recipe.batch_size, bool(held_out))
        begins = self.saved and str(self.saved)
        provenance.record(run, photos=self.survey.digest, begins=begins or init, steps=self.until)
        self.events = Events(run)
        self.events.settings(self.first, recipe, self.survey, provenance.commands(run))

    def restore(self) -> tuple[Path | None, int, dict[str, np.ndarray]]:
        """Load the newest good checkpoint into the model, if there is one; returns its path, step and slots."""
        newest = checkpoints.newest(self.run / "checkpoints")
        if newest is None:
            return None, 0, {}
        slots = rounds.slot_shapes(self.model, self.recipe)
        kept = slots.keys() & newest.values.keys()  # a cluster saves none
        variables = rounds.model_variables(self.model)
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()} | {"step": ()}
        checkpoints.fit(newest, shapes | (slots if kept else {}), self.survey.made_with())
        for name, variable in variables.items():
            variable.assign(newest.values[name])
        inform(f"continuing from {newest.path}")
        return newest.path, newest.step, {name: newest.values[name] for name in kept}

    def go(self, stop: Stop) -> int:
        recipe, until, begun = self.recipe, self.until, time.monotonic()
        first = step = validated = self.first
        saved = last = begun
        photos_a_step = len(self.photos.train) / len(batches.order(self.photos.train, recipe.batch_size).first)
        gauge = self.gauge = Gauge(step, until, photos_a_step)
        inform(
            f"{len(self.photos.train)} photos to train on, {len(self.photos.held_out)} held out; "
            f"step {step} of {until}, workers: {self.executor.workers}; see {self.run / 'metrics.jsonl'}"
        )
        if until != recipe.steps:
            beyond = f"; later steps have {AFTER:g} of its highest learning rate" if until > recipe.steps else ""
            inform(f"{self.run}: keeps the schedule of {recipe.steps} steps that it started with{beyond}")
        if not self.photos.held_out:
            say("no photo is held out: the uncertainty will not be calibrated, and there will be no best checkpoint")

        show(f"step {step} of {until}", "making the graph")
        while step < until and not stop.reason():
            for report in self.executor.rounds(self.batches, lambda: 0 if stop.reason() else until):
                now, step = time.monotonic(), self.executor.taken
                if report is None and stop.reason() and now - last > PATIENCE_SECONDS:
                    break  # a worker with a running round may never answer
                if report is not None:
                    last = now
                    if not np.isfinite(report.loss):
                        raise self.diverged("the loss is", step)
                    gauge.note(step, report)
                    if gauge.to_be_shown():
                        show(*gauge.line())
                if gauge.due(recipe.summary_seconds):
                    self.summarise()
                # At multiples of validation_steps, and before a checkpoint, so that the checkpoint has the current τ.
                validates = step // recipe.validation_steps > validated // recipe.validation_steps and step < until
                saves = now - saved >= recipe.checkpoint_seconds or stop.save
                if (validates or saves) and not self.busy() and (cut := self.executor.cut()):
                    self.attend(cut, validates, saves)
                    validated = step if validates else validated
                    if saves:
                        saved, stop.save = time.monotonic(), False
                    if self.executor.waits:
                        gauge.begin()  # the rate counts only training
            self.finish()
            self.executor.flush(stop.reason)
            step = self.executor.step()  # if a worker was lost before it pushed, there is more to do
            self.executor.taken = step

        if step >= until:
            if step > first:
                self.conclude(self.executor.last(), validates=True)
            inform(f"trained to step {step} in {time.monotonic() - begun:.0f} s: {self.saved}")
            return stop.status(tool.DONE)
        self.conclude(self.executor.last(), validates=False)
        say(f"stopped at step {step} ({stop.reason()}), saved as {self.saved}; run me again to continue")
        return stop.status()

    def busy(self) -> bool:
        """Whether work on the last cut still goes on; raises its error, if any."""
        if self.attending and self.attending.done():
            self.finish()
        return self.attending is not None

    def finish(self) -> None:
        """Wait until work on the last cut is done; raises its error, if any."""
        attending, self.attending = self.attending, None
        if attending:
            attending.result()

    def attend(self, cut: Cut, validates: bool, saves: bool) -> None:
        """Validate and save the current state; on a cluster, training continues meanwhile."""
        if self.executor.waits:
            self.conclude(cut, validates, saves)
        else:
            self.attending = self.aside.submit(self.conclude, cut, validates, saves)

    def conclude(self, cut: Cut, validates: bool, saves: bool = True) -> None:
        """Validate and save a cut."""
        if not self.executor.waits:
            for variable in self.model.trainable_variables:
                variable.assign(cut.parameters[variable.path])
        self.finite(cut.parameters, cut.step)  # otherwise it must be neither measured nor saved
        if validates:
            self.validate(cut)
        if saves:
            self.save(cut)

    def batches(self) -> tf.data.Dataset:
        """Return the batches of this process or of the calling worker; they follow from the seed and the step."""
        recipe = self.recipe
        how = Augmentation(recipe.mirror, recipe.crop, recipe.turn, recipe.colour)
        return batches.endless(self.photos.train, recipe.batch_size, how, self.executor.stream())

    def diverged(self, what: str, step: int) -> Failure:
        return Failure(
            f"{what} not finite near step {step}; the last good checkpoint is {self.saved or 'none'}; "
            "try a lower learning_rate (--set learning_rate=...)"
        )

    def save(self, cut: Cut) -> None:
        """Write a checkpoint; raises Failure if a value is not finite, so that it does not replace a good one."""
        values = self.values(cut) | self.finite(cut.slots, cut.step)
        folder, made_with = self.run / "checkpoints", self.survey.made_with()
        show(f"step {cut.step}", "saving a checkpoint")
        self.saved = checkpoints.save(folder, values, made_with, self.lease.check)
        detail(f"step {cut.step}: saved as {self.saved}")

    def values(self, cut: Cut) -> dict[str, np.ndarray]:
        """Return the values of the model's variables in a cut, by path, and its step."""
        others = {variable.path: variable.numpy() for variable in self.model.non_trainable_variables}
        return cut.parameters | others | {"step": np.int64(cut.step)}

    def finite(self, values: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
        """Return these values by name; raises Failure if one is not finite."""
        bad = [name for name, value in values.items() if not np.isfinite(value).all()]
        if bad:
            others = f" and {len(bad) - 1} more variables are" if len(bad) > 1 else " is"
            raise self.diverged(bad[0] + others, step)
        return values

    def summarise(self) -> None:
        """Report the progress of training: a line of metrics.jsonl, scalars for TensorBoard, and a line of a log."""
        step, numbers = self.gauge.step, self.gauge.numbers()
        rate = float(learning_rate(self.recipe, *map(tf.constant, (step, step))))
        betas = zip(self.recipe.similarities, self.model.beta.numpy(), strict=True)
        numbers = numbers | {"learning_rate": rate} | {f"beta_{name}": float(value) for name, value in betas}
        self.record(step, "training", numbers)
        if not tool.line.there():
            inform(", ".join(self.gauge.line()))
        self.gauge.begin()

    def validate(self, cut: Cut) -> None:
        """Score the held-out photos, set τ and scale on them, and save the model if it is the best so far."""
        numbers, z = self.validation.run()
        self.record(cut.step, "validation", numbers)
        betas = f"β, the weights of {', '.join(self.recipe.similarities)} in the field"
        self.events.histogram(cut.step, "beta", self.model.beta.numpy(), betas)
        self.events.histogram(cut.step, "z", z, "the network's answer for each superpixel, in log metres")
        self.events.pictures(cut.step, self.validation.pictures, anyway=cut.step >= self.until)
        self.gauge.rel = numbers["rel"]
        whose = "held-out photos" if self.photos.held_out else "training photos"
        inform(f"step {cut.step}: {whose} rel {numbers['rel']:.3f}, delta1 {numbers['delta1']:.3f}")
        if self.photos.held_out and numbers["rel"] < self.best:
            self.best, made_with = numbers["rel"], self.survey.made_with()
            folder, values = self.run / "checkpoints", self.values(cut)
            best = checkpoints.save_best(folder, values, made_with, self.best, self.lease.check)
            detail(f"step {cut.step}: the best so far, kept as {best}")

    def record(self, step: int, kind: str, numbers: dict[str, float]) -> None:
        self.lease.check()
        line = {"step": step, "kind": kind, "time": round(time.time(), 3)} | numbers
        with (self.run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.events.scalars(step, kind, numbers)
