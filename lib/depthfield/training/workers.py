"""The executors of training: this process, or the workers of a cluster. Both yield reports of rounds, and cuts.

A cut is a consistent state of training between two rounds. One process has one after each round. On a cluster, no round
that pushes may be running: workers continue to compute in rounds that keep their changes.
"""

import contextlib
import math
import queue
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from depthfield.cluster.node import without_proxies
from depthfield.network.model import DepthField
from depthfield.records.batches import Stream
from depthfield.tool import Failure
from depthfield.training import exchange, rounds
from depthfield.training.exchange import shares
from depthfield.training.optimizer import learning_rate
from depthfield.training.pace import Pace, Plan
from depthfield.training.recipe import Recipe
from depthfield.training.rounds import Report

WAIT_SECONDS = 0.5  # maximum, before the chief checks its clock and its signals again
FLUSHES = 5  # attempts to make all workers push
ALONE_STEPS = 8  # per round in one process, unless the recipe fixes it: fewer calls from Python


class Cut(NamedTuple):
    step: int
    parameters: dict[str, np.ndarray]  # of the model, by path
    slots: dict[str, np.ndarray]  # of the optimizer and their age, unless the workers have them


class Here:
    """No cluster: rounds run one by one in this process, and everything else waits."""

    workers = 1
    waits = True  # for the chief's work on a cut

    def begin(self, model: DepthField, recipe: Recipe, step: int, slots: dict, frozen: Collection[str]) -> None:
        """Prepare to train `model` from `step` on, with the values of `slots` by name if there are any.

        The variables `frozen` do not change in the first `frozen_share` of the recipe's steps.
        """
        self.model, self.recipe, self.thaw = model, recipe, int(recipe.frozen_share * recipe.steps)
        self.state, self.first, self.taken = rounds.state(model, recipe), step, step
        self.state.step.assign(step)
        for name, variable in self.state.slots_by_name().items() if slots else ():
            variable.assign(slots[name])
        self.pretraining = self.round(frozen) if frozen else None
        self.tuning = self.round()

    def stream(self) -> Stream:
        """Return the stream of this process, or of the worker that calls this in the graph of its batches."""
        return Stream(self.recipe.seed, self.first)

    def round(self, frozen: Collection[str] = ()) -> Callable[[tf.data.Iterator, int], Report]:
        return rounds.make(self.state, self.recipe, frozen)

    def rounds(self, batches: Callable[[], tf.data.Dataset], until: Callable[[], int]) -> Iterator[Report | None]:
        """Yield the report of each round as it ends, until `until()` steps are taken.

        Yields None if a report is unknown, and after WAIT_SECONDS.
        """
        iterator, most = iter(batches()), self.recipe.round_steps or ALONE_STEPS
        validation = self.recipe.validation_steps
        # A round ends where validation is due, which depends only on the step.
        while (count := min(until() - self.taken, most, validation - self.taken % validation)) > 0:
            yield self.take(iterator, count)

    def take(self, iterator: tf.data.Iterator, count: int) -> Report:
        """Run a round of `count` steps."""
        train_round = self.pretraining if self.pretraining and self.taken < self.thaw else self.tuning
        report = train_round(iterator, count)
        self.taken += report.steps
        return report

    def flush(self, give_up: Callable[[], object]) -> None:
        """Nothing to do: no changes are held back."""

    def step(self) -> int:
        """Return the step of a cut."""
        return self.taken

    def cut(self) -> Cut | None:
        """Return a cut, or None if there is none yet."""
        parameters = {variable.path: variable.numpy() for variable in self.model.trainable_variables}
        slots = {name: variable.numpy() for name, variable in self.state.slots_by_name().items()}
        return Cut(self.taken, parameters, slots)

    last = cut


class Cluster:
    """The parameter servers and workers of a cluster.json: servers hold the parameters, workers run the rounds."""

    waits = False

    def __init__(self, cluster: dict[str, list[str]]):
        without_proxies()
        tf.get_logger().setLevel("CRITICAL")  # it logs pages for each lost node; watch-nodes says it in a line
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(cluster), task_type="chief", task_id=0, rpc_layer="grpc"
        )
        try:
            strategy = tf.distribute.ParameterServerStrategy(resolver)
            self.coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        except (tf.errors.OpError, ValueError) as error:
            raise Failure(f"cannot join the cluster: {str(error).splitlines()[0]}") from None
        self.workers = len(cluster["worker"])
        self.devices = [f"/job:ps/replica:0/task:{index}/device:CPU:0" for index in range(len(cluster["ps"]))]

    def begin(self, model: DepthField, recipe: Recipe, step: int, slots: dict, frozen: Collection[str]) -> None:
        """Like Here.begin; slots start at zero on each worker."""
        self.model, self.recipe, self.frozen = model, recipe, frozen
        self.thaw, self.first, self.taken = int(recipe.frozen_share * recipe.steps), step, step
        parts = exchange.vectors(model, frozen)
        self.servers = exchange.Servers(model, parts, self.devices, self.workers, step)
        self.pace = Pace(self.workers, recipe.round_steps, recipe.steps)
        self.graphs, self.iterators = {}, None
        self.finished: queue.Queue = queue.Queue()
        self.flying = self.pushing = 0  # running rounds; those of them that push
        self.counted = 0  # steps of the running rounds
        self.pushed = 0  # rounds since the last cut
        self.asked, self.torn, self.reading = False, False, None
        self.aside = ThreadPoolExecutor(1)

    def rounds(self, batches: Callable[[], tf.data.Dataset], until: Callable[[], int]) -> Iterator[Report | None]:
        """Like Here.rounds. Raises tf.errors.OpError if a parameter server is gone."""
        if self.iterators is None:
            # Kept: freeing iterators on the workers is a remote operation, which once made the chief wait for more than
            # half a minute.
            self.iterators = iter(self.coordinator.create_per_worker_dataset(batches))
        while True:
            if self.asked and not self.pushing and self.reading is None:
                self.reading = self.aside.submit(self._read)
            while planned := self._plan(until() - self.taken - self.counted):
                for counts, when in planned:
                    self._schedule(counts, when)
            if not self.flying:
                return
            yield self._next()

    def _plan(self, left: int) -> list[Plan]:
        """Return the rounds to start now; `left` is the number of steps not yet assigned.

        With exchanges around computing, all workers exchange together: they start from the joint result when all have
        ended.
        """
        if left <= 0 or self._held():
            return []
        rate = learning_rate(self.recipe, tf.constant(self.taken), tf.constant(self.recipe.steps))
        counts, when = self.pace.plan(float(rate) / max(self.recipe.learning_rate, 1e-30))
        near = left <= 2 * sum(counts)
        if self.flying and (near or when == exchange.AROUND):
            return []
        if near:  # of similar size, so that the last step is that of `until`
            return [Plan([min(*counts, n)] * self.workers, exchange.AROUND) for n in shares(left, self.workers) if n]
        if when == exchange.AROUND:
            return [Plan(counts, when)] * self.workers
        ahead = math.ceil(self.workers / 4)  # rounds that wait for a worker, so that no worker waits for the chief
        more = max(self.workers + ahead - self.flying, 0)
        return [Plan(counts, exchange.NEVER if self.asked else when)] * more

    def _held(self) -> bool:
        """Whether workers must wait for a cut, because they pushed during the last attempt to read one."""
        return self.torn and self.reading is not None and not self.reading.done()

    def flush(self, give_up: Callable[[], object]) -> None:
        """Make workers push their remaining changes, after all rounds have ended; ends early if `give_up()`.

        A certain worker cannot be addressed: rounds without steps, one per worker, go to any free worker.
        """
        for _ in range(FLUSHES):
            if self.step() >= self.taken:
                return
            for _ in range(self.workers):
                self._schedule([0] * self.workers, exchange.AROUND)
            while self.flying and not give_up():
                self._next()

    def _schedule(self, counts: Sequence[int], when: int) -> None:
        """Schedule a round for the next free worker."""
        count, exchanges = round(sum(counts) / self.workers), when != exchange.NEVER
        fixed = [tf.convert_to_tensor(variable) for variable in self.model.non_trainable_variables]
        arguments = (self.iterators, tf.constant(counts), tf.constant(when), fixed)
        value = self.coordinator.schedule(self._graph(), args=arguments)
        self.flying += 1
        self.pushing += exchanges
        self.counted += count

        def fetch() -> None:
            result = None  # if the worker died, the round is done or will be repeated;
            with contextlib.suppress(tf.errors.OpError):  # if a parameter server died, the coordinator reports it
                result = value.fetch()
            self.finished.put((result, exchanges, count))

        threading.Thread(target=fetch, daemon=True).start()

    def _next(self) -> Report | None:
        """Wait for the end of a round, at most WAIT_SECONDS."""
        try:
            result, exchanged, count = self.finished.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            return None
        self.flying -= 1
        self.pushing -= exchanged
        self.pushed += exchanged
        self.counted -= count
        if result is None:
            self.taken += count
            self.coordinator.done()
            return None
        report = rounds.report(result)
        self.taken += report.steps
        self.pace.note(report)
        return report

    def _graph(self) -> Callable:
        frozen = self.frozen if self.taken < self.thaw else ()
        if bool(frozen) not in self.graphs:
            self.graphs[bool(frozen)] = exchange.make(self.servers, self.model, self.recipe, frozen, self.worker)
        return self.graphs[bool(frozen)]

    def worker(self) -> tf.Tensor:
        """Return the index of the worker, int64 [], in its graphs."""
        return tf.distribute.coordinator.experimental_get_current_worker_index()

    def stream(self) -> Stream:
        """Like Here.stream. Random variations differ between attempts, which are identified by their first step."""
        return Stream(self.recipe.seed, self.first // self.workers, 1 + self.first, self.worker(), self.workers)

    def step(self) -> int:
        """Return the step of a cut: all steps that workers have pushed so far."""
        return self.servers.step()

    def cut(self) -> Cut | None:
        """Like Here.cut; there is none before workers have pushed something after the last one."""
        self.asked = self.asked or self.pushed >= self.workers
        if self.reading is None or not self.reading.done():
            return None
        cut, whole = self.reading.result()
        self.asked, self.torn, self.reading = not whole, not whole, None
        if not whole:
            return None
        self.pushed = 0
        return cut

    def last(self) -> Cut:
        """Return what the servers have now; a cut if no pushing round is running."""
        return self._read()[0]

    def _read(self) -> tuple[Cut, bool]:
        parameters, whole = self.servers.read()
        return Cut(self.servers.step(), parameters, {}), whole
