"""The index of a set of shards: each photo with its settings, its group, and the position of its record.

A TFRecord file is a sequence of records: 8 bytes of length, 4 of its checksum, the record, 4 of its checksum. With the
positions, photos can be read in any order.
"""

import contextlib
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from depthfield.records import shards
from depthfield.records.patches import Settings
from depthfield.tool import Failure, some

BEFORE, BEHIND = 12, 4  # bytes before and after a record
MEMBER = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.tfrecord")


class Photo(NamedTuple):
    """One photo of a set of shards."""

    source: str  # where it came from, for people
    group: str  # photos of a group show the same place
    settings: Settings
    digest: str  # of its record
    shard: Path  # absolute: workers on other hosts, in other folders, read it too
    offset: int  # position of its record in the shard, bytes
    length: int


def read(paths: Sequence[Path], fields: Sequence[str] = ()) -> Iterator[tuple[Photo, dict[str, np.ndarray]]]:
    """Yield each photo of the shards in order, with the `fields` of its example (see shards.decode).

    Raises Failure naming the shard if it is missing or damaged.
    """
    complete(paths)
    for shard in paths:
        offset, place = BEFORE, shard.absolute()
        for serialized, example in shards.examples(shard, ("source", "group", "settings", *fields)):
            source, group, settings = (example[name].decode() for name in ("source", "group", "settings"))
            digest = hashlib.sha256(serialized).hexdigest()[:16]
            yield Photo(source, group, Settings.from_json(settings), digest, place, offset, len(serialized)), example
            offset += len(serialized) + BEHIND + BEFORE


def count(paths: Sequence[Path]) -> int:
    """How many records lie in the shards, by their frames alone; what is missing or damaged has none."""
    found = 0
    for path in paths:
        with contextlib.suppress(OSError), path.open("rb") as file:
            size, place = path.stat().st_size, 0
            while place + BEFORE <= size:
                file.seek(place)
                place += BEFORE + int.from_bytes(file.read(8), "little") + BEHIND
                found += place <= size
    return found


def complete(paths: Sequence[Path]) -> None:
    """Raise Failure, naming missing shards, unless each set is complete (SPLIT-00003-of-00008 says how many it has)."""
    sets = defaultdict(set)
    for path in paths:
        if member := MEMBER.fullmatch(path.name):
            sets[path.parent, member[1], int(member[3])].add(int(member[2]))
    for (folder, split, count), given in sets.items():
        names = enumerate(shards.names(folder, split, count))
        missing = [name.name for number, name in names if number not in given and not name.exists()]
        if missing:
            raise Failure(f"{folder}: shards are missing: {some(missing, 3)}; make them with to-tfrecord")


class Locations(NamedTuple):
    """Positions of the records of N photos as tensors, so that workers on other hosts can read them."""

    shards: tf.Tensor  # string [S]
    shard: tf.Tensor  # int64 [N]: an index of `shards`
    frame: tf.Tensor  # int64 [N, 3]: bytes before, in and after the record


def locate(photos: Sequence[Photo]) -> Locations:
    """Return the tensors with which `record` finds these photos."""
    names = list(dict.fromkeys(photo.shard for photo in photos))
    number = {name: index for index, name in enumerate(names)}
    size = {name: name.stat().st_size for name in names}
    frames = [(p.offset, p.length, size[p.shard] - p.offset - p.length) for p in photos]
    return Locations(
        tf.constant([str(name) for name in names]),
        tf.constant([number[photo.shard] for photo in photos], tf.int64),
        tf.constant(frames, tf.int64, shape=[len(frames), 3]),
    )


def record(locations: Locations, photo: tf.Tensor) -> tf.Tensor:
    """Read the serialised example of a photo by its index, int64 []; in a graph."""
    before, length, behind = tf.unstack(locations.frame[photo])
    shard = locations.shards[locations.shard[photo]]
    return tf.data.FixedLengthRecordDataset(shard, length, before, behind).get_single_element()
