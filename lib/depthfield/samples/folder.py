"""Any folder of photos with depth maps: 16-bit PNGs of a stated scale, or `.npy` in metres."""

import collections
import functools
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from depthfield import tool
from depthfield.samples import Sample, doubts, images, pairing
from depthfield.samples.pairing import DEPTH_SUFFIXES, FIELD, PHOTO_SUFFIXES

PHOTO_FOLDERS = ("rgb", "color", "colour", "image", "images", "photo", "photos")
DEPTH_FOLDERS = ("depth", "depths")
HABITS = (  # photo and depth pattern, tried in this order where none are given
    *((f"{photo}/{{name}}.*", f"{depth}/{{name}}.*") for photo in PHOTO_FOLDERS for depth in DEPTH_FOLDERS),
    *(("{name}.*", f"{{name}}{mark}depth.*") for mark in "_-."),
    ("{name}.*", "{name}.npy"),
)
ALIKE = 0.01  # how far proportions may differ: ScanNet's photos have 1296×968 pixels, its depth maps 640×480


def samples(
    raw: Path,
    photos: str | None = None,
    depths: str | None = None,
    scale: float | None = None,
    missing: float | None = None,
    depth_range: tuple[float, float] | None = None,
    pair: str = "name",
    test_share: float = 0.2,
) -> Iterator[Sample]:
    """The photos under `raw` that have a depth map of the same size; what has no partner is named and left out.

    `photos` and `depths` are patterns relative to the folder, such as `rgb/{name}.png` and `depth/{name}.png`: files
    whose `{name}` is the same belong together. Patterns may have more fields (`{scene}/color/{name}.jpg`); see
    pairing.find. Without patterns the HABITS are tried. With `pair` "nearest:0.02" the names are numbers (times), and
    the nearest within 0.02 belong together. `scale`, the metres a unit of a PNG, `missing` and `depth_range` are those
    of images.read_depth.

    If `raw` has a folder `train` or `test`, each is read by the patterns, and gives the split. Otherwise `test_share`
    of the photos, chosen by a hash of the name and so the same each time, are for testing. That is right for single
    photos; frames of one video are near copies and belong in `train` and `test` by stretches.

    The photos of a folder are a group. A folder that has more than a tenth of its split is divided into as many groups
    as it has tenths, each of frames that follow one another by name (see `_groups`).

    Raises tool.UsageError for patterns that are not valid, tool.Failure where no photo has a depth map.
    """
    raw = Path(raw)
    tolerance = _tolerance(pair)
    patterns = _patterns(photos, depths)
    if tolerance is not None and any(FIELD.findall(pattern) != ["name"] for rule in patterns for pattern in rule):
        raise tool.UsageError(f"--pair {pair} takes patterns with the one field {{name}}")
    reading = checked(raw, scale, missing, depth_range, test_share)
    if scale is None and (raw / "rgb.txt").is_file() and (raw / "depth.txt").is_file():
        tool.say(f"{raw}: has rgb.txt and depth.txt, as TUM's sequences, whose unit is 0.0002 m: see --layout tum")
    stated = [split for split in ("train", "test") if (raw / split).is_dir()]
    tops = [(split, raw / split) for split in stated] or [(None, raw)]
    found = [
        sample(
            raw, name, split or ("test" if draw(name) < test_share else "train"), photo, depth,
            group=photo.parent.relative_to(raw).as_posix(), reading=reading,
        )
        for split, top in tops
        for name, photo, depth in _pairs(top, patterns, tolerance)
    ]  # fmt: skip
    if not stated:
        say_empty(found, test_share)
    yield from grouped(found, natural_order if tolerance is None else float)


def checked(
    raw: Path,
    scale: float | None,
    missing: float | None,
    depth_range: tuple[float, float] | None,
    test_share: float,
) -> dict:
    """The options of images.read_depth, for options that make sense and a folder that is there.

    Raises tool.UsageError, or tool.Failure where `raw` is missing.
    """
    if not 0 <= test_share <= 1:
        raise tool.UsageError(f"--test-share takes a share from 0 to 1, not {test_share:g}")
    if scale is not None and not 0 < scale < math.inf:
        raise tool.UsageError(f"--scale takes metres a unit, not {scale:g}")
    if depth_range is not None and not 0 <= depth_range[0] < depth_range[1]:
        raise tool.UsageError("--depth-range takes MIN,MAX in metres, 0 or more and MAX beyond MIN")
    if not raw.is_dir():
        raise tool.Failure(f"{raw}: no such folder")
    return {"scale": scale, "missing": missing, "depth_range": depth_range}


def sample(
    raw: Path,
    name: str,
    split: str,
    photo: Path,
    depth: Path,
    group: str,
    reading: dict,
    fit: bool = False,
    usual: tuple[float, float] | None = None,
) -> Sample:
    """The sample of a photo and a depth map below `raw`.

    `reading` are options of images.read_depth. With `fit`, the photo is brought to the size of its depth map (see
    `read`). `usual` is where the median depth of such photos lies, metres, for doubts.of_depth.
    """
    return Sample(
        name=name,
        split=split,
        source=str(photo.relative_to(raw)),
        group=group,
        inputs=(str(photo), str(depth)),
        read=functools.partial(read, photo, depth, fit, **reading),
        reading=json.dumps(reading) if any(value is not None for value in reading.values()) else "",
        doubts=functools.partial(doubts.of_depth, depth, usual=usual, **reading),
    )


def say_empty(found: list[Sample], test_share: float) -> None:
    """Say so where all photos fell to one split by chance."""
    splits = {one.split for one in found}
    if splits == {"train"} and test_share > 0:
        tool.say(f"none of {len(found)} photos fell to testing: raise --test-share, or make folders train and test")
    if splits == {"test"} and test_share < 1:
        tool.say(f"all {len(found)} photos fell to testing: lower --test-share, or make folders train and test")


def grouped(found: list[Sample], order: Callable[[str], object]) -> Iterator[Sample]:
    """The samples with the groups of `_groups`."""
    groups = _groups(found, order)
    for one in found:
        yield one._replace(group=groups[one.split, one.name])


def _groups(found: list[Sample], order: Callable[[str], object]) -> dict[tuple[str, str], str]:
    """The group of each photo by split and name: its folder, or `FOLDER N` where that has more than a tenth of a split.

    Such a folder is taken for a video. It is divided in the `order` of names into stretches of equal length within one
    photo, each of at most a tenth of the split, rounded up.
    """
    groups, folders = {}, collections.defaultdict(list)
    sizes = collections.Counter(one.split for one in found)
    for one in sorted(found, key=lambda one: order(one.name)):
        folders[one.split, one.group].append(one.name)
    for (split, folder), names in folders.items():
        stretches = min(math.ceil(10 * len(names) / sizes[split]), len(names))
        for index, name in enumerate(names):
            number = f" {index * stretches // len(names) + 1}" if stretches > 1 else ""
            groups[split, name] = folder + number
    return groups


def natural_order(name: str) -> list:
    """The key that sorts names in natural order: frame-9 comes before frame-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def read(photo: Path, depth: Path, fit: bool = False, **reading: object) -> tuple[np.ndarray, np.ndarray]:
    """The photo and its depth, as Sample.read gives them; `reading` are options of images.read_depth.

    With `fit`, a photo of another size but of the same proportions, within ALIKE, is resized to its depth map.
    Raises tool.Failure where the sizes differ otherwise.
    """
    pixels, metres = images.read_photo(photo), images.read_depth(depth, **reading)
    if pixels.shape[:2] == metres.shape:
        return pixels, metres
    (rows, columns), (height, width) = pixels.shape[:2], metres.shape
    alike = abs(rows * width / (columns * height) - 1) <= ALIKE
    if fit and alike:
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)), metres
    hint = " (--layout scannet resizes photos to their depth maps)" if alike else ""
    raise tool.Failure(f"{depth}: {width}×{height} pixels, but its photo {photo} has {columns}×{rows}{hint}")


def draw(name: str) -> float:
    """A number from 0 to 1 that depends on nothing but `name`: adding photos moves none to the other split."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big") / 2**64


def _tolerance(pair: str) -> float | None:
    """The tolerance of nearest pairing, None for pairing by name."""
    if pair == "name":
        return None
    try:
        kind, tolerance = pair.split(":")
        if kind == "nearest" and 0 <= float(tolerance) < math.inf:
            return float(tolerance)
    except ValueError:
        pass
    raise tool.UsageError(f"--pair takes `name` or `nearest:TOLERANCE`, not {pair!r}")


def _patterns(photos: str | None, depths: str | None) -> tuple[tuple[str, str], ...]:
    if photos is None and depths is None:
        return HABITS
    if photos is None or depths is None:
        raise tool.UsageError("--photos and --depths go together: give both or neither")
    for pattern in (photos, depths):
        path = PurePosixPath(pattern)
        if path.is_absolute() or ".." in path.parts:
            raise tool.UsageError(f"{pattern!r}: a pattern is relative to the folder and stays in it")
    fields = [sorted(set(FIELD.findall(pattern))) for pattern in (photos, depths)]
    if fields[0] != fields[1] or not fields[0]:
        raise tool.UsageError(f"{photos!r} and {depths!r} need the same {{name}} to be paired by")
    return ((photos, depths),)


def _pairs(top: Path, patterns: tuple[tuple[str, str], ...], tolerance: float | None) -> list[tuple[str, Path, Path]]:
    """The pairs under `top` by the first of the patterns that finds any: name, photo, depth map."""
    counts = (0, 0)
    for photo_pattern, depth_pattern in patterns:
        fields = pairing.fields_of(photo_pattern)
        depths = _named(pairing.find(top, depth_pattern, fields, DEPTH_SUFFIXES))
        maps = set(depths.values())
        looked = maps or len(patterns) == 1
        photos = _named(pairing.find(top, photo_pattern, fields, PHOTO_SUFFIXES, maps)) if looked else {}
        pairs = pairing.by_name(photos, depths) if tolerance is None else pairing.nearest(photos, depths, tolerance)
        if pairs:
            pairing.say_unpaired(photos, depths, pairs)
            return pairs
        counts = max(counts, (len(photos), len(depths)))
    if all(counts):
        how = "by name (by time: --pair nearest:0.02)" if tolerance is None else f"within {tolerance:g}"
        looked = f"{counts[0]} photos and {counts[1]} depth maps, but no two go together {how}"
    elif patterns is HABITS:
        looked = (
            f"looked for photos in {', '.join(PHOTO_FOLDERS)} with depth maps of the same name in "
            f"{' or '.join(DEPTH_FOLDERS)}, and for NAME.jpg beside NAME_depth.png or NAME.npy; "
            "say where they are with --photos and --depths, or how the folder is laid out with --layout"
        )
    else:
        looked = f"looked for {patterns[0][0]} and {patterns[0][1]}"
    raise tool.Failure(f"{top}: no photo with a depth map: {looked}")


def _named(found: dict[pairing.Fields, Path]) -> dict[str, Path]:
    """Files by the text in their fields, joined to a name."""
    return {"-".join(fields): path for fields, path in found.items()}
