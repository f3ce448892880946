"""Training steps on tensors: update parameters and optimizer slots over several batches, in one graph."""

from collections.abc import Callable, Collection
from typing import NamedTuple

import tensorflow as tf

from depthfield.network import registry
from depthfield.network.model import DepthField
from depthfield.training.optimizer import Optimizer, learning_rate
from depthfield.training.recipe import OPTIMIZERS, Recipe

Parameters = dict[str, tf.Tensor]  # by path
Slots = dict[str, dict[str, tf.Tensor]]  # of the optimizer: by the path of the parameter, then by name


class Taken(NamedTuple):
    """The result of several steps."""

    parameters: Parameters
    slots: Slots
    loss: tf.Tensor  # float32 []: mean
    waited: tf.Tensor  # float64 []: seconds waiting for data
    moved: tf.Tensor  # float64 []: seconds in `mean`


def optimizer_of(recipe: Recipe) -> Optimizer:
    return registry.resolve(OPTIMIZERS[recipe.optimizer])


Mean = Callable[[list[tf.Tensor]], list[tf.Tensor]]  # of tensors of all workers, in a graph


def make(
    model: DepthField, recipe: Recipe, frozen: Collection[str] = (), mean: Mean | None = None
) -> Callable[..., Taken]:
    """Return a function that takes steps of `recipe`, for use in a graph.

    The loss is the recipe's, after the first `unary_share` of its steps with the unary loss. Parameters with `frozen`
    paths do not change, and no gradient is computed for them. With `mean`, all workers take each step together, with
    the mean of their gradients.
    """
    optimizer = optimizer_of(recipe)
    tuned = [variable.path for variable in model.trainable_variables if variable.path not in frozen]
    of_tau = [variable is model.tau for variable in model.non_trainable_variables].index(True)
    unary_steps = int(recipe.unary_share * recipe.steps)
    unary, tuning = (registry.resolve(registry.LOSSES[name]) for name in ("unary", recipe.loss))

    def loss_of(parameters: Parameters, fixed: list[tf.Tensor], step: tf.Tensor, batch: dict) -> tf.Tensor:
        # No layer behaves differently in training: encoders with such layers are refused (network.encoders).
        (z, weights), _ = model.stateless_call(list(parameters.values()), fixed, batch)
        tau = fixed[of_tau]
        return tf.cond(
            step < unary_steps,
            lambda: unary(z, weights, tau, batch),
            lambda: tuning(z, weights, tau, batch),
        )

    def updated(parameters: Parameters, gradients: list[tf.Tensor], slots: Slots, step, age, workers):
        """Return parameters and slots after a step; `gradients` are those of the `tuned` parameters."""
        rate, number = learning_rate(recipe, step, age) * workers**0.5, tf.cast(age + 1, tf.float32)
        after, slots_after = dict(parameters), dict(slots)
        for path, gradient in zip(tuned, gradients, strict=True):
            faster = recipe.pairwise_rate if path == model.beta.path else 1.0
            change, slots_after[path] = optimizer.update(gradient, slots[path], faster * rate, number)
            if parameters[path].shape.rank > 1:  # decoupled, and only of matrices (Loshchilov and Hutter 2019)
                change -= rate * recipe.weight_decay * parameters[path]
            after[path] += change
        return projected(after), slots_after

    def projected(parameters: Parameters) -> Parameters:
        """Project β to β ≥ 0."""
        return parameters | {model.beta.path: tf.nn.relu(parameters[model.beta.path])}

    def take(
        iterator: tf.data.Iterator,
        count: tf.Tensor,
        parameters: Parameters,
        slots: Slots,
        fixed: list[tf.Tensor],
        step: tf.Tensor,
        age: tf.Tensor,
        workers: int = 1,
    ) -> Taken:
        """Take `count` steps, int32 [], as one of `workers`.

        The first is the schedule's `step`; the slots were zero `age` steps ago, both int64 []. `fixed` are the values
        of the model's other variables. The mean over several workers has less noise than each, and together they take
        the steps of the schedule, so the rate is multiplied by the root of their number, as for a larger batch
        (Malladi et al. 2022, the square root scaling rule).
        """

        stride = 1 if mean is None else workers  # steps of the schedule per step of ours

        def one_step(done, total, waited, moved, parameters, slots):
            # Operations run in any order: to measure time, everything measured must depend on each other.
            with tf.control_dependencies(list(parameters.values())):
                begun = tf.timestamp()
            with tf.control_dependencies([begun]):
                batch = next(iterator)
            with tf.control_dependencies(list(batch.values())):
                there = tf.timestamp()
            with tf.control_dependencies([there]):
                batch = {name: tf.identity(value) for name, value in batch.items()}
            waited += there - begun
            now = tf.cast(done, tf.int64)
            scheduled = step + now * stride
            watched = [parameters[path] for path in tuned]
            with tf.GradientTape() as tape:
                tape.watch(watched)
                loss = loss_of(parameters, fixed, scheduled, batch)
            gradients = tape.gradient(loss, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            # A gradient of attention's products is of unknown shape, and an all-reduce must know it.
            gradients = [tf.ensure_shape(slope, value.shape) for slope, value in zip(gradients, watched, strict=True)]
            if mean is not None:
                with tf.control_dependencies([loss, *gradients]):
                    begun = tf.timestamp()
                loss, *gradients = mean([loss, *gradients])
                with tf.control_dependencies(gradients):
                    moved += tf.timestamp() - begun
            gradients, _ = tf.clip_by_global_norm(gradients, recipe.clip)
            parameters, slots = updated(parameters, gradients, slots, scheduled, age + now, workers)
            return done + 1, total + loss, waited, moved, parameters, slots

        nothing = tf.zeros([], tf.float64)
        start = (0, 0.0, nothing, nothing, projected(parameters), slots)
        _, total, waited, moved, parameters, slots = tf.while_loop(
            lambda done, *_: done < count, one_step, start, parallel_iterations=1
        )
        return Taken(parameters, slots, total / tf.cast(tf.maximum(count, 1), tf.float32), waited, moved)

    return take
