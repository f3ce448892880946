"""Workers of a cluster that take turns in one process: what distance between them costs, and nothing else.

Rounds and parameter servers are those of a cluster, with all variables in this process. Prints the rel of the photos
held out: python -m bench.turns WORKERS STEPS_A_ROUND SEED STEPS SHARD...
"""

import random
import sys
import tempfile
from pathlib import Path

import tensorflow as tf

from depthfield.network import model as models
from depthfield.records import batches
from depthfield.records.augmentation import Augmentation
from depthfield.training import exchange, survey
from depthfield.training import recipe as recipes
from depthfield.training.validation import Validation


def main(workers: int, turn: int, seed: int, steps: int, shards: list[Path]) -> None:
    recipe = recipes.load("demo", [f"seed={seed}", f"steps={steps}"])
    with tempfile.TemporaryDirectory() as run:
        known, photos = survey.begin(Path(run), shards, recipe.validation_share)
    random.seed(recipe.seed)
    model = models.build(recipe, known.similarities, known.mean_log_depth)
    servers = exchange.Servers(model, exchange.vectors(model, ()), ["/device:CPU:0"], workers, 0)
    fixed = [tf.convert_to_tensor(variable) for variable in model.non_trainable_variables]
    how = Augmentation(recipe.mirror, recipe.crop, recipe.turn, recipe.colour)
    rounds = []
    for worker in range(workers):
        stream = batches.Stream(recipe.seed, 0, 1, worker, workers)
        index = tf.constant(worker, tf.int64)
        made = exchange.make(servers, model, recipe, (), lambda index=index: index, f"worker {worker}")
        rounds.append((made, iter(batches.endless(photos.train, recipe.batch_size, how, stream))))
    taken = 0
    while taken < steps:
        count = min(turn, -(-(steps - taken) // workers))
        for train_round, iterator in rounds:
            train_round(iterator, tf.constant([count] * workers), tf.constant(exchange.AROUND), fixed)
            taken += count
    for path, value in servers.read()[0].items():
        next(variable for variable in model.trainable_variables if variable.path == path).assign(value)
    print(Validation(model, photos.held_out, recipe.batch_size, calibrate=True).run()[0]["rel"])


if __name__ == "__main__":
    numbers, shards = sys.argv[1:5], sys.argv[5:]
    main(*map(int, numbers), [Path(shard) for shard in shards])
