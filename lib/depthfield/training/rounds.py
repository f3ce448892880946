"""A round of one process: H steps in one graph, on variables of this process, alone or with others in step."""

import time
from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from depthfield.network.model import DepthField
from depthfield.training import steps
from depthfield.training.recipe import Recipe


class Report(NamedTuple):
    """What is known of a round when it has ended; times in seconds."""

    loss: float  # the mean of its steps
    steps: int
    worker: int
    seconds: float  # of all of it
    computing: float  # its steps, without what they waited for data
    waiting: float  # for data
    moving: float  # from asking the parameter servers to having their answer, beside computing or not; in all-reduce
    idle: float  # since the worker's last round


def report(told: np.ndarray) -> Report:
    """The report that a graph told as float64 [8]."""
    numbers = dict(zip(Report._fields, told.tolist(), strict=True))
    return Report(**numbers | {name: int(numbers[name]) for name in ("steps", "worker")})


class State(NamedTuple):
    """What training in one process changes."""

    model: DepthField
    slots: dict[str, dict[str, tf.Variable]]  # of the optimizer: by the path of the parameter, then by name
    step: tf.Variable  # int64: steps taken
    age: tf.Variable  # int64: steps that made the slots what they are; fewer where they began anew

    def variables(self) -> dict[str, tf.Variable]:
        """Every variable by a name of its own, the same in each process that builds this recipe's model."""
        return model_variables(self.model) | self.slots_by_name() | {"step": self.step}

    def slots_by_name(self) -> dict[str, tf.Variable]:
        """The variables that a training may begin anew: slots and their age."""
        slots = {f"{name}/{path}": slot for path, named in self.slots.items() for name, slot in named.items()}
        return slots | {"age": self.age}


def model_variables(model: DepthField) -> dict[str, tf.Variable]:
    """The variables of a model by their paths."""
    return {variable.path: variable.value for variable in model.variables}


def slot_shapes(model: DepthField, recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """The shapes of State.slots_by_name."""
    parameters, names = model.trainable_variables, steps.optimizer_of(recipe).slots
    return {f"{name}/{v.path}": tuple(v.shape) for v in parameters for name in names} | {"age": ()}


def state(model: DepthField, recipe: Recipe) -> State:
    """Optimizer slots of zeros and a step of 0 for a model."""
    names = steps.optimizer_of(recipe).slots
    slots = {
        parameter.path: {name: tf.Variable(tf.zeros(parameter.shape), trainable=False) for name in names}
        for parameter in model.trainable_variables
    }
    step, age = (tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(2))
    return State(model, slots, step, age)


def make(
    state: State, recipe: Recipe, frozen: Collection[str] = (), mean: steps.Mean | None = None, workers: int = 1
) -> Callable[[tf.data.Iterator, int], Report]:
    """A function that takes an iterator of batches and a number of steps, and trains (see steps.make).

    Each step is one of `workers`, which take it together.
    """
    model, take = state.model, steps.make(state.model, recipe, frozen, mean)
    variables = {variable.path: variable.value for variable in model.trainable_variables}

    @tf.function
    def graph(iterator: tf.data.Iterator, count: tf.Tensor) -> tuple[tf.Tensor, ...]:
        before = {path: tf.convert_to_tensor(variable) for path, variable in variables.items()}
        slots = {p: {name: tf.convert_to_tensor(slot) for name, slot in s.items()} for p, s in state.slots.items()}
        fixed = [tf.convert_to_tensor(variable) for variable in model.non_trainable_variables]
        step, age = state.step.read_value(), state.age.read_value()
        taken = take(iterator, count, before, slots, fixed, step, age, workers)
        for path, variable in variables.items():
            if path not in frozen:
                variable.assign(taken.parameters[path])
        for path, named in state.slots.items():
            for name, slot in named.items():
                slot.assign(taken.slots[path][name])
        state.step.assign_add(tf.cast(count, tf.int64) * workers)
        state.age.assign_add(tf.cast(count, tf.int64))
        return taken.loss, taken.waited, taken.moved

    def train_round(iterator: tf.data.Iterator, count: int) -> Report:
        begun = time.monotonic()
        loss, waited, moved = (float(tensor) for tensor in graph(iterator, tf.constant(count)))
        seconds = time.monotonic() - begun
        return Report(loss, count * workers, 0, seconds, seconds - waited - moved, waited, moved, idle=0.0)

    return train_round
