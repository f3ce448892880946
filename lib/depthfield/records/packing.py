"""Patch files of one split into a set of shards that is complete and current, or replaced as a whole."""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from depthfield import files
from depthfield.records import patches, shards
from depthfield.tool import Failure, progress, say


class Packed(NamedTuple):
    shards: list[Path]
    refused: int  # patch files that could not be read


def pack(paths: Sequence[Path], out: Path, split: str, count: int, force: bool) -> Packed:
    """Pack patch files, in the order given, into `count` shards OUT/SPLIT-00000-of-COUNT.tfrecord.

    What made a set of shards is kept beside it as .SPLIT.json; a set that was made of the same files, all older than
    it, is kept. Patch files that cannot be read are named and left out; Failure where none is left.
    """
    for path in paths:
        if not path.is_file():
            raise Failure(f"{path}: no such file")
    good, refused = list(paths), []
    while good:
        names = shard_names(out, split, min(count, len(good)))
        contents = {"version": shards.VERSION, "patches": [str(path) for path in good]}
        record = out / f".{split}.json"
        if not force and all(files.is_current(made, good) for made in (*names, record)) and holds(record, contents):
            return Packed(names, len(refused))
        bad = write(good, names)
        if not bad:
            for stale in set(out.glob(f"{split}-?????-of-?????.tfrecord")) - set(names):
                stale.unlink()
            files.write_json(record, contents)
            return Packed(names, len(refused))
        # rare: once more without them, so that the shards come out equal
        refused += bad
        good = [path for path in good if path not in refused]
    raise Failure(f"{split}: no patch file could be read")


def shard_names(out: Path, split: str, count: int) -> list[Path]:
    return [out / f"{split}-{index:05d}-of-{count:05d}.tfrecord" for index in range(count)]


def write(paths: Sequence[Path], names: Sequence[Path]) -> list[Path]:
    """Write the shards `names`, as many photos in each within one; return the patch files that could not be read."""
    refused: list[Path] = []
    remaining = iter(progress(paths, len(paths), "photos"))
    for index, name in enumerate(names):
        size = len(paths) * (index + 1) // len(names) - len(paths) * index // len(names)
        shards.write(name, encoded(itertools.islice(remaining, size), refused))
    return refused


def holds(record: Path, contents: dict) -> bool:
    """Whether a record of what was packed says `contents`."""
    try:
        return json.loads(record.read_text()) == contents
    except ValueError:
        return False


def encoded(paths: Iterator[Path], refused: list[Path]) -> Iterator[bytes]:
    """Patch files as examples; those that cannot be read are named and added to `refused`."""
    for path in paths:
        try:
            yield shards.encode(path.stem, patches.read(path))
        except Failure as failure:
            say(failure)
            refused.append(path)
