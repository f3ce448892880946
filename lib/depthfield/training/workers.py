"""Who trains: this process, or the workers of a cluster. Both yield what each round tells, and give cuts.

A cut is what training has come to between two rounds. In one process there is one after each round. On a cluster no
round that pushes may be under way: workers go on computing meanwhile, in rounds that keep what they change to
themselves.
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

WAIT_SECONDS = 0.5  # at most, before the chief may look at its clock and its signals again
FLUSHES = 5  # tries to have all workers push
ALONE_STEPS = 8  # of a round in one process, where the recipe leaves it open: Python is called so much less often


class Cut(NamedTuple):
    step: int
    parameters: dict[str, np.ndarray]  # of the model, by path
    slots: dict[str, np.ndarray]  # of the optimizer and their age, where they are not with the workers


class Here:
    """No cluster: rounds are taken one by one in this process, and all else waits meanwhile."""

    workers = 1
    waits = True  # for whatever the chief does with a cut

    def begin(self, model: DepthField, recipe: Recipe, step: int, slots: dict, frozen: Collection[str]) -> None:
        """Train `model` on from `step`, and from the values of `slots` by name, where there are any.

        The variables `frozen` stay as they are in the first `frozen_share` of the recipe's steps.
        """
        self.model, self.recipe, self.thaw = model, recipe, int(recipe.frozen_share * recipe.steps)
        self.state, self.first, self.taken = rounds.state(model, recipe), step, step
        self.state.step.assign(step)
        for name, variable in self.state.slots_by_name().items() if slots else ():
            variable.assign(slots[name])
        self.pretraining = self.round(frozen) if frozen else None
        self.tuning = self.round()

    def stream(self) -> Stream:
        """Which batches this process trains on, or the worker that calls this in the graph of its batches."""
        return Stream(self.recipe.seed, self.first)

    def round(self, frozen: Collection[str] = ()) -> Callable[[tf.data.Iterator, int], Report]:
        return rounds.make(self.state, self.recipe, frozen)

    def rounds(self, batches: Callable[[], tf.data.Dataset], until: Callable[[], int]) -> Iterator[Report | None]:
        """What each round tells as it ends, while fewer steps than `until()` are taken.

        None where it is not known, or after WAIT_SECONDS.
        """
        iterator, most = iter(batches()), self.recipe.round_steps or ALONE_STEPS
        validation = self.recipe.validation_steps
        # A round ends where the photos held out are to be measured: that depends on nothing but the step.
        while (count := min(until() - self.taken, most, validation - self.taken % validation)) > 0:
            yield self.take(iterator, count)

    def take(self, iterator: tf.data.Iterator, count: int) -> Report:
        """Take a round of `count` steps."""
        train_round = self.pretraining if self.pretraining and self.taken < self.thaw else self.tuning
        report = train_round(iterator, count)
        self.taken += report.steps
        return report

    def flush(self, give_up: Callable[[], object]) -> None:
        """Nothing is kept back here."""

    def step(self) -> int:
        """The step of a cut."""
        return self.taken

    def cut(self) -> Cut | None:
        """Ask for a cut: None until there is one."""
        parameters = {variable.path: variable.numpy() for variable in self.model.trainable_variables}
        slots = {name: variable.numpy() for name, variable in self.state.slots_by_name().items()}
        return Cut(self.taken, parameters, slots)

    last = cut


class Cluster:
    """The parameter servers and workers of a cluster.json; parameters live on the servers, workers take the rounds."""

    waits = False

    def __init__(self, cluster: dict[str, list[str]]):
        without_proxies()
        tf.get_logger().setLevel("CRITICAL")  # it tells pages of each lost node; watch-nodes tells it in a line
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
        """As Here.begin; slots begin anew on each worker."""
        self.model, self.recipe, self.frozen = model, recipe, frozen
        self.thaw, self.first, self.taken = int(recipe.frozen_share * recipe.steps), step, step
        parts = exchange.vectors(model, frozen)
        self.servers = exchange.Servers(model, parts, self.devices, self.workers, step)
        self.pace = Pace(self.workers, recipe.round_steps, recipe.steps)
        self.graphs, self.iterators = {}, None
        self.finished: queue.Queue = queue.Queue()
        self.flying = self.pushing = 0  # rounds that are under way; those of them that push
        self.counted = 0  # steps that those under way are taken for
        self.pushed = 0  # rounds since the last cut
        self.asked, self.torn, self.reading = False, False, None
        self.aside = ThreadPoolExecutor(1)

    def rounds(self, batches: Callable[[], tf.data.Dataset], until: Callable[[], int]) -> Iterator[Report | None]:
        """As Here.rounds. Raises tf.errors.OpError where a parameter server is gone."""
        if self.iterators is None:
            # Kept: freeing iterators on the workers is a remote operation, on which the chief was seen to wait for more
            # than half a minute.
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
        """The rounds to be started now, `left` being the steps that nobody takes yet.

        Around computing all workers exchange together: they begin with what all have come to, when all have ended.
        """
        if left <= 0 or self._held():
            return []
        rate = learning_rate(self.recipe, tf.constant(self.taken), tf.constant(self.recipe.steps))
        counts, when = self.pace.plan(float(rate) / max(self.recipe.learning_rate, 1e-30))
        near = left <= 2 * sum(counts)
        if self.flying and (near or when == exchange.AROUND):
            return []
        if near:  # of about one size, so that the last step is that of `until`
            return [Plan([min(*counts, n)] * self.workers, exchange.AROUND) for n in shares(left, self.workers) if n]
        if when == exchange.AROUND:
            return [Plan(counts, when)] * self.workers
        ahead = math.ceil(self.workers / 4)  # rounds that wait for a worker, so that none waits for the chief
        more = max(self.workers + ahead - self.flying, 0)
        return [Plan(counts, exchange.NEVER if self.asked else when)] * more

    def _held(self) -> bool:
        """Whether workers must wait for a cut: where they pushed during the last try to read one."""
        return self.torn and self.reading is not None and not self.reading.done()

    def flush(self, give_up: Callable[[], object]) -> None:
        """Let workers push what they have not pushed: call it when rounds have ended. It may take `give_up` for an end.

        No worker can be told to: as many rounds of no step as there are workers are taken by whoever is free.
        """
        for _ in range(FLUSHES):
            if self.step() >= self.taken:
                return
            for _ in range(self.workers):
                self._schedule([0] * self.workers, exchange.AROUND)
            while self.flying and not give_up():
                self._next()

    def _schedule(self, counts: Sequence[int], when: int) -> None:
        """Give the next free worker a round of so many steps."""
        count, exchanges = round(sum(counts) / self.workers), when != exchange.NEVER
        fixed = [tf.convert_to_tensor(variable) for variable in self.model.non_trainable_variables]
        arguments = (self.iterators, tf.constant(counts), tf.constant(when), fixed)
        value = self.coordinator.schedule(self._graph(), args=arguments)
        self.flying += 1
        self.pushing += exchanges
        self.counted += count

        def fetch() -> None:
            result = None  # where it died with its worker, the round is done or will be taken again;
            with contextlib.suppress(tf.errors.OpError):  # where a parameter server died, the coordinator says so
                result = value.fetch()
            self.finished.put((result, exchanges, count))

        threading.Thread(target=fetch, daemon=True).start()

    def _next(self) -> Report | None:
        """Wait, at most WAIT_SECONDS, for the end of a round."""
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
        """The index of the worker, int64 []: in its graphs."""
        return tf.distribute.coordinator.experimental_get_current_worker_index()

    def stream(self) -> Stream:
        """As Here.stream. What happened to a photo before an attempt died differs from what happens to it now: attempts
        are told apart by the step they begin at."""
        return Stream(self.recipe.seed, self.first // self.workers, 1 + self.first, self.worker(), self.workers)

    def step(self) -> int:
        """The step of a cut: what workers have pushed so far, all together."""
        return self.servers.step()

    def cut(self) -> Cut | None:
        """As Here.cut; there is none before workers have pushed something since the last one."""
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
        """What the servers have now; a cut where no round that pushes is under way."""
        return self._read()[0]

    def _read(self) -> tuple[Cut, bool]:
        parameters, whole = self.servers.read()
        return Cut(self.servers.step(), parameters, {}), whole
