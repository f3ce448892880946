"""Batches for the field: padded tensors of several photos, from shards or from one patch.

A batch is a dict: image uint8 [B, H, W, 3]; superpixels int32 [B, H, W], -1 = padding; pairs int32 [B, m, 2] and
similarities float32 [B, m, K], padded by the pair (0, 0) with similarity 0; log_depth float32 [B, n], 0 where not
measured; measured bool [B, n]; present bool [B, n], false for padding superpixels and such as are cut off. Batches to
train on have a seed, int64 [B, 2], for what a network does at random.
"""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from depthfield.records import augmentation, shards
from depthfield.records.augmentation import Augmentation

SHUFFLED = 512  # photos in the shuffling buffer, as stored: some hundred MB at most
FIELDS = ("image", "superpixels", "pairs", "similarities", "depth")
PADDING = {
    "image": tf.constant(0, tf.uint8),
    "superpixels": -1,
    "pairs": 0,
    "similarities": 0.0,
    "log_depth": 0.0,
    "measured": False,
    "present": False,
    "seed": tf.constant(0, tf.int64),
}


def prepare(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """One photo of a batch from the decoded FIELDS of an example; depth may be all NaN where none is known."""
    depth = example["depth"]
    measured = depth > 0  # false for NaN
    photo = {field: example[field] for field in ("image", "superpixels", "pairs", "similarities")}
    log_depth = tf.where(measured, tf.math.log(tf.where(measured, depth, 1.0)), 0.0)
    return photo | {"log_depth": log_depth, "measured": measured, "present": tf.ones_like(measured)}


def held_out_key(source: tf.Tensor) -> tf.Tensor:
    """A number, int64, by which photos are held out for validation: the same wherever and in whatever order read."""
    return tf.strings.to_hash_bucket_fast(source, 2**31 - 1)


def photos(paths: Sequence[Path], held_out: int | None, fields: Sequence[str] = ()) -> tf.data.Dataset:
    """Photos in the order of the shards, one an element: what `prepare` gives and the extra `fields` of the example.

    With `held_out`, those held out for validation alone: whose held_out_key does not exceed it.
    """
    examples = tf.data.TFRecordDataset([str(path) for path in paths])
    if held_out is not None:
        examples = examples.filter(lambda serialized: source_key(serialized) <= held_out)
    return examples.map(lambda serialized: photo(serialized, fields), num_parallel_calls=tf.data.AUTOTUNE)


def endless(
    paths: Sequence[Path], held_out: int, batch_size: int, how: Augmentation, seed: int | None
) -> tf.data.Dataset:
    """Shuffled batches without end of the photos that are not held out, varied as `how` says, each with a `seed`.

    With a seed the order is the same each time; without one every worker draws an order of its own.
    """
    names = tf.data.Dataset.from_tensor_slices([str(path) for path in paths]).shuffle(len(paths), seed=seed)
    examples = names.interleave(tf.data.TFRecordDataset, cycle_length=8, num_parallel_calls=1)
    examples = examples.filter(lambda serialized: source_key(serialized) > held_out)
    examples = examples.shuffle(SHUFFLED, seed=seed).repeat()
    fields = ("depth_map",) if how.looks_elsewhere else ()

    def varied(serialized: tf.Tensor, drawn: tf.Tensor) -> dict[str, tf.Tensor]:
        one = augmentation.vary(photo(serialized, fields), how, tf.stack([drawn, 0]))
        one.pop("depth_map", None)
        return one | {"seed": tf.stack([drawn, 1])}

    drawn = tf.data.Dataset.random(seed=seed)
    ready = tf.data.Dataset.zip(examples, drawn).map(varied, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return padded(ready, batch_size).prefetch(2)


def padded(photos: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """Batches of `size` photos (the last may be smaller), each padded to its largest."""
    padding = {name: PADDING[name] for name in photos.element_spec}
    return photos.padded_batch(size, padding_values=padding)


def photo(serialized: tf.Tensor, fields: Sequence[str] = ()) -> dict[str, tf.Tensor]:
    """One photo of a batch, with extra `fields`, from a serialised example."""
    example = shards.decode(serialized, (*FIELDS, *fields))
    return prepare(example) | {field: example[field] for field in fields}


def source_key(serialized: tf.Tensor) -> tf.Tensor:
    """The held_out_key of a serialised example."""
    return held_out_key(shards.decode(serialized, ("source",))["source"])
