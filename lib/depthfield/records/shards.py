"""TFRecord shards: one tf.train.Example per photo with the fields of SCHEMA, and how TensorFlow reads them."""

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from depthfield import files
from depthfield.records.patches import Patch
from depthfield.tool import Failure

VERSION = 2
DATASET = re.compile(r"(?m)^.* with iterator: \S+: (.+)$")  # what TensorFlow says of an error in one
NOISE = ("Graph execution error:", "Detected at node ", "<stack traces unavailable>")  # what it says before it
NO_FILE = "No such file or directory"
DEPTH_STEPS = 65535  # a depth map is stored in 16 bits; 0 is no measurement


class Field(NamedTuple):
    """One field of a record."""

    dtype: str  # of its values: int64, float32, text (UTF-8), or of the pixels of a PNG: uint8, uint16
    shape: tuple[str | int, ...]  # with H, W, n superpixels, m pairs, K similarities; stored row by row
    meaning: str

    @property
    def is_png(self) -> bool:
        return self.dtype in ("uint8", "uint16")


SCHEMA = {
    "version": Field("int64", (), f"version of this schema: {VERSION}"),
    "name": Field("text", (), "name of the photo, unique in its split"),
    "source": Field("text", (), "the file that the photo was read from"),
    "group": Field("text", (), "photos of one group show the same place; hold them out together"),
    "settings": Field("text", (), "how the photo was divided, as JSON: superpixels, similarities, width, height"),
    "image": Field("uint8", ("H", "W", 3), "the photo, RGB, as PNG"),
    "superpixels": Field("uint16", ("H", "W", 1), "label of each pixel's superpixel, 0 to n-1, as PNG"),
    "depth_map": Field(
        "uint16", ("H", "W", 1), "measured depth along the optical axis in units of depth_scale, 0 for none, as PNG"
    ),
    "depth_scale": Field("float32", (), "metres a unit of depth_map"),
    "pairs": Field("int64", ("m", 2), "labels of neighbouring superpixels, the smaller first"),
    "similarities": Field("float32", ("m", "K"), "similarities of each pair, 0 to 1"),
    "similarity_names": Field("text", ("K",), "names of the similarities"),
    "depth": Field("float32", ("n",), "mean depth of each superpixel's measured pixels in metres, NaN for none"),
}


def feature(field: Field) -> tf.io.FixedLenFeature | tf.io.FixedLenSequenceFeature:
    """How tf.io.parse_single_example reads a field: similarities flat, as K differs, pictures as bytes."""
    dtype = {"int64": tf.int64, "float32": tf.float32}.get(field.dtype, tf.string)
    if field.is_png or not field.shape:
        return tf.io.FixedLenFeature([], dtype)
    inner = [length for length in field.shape[1:] if isinstance(length, int)]
    return tf.io.FixedLenSequenceFeature(inner, dtype, allow_missing=True)


FEATURES = {name: feature(field) for name, field in SCHEMA.items()}
FEATURES["group"] = tf.io.FixedLenFeature([], tf.string, "")  # version 1 has none, and must be refused for its version


def encode(name: str, patch: Patch) -> bytes:
    """Encode a patch as a serialised tf.train.Example. The depth map is rounded to 1/65535 of its largest depth."""
    greatest = np.nanmax(patch.depth_map, initial=0.0)
    scale = np.float32(greatest / DEPTH_STEPS if greatest else 1.0)
    units = np.nan_to_num(patch.depth_map / scale)
    units = np.where(np.isnan(patch.depth_map), 0, np.clip(np.rint(units), 1, DEPTH_STEPS)).astype(np.uint16)
    if patch.superpixels.max() > DEPTH_STEPS:
        raise Failure(f"{name}: more superpixels than 16 bits can number; make fewer with make-patches --superpixels")

    def png(array: np.ndarray) -> bytes:
        return tf.io.encode_png(array.reshape(*patch.superpixels.shape, -1), compression=3).numpy()

    def bytes_list(*values: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    def floats(array: np.ndarray) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=array.ravel()))

    def integers(array: np.ndarray) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=array.ravel()))

    example = {
        "version": integers(np.array(VERSION)),
        "name": bytes_list(name.encode()),
        "source": bytes_list(patch.source.encode()),
        "group": bytes_list(patch.group.encode()),
        "settings": bytes_list(patch.settings.encode()),
        "image": bytes_list(png(patch.image)),
        "superpixels": bytes_list(png(patch.superpixels.astype(np.uint16))),
        "depth_map": bytes_list(png(units)),
        "depth_scale": floats(scale),
        "pairs": integers(patch.pairs),
        "similarities": floats(patch.similarities),
        "similarity_names": bytes_list(*(text.encode() for text in patch.similarity_names)),
        "depth": floats(patch.depth),
    }
    return tf.train.Example(features=tf.train.Features(feature=example)).SerializeToString(deterministic=True)


def decode(serialized: tf.Tensor, fields: Sequence[str]) -> dict[str, tf.Tensor]:
    """Decode the named fields of an Example, in a graph.

    image uint8 [H, W, 3]; superpixels int32 [H, W]; depth_map float32 [H, W] metres, NaN = none; pairs int32 [m, 2];
    similarities float32 [m, K]; depth float32 [n] metres, NaN = none; strings as bytes.
    """
    needed = {"version", *fields}
    needed |= {"depth_scale"} if "depth_map" in fields else set()
    needed |= {"similarity_names"} if "similarities" in fields else set()
    example = tf.io.parse_single_example(serialized, {field: FEATURES[field] for field in needed})
    version = tf.debugging.assert_equal(example["version"], tf.constant(VERSION, tf.int64), "another record version")
    with tf.control_dependencies([version]):
        decoded = {field: tf.identity(example[field]) for field in fields}
    if "image" in fields:
        decoded["image"] = tf.io.decode_png(decoded["image"], channels=3)
    if "superpixels" in fields:
        decoded["superpixels"] = tf.cast(tf.io.decode_png(decoded["superpixels"], 1, tf.uint16)[..., 0], tf.int32)
    if "depth_map" in fields:
        units = tf.cast(tf.io.decode_png(decoded["depth_map"], 1, tf.uint16)[..., 0], tf.float32)
        decoded["depth_map"] = tf.where(units == 0, np.float32("nan"), units * example["depth_scale"])
    if "pairs" in fields:
        decoded["pairs"] = tf.cast(decoded["pairs"], tf.int32)
    if "similarities" in fields:
        decoded["similarities"] = tf.reshape(decoded["similarities"], [-1, tf.size(example["similarity_names"])])
    return decoded


def read(shards: Sequence[Path], fields: Sequence[str] = tuple(FEATURES)) -> Iterator[dict[str, np.ndarray]]:
    """Yield each example of the shards as arrays (see `decode`); raises Failure naming a damaged shard."""
    for shard in shards:
        for _, example in examples(shard, fields):
            yield example


def examples(shard: Path, fields: Sequence[str]) -> Iterator[tuple[bytes, dict[str, np.ndarray]]]:
    """Yield each example of a shard, serialised and as arrays (see `decode`); raises Failure if it is damaged."""
    dataset = tf.data.TFRecordDataset(str(existing(shard)))
    dataset = dataset.map(lambda serialized: (serialized, decode(serialized, fields)))
    try:
        yield from dataset.as_numpy_iterator()
    except tf.errors.OpError as error:
        raise Failure(f"{shard}: {explanation(error)}") from None


def names(folder: Path, split: str, count: int) -> list[Path]:
    """Return the paths of a set of `count` shards, such as train-00003-of-00008.tfrecord."""
    return [folder / f"{split}-{index:05d}-of-{count:05d}.tfrecord" for index in range(count)]


def existing(shard: Path) -> Path:
    """Return the shard's path; raises Failure if the file is missing or empty."""
    if not Path(shard).is_file():
        raise Failure(f"{shard}: no such file")
    return shard


def explanation(error: tf.errors.OpError) -> str:
    """Explain why a shard could not be read."""
    if "another record version" in error.message:
        return f"made by another version of to-tfrecord (this one reads version {VERSION}); make it again"
    if isinstance(error, tf.errors.DataLossError):
        return "truncated or damaged; make it again with to-tfrecord"
    return "not a TFRecord shard of to-tfrecord: " + words(error)


def words(error: tf.errors.OpError) -> str:
    """Return what one of TensorFlow's long error messages says, in one line."""
    if of_dataset := DATASET.search(error.message):
        return of_dataset[1]
    lines = [re.sub(r"^\{\{.*?\}\} ", "", line.strip()) for line in error.message.splitlines()]
    return next((line for line in lines if line and not line.startswith(NOISE)), "no reason given")


def unread(error: tf.errors.OpError) -> str:
    """Return what training could not read, and why: `FILE: no such file`."""
    said = words(error)
    if match := re.fullmatch(r"(/.+); (.+)", said):
        file, reason = match.groups()
        return f"{file}: {'no such file' if reason == NO_FILE else reason}"
    if match := re.search(r'input file "(.+?)" has body length', said):
        return f"{match[1]}: its size has changed"
    return f"a photo: {said.partition(', value: ')[0]}"  # the value is the whole record


def write(shard: Path, examples: Iterable[bytes]) -> None:
    """Write one shard, whole or not at all, and check it: it reads back the same, and each example decodes."""
    with files.whole(shard) as temporary:
        digests = []
        try:
            with tf.io.TFRecordWriter(str(temporary)) as writer:
                for example in examples:
                    writer.write(example)
                    digests.append(hashlib.sha256(example).digest())
            back = tf.data.TFRecordDataset(str(temporary))
            for serialized, digest in itertools.zip_longest(back.as_numpy_iterator(), digests):
                if serialized is None or digest is None or hashlib.sha256(serialized).digest() != digest:
                    raise Failure(f"{shard}: reads back differently from what was written; check the disk")
                decode(serialized, tuple(FEATURES))
        except tf.errors.OpError as error:
            raise Failure(f"{shard}: cannot be written: {error.message.splitlines()[0]}") from None
