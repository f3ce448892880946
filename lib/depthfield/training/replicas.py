"""Training by all-reduce: the chief and the workers of a cluster are replicas of one training, in step with each other.

Each replica has all parameters and its own batches. Before each step, the replicas average their gradients with one
collective of tf.distribute.MultiWorkerMirroredStrategy. The chief is replica 0, and only it validates and saves.
Replicas get everything else from the chief by collectives: at the start the recipe, the photos and all variables, and
before each round its number of steps and the variables that validation may have changed.

Collectives are matched by their order: chief and followers must call `_sum` in the same order with the same shapes.
"""

import hashlib
import json
import math
import os
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from depthfield.cluster.node import rearm, without_proxies
from depthfield.network import model as models
from depthfield.network.model import DepthField
from depthfield.records import batches, shards
from depthfield.records.augmentation import Augmentation
from depthfield.records.index import Photo
from depthfield.records.patches import Settings
from depthfield.tool import Failure, cores, say
from depthfield.training import recipe as recipes
from depthfield.training import rounds
from depthfield.training.recipe import Recipe
from depthfield.training.rounds import Report
from depthfield.training.survey import Survey
from depthfield.training.workers import ALONE_STEPS, Here

HEARTBEAT_SECONDS = 10**6  # watch-nodes notices lost replicas; TensorFlow would mistake a suspended one for lost
ROUND_SECONDS = 5  # maximum, unless a step takes longer: the chief checks its signals only between rounds

ABORTED = "Collective ops is aborted by: "  # prefix of the reason in an error of TensorFlow
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)


class Replicas(Here):
    """Like Here, but in step with the other replicas of a cluster.json without parameter servers."""

    def __init__(self, cluster: dict[str, list[str]], role: str, index: int, threads: int | None = None):
        without_proxies()
        os.environ["TF_GRPC_REUSE_PORT"] = "1"  # the process that announced this replica holds its port
        tf.get_logger().setLevel("CRITICAL")
        threads = threads or int(os.environ.get("TF_NUM_INTRAOP_THREADS") or cores())
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(max(4, threads))  # with one, a replica waits for itself
        tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:1], "GPU")
        jobs = tf.compat.v1.ConfigProto().experimental.coordination_config.coordinated_job_list
        for job, nodes in cluster.items():
            jobs.add(name=job, num_tasks=len(nodes))
        context.context().configure_coordination_service(
            "standalone",
            "/job:chief/replica:0/task:0",
            heartbeat_timeout_in_ms=HEARTBEAT_SECONDS * 1000,
            coordinated_jobs=list(jobs),
        )
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(cluster), task_type=role, task_id=index, rpc_layer="grpc"
        )
        try:
            self.strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        except (tf.errors.OpError, ValueError, RuntimeError) as error:
            raise Failure(f"cannot join the cluster: {str(error).splitlines()[0]}") from None
        if role == "chief":
            rearm()
        self.workers = 1 + len(cluster["worker"])
        self.number = 0 if role == "chief" else 1 + index
        self.sum = tf.function(self._sum)

    def _sum(self, tensor: tf.Tensor) -> tf.Tensor:
        """Return the sum of the replicas' tensors, float32 of the same shape."""
        add = tf.distribute.ReduceOp.SUM

        def reduced(own: tf.Tensor) -> tf.Tensor:
            return tf.distribute.get_replica_context().all_reduce(add, tf.identity(own))

        return self.strategy.run(reduced, args=(tensor,))

    def told(self, values: np.ndarray | Sequence[float]) -> np.ndarray:
        """Return the chief's `values`; the others call this with values of the same shape."""
        own = np.asarray(values, np.float32)
        return self.sum(tf.constant(own if self.number == 0 else np.zeros_like(own))).numpy()

    def told_text(self, text: str = "") -> str:
        own = np.frombuffer(text.encode(), np.uint8)
        length = int(self.told([*divmod(len(own), 2**16)]) @ [2**16, 1])
        return bytes(self.told(own if self.number == 0 else np.zeros(length)).astype(np.uint8)).decode()

    def mean(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """Return the means of these tensors over all replicas, in a graph, with one collective."""
        flat = self._sum(tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)) / self.workers
        pieces = tf.split(flat, [tensor.shape.num_elements() for tensor in tensors])
        return [tf.reshape(piece, tensor.shape) for piece, tensor in zip(pieces, tensors, strict=True)]

    def begin(self, model: DepthField, recipe: Recipe, step: int, slots: dict, frozen: Collection[str]) -> None:
        self.frozen = frozen
        super().begin(model, recipe, step, slots, frozen)

    def round(self, frozen: Collection[str] = ()) -> Callable[[tf.data.Iterator, int], Report]:
        return rounds.make(self.state, self.recipe, frozen, self.mean, self.workers)

    def stream(self) -> batches.Stream:
        return batches.Stream(self.recipe.seed, self.first // self.workers, 0, self.number, self.workers)

    def lead(self, survey: Survey, photos: Sequence[Photo]) -> None:
        """After `begin`, send the photos and the current variables to the other replicas."""
        what = {
            "recipe": recipes.tables(self.recipe),
            "similarities": survey.similarities,
            "mean_log_depth": survey.mean_log_depth,
            "step": self.first,
            "age": int(self.state.age.numpy()),
            "frozen": sorted(self.frozen),
            "photos": [photo._replace(shard=str(photo.shard)) for photo in photos],
        }
        self.told_text(json.dumps(what))
        self.tell_variables()

    def tell_variables(self) -> None:
        of_model = [v for v in rounds.model_variables(self.model).values() if v.dtype == tf.float32]
        of_slots = zip(*(named.values() for named in self.state.slots.values()), strict=True)
        for group in (of_model, *of_slots):
            flat = self.told(np.concatenate([variable.numpy().ravel() for variable in group]))
            ends = np.cumsum([variable.shape.num_elements() for variable in group])[:-1]
            for variable, piece in zip(group, np.split(flat, ends), strict=True):
                variable.assign(piece.reshape(variable.shape))

    def rounds(self, batches: Callable[[], tf.data.Dataset], until: Callable[[], int]) -> Iterator[Report | None]:
        """Like Here.rounds; the last step may exceed `until()`, because each step of all replicas counts for each."""
        iterator, most = iter(batches()), self.recipe.round_steps or ALONE_STEPS
        validation, longest = self.recipe.validation_steps, 1
        while (left := min((end := until()) - self.taken, validation - self.taken % validation)) > 0:
            count = min(math.ceil(left / self.workers), most, longest)
            begun = time.monotonic()
            self.next_round(count)
            told = time.monotonic() - begun
            report = self.take(iterator, count)
            self.taken = min(self.taken, end)
            longest = max(int(ROUND_SECONDS * count / report.seconds), 1)
            yield report._replace(seconds=report.seconds + told, moving=report.moving + told)
        self.next_round(0)

    def next_round(self, count: int = 0) -> int:
        """Return the chief's number of steps for the next round, and copy its variables that are not trained."""
        fixed = [self.model.tau, self.model.scale]
        count, *values = self.told([count, *(float(variable.numpy()) for variable in fixed)])
        for variable, value in zip(fixed, values, strict=True):
            variable.assign(value)
        return int(count)


def follow(cluster: dict[str, list[str]], index: int, threads: int | None) -> None:
    """Run worker `index` of the cluster, in step with the chief, until it ends the training or another replica is gone.

    A replica does not decide what follows: its watcher knows which node is gone, and ends this process.
    """
    try:
        _follow(Replicas(cluster, "worker", index, threads))
    except LOST as error:
        say(f"worker {index}: another replica is gone ({cause(error)})")
    except tf.errors.OpError as error:
        raise Failure(f"a step failed: {cause(error)}") from None


def _follow(replica: Replicas) -> None:
    what = json.loads(replica.told_text())
    recipe = recipes.make(what["recipe"], "the chief's recipe")
    photos = [
        Photo(source, group, Settings(settings[0], tuple(settings[1]), *settings[2:]), digest, Path(shard), *place)
        for source, group, settings, digest, shard, *place in what["photos"]
    ]
    random.seed(recipe.seed)
    model = models.build(recipe, tuple(what["similarities"]), what["mean_log_depth"])
    replica.begin(model, recipe, what["step"], {}, set(what["frozen"]))
    replica.state.age.assign(what["age"])
    replica.tell_variables()
    how = Augmentation(recipe.mirror, recipe.crop, recipe.turn, recipe.colour)
    iterator = iter(batches.endless(photos, recipe.batch_size, how, replica.stream()))
    say(f"replica {replica.number} of {replica.workers}: {len(photos)} photos, from step {replica.taken}")
    while count := replica.next_round():
        replica.take(iterator, count)
    say(f"replica {replica.number} has ended at step {replica.taken}, with parameters {digest(model)}")


def digest(model: DepthField) -> str:
    """Return the SHA-256 of the parameters, in the order of their paths; it is the same for all replicas."""
    parameters = sorted(model.trainable_variables, key=lambda variable: variable.path)
    return hashlib.sha256(b"".join(variable.numpy().tobytes() for variable in parameters)).hexdigest()


def cause(error: tf.errors.OpError) -> str:
    """Return the reason in one of TensorFlow's long error messages."""
    aborted = (line.removeprefix(ABORTED) for line in error.message.splitlines() if line.startswith(ABORTED))
    return next(aborted, shards.words(error))
