"""What single parts cost, beside what they stand next to: medians of several calls, all in one process."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from bench.report import Row
from depthfield.field import fill, random_field, superpixels
from depthfield.network import losses
from depthfield.network import model as models
from depthfield.network.pooling import pool
from depthfield.records import batches, patches
from depthfield.training import recipe as recipes

CALLS = 9
ALL = ("texture", "histogram", "colour")


def seconds(call: Callable) -> float:
    """The median of CALLS calls, after two to warm up."""
    took = []
    for _ in range(CALLS + 2):
        begun = time.perf_counter()
        call()
        took.append(time.perf_counter() - begun)
    return statistics.median(took[2:])


def photo(height: int, width: int, method: str = "700") -> dict[str, np.ndarray]:
    """The fields of a patch file: blotches of colour, with a depth that falls from left to right."""
    rng = np.random.default_rng(0)
    blotches = rng.integers(0, 256, (height // 20, width // 20, 3), np.uint8).repeat(20, axis=0).repeat(20, axis=1)
    image = np.clip(blotches + rng.normal(0, 8, blotches.shape), 0, 255).astype(np.uint8)
    depth = np.broadcast_to(np.linspace(1, 6, image.shape[1], dtype=np.float32), image.shape[:2])
    return patches.make(image, depth, "", "", method, ALL)._asdict()


def batch(*photos: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    made = [batches.prepare({name: tf.constant(one[name]) for name in batches.FIELDS}) for one in photos]
    return {name: tf.stack([one[name] for one in made]) for name in made[0]}


def stepped(model: models.DepthField, loss: Callable, one: dict[str, tf.Tensor]) -> Callable:
    """A function that takes the loss of a batch and its gradients by all parameters."""

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            z, weights = model(one)
            value = loss(z, weights, tf.constant(1.0), one)
        return value, tape.gradient(value, model.trainable_variables)

    return step


def parts() -> list[Row]:
    rows, one = [], photo(480, 640)
    ready = batch(one)
    model = models.build(recipes.load("small"), ALL, 1.0)
    step = seconds(stepped(model, losses.unary, ready))
    features = tf.random.normal([1, 60, 80, model.network.merge.filters])

    @tf.function
    def pooled():
        with tf.GradientTape() as tape:
            tape.watch(features)
            found = pool(features, ready["superpixels"], tf.shape(ready["present"])[1])
        return tape.gradient(found, features)

    count = ready["present"].shape[1]
    rows.append(
        Row(f"superpixel pooling, there and back, share of small's step, n = {count}", seconds(pooled) / step, 0.1)
    )

    z, weights, y = tf.random.normal([1, count]), tf.random.uniform(ready["pairs"].shape[:2]), ready["log_depth"]
    matrix = random_field.precision(weights, ready["pairs"], count)
    factorise = tf.function(lambda: tf.linalg.cholesky(matrix))
    cholesky = seconds(factorise)

    @tf.function
    def answered():
        with tf.GradientTape() as tape:
            tape.watch([z, weights])
            value = tf.reduce_sum((random_field.answer(z, weights, ready["pairs"]) - y) ** 2)
        return tape.gradient(value, [z, weights])

    @tf.function
    def likely():
        missing = tf.zeros_like(ready["measured"])
        with tf.GradientTape() as tape:
            tape.watch([z, weights])
            q, log_determinant = random_field.likelihood_terms(z, weights, ready["pairs"], y, missing)
            value = tf.reduce_sum(q - log_determinant)
        return tape.gradient(value, [z, weights])

    rows.append(
        Row(f"loss on the answer and its gradients, in Choleskys, n = {count}", seconds(answered) / cholesky, 3)
    )
    rows.append(Row(f"likelihood and its gradients, in Choleskys, n = {count}", seconds(likely) / cholesky, 25))
    values = np.log(one["depth"])[:, None]
    for name, how in fill.FILLS.items():
        took = seconds(lambda how=how: how(values, one["image"], one["superpixels"], one["pairs"]))
        rows.append(Row(f"{name} fill of 640×480, s", took, {"smooth": 1, "colourise": 60}[name]))
    rows.append(Row("superpixels of 640×480, s", seconds(lambda: superpixels.segment(one["image"], "700")), 2))
    return rows


PUBLISHED = """
import sys
from bench import parts
parts.largest(sys.argv[1])
"""


def published() -> list[Row]:
    """The published networks at full size on a photo of 640×480: a step and a prediction, in a process of its own."""
    rows = []
    for name in ("dcnf", "fcsp"):
        told = subprocess.run(
            [sys.executable, "-c", PUBLISHED, name], check=True, stdout=subprocess.PIPE, text=True, timeout=1200
        ).stdout.split()
        parameters, took, memory = int(told[0]), float(told[1]), float(told[2])
        told = f"{name} at full size, {parameters / 1e6:.1f} M parameters, a step ({took:.1f} s) and a prediction, GB"
        rows.append(Row(told, memory, 16))
    return rows


def largest(name: str) -> None:
    """Print the number of parameters, the seconds of one training step, and the memory (GB) of it and a prediction."""
    from depthfield.training import rounds

    recipe = recipes.load(name)
    ready = batch(photo(480, 640)) | {"seed": tf.constant([[0, 1]], tf.int64)}
    model = models.build(recipe, ALL, 1.0)
    train_round = rounds.make(rounds.state(model, recipe), recipe)
    begun = time.monotonic()
    assert np.isfinite(train_round(iter(tf.data.Dataset.from_tensors(ready).repeat()), 1).loss)
    took = time.monotonic() - begun
    ready.pop("seed")
    z, weights = model(ready)
    y, _ = random_field.marginals(z, weights, ready["pairs"], tf.constant(1.0))
    assert np.isfinite(y).all()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(sum(int(np.prod(v.shape)) for v in model.trainable_variables), took, peak)
