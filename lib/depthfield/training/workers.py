"""Rounds in this process, or on the workers of a cluster: both are an endless stream of losses."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf

from depthfield.cluster.node import without_proxies
from depthfield.tool import Failure

WAIT_SECONDS = 0.5  # at most, before the chief may look at its clock and its signals again
AHEAD = 2  # rounds in flight for each worker, so that none waits for the chief


class Here:
    """No cluster: rounds are taken one by one in this process."""

    workers = 1

    def scope(self):
        return contextlib.nullcontext()

    def rounds(
        self, next_round: Callable[[], Callable], batches: Callable[[], tf.data.Dataset], count: Callable[[], int]
    ) -> Iterator[tf.Tensor]:
        """The loss of each round, `next_round()` of the batches, while `count()` says that rounds are left to start."""
        iterator = iter(batches())
        while count() > 0:
            yield next_round()(iterator)


class Cluster:
    """The parameter servers and workers of a cluster.json; the state lives on the servers, workers take the rounds."""

    def __init__(self, cluster: dict[str, list[str]]):
        without_proxies()
        tf.get_logger().setLevel("CRITICAL")  # it tells pages of each lost node; watch-nodes tells it in a line
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(cluster), task_type="chief", task_id=0, rpc_layer="grpc"
        )
        try:
            self.strategy = tf.distribute.ParameterServerStrategy(resolver)
            self.coordinator = tf.distribute.coordinator.ClusterCoordinator(self.strategy)
        except (tf.errors.OpError, ValueError) as error:
            raise Failure(f"cannot join the cluster: {str(error).splitlines()[0]}") from None
        self.workers = len(cluster["worker"])

    def scope(self):
        return self.strategy.scope()

    def worker(self) -> tf.Tensor:
        """The index of the worker, int64 []: in the graph of its batches."""
        return tf.distribute.coordinator.experimental_get_current_worker_index()

    def rounds(
        self, next_round: Callable[[], Callable], batches: Callable[[], tf.data.Dataset], count: Callable[[], int]
    ) -> Iterator[tf.Tensor | None]:
        """The loss of each round as it ends, by whatever worker; None where it is not known, or after WAIT_SECONDS.

        Raises tf.errors.OpError where a parameter server is gone.
        """
        # Kept beyond this call: freeing iterators on the workers is a remote operation, on which the chief was seen to
        # wait for more than half a minute in the validation that follows.
        self.iterators = iterators = iter(self.coordinator.create_per_worker_dataset(batches))
        finished: queue.Queue = queue.Queue()
        flying = 0

        def fetch(value) -> None:
            try:
                finished.put(value.fetch())
            except tf.errors.OpError:
                # The loss died with its worker, the round is done or will be taken again. Where a parameter server
                # died instead, the next call of the coordinator says so.
                finished.put(None)

        while True:
            while flying < AHEAD * self.workers and count() - flying > 0:
                flying += 1
                value = self.coordinator.schedule(next_round(), args=(iterators,))
                threading.Thread(target=fetch, args=(value,), daemon=True).start()
            if not flying:
                return
            try:
                result = finished.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                yield None
                continue
            flying -= 1
            if result is None:
                self.coordinator.done()
            yield result
