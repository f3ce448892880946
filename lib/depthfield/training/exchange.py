"""A round on a cluster: a worker takes H steps and exchanges their changes with the parameter servers.

Parameters are on the servers as flat vectors, in equal shares, whatever the layers are. A worker keeps its own copy and
the optimizer's slots in its memory; both start again when the worker restarts.

An exchange is either AROUND computing: the worker pulls the servers' parameters, computes, and pushes its progress as
bfloat16; rounding errors are added to the next push. Or it is BESIDE computing: the worker pushes the progress of the
round before, pulls, and continues from that plus the progress that the servers do not have yet (Shen et al. 2019,
CoCoD-SGD). This hides a slow network, but workers are one round further apart.

Each push has its worker's round number and counts once. A push that started more than STALE rounds per worker ago, as
after a suspension, is ignored, and the worker continues from the servers' parameters.
"""

import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from depthfield.network.model import DepthField
from depthfield.training import steps
from depthfield.training.recipe import Recipe
from depthfield.training.rounds import Report

STALE = 8


class Vector(NamedTuple):
    """Parameters that are trained together: their paths and shapes, in the order of a flat vector."""

    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes]

    def flat(self, tensors: dict[str, tf.Tensor]) -> tf.Tensor:
        """Join tensors by path into one float32 [N]."""
        return tf.concat([tf.reshape(tensors[path], [-1]) for path in self.paths], axis=0)

    def apart(self, flat: tf.Tensor) -> dict[str, tf.Tensor]:
        """Split one float32 [N] into tensors by path."""
        parts = zip(self.paths, self.shapes, tf.split(flat, self.sizes), strict=True)
        return {path: tf.reshape(part, shape) for path, shape, part in parts}


def vectors(model: DepthField, frozen: Collection[str]) -> list[Vector]:
    """Return the vectors of parameters trained from the start, and of those `frozen` at first, if any."""
    groups = ([], [])
    for variable in model.trainable_variables:
        groups[variable.path in frozen].append(variable)
    return [Vector(tuple(v.path for v in group), tuple(tuple(v.shape) for v in group)) for group in groups if group]


def shares(size: int, servers: int) -> list[int]:
    """Return how many of `size` numbers each server has; they differ by at most one."""
    return [size // servers + (server < size % servers) for server in range(servers)]


class Server(NamedTuple):
    """The variables on one parameter server."""

    device: str
    values: list[tf.Variable]  # its share of each vector
    pushes: tf.Variable  # int64 [workers]: the number of each worker's last push
    steps: tf.Variable  # int64: steps of the training pushed so far


class Servers:
    """The parameters on the servers of a cluster, one device each; used by the chief and in rounds."""

    def __init__(self, model: DepthField, parts: list[Vector], devices: Sequence[str], workers: int, step: int):
        self.parts, self.workers = parts, workers
        self.cuts = [shares(sum(part.sizes), len(devices)) for part in parts]
        values = {variable.path: tf.convert_to_tensor(variable.value) for variable in model.trainable_variables}
        cut = [tf.split(part.flat(values), sizes) for part, sizes in zip(parts, self.cuts, strict=True)]
        self.servers = []
        for index, device in enumerate(devices):
            with tf.device(device):
                own = [tf.Variable(pieces[index], trainable=False) for pieces in cut]
                pushes = tf.Variable(tf.zeros([workers], tf.int64), trainable=False)
                self.servers.append(Server(device, own, pushes, tf.Variable(step, dtype=tf.int64, trainable=False)))

    def step(self) -> int:
        """Return the steps pushed so far by all workers."""
        return int(self.servers[0].steps.numpy())

    def read(self) -> tuple[dict[str, np.ndarray], bool]:
        """Return the parameters by path, and whether nothing was pushed while reading."""
        found, before = {}, [int(server.steps.numpy()) for server in self.servers]
        for number, part in enumerate(self.parts):
            flat = np.concatenate([server.values[number].numpy() for server in self.servers])
            ends = np.cumsum(part.sizes)[:-1]
            pieces = zip(part.paths, part.shapes, np.split(flat, ends), strict=True)
            found |= {path: piece.reshape(shape) for path, shape, piece in pieces}
        return found, before == [int(server.steps.numpy()) for server in self.servers]

    def pull(self, number: int) -> tf.Tensor:
        """Read a vector by its number, float32 [N], in a graph."""
        pieces = []
        for server in self.servers:
            with tf.device(server.device):
                pieces.append(tf.identity(server.values[number].read_value()))
        return tf.concat(pieces, axis=0)

    def known(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return steps so far, int64 [], and the number of each worker's last push, int64 [workers], in a graph."""
        first = self.servers[0]
        with tf.device(first.device):
            return tf.identity(first.steps.read_value()), tf.identity(first.pushes.read_value())

    def push(self, differences: dict[int, tf.Tensor], worker: tf.Tensor, push: tf.Tensor, since: tf.Tensor, count):
        """Add `differences`, vectors by number in the wire's dtype, in a graph; returns operations to wait for.

        It is push number `push` of `worker`, int64 [] each, for `count` steps, int64 [], and started after `since`
        pushes of all workers. A repeated push, or one that started too long ago, adds nothing.
        """
        cut = {number: tf.split(flat, self.cuts[number]) for number, flat in differences.items()}
        done = []
        for index, server in enumerate(self.servers):
            with tf.device(server.device):
                pushes = server.pushes.read_value()
                new = push > tf.gather(pushes, worker)
                counts = new & (tf.reduce_sum(pushes) - since <= STALE * self.workers)
                with tf.control_dependencies([counts]):
                    added = server.steps.assign_add(tf.where(counts, count, 0), read_value=False)
                    done.append(server.pushes.scatter_max(tf.IndexedSlices(push, worker)).op)
                with tf.control_dependencies([added]):  # a reader that sees a change also sees its steps: see `read`
                    for number, pieces in cut.items():
                        # The conversion to float32 happens here, not on the worker, so that the narrower type travels.
                        change = tf.where(counts, tf.cast(pieces[index], tf.float32), 0.0)
                        done.append(server.values[number].assign_add(change, read_value=False))
        return done


class Own:
    """A variable in the memory of the worker that runs a graph; all graphs there share it by name."""

    def __init__(self, name: str, dtype: tf.DType, shape: tuple[int, ...] = ()):
        self.dtype, self.shape = dtype, shape
        self.handle = tf.raw_ops.VarHandleOp(dtype=dtype, shape=shape, shared_name=name, container="")

    def exists(self) -> tf.Tensor:
        return tf.raw_ops.VarIsInitializedOp(resource=self.handle)

    def read(self) -> tf.Tensor:
        return tf.ensure_shape(tf.raw_ops.ReadVariableOp(resource=self.handle, dtype=self.dtype), self.shape)

    def assign(self, value: tf.Tensor) -> tf.Operation:
        return tf.raw_ops.AssignVariableOp(resource=self.handle, value=tf.cast(value, self.dtype))


class Memory:
    """A worker's state between rounds, as variables for one graph."""

    def __init__(self, parts: list[Vector], slots: Sequence[str], name: str):
        def flats(what: str) -> list[Own]:
            return [Own(f"{name}/{what}{n}", tf.float32, (sum(part.sizes),)) for n, part in enumerate(parts)]

        def number(what: str, dtype: tf.DType = tf.int64) -> Own:
            return Own(f"{name}/{what}", dtype)

        self.parameters, self.unpushed = flats("parameters"), flats("unpushed")
        self.slots = {slot: flats(slot) for slot in slots}
        self.age = number("age")  # steps of this worker since its slots were zero
        self.push = number("push")  # number of its last push
        self.steps = number("steps")  # steps of the training at the last pull
        self.since = number("since")  # pushes of all workers at the last pull
        self.steps_unpushed = number("steps_unpushed")
        self.since_unpushed = number("since_unpushed")  # `since` of the parameters at the start of `unpushed`
        self.ended = number("ended", tf.float64)  # end of the last round, tf.timestamp

    def begin(self, servers: Servers, worker: tf.Tensor) -> None:
        """Start with the parameters of the servers."""
        steps, pushes = servers.known()
        for n, (parameters, unpushed) in enumerate(zip(self.parameters, self.unpushed, strict=True)):
            pulled = servers.pull(n)
            parameters.assign(pulled)
            for flat in (unpushed, *(flats[n] for flats in self.slots.values())):
                flat.assign(tf.zeros_like(pulled))
        for number in (self.age, self.steps_unpushed, self.ended):
            number.assign(0)
        self.push.assign(tf.gather(pushes, worker))
        self.steps.assign(steps)
        for number in (self.since, self.since_unpushed):
            number.assign(tf.reduce_sum(pushes))


NEVER, BESIDE, AROUND = range(3)  # when a round exchanges


def make(
    servers: Servers,
    model: DepthField,
    recipe: Recipe,
    frozen: Collection[str],
    worker: Callable[[], tf.Tensor],
    memory: str = "worker",
) -> Callable[..., tf.Tensor]:
    """Return a graph function that runs one round of a worker.

    It takes an iterator of batches, the number of steps of each worker, int32 [workers], when to exchange, int32 [],
    and the values of the model's variables that are not trained. It returns a Report, float64 [8].

    `worker` returns the index of the worker, int64 []. Vectors whose parameters are all `frozen` are not trained.
    `memory` distinguishes the workers of one process.
    """
    take, slot_names = steps.make(model, recipe, frozen), steps.optimizer_of(recipe).slots
    moving = [n for n, part in enumerate(servers.parts) if not set(part.paths) <= set(frozen)]
    wire = getattr(tf, recipe.wire)
    paths = [variable.path for variable in model.trainable_variables]

    def dense(flats: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        apart = {}
        for part, flat in zip(servers.parts, flats, strict=True):
            apart |= part.apart(flat)
        return {path: apart[path] for path in paths}

    @tf.function
    def train_round(
        iterator: tf.data.Iterator, counts: tf.Tensor, when: tf.Tensor, fixed: list[tf.Tensor]
    ) -> tf.Tensor:
        begun = tf.timestamp()
        index, own = worker(), Memory(servers.parts, slot_names, memory)
        tf.cond(own.ended.exists(), lambda: None, lambda: own.begin(servers, index))
        before, unpushed = ([variable.read() for variable in kind] for kind in (own.parameters, own.unpushed))
        slots = {name: dense([flat.read() for flat in flats]) for name, flats in own.slots.items()}
        age, ended, push, steps_unpushed = (v.read() for v in (own.age, own.ended, own.push, own.steps_unpushed))
        step, since, since_unpushed = (v.read() for v in (own.steps, own.since, own.since_unpushed))
        count = tf.gather(counts, index)

        def pull() -> tuple:
            """Return the servers' parameters, with the steps and pushes in them."""
            known, pushes = servers.known()
            return [servers.pull(n) for n in moving], known, tf.reduce_sum(pushes)

        def pushed(progress: list[tf.Tensor], steps: tf.Tensor, since: tf.Tensor) -> tuple:
            """Return operations that push progress, and its rounding errors."""
            sent = [tf.cast(flat / servers.workers, wire) for flat in progress]
            left = [flat - tf.cast(s, tf.float32) * servers.workers for flat, s in zip(progress, sent, strict=True)]
            return servers.push(dict(zip(moving, sent, strict=True)), index, push + 1, since, steps), left

        unpushed = [unpushed[n] for n in moving]
        origin = [before[n] - flat for n, flat in zip(moving, unpushed, strict=True)]  # the last pulled parameters
        around = when == AROUND

        def push_and_pull() -> tuple:
            operations, left = pushed(unpushed, steps_unpushed, since_unpushed)
            with tf.control_dependencies(operations):
                return left, *pull()

        def pull_before() -> tuple:
            pulled, known, pushes = pull()
            return [flat + rest for flat, rest in zip(pulled, unpushed, strict=True)], known, pushes

        # Two exchanges, at most one of which does something. Computing waits for the first, and for nothing else.
        started, known, pushes = tf.cond(around, pull_before, lambda: ([before[n] for n in moving], step, since))
        left, came, known_beside, pushes_beside = tf.cond(
            when == BESIDE, push_and_pull, lambda: (unpushed, origin, step, since)
        )
        with tf.control_dependencies(started):
            moved_before = tf.timestamp() - begun
        with tf.control_dependencies(came):
            moved_beside = tf.timestamp() - begun
        start = list(before)
        for n, flat in zip(moving, started, strict=True):
            start[n] = flat
        first = known + steps_unpushed
        by_path = {path: {name: slots[name][path] for name in slot_names} for path in paths}
        taken = take(iterator, count, dense(start), by_path, fixed, first, age, servers.workers)
        after = [part.flat(taken.parameters) for part in servers.parts]
        with tf.control_dependencies(after):
            computed = tf.timestamp()
        count = tf.cast(count, tf.int64)
        progress = [rest + (after[n] - start[n]) for n, rest in zip(moving, left, strict=True)]
        known, pushes = tf.cond(around, lambda: (known, pushes), lambda: (known_beside, pushes_beside))

        def push_what_was_computed() -> list[tf.Tensor]:
            began = tf.where(steps_unpushed > 0, since_unpushed, pushes)
            operations, left = pushed(progress, steps_unpushed + count, began)
            with tf.control_dependencies(operations):
                return [tf.identity(flat) for flat in left]

        rest = tf.cond(around, push_what_was_computed, lambda: progress)
        with tf.control_dependencies([*rest, moved_beside]):
            ready = tf.timestamp()
        computing = computed - begun - tf.where(around, moved_before, 0.0)
        moving_seconds = tf.stack([0.0, moved_beside, moved_before + ready - computed])[when]

        # State changes only at the end, so that a round that fails half-way can be repeated from its start.
        with tf.control_dependencies([ready, known, pushes]):
            for n, flat, parameters in zip(moving, rest, came, strict=True):
                own.unpushed[n].assign(flat)
                now_here = tf.cond(when == BESIDE, lambda p=parameters, f=flat: p + f, lambda n=n: after[n])
                own.parameters[n].assign(now_here)
            for name, flats in own.slots.items():
                found = {path: taken.slots[path][name] for path in paths}
                for n in moving:
                    flats[n].assign(servers.parts[n].flat(found))
            own.age.assign(age + count)
            own.push.assign(push + tf.cast(when != NEVER, tf.int64))
            own.steps.assign(known)
            own.since.assign(pushes)
            own.steps_unpushed.assign(tf.stack([steps_unpushed + count, count, 0])[when])
            own.since_unpushed.assign(tf.stack([since_unpushed, since, pushes])[when])
            now = tf.timestamp()
            own.ended.assign(now)
        idle = tf.where(ended > 0, begun - ended, 0.0)
        report = Report(
            taken.loss, count, index, now - begun, computing - taken.waited, taken.waited, moving_seconds, idle
        )
        return tf.stack([tf.cast(value, tf.float64) for value in report])  # one tensor to fetch

    return train_round
