"""Pack patch files into sets of shards, one per split: complete, current, and without photos in both splits."""

import hashlib
import itertools
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from depthfield import files
from depthfield.records import metadata, patches, shards
from depthfield.tool import Failure, detail, inform, progress, say

SPLITS = ("train", "test")


class Packed(NamedTuple):
    shards: list[Path]
    refused: int  # patch files that could not be read


def pack(paths: Collection[Path], out: Path, count: int, force: bool, whole: bool = False) -> Packed:
    """Pack patch files, in the order of their names, into `count` shards OUT/SPLIT-00000-of-COUNT.tfrecord per split.

    The split is the patch file's folder, train or test. The sources of a set of shards are kept beside it in
    .SPLIT.json; a set made of the same files, all older than it, is current and kept. Metadata for TensorFlow Datasets
    are written beside the shards (see `metadata`). With `whole`, `paths` are all patch files, and shards of a split
    without patch files are removed. Unreadable ones are named and left out.

    Raises Failure, before anything is written, if a split has no patch file left, files of one folder were made in
    different ways, or a photo is in both splits, one of which may have been packed before.
    """
    asked = {split: sorted(path for path in paths if path.parent.name == split) for split in SPLITS}
    fresh, ways, refused = {}, {}, 0
    for split, wanted in asked.items():
        if wanted and not force and is_current(out, split, wanted, count):
            detail(f"{out}: shards of {split} kept")
        elif wanted:
            fresh[split] = photos(wanted, ways)
            refused += len(wanted) - len(fresh[split])
            if not fresh[split]:
                raise Failure(f"{split}: no patch file could be read; see the messages above")
    gone = [split for split in SPLITS if whole and not asked[split]]
    before = {split: recorded(out, split) for split in SPLITS if split not in gone and split not in fresh}
    refuse_shared(before | fresh, [split for split in before if not asked[split]])
    for split in gone:
        if any(out.glob(pattern(split))):
            inform(f"{out}: removed the shards of {split}, which has no patch files now")
    for split in (*gone, *fresh):  # old and new shards never exist together
        (out / f".{split}.json").unlink(missing_ok=True)
        for stale in out.glob(pattern(split)):
            stale.unlink()
    for split, made in fresh.items():
        write(list(map(Path, made)), shards.names(out, split, min(count, len(made))))
        files.write_json(out / f".{split}.json", {"version": shards.VERSION, "photos": made})
    metadata.write(out, {split: lengths(out, split) for split in SPLITS})
    return Packed([shard for split in SPLITS if asked[split] for shard in sorted(out.glob(pattern(split)))], refused)


def pattern(split: str) -> str:
    return f"{split}-?????-of-?????.tfrecord"


def recorded(out: Path, split: str) -> dict[str, str]:
    """Return the patch files of the shards of a split, each with the digest of its photo; {} without shards."""
    try:
        record = json.loads((out / f".{split}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    there = any(out.glob(pattern(split))) and record.get("version") == shards.VERSION
    return record.get("photos", {}) if there else {}


def is_current(out: Path, split: str, paths: Sequence[Path], count: int) -> bool:
    """Whether there are `count` shards of a split, made of exactly these patch files, and newer than all of them."""
    made = [*shards.names(out, split, min(count, len(paths))), out / f".{split}.json"]
    return list(recorded(out, split)) == list(map(str, paths)) and all(files.is_current(one, paths) for one in made)


def photos(paths: Sequence[Path], ways: dict[Path, tuple]) -> dict[str, str]:
    """Return the readable patch files, each with a digest of its photo's pixels; names the others on stderr.

    `ways` collects how those of each folder OUT were made; raises Failure if one was made in another way.
    """
    digests = {}
    for path in progress(paths, len(paths), "patch files read"):
        try:
            patch = patches.read(path)
        except Failure as failure:
            say(failure)
            continue
        way = *patches.Settings.from_json(patch.settings)[:2], patch.bounds
        if ways.setdefault(path.parent.parent, way) != way:
            raise Failure(f"{path}: made with other options than the others; run make-patches again, to its end")
        image = patch.image
        digests[str(path)] = hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest()
    return digests


def refuse_shared(made: dict[str, dict[str, str]], before: Sequence[str]) -> None:
    """Raise Failure if two splits contain the same photo; `before` are splits packed earlier."""
    train, test = ({digest: path for path, digest in made.get(split, {}).items()} for split in SPLITS)
    for digest in train.keys() & test.keys():
        earlier = f"; {before[0]} was packed by an earlier call; pack the folder of both" if before else ""
        raise Failure(f"{test[digest]}: contains the same photo as {train[digest]}{earlier}")


def write(paths: Sequence[Path], names: Sequence[Path]) -> None:
    """Write the shards `names`; their numbers of photos differ by at most one."""
    remaining = iter(progress(paths, len(paths), "photos"))
    for size, name in zip(sizes(len(paths), len(names)), names, strict=True):
        shards.write(name, encoded(itertools.islice(remaining, size)))


def lengths(out: Path, split: str) -> list[int]:
    """How many photos are in each shard of a split; [] where it has no complete set of shards."""
    photos, count = len(recorded(out, split)), len(list(out.glob(pattern(split))))
    complete = all(path.exists() for path in shards.names(out, split, count))
    return sizes(photos, count) if photos and complete else []


def sizes(photos: int, count: int) -> list[int]:
    """How many photos go into each of `count` shards."""
    return [photos * (index + 1) // count - photos * index // count for index in range(count)]


def encoded(paths: Iterator[Path]) -> Iterator[bytes]:
    for path in paths:
        yield shards.encode(path.stem, patches.read(path))
