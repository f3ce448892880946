"""Batches for the field: tensors of several photos of the same size, from shards or from one patch file.

A batch is a dict: image uint8 [B, H, W, 3]; superpixels int32 [B, H, W], -1 = out of sight; pairs int32 [B, m, 2] and
similarities float32 [B, m, K], padded with the pair (0, 0) and similarity 0; log_depth float32 [B, n], 0 if not
measured; measured bool [B, n]; present bool [B, n], false for padding and for superpixels out of sight. Batches for
training have a seed, int64 [B, 2], for random operations of the network.

All photos of a batch have the same size: a mean over a map, a normalisation or a convolution at the border would
include the padding of a smaller photo, and its result would depend on the others.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from depthfield.records import augmentation, index, shards
from depthfield.records.augmentation import Augmentation
from depthfield.records.index import Photo

KEPT_BYTES = 2**29  # limit of decoded photos that a process keeps
FIELDS = ("image", "superpixels", "pairs", "similarities", "depth")
PADDING = {
    "image": np.uint8(0),
    "superpixels": -1,
    "pairs": 0,
    "similarities": 0.0,
    "log_depth": 0.0,
    "measured": False,
    "present": False,
    "seed": np.int64(0),
}


def prepare(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Make one photo of a batch from the decoded FIELDS of an example; depth may be all NaN if unknown."""
    depth = example["depth"]
    measured = depth > 0  # false for NaN
    photo = {field: example[field] for field in ("image", "superpixels", "pairs", "similarities")}
    log_depth = tf.where(measured, tf.math.log(tf.where(measured, depth, 1.0)), 0.0)
    return photo | {"log_depth": log_depth, "measured": measured, "present": tf.ones_like(measured)}


class Stream(NamedTuple):
    """Identifies the endless sequence of batches of one worker; equal streams give equal batches."""

    seed: int  # the run's
    batch: int = 0  # number of batches to skip, when training continues
    attempt: int = 0  # the random variation of photos differs between attempts on a cluster
    worker: int | tf.Tensor = 0  # index among `workers`, each of which starts at its own share of an epoch
    workers: int = 1


class Order(NamedTuple):
    """How N photos are divided into the batches of an epoch; photos of the same size are adjacent in `photos`."""

    photos: np.ndarray  # int64 [N]
    size: np.ndarray  # float64 [N]: 0 for those of the first size, 1 for those of the second, ...
    first: np.ndarray  # int64 [batches]: where in `photos` a batch starts
    count: np.ndarray  # int64 [batches]: number of its photos


def order(photos: Sequence[Photo], batch_size: int) -> Order:
    """Divide photos into batches of `batch_size`; the last batch of each size may be smaller."""
    sizes = defaultdict(list)
    for number, photo in enumerate(photos):
        sizes[photo.settings.width, photo.settings.height].append(number)
    first, count, begin = [], [], 0
    for members in sizes.values():
        for start in range(0, len(members), batch_size):
            first.append(begin + start)
            count.append(min(batch_size, len(members) - start))
        begin += len(members)
    numbers = np.concatenate([np.array(members, np.int64) for members in sizes.values()])
    size = np.repeat(np.arange(len(sizes), dtype=np.float64), [len(members) for members in sizes.values()])
    return Order(numbers, size, np.array(first, np.int64), np.array(count, np.int64))


def epoch(plan: Order, number: tf.Tensor, stream: Stream) -> tf.data.Dataset:
    """Return the batches of epoch `number`, int64 []: indices of photos, int64 [B], each photo once.

    All workers have the same order but start at different places in it, so that together they have seen every photo
    when they have used as many as there are.
    """
    keys = tf.random.split(tf.random.fold_in(tf.constant([stream.seed, 0], tf.int64), number), 2)
    drawn = tf.random.stateless_uniform([len(plan.photos)], keys[0], dtype=tf.float64)
    shuffled = tf.gather(plan.photos, tf.argsort(plan.size + drawn))  # within each size
    batches = tf.argsort(tf.random.stateless_uniform([len(plan.first)], keys[1]))
    share = tf.cast(stream.worker, tf.int64) * len(plan.first) // stream.workers
    batches = tf.roll(batches, -share, axis=0)
    first, count = tf.gather(plan.first, batches), tf.gather(plan.count, batches)
    members = tf.RaggedTensor.from_row_lengths(tf.gather(shuffled, tf.ragged.range(first, first + count).values), count)
    return tf.data.Dataset.from_tensor_slices(members)


def endless(photos: Sequence[Photo], batch_size: int, how: Augmentation, stream: Stream) -> tf.data.Dataset:
    """Return endless batches, each epoch in another order, with photos varied according to `how` and a `seed`.

    All random numbers follow from the stream and the number of the batch, so training continues where it stopped.
    """
    plan, locations = order(photos, batch_size), index.locate(photos)
    fields = ("depth_map",) if how.looks_elsewhere else ()
    epochs, behind = divmod(stream.batch, len(plan.first))

    def varied(photo: tf.Tensor, seed: tf.Tensor, kept: dict[str, tf.Tensor] | None) -> dict[str, tf.Tensor]:
        seeds = tf.random.split(seed, 2)
        found = remembered(kept, photo, fields) if kept else example(index.record(locations, photo), fields)
        seen = augmentation.vary(found, how, seeds[0])
        seen.pop("depth_map", None)
        return seen | {"seed": seeds[1]}

    def batch(
        members: tf.Tensor, number: tf.Tensor, kept: dict[str, tf.Tensor] | None = None
    ) -> dict[str, tf.Tensor]:
        own = tf.random.fold_in(tf.constant([stream.seed, 1 + stream.attempt], tf.int64), stream.worker)
        seeds = tf.random.split(tf.random.fold_in(own, number), batch_size)[: tf.shape(members)[0]]
        drawn = tf.data.Dataset.from_tensor_slices((members, seeds)).map(lambda *one: varied(*one, kept))
        return padded(drawn, batch_size).get_single_element()

    numbers = tf.data.Dataset.range(epochs, np.iinfo(np.int64).max)
    members = numbers.flat_map(lambda number: epoch(plan, number, stream)).skip(behind)
    parts = [members, tf.data.Dataset.range(stream.batch, np.iinfo(np.int64).max)]
    if fits_in_memory(photos, fields):
        parts.append(memory(photos, locations, fields))
    numbered = tf.data.Dataset.zip(*parts)
    return numbered.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)


def fits_in_memory(photos: Sequence[Photo], fields: Sequence[str]) -> bool:
    """Whether all photos have the same size and together take at most KEPT_BYTES when decoded."""
    sizes = [(photo.settings.width, photo.settings.height) for photo in photos]
    bytes_a_pixel = 3 + 2 + 4 * len(fields)
    return len(set(sizes)) == 1 and bytes_a_pixel * sum(width * height for width, height in sizes) <= KEPT_BYTES


def memory(photos: Sequence[Photo], locations: tuple, fields: Sequence[str]) -> tf.data.Dataset:
    """Return photos of one size, decoded and kept in the worker's memory, as one endlessly repeated element.

    Decoding two photos of 240×320 takes an eighth of the time of a `demo` step. Fields are those of shards.decode, with
    the lengths before padding in `superpixels_of` and `pairs_of`, int32 [N].
    """

    def decoded(photo: tf.Tensor) -> dict[str, tf.Tensor]:
        found = shards.decode(index.record(locations, photo), (*FIELDS, *fields))
        lengths = {"superpixels_of": tf.size(found["depth"]), "pairs_of": tf.shape(found["pairs"])[0]}
        return found | lengths | {"superpixels": tf.cast(found["superpixels"], tf.uint16)}

    one_by_one = tf.data.Dataset.range(len(photos)).map(decoded, num_parallel_calls=tf.data.AUTOTUNE)
    return one_by_one.padded_batch(len(photos)).cache().repeat()


def remembered(kept: dict[str, tf.Tensor], photo: tf.Tensor, fields: Sequence[str]) -> dict[str, tf.Tensor]:
    """Return one of the photos of `memory`, as `example` does."""
    found = {name: values[photo] for name, values in kept.items()}
    found["superpixels"] = tf.cast(found["superpixels"], tf.int32)
    found["depth"] = found["depth"][: found["superpixels_of"]]
    for name in ("pairs", "similarities"):
        found[name] = found[name][: found["pairs_of"]]
    return prepare(found) | {field: found[field] for field in fields}


def once(photos: Sequence[Photo], batch_size: int) -> tf.data.Dataset:
    """Return batches of each photo once, in the order of the shards within each size."""
    plan, locations = order(photos, batch_size), index.locate(photos)

    def batch(first: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        members = tf.data.Dataset.from_tensor_slices(tf.constant(plan.photos)[first : first + count])
        photos = members.map(lambda photo: example(index.record(locations, photo)))
        return padded(photos, batch_size).get_single_element()

    return tf.data.Dataset.from_tensor_slices((plan.first, plan.count)).map(batch).prefetch(1)


def padded(photos: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """Group photos of the same height and width into padded batches of `size`; the last may be smaller."""
    padding = {name: PADDING[name] for name in photos.element_spec}
    return photos.padded_batch(size, padding_values=padding)


def example(serialized: tf.Tensor, fields: Sequence[str] = ()) -> dict[str, tf.Tensor]:
    """Make one photo of a batch, with extra `fields`, from a serialised example."""
    decoded = shards.decode(serialized, (*FIELDS, *fields))
    return prepare(decoded) | {field: decoded[field] for field in fields}
