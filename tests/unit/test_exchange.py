"""Rounds of a cluster, all of whose workers and servers are in this process: what they push, pull and keep."""

import random

import numpy as np
import pytest
import tensorflow as tf

from depthfield.network import model as models
from depthfield.records import batches, index
from depthfield.training import exchange, rounds
from depthfield.training import recipe as recipes

SMALL = ["network.patch=16", 'network.convolutions=["8 3x3 /2"]', "network.dense=[8]", "steps=40", "batch_size=2"]
RECIPE = recipes.load("dcnf-small", [*SMALL, "wire=float32"])
NAMES = ("texture", "histogram", "colour")
HERE = "/device:CPU:0"


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
            self.iterators.append(iter(batches.endless(stored, 2, NO_CHANGE, stream)))
            name = f"test {next(self.names)}"
            which = tf.constant(worker, tf.int64)
            made = exchange.make(self.servers, self.model, recipe, frozen, lambda which=which: which, name)
            self.rounds.append(made)

    def round(self, steps: int, worker: int = 0, when: int = exchange.AROUND) -> rounds.Report:
        counts = tf.constant([steps] * len(self.rounds))
        told = self.rounds[worker](self.iterators[worker], counts, tf.constant(when), self.fixed)
        return rounds.report(told.numpy())

    def values(self) -> np.ndarray:
        return np.concatenate([value.ravel() for value in self.servers.read()[0].values()])


from depthfield.records.augmentation import Augmentation  # noqa: E402

NO_CHANGE = Augmentation(mirror=True, crop=1.0, turn=0.0, colour=0.0)


def alone(data, steps: int) -> np.ndarray:
    """The parameters after so many steps in one process."""
    model = new_model()
    state = rounds.state(model, RECIPE)
    stored = [photo for photo, _ in index.read(sorted((data / "rooms/records").glob("train-*")))]
    rounds.make(state, RECIPE)(iter(batches.endless(stored, 2, NO_CHANGE, batches.Stream(0))), steps)
    return np.concatenate([variable.numpy().ravel() for variable in model.trainable_variables])


@pytest.mark.parametrize(
    ("steps", "servers", "when"), [(1, 1, exchange.AROUND), (1, 3, exchange.BESIDE), (4, 2, exchange.BESIDE)]
)
def test_one_worker_takes_the_steps_of_one_process(prepared, steps, servers, when):
    cluster = Cluster(prepared, servers=servers)
    for _ in range(12 // steps):
        cluster.round(steps, when=when)
    # Those of the last round beside its exchange are pushed by the next.
    assert cluster.servers.step() == 12 - (steps if when == exchange.BESIDE else 0)
    cluster.round(0)
    assert cluster.servers.step() == 12
    np.testing.assert_allclose(cluster.values(), alone(prepared, 12), rtol=1e-5, atol=1e-6)
