"""A worker's unit of work, a round: read the parameters once, take H steps in one graph, push back the difference.

With one worker any H is exact SGD. With several, each pushes its difference divided by their number, so that rounds
begun from the same parameters end in the mean of what they came to (local SGD, Stich 2019). Adding whole differences,
as plain asynchronous SGD would, was measured to train worse than one worker alone: Adam's steps do not shrink with the
noise of a small batch, their mean does. A step a closure would spend most of its time moving parameters.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

import tensorflow as tf

from depthfield.network.model import LOSSES, DepthField
from depthfield.training.optimizer import OPTIMIZERS, learning_rate


class State(NamedTuple):
    """What training changes; on a cluster these variables live on the parameter servers."""

    model: DepthField
    slots: list[tf.Variable]  # of the optimizer, for one parameter after the other
    step: tf.Variable  # int64: steps taken, by all workers together

    def variables(self) -> dict[str, tf.Variable]:
        """Every variable by a name of its own, the same in each process that builds this recipe's model."""
        slots = {f"slot/{index}": slot for index, slot in enumerate(self.slots)}
        return model_variables(self.model) | slots | {"step": self.step}


def model_variables(model: DepthField) -> dict[str, tf.Variable]:
    """The variables of a model by their names."""
    return {variable.path: variable.value for variable in model.variables}


def state(model: DepthField, recipe) -> State:
    """Optimizer slots of zeros and a step of 0 for a model; call it in the scope the model was built in."""
    count = OPTIMIZERS[recipe.optimizer].slots
    slots = [tf.Variable(tf.zeros(v.shape), trainable=False) for v in model.trainable_variables for _ in range(count)]
    return State(model, slots, tf.Variable(0, dtype=tf.int64, trainable=False))


def make(
    state: State, recipe, steps: int, workers: int = 1, frozen: Collection[str] = ()
) -> Callable[[tf.data.Iterator], tf.Tensor]:
    """A graph function: takes an iterator of batches, trains `steps` steps as one of `workers`, returns the mean loss.

    The loss is the recipe's, after the first `unary_share` of its steps with the unary loss. Variables whose paths are
    `frozen` stay as they are, and no gradient is computed for them.
    The optimizer's slots are replaced, the last to finish wins: they are running means already.
    """
    model, optimizer = state.model, OPTIMIZERS[recipe.optimizer]
    trainable = [variable.value for variable in model.trainable_variables]
    chosen = [index for index, variable in enumerate(model.trainable_variables) if variable.path not in frozen]
    of_tau = [variable is model.tau for variable in model.non_trainable_variables].index(True)
    unary_steps = int(recipe.unary_share * recipe.steps)

    def loss_of(parameters: list[tf.Tensor], fixed: list[tf.Tensor], step: tf.Tensor, batch: dict) -> tf.Tensor:
        (z, weights), _ = model.stateless_call(parameters, fixed, batch)
        tau = fixed[of_tau]
        return tf.cond(
            step < unary_steps,
            lambda: LOSSES["unary"](z, weights, tau, batch),
            lambda: LOSSES[recipe.loss](z, weights, tau, batch),
        )

    def updated(parameters: list[tf.Tensor], gradients: list[tf.Tensor], slots: list[tf.Tensor], step: tf.Tensor):
        """The parameters and slots after a step; `gradients` are those of the `chosen` parameters."""
        rate, number = learning_rate(recipe, step), tf.cast(step + 1, tf.float32)
        after, slots_after = list(parameters), list(slots)
        for index, gradient in zip(chosen, gradients, strict=True):
            own = slice(index * optimizer.slots, (index + 1) * optimizer.slots)
            faster = recipe.pairwise_rate if model.trainable_variables[index] is model.beta else 1.0
            change, slots_after[own] = optimizer.update(gradient, slots[own], faster * rate, number)
            if parameters[index].shape.rank > 1:  # decoupled, and of matrices alone (Loshchilov and Hutter 2019)
                change -= rate * recipe.weight_decay * parameters[index]
            after[index] += change
        return project(after), slots_after

    def project(parameters: list[tf.Tensor]) -> list[tf.Tensor]:
        """β ≥ 0, wherever it has come to."""
        return [
            tf.nn.relu(value) if variable is model.beta else value
            for variable, value in zip(model.trainable_variables, parameters, strict=True)
        ]

    @tf.function
    def round(iterator: tf.data.Iterator) -> tf.Tensor:
        first = state.step.read_value()
        before = [tf.convert_to_tensor(variable) for variable in trainable]
        fixed = [tf.convert_to_tensor(variable) for variable in model.non_trainable_variables]

        def one_step(done, total, parameters, slots):
            batch = next(iterator)
            step = first + tf.cast(done, tf.int64)
            watched = [parameters[index] for index in chosen]
            with tf.GradientTape() as tape:
                tape.watch(watched)
                loss = loss_of(parameters, fixed, step, batch)
            gradients = tape.gradient(loss, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            gradients, _ = tf.clip_by_global_norm(gradients, recipe.clip)
            parameters, slots = updated(parameters, gradients, slots, step)
            return done + 1, total + loss, parameters, slots

        start = (0, 0.0, project(before), [tf.convert_to_tensor(slot) for slot in state.slots])
        _, total, after, slots = tf.while_loop(lambda done, *_: done < steps, one_step, start, parallel_iterations=1)
        for index in chosen:
            trainable[index].assign_add((after[index] - before[index]) / workers)
        for variable, new in zip(state.slots, slots, strict=True):
            variable.assign(new)
        state.step.assign_add(steps)
        return total / steps

    return round
