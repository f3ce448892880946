"""Rounds of a cluster, all of whose workers and servers are in this process: what they push, pull and keep."""

import os
import random
import threading

import numpy as np
import pytest
import tensorflow as tf

from depthfield.network import model as models
from depthfield.records import batches, index
from depthfield.records.augmentation import Augmentation
from depthfield.training import exchange, pace, rounds
from depthfield.training import recipe as recipes
from depthfield.training.exchange import AROUND, BESIDE, NEVER
from depthfield.training.rounds import Report

SMALL = ["network.patch=16", 'network.convolutions=["8 3x3 /2"]', "network.dense=[8]", "steps=40", "batch_size=2"]
RECIPE = recipes.load("dcnf-small", [*SMALL, "wire=float32"])
NAMES = ("texture", "histogram", "colour")
HERE = "/device:CPU:0"
MIRROR = Augmentation(mirror=True, crop=1.0, turn=0.0, colour=0.0)


def new_model():
    random.seed(0)
    return models.build(RECIPE, NAMES, 1.0)


class Cluster:
    """Servers and workers that take their rounds when a test says so."""

    names = iter(range(10**6))

    def __init__(self, data, workers=1, servers=1, recipe=RECIPE, frozen=()):
        self.model = new_model()
        parts = exchange.vectors(self.model, frozen)
        self.servers = exchange.Servers(self.model, parts, [HERE] * servers, workers, 0)
        stored = [photo for photo, _ in index.read(sorted((data / "rooms/records").glob("train-*")))]
        self.fixed = [tf.convert_to_tensor(variable) for variable in self.model.non_trainable_variables]
        self.rounds, self.iterators = [], []
        for worker in range(workers):
            stream = batches.Stream(0, 0, 0, worker, workers)
            self.iterators.append(iter(batches.endless(stored, 2, MIRROR, stream)))
            name = f"test {next(self.names)}"
            which = tf.constant(worker, tf.int64)
            made = exchange.make(self.servers, self.model, recipe, frozen, lambda which=which: which, name)
            self.rounds.append(made)

    def round(self, steps: int, worker: int = 0, when: int = AROUND) -> rounds.Report:
        counts = tf.constant([steps] * len(self.rounds))
        told = self.rounds[worker](self.iterators[worker], counts, tf.constant(when), self.fixed)
        return rounds.report(told.numpy())

    def values(self) -> np.ndarray:
        return np.concatenate([value.ravel() for value in self.servers.read()[0].values()])


def alone(data, steps: int) -> np.ndarray:
    """The parameters after so many steps in one process."""
    model = new_model()
    state = rounds.state(model, RECIPE)
    stored = [photo for photo, _ in index.read(sorted((data / "rooms/records").glob("train-*")))]
    rounds.make(state, RECIPE)(iter(batches.endless(stored, 2, MIRROR, batches.Stream(0))), steps)
    return np.concatenate([variable.numpy().ravel() for variable in model.trainable_variables])


@pytest.mark.parametrize(("steps", "servers", "when"), [(1, 1, AROUND), (1, 3, BESIDE), (4, 2, BESIDE)])
def test_one_worker_takes_the_steps_of_one_process(prepared, steps, servers, when):
    cluster = Cluster(prepared, servers=servers)
    for _ in range(12 // steps):
        cluster.round(steps, when=when)
    # Those of the last round beside its exchange are pushed by the next.
    assert cluster.servers.step() == 12 - (steps if when == BESIDE else 0)
    cluster.round(0)
    assert cluster.servers.step() == 12
    np.testing.assert_allclose(cluster.values(), alone(prepared, 12), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="on one core nothing computes while the test waits")
def test_computing_does_not_wait_for_the_exchange_beside_it(prepared, monkeypatch):
    cluster, at_work, in_time = Cluster(prepared), threading.Event(), []
    known, iterator = cluster.servers.known, cluster.iterators[0]
    numbers = iter(range(100))

    def late() -> tuple[tf.Tensor, tf.Tensor]:
        """Return what is asked for after a push, but not before the round has taken some steps."""
        steps, pushes = known()

        def wait(steps: np.ndarray) -> np.ndarray:
            in_time.append(at_work.wait(20))
            return steps

        return tf.reshape(tf.numpy_function(wait, [steps], steps.dtype), steps.shape), pushes

    def batch(number: int) -> int:
        if next(numbers) == 8:  # batches are made up to three ahead
            at_work.set()
        return number

    monkeypatch.setattr(cluster.servers, "known", late)
    taken = tf.data.Dataset.range(100).map(lambda n: tf.numpy_function(batch, [n], tf.int64))
    one = {name: tf.constant(value) for name, value in next(iterator).items()}
    cluster.iterators[0] = iter(taken.map(lambda n: one | {"seed": one["seed"] + n}))
    at_work.set()
    cluster.round(1)
    at_work.clear()
    in_time.clear()
    cluster.round(8, when=BESIDE)
    assert in_time and all(in_time)


def test_the_mean_of_two_workers_is_taken_of_what_both_began_with(prepared):
    alone = Cluster(prepared)
    begun = alone.values()
    both = Cluster(prepared, workers=2, servers=2)
    for worker in (0, 1):
        both.round(0, worker)  # both know what all begin with
    moves = []
    for worker in (0, 1):
        before = both.values()
        both.round(2, worker, BESIDE)  # computes from the beginning, and pushes nothing
        np.testing.assert_array_equal(both.values(), before)
    for worker in (0, 1):
        before = both.values()
        both.round(0, worker, BESIDE)
        moves.append(both.values() - before)
    assert both.servers.step() == 4 and np.abs(moves[0] - moves[1]).max() > 0
    np.testing.assert_allclose(both.values(), begun + moves[0] + moves[1], rtol=1e-5, atol=1e-6)


def test_a_rounding_error_is_pushed_later(prepared):
    recipe = recipes.load("dcnf-small", [*SMALL, "wire=bfloat16"])
    exact, rounded = Cluster(prepared), Cluster(prepared, recipe=recipe)
    for cluster in (exact, rounded):
        cluster.round(4)
    first = np.abs(rounded.values() - exact.values()).max()
    assert first > 0
    for _ in range(3):
        rounded.round(0)
    np.testing.assert_allclose(rounded.values(), exact.values(), rtol=1e-6, atol=1e-7)


def test_rounds_that_keep_what_they_change_push_it_with_the_next_exchange(prepared):
    cluster = Cluster(prepared)
    before = cluster.values()
    for _ in range(3):
        cluster.round(2, when=NEVER)
    np.testing.assert_array_equal(cluster.values(), before)
    assert cluster.servers.step() == 0
    cluster.round(0)
    assert cluster.servers.step() == 6
    np.testing.assert_allclose(cluster.values(), alone(prepared, 6), rtol=1e-5, atol=1e-6)


def push(servers: exchange.Servers, number: int, since: int, worker: int = 0) -> None:
    @tf.function
    def graph():
        size = sum(servers.parts[0].sizes)
        numbers = (tf.constant(n, tf.int64) for n in (worker, number, since, 1))
        with tf.control_dependencies(servers.push({0: tf.ones([size], tf.bfloat16)}, *numbers)):
            return tf.constant(0)

    graph()


def test_a_push_counts_once_and_not_when_it_is_old(prepared):
    cluster = Cluster(prepared, workers=2, servers=3)
    before = cluster.values()
    push(cluster.servers, 1, 0)
    push(cluster.servers, 1, 0)  # taken again after a fault
    np.testing.assert_allclose(cluster.values(), before + 1, rtol=1e-6)
    assert cluster.servers.step() == 1
    for number in range(1, 2 * exchange.STALE + 1):
        push(cluster.servers, number, number, worker=1)
    assert cluster.servers.step() == 2 * exchange.STALE + 1
    push(cluster.servers, 2, 0)
    assert cluster.servers.step() == 2 * exchange.STALE + 1


def test_what_is_frozen_does_not_move(prepared):
    model = new_model()
    frozen = {variable.path for variable in model.trainable_variables if "z/" not in variable.path}
    cluster = Cluster(prepared, workers=1, servers=2, frozen=frozen)
    before, _ = cluster.servers.read()
    cluster.round(3)
    after, whole = cluster.servers.read()
    moved = {path for path in after if np.abs(after[path] - before[path]).max() > 0}
    assert moved and not moved & frozen and whole


@pytest.mark.parametrize("servers", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [1, 7, 812628])
def test_servers_have_equal_shares(size, servers):
    shares = exchange.shares(size, servers)
    assert sum(shares) == size and max(shares) - min(shares) <= 1


# ---- how long rounds are


def told(worker=0, steps=8, step=0.1, moving=0.01, lost=0.0, hidden=False) -> Report:
    whole = steps * step + lost + (0 if hidden else moving)
    return Report(0.1, steps, worker, whole, steps * step, 0.0, moving, 0.0)


def paced(*reports: Report, workers: int = 1, times: int = 8) -> pace.Pace:
    made = pace.Pace(workers, 0, 10**6)
    for _ in range(times):
        for report in reports:
            made.note(report)
    return made


def test_rounds_have_as_many_steps_as_exchanges_cost():
    assert paced(told(moving=0.002)).plan(1.0) == ([1], AROUND)
    assert paced(told(moving=0.0285)).plan(1.0) == ([10], AROUND)
    assert paced(told(moving=0.018, lost=0.0105)).plan(1.0) == ([10], AROUND)


def test_rounds_grow_with_the_square_of_the_rates_fall_where_they_are_too_short():
    slow = paced(told(moving=0.48))
    assert [slow.plan(rate).counts for rate in (1.0, 0.8, 0.1)] == [[100], [157], [160]]


def test_a_network_that_is_too_slow_is_hidden_beside_computing():
    assert paced(told(moving=2.6)).plan(1.0) == ([100], BESIDE)
    assert paced(told(moving=10.0)).plan(1.0) == ([110], BESIDE)


def test_a_fast_worker_takes_more_steps_so_that_rounds_end_together():
    counts = paced(told(0, step=0.1, moving=0.0285), told(1, step=0.05, moving=0.0285), workers=2).plan(1.0).counts
    assert counts == [10, 19]


def test_one_slow_round_is_forgotten_with_the_next_that_is_not():
    rounds = [told(), told(), told(step=5.0), told()]  # the first builds its graph
    assert paced(*rounds, times=1).step == [pytest.approx(0.1)]
    assert 0.1 < paced(*rounds[:3], times=1).step[0] < 2


def test_a_short_training_has_short_rounds():
    short = pace.Pace(4, 0, 4000)
    for _ in range(3):
        short.note(told(moving=0.8))
    assert short.plan(1.0).counts[0] == 10


def test_a_number_of_steps_that_is_set_is_kept():
    fixed = pace.Pace(2, 5, 10**6)
    fixed.note(told(moving=5.0))
    assert fixed.plan(1.0).counts == [5, 5]


def test_what_workers_wait_for_each_other_makes_rounds_no_longer():
    waits = told(1, moving=0.0054)._replace(idle=0.5)
    assert paced(told(0, moving=0.0054), waits, workers=2).plan(1.0).counts == [2, 2]


def test_shares_of_time_add_up():
    spent = pace.shares([told(moving=0.2), told(1)._replace(waiting=0.1, computing=0.7)])
    assert sum(spent.values()) == pytest.approx(1) and spent["waiting"] == pytest.approx(0.1 / 1.81)
