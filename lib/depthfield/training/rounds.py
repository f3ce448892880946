"""A worker's unit of work, a round: read the parameters once, take H steps in one graph, push back the difference.

With one worker any H is exact SGD. With several, each pushes its difference divided by their number, so that rounds
begun from the same parameters end in the mean of what they came to (local SGD, Stich 2019). Adding whole differences,
as plain asynchronous SGD would, was measured to train worse than one worker alone: Adam's steps do not shrink with the
noise of a small batch, their mean does. A step a closure would spend most of its time moving parameters.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

import tensorflow as tf

from depthfield.network import registry
from depthfield.network.model import DepthField
from depthfield.training.optimizer import Optimizer, learning_rate
from depthfield.training.recipe import OPTIMIZERS, Recipe


class State(NamedTuple):
    """What training changes; on a cluster these variables live on the parameter servers."""

    model: DepthField
    slots: dict[str, dict[str, tf.Variable]]  # of the optimizer: by the path of the parameter, then by name
    step: tf.Variable  # int64: steps taken, by all workers together

    def variables(self) -> dict[str, tf.Variable]:
        """Every variable by a name of its own, the same in each process that builds this recipe's model."""
        slots = {f"{name}/{path}": slot for path, named in self.slots.items() for name, slot in named.items()}
        return model_variables(self.model) | slots | {"step": self.step}


def model_variables(model: DepthField) -> dict[str, tf.Variable]:
    """The variables of a model by their paths."""
    return {variable.path: variable.value for variable in model.variables}


def optimizer_of(recipe: Recipe) -> Optimizer:
    return registry.resolve(OPTIMIZERS[recipe.optimizer])


def state(model: DepthField, recipe: Recipe) -> State:
    """Optimizer slots of zeros and a step of 0 for a model; call it in the scope the model was built in."""
    slots = {
        parameter.path: {
            name: tf.Variable(tf.zeros(parameter.shape), trainable=False) for name in optimizer_of(recipe).slots
        }
        for parameter in model.trainable_variables
    }
    return State(model, slots, tf.Variable(0, dtype=tf.int64, trainable=False))


def make(
    state: State, recipe: Recipe, steps: int, workers: int = 1, frozen: Collection[str] = ()
) -> Callable[[tf.data.Iterator], tf.Tensor]:
    """A graph function: takes an iterator of batches, trains `steps` steps as one of `workers`, returns the mean loss.

    The loss is the recipe's, after the first `unary_share` of its steps with the unary loss. Variables whose paths are
    `frozen` stay as they are, and no gradient is computed for them.
    The optimizer's slots are replaced, the last to finish wins: they are running means already.
    """
    model, optimizer = state.model, optimizer_of(recipe)
    variables = {variable.path: variable.value for variable in model.trainable_variables}
    tuned = [path for path in variables if path not in frozen]
    of_tau = [variable is model.tau for variable in model.non_trainable_variables].index(True)
    unary_steps = int(recipe.unary_share * recipe.steps)
    unary, tuning = (registry.resolve(registry.LOSSES[name]) for name in ("unary", recipe.loss))

    def loss_of(parameters: dict[str, tf.Tensor], fixed: list[tf.Tensor], step: tf.Tensor, batch: dict) -> tf.Tensor:
        # No layer here does something else in training: encoders with such layers are refused (network.encoders).
        (z, weights), _ = model.stateless_call(list(parameters.values()), fixed, batch)
        tau = fixed[of_tau]
        return tf.cond(
            step < unary_steps,
            lambda: unary(z, weights, tau, batch),
            lambda: tuning(z, weights, tau, batch),
        )

    def updated(parameters: dict[str, tf.Tensor], gradients: list[tf.Tensor], slots: dict, step: tf.Tensor):
        """The parameters and slots after a step; `gradients` are those of the `tuned` parameters."""
        rate, number = learning_rate(recipe, step), tf.cast(step + 1, tf.float32)
        after, slots_after = dict(parameters), dict(slots)
        for path, gradient in zip(tuned, gradients, strict=True):
            faster = recipe.pairwise_rate if path == model.beta.path else 1.0
            change, slots_after[path] = optimizer.update(gradient, slots[path], faster * rate, number)
            if parameters[path].shape.rank > 1:  # decoupled, and of matrices alone (Loshchilov and Hutter 2019)
                change -= rate * recipe.weight_decay * parameters[path]
            after[path] += change
        return projected(after), slots_after

    def projected(parameters: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """β ≥ 0, wherever it has come to."""
        return parameters | {model.beta.path: tf.nn.relu(parameters[model.beta.path])}

    @tf.function
    def train_round(iterator: tf.data.Iterator) -> tf.Tensor:
        first = state.step.read_value()
        before = {path: tf.convert_to_tensor(variable) for path, variable in variables.items()}
        fixed = [tf.convert_to_tensor(variable) for variable in model.non_trainable_variables]

        def one_step(done, total, parameters, slots):
            batch = next(iterator)
            step = first + tf.cast(done, tf.int64)
            watched = [parameters[path] for path in tuned]
            with tf.GradientTape() as tape:
                tape.watch(watched)
                loss = loss_of(parameters, fixed, step, batch)
            gradients = tape.gradient(loss, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            gradients, _ = tf.clip_by_global_norm(gradients, recipe.clip)
            parameters, slots = updated(parameters, gradients, slots, step)
            return done + 1, total + loss, parameters, slots

        slots = {p: {name: tf.convert_to_tensor(slot) for name, slot in s.items()} for p, s in state.slots.items()}
        start = (0, 0.0, projected(before), slots)
        _, total, after, slots = tf.while_loop(lambda done, *_: done < steps, one_step, start, parallel_iterations=1)
        for path in tuned:
            variables[path].assign_add((after[path] - before[path]) / workers)
        for path, named in state.slots.items():
            for name, slot in named.items():
                slot.assign(slots[path][name])
        state.step.assign_add(steps)
        return total / steps

    return train_round
