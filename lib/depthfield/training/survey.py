"""The survey of a run's training photos: their number, settings and mean depth, and which are held out.

It has two files in the run: survey.json, and photos.tsv with one line per photo: source, group, `train` or `held-out`,
and the digest of its record. Held-out photos stay held out for the whole run.
"""

import csv
import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from depthfield import files
from depthfield.records import index
from depthfield.records.index import Photo
from depthfield.records.patches import Settings
from depthfield.tool import Failure, progress, say
from depthfield.training import checkpoints

VERSION = 2
SLACK = 1.25  # allowed ratio between the numbers of pixels of a photo and of the run's photos
TRAIN, HELD_OUT = "train", "held-out"


class Survey(NamedTuple):
    version: int
    photos: int
    held_out: int  # how many of them are held out
    mean_depth: float  # metres, over all measured pixels of all photos: the baseline of score-depth
    mean_log_depth: float  # of log metres, over measured superpixels
    superpixels: str  # setting of all photos; see records.patches.Settings
    similarities: tuple[str, ...]
    smallest: tuple[int, int]  # width and height of the photo with the fewest pixels
    largest: tuple[int, int]  # the same of the photo with the most
    digest: str  # SHA-256 of photos.tsv

    def made_with(self) -> str:
        """Describe how the photos were made."""
        sizes = dict.fromkeys("×".join(map(str, size)) for size in (self.smallest, self.largest))
        return in_words(self.superpixels, self.similarities, " to ".join(sizes))

    def fits(self, settings: Settings) -> bool:
        """Whether a photo was made like the run's; otherwise its superpixels are not what the network expects."""
        least, most = math.prod(self.smallest), math.prod(self.largest)
        alike = (settings.superpixels, settings.similarities) == (self.superpixels, self.similarities)
        return alike and least / SLACK <= settings.width * settings.height <= most * SLACK

    def like(self, other: "Survey") -> bool:
        """Whether the photos of another survey, smallest to largest, were made like the run's."""
        sizes = (other.smallest, other.largest)
        return all(self.fits(Settings(other.superpixels, other.similarities, *size)) for size in sizes)


class Photos(NamedTuple):
    """The photos of a run as they are now in its shards."""

    train: list[Photo]
    held_out: list[Photo]


def begin(run: Path, shards: Sequence[Path], share: float) -> tuple[Survey, Photos]:
    """Read the photos of the shards once, hold out about `share` of them in whole groups, and write both files.

    Raises Failure if a shard is missing or damaged, photos were made with different similarities or superpixels, or
    none has measured depth.
    """
    photos: list[Photo] = []
    metres, pixels, logs, superpixels = 0.0, 0, 0.0, 0
    examples = index.read(shards, ("depth", "depth_map"))
    for photo, example in progress(examples, index.count(shards), "photos read"):
        if photos and photo.settings[:2] != photos[0].settings[:2]:
            raise Failure(
                f"{photo.source}: made with {made_with(photo)}, but {photos[0].source} with "
                f"{made_with(photos[0])}; make all with the same settings (make-patches --force)"
            )
        photos.append(photo)
        depths, log_depths = (
            example["depth_map"][example["depth_map"] > 0],
            np.log(example["depth"][example["depth"] > 0]),
        )
        metres, pixels = metres + depths.sum(dtype=np.float64), pixels + depths.size
        logs, superpixels = logs + log_depths.sum(dtype=np.float64), superpixels + log_depths.size
    if not superpixels:
        raise Failure("the shards hold no photo with measured depth; make them again with make-patches and to-tfrecord")
    groups = held_out_groups(Counter(photo.group for photo in photos), share)
    known = Photos([p for p in photos if p.group not in groups], [p for p in photos if p.group in groups])
    by_pixels = sorted((photo.settings.width * photo.settings.height, photo.settings[2:]) for photo in photos)
    survey = Survey(
        VERSION, len(photos), len(known.held_out), metres / pixels, logs / superpixels, *photos[0].settings[:2],
        by_pixels[0][1], by_pixels[-1][1], write_photos(run, known),
    )  # fmt: skip
    files.write_json(run / checkpoints.SURVEY, survey._asdict())
    return survey, known


def held_out_groups(sizes: Counter[str], share: float) -> set[str]:
    """Choose groups that together have about `share` of the photos, reproducibly; none if that is half a photo.

    `sizes` has the number of photos of each group. Groups come in the order of a hash of their names; one with too many
    photos is skipped. If all have too many, the smallest is taken.
    """
    wanted, chosen = round(share * sizes.total()), set()
    if len(sizes) < 2 or not wanted:
        return chosen
    for group in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if sum(sizes[name] for name in chosen) + sizes[group] <= wanted:
            chosen.add(group)
    return chosen or {min(sizes, key=lambda name: (sizes[name], name))}


def go_on(run: Path, shards: Sequence[Path]) -> tuple[Survey, Photos]:
    """Return the survey of an existing run, and its photos as the shards hold them now.

    Reports and records photos added and removed since. A new photo of a held-out group is held out too. Raises Failure
    for photos made with other settings than the run's.
    """
    survey, then = read(run), read_photos(run)
    parts = {(source, digest): part for source, _, part, digest in then}
    sources = {source: part for source, _, part, _ in then}
    held_out = {group for _, group, part, _ in then if part == HELD_OUT}
    now = Photos([], [])
    for photo, _ in progress(index.read(shards), index.count(shards), "photos read"):
        if not survey.fits(photo.settings):
            raise Failure(mismatch(photo, survey, run))
        new = HELD_OUT if photo.group in held_out else TRAIN
        part = parts.get((photo.source, photo.digest)) or sources.get(photo.source, new)
        (now.held_out if part == HELD_OUT else now.train).append(photo)
    here = Counter((photo.source, photo.digest) for photo in (*now.train, *now.held_out))
    before = Counter((source, digest) for source, _, _, digest in then)
    added, gone = here - before, before - here
    if added or gone:
        changed = len({source for source, _ in added} & {source for source, _ in gone})
        say(
            f"{run}: the photos differ from those it was trained on before: {added.total() - changed} added, "
            f"{gone.total() - changed} removed, {changed} changed ({min(added or gone)[0]}, ...)"
        )
        digest = write_photos(run, now)
        survey = survey._replace(photos=here.total(), held_out=len(now.held_out), digest=digest)
        files.write_json(run / checkpoints.SURVEY, survey._asdict())
    return survey, now


def mismatch(photo: Photo, survey: Survey, run: Path) -> str:
    """Explain why a photo is refused, with its settings and the run's."""
    return (
        f"{photo.source}: made with {made_with(photo)}, but {run} was trained on photos with "
        f"{survey.made_with()}; make it with these (make-patches)"
    )


def made_with(photo: Photo) -> str:
    """Describe how one photo was made."""
    superpixels, similarities, width, height = photo.settings
    return in_words(superpixels, similarities, f"{width}×{height}")


def in_words(superpixels: str, similarities: Sequence[str], size: str) -> str:
    return f"superpixels {superpixels}, similarities {','.join(similarities)}, {size} pixels"


def write_photos(run: Path, photos: Photos) -> str:
    """Write photos.tsv and return its digest."""
    path = run / "photos.tsv"
    with files.whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, "excel-tab", lineterminator="\n")
        for part, members in ((TRAIN, photos.train), (HELD_OUT, photos.held_out)):
            table.writerows((photo.source, photo.group, part, photo.digest) for photo in members)
    return files.sha256(path)


def read_photos(run: Path) -> list[tuple[str, str, str, str]]:
    """Return the lines of photos.tsv: source, group, part and digest of each photo; raises Failure if not valid."""
    path = run / "photos.tsv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [tuple(row) for row in csv.reader(file, "excel-tab")]
    except FileNotFoundError:
        raise Failure(f"{path}: missing, so the held-out photos are unknown; restore it, or train a new run") from None
    if any(len(row) != 4 or row[2] not in (TRAIN, HELD_OUT) for row in rows):
        raise Failure(f"{path}: damaged; restore it, or train a new run")
    return rows


def read(run: Path) -> Survey:
    """Return the survey of a run; raises Failure if there is none, or it is damaged or of another version."""
    path = checkpoints.check_run(run) / checkpoints.SURVEY
    try:
        values = json.loads(path.read_text())
        if values.get("version") != VERSION:
            raise Failure(f"{run}: a run of another version of depthfield; train a new run")
        pairs = {name: tuple(values[name]) for name in ("similarities", "smallest", "largest")}
        return Survey(**values | pairs)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Failure(f"{path}: damaged: {error}") from None
