"""A round in one process: H steps in one graph, on variables of this process, alone or in step with others."""

import time
from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from depthfield.network.model import DepthField
from depthfield.training import steps
from depthfield.training.recipe import Recipe


class Report(NamedTuple):
    """The report of a finished round; times in seconds."""

    loss: float  # mean over its steps
    steps: int
    worker: int
    seconds: float  # the whole round
    computing: float  # its steps, without waiting for data
    waiting: float  # for data
    moving: float  # exchanging with the parameter servers, while computing or not; in all-reduce
    idle: float  # since the worker's round before


def report(values: np.ndarray) -> Report:
    """Convert the result of a graph, float64 [8], to a report."""
    numbers = dict(zip(Report._fields, values.tolist(), strict=True))
    return Report(**numbers | {name: int(numbers[name]) for name in ("steps", "worker")})


class State(NamedTuple):
    """The state of training in one process."""

    model: DepthField
    slots: dict[str, dict[str, tf.Variable]]  # of the optimizer: by the path of the parameter, then by name
    step: tf.Variable  # int64: steps taken
    age: tf.Variable  # int64: steps since the slots were zero; fewer after a restart

    def variables(self) -> dict[str, tf.Variable]:
        """Return all variables by unique names, the same in each process that builds this recipe's model."""
        return model_variables(self.model) | self.slots_by_name() | {"step": self.step}

    def slots_by_name(self) -> dict[str, tf.Variable]:
        """Return the variables that may start again at zero: slots and their age."""
        slots = {f"{name}/{path}": slot for path, named in self.slots.items() for name, slot in named.items()}
        return slots | {"age": self.age}


def model_variables(model: DepthField) -> dict[str, tf.Variable]:
    """Return the variables of a model by path."""
    return {variable.path: variable.value for variable in model.variables}


def slot_shapes(model: DepthField, recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Return the shapes of State.slots_by_name."""
    parameters, names = model.trainable_variables, steps.optimizer_of(recipe).slots
    return {f"{name}/{v.path}": tuple(v.shape) for v in parameters for name in names} | {"age": ()}


def state(model: DepthField, recipe: Recipe) -> State:
    """Return the initial state of a model: optimizer slots of zeros, and step 0."""
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
    """Return a function that trains, given an iterator of batches and a number of steps (see steps.make).

    `workers` is the number of workers that take each step together.
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
