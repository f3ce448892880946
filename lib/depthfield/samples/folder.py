"""Any folder of photos with depth maps: 16-bit PNGs of a stated scale, or `.npy` in metres."""

import bisect
import collections
import functools
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Hashable, Iterator, Set
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from depthfield import tool
from depthfield.samples import Sample, doubts, images

PHOTO_FOLDERS = ("rgb", "color", "colour", "image", "images", "photo", "photos")
DEPTH_FOLDERS = ("depth", "depths")
HABITS = (  # photo and depth pattern, tried in this order where none are given
    *((f"{photo}/{{name}}.*", f"{depth}/{{name}}.*") for photo in PHOTO_FOLDERS for depth in DEPTH_FOLDERS),
    *(("{name}.*", f"{{name}}{mark}depth.*") for mark in "_-."),
    ("{name}.*", "{name}.npy"),
)
PHOTO_SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
DEPTH_SUFFIXES = frozenset((".npy", ".png"))
FIELD = re.compile(r"\{([A-Za-z]\w*)\}")

Key = TypeVar("Key", bound=Hashable)


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

    `photos` and `depths` are patterns relative to the folder, as `rgb/{name}.png` and `depth/{name}.png`: files whose
    `{name}` is the same belong together. More fields may stand for whole or parts of folder names
    (`{scene}/color/{name}.jpg`), and `*`, `?`, `[...]`, `**/` as in the shell. Without patterns the HABITS are tried.
    With `pair` "nearest:0.02" the names are numbers (times), and the nearest within 0.02 belong together.
    `scale`, the metres a unit of a PNG, `missing` and `depth_range` are those of images.read_depth.

    If `raw` has a folder `train` or `test`, these are read, each by the patterns, and give the split. Otherwise
    `test_share` of the photos, chosen by a hash of the name and so the same each time, are for testing: right for
    single photos, but frames of one video are near copies and belong into `train` and `test` by stretches.

    The photos of a folder are a group; those of a folder that has more than a tenth of its split are as many groups as
    it has tenths, each of frames that follow one another by name (see `_groups`).

    Raises tool.UsageError for patterns that make no sense, tool.Failure where no photo has a depth map.
    """
    raw = Path(raw)
    tolerance = _tolerance(pair)
    patterns = _patterns(photos, depths)
    if tolerance is not None and any(FIELD.findall(pattern) != ["name"] for rule in patterns for pattern in rule):
        raise tool.UsageError(f"--pair {pair} takes patterns with the one field {{name}}")
    if not 0 <= test_share <= 1:
        raise tool.UsageError(f"--test-share takes a share from 0 to 1, not {test_share:g}")
    if scale is not None and not 0 < scale < math.inf:
        raise tool.UsageError(f"--scale takes metres a unit, not {scale:g}")
    if depth_range is not None and not 0 <= depth_range[0] < depth_range[1]:
        raise tool.UsageError("--depth-range takes MIN,MAX in metres, 0 or more and MAX beyond MIN")
    if not raw.is_dir():
        raise tool.Failure(f"{raw}: no such folder")
    reading = {"scale": scale, "missing": missing, "depth_range": depth_range}
    stated = [split for split in ("train", "test") if (raw / split).is_dir()]
    tops = [(split, raw / split) for split in stated] or [(None, raw)]
    found = [
        Sample(
            name=name,
            split=split or ("test" if _draw(name) < test_share else "train"),
            source=str(photo.relative_to(raw)),
            group=photo.parent.relative_to(raw).as_posix(),
            inputs=(str(photo), str(depth)),
            read=functools.partial(_read, photo, depth, **reading),
            reading=json.dumps(reading) if any(value is not None for value in reading.values()) else "",
            doubts=functools.partial(doubts.of_depth, depth, **reading),
        )
        for split, top in tops
        for name, photo, depth in _pairs(top, patterns, tolerance)
    ]
    if not stated and test_share > 0 and all(sample.split == "train" for sample in found):
        tool.say(f"none of {len(found)} photos fell to testing: raise --test-share, or make folders train and test")
    groups = _groups(found, natural_order if tolerance is None else float)
    for sample in found:
        yield sample._replace(group=groups[sample.split, sample.name])


def _groups(found: list[Sample], order: Callable[[str], object]) -> dict[tuple[str, str], str]:
    """The group of each photo by split and name: its folder, or `FOLDER N` where that has more than a tenth of a split.

    Such a folder is taken for a video. It is divided in the `order` of names into stretches of equal length within one
    photo, each of at most a tenth of the split, rounded up.
    """
    groups, folders = {}, collections.defaultdict(list)
    sizes = collections.Counter(sample.split for sample in found)
    for sample in sorted(found, key=lambda sample: order(sample.name)):
        folders[sample.split, sample.group].append(sample.name)
    for (split, folder), names in folders.items():
        stretches = min(math.ceil(10 * len(names) / sizes[split]), len(names))
        for index, name in enumerate(names):
            number = f" {index * stretches // len(names) + 1}" if stretches > 1 else ""
            groups[split, name] = folder + number
    return groups


def natural_order(name: str) -> list:
    """The key that sorts names in natural order: frame-9 comes before frame-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _read(photo: Path, depth: Path, **reading: object) -> tuple[np.ndarray, np.ndarray]:
    pixels, metres = images.read_photo(photo), images.read_depth(depth, **reading)
    if pixels.shape[:2] != metres.shape:
        sizes = [f"{array.shape[1]}×{array.shape[0]}" for array in (metres, pixels)]
        raise tool.Failure(f"{depth}: {sizes[0]} pixels, but its photo {photo} has {sizes[1]}")
    return pixels, metres


def _draw(name: str) -> float:
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
        fields = tuple(dict.fromkeys(FIELD.findall(photo_pattern)))
        depths = _find(top, depth_pattern, fields, DEPTH_SUFFIXES)
        maps = set(depths.values())
        photos = _find(top, photo_pattern, fields, PHOTO_SUFFIXES, maps) if maps or len(patterns) == 1 else {}
        pairs = pair_by_name(photos, depths) if tolerance is None else _pair_nearest(photos, depths, tolerance)
        if pairs:
            say_unpaired(photos, depths, pairs)
            return pairs
        counts = max(counts, (len(photos), len(depths)))
    if all(counts):
        how = "by name (by time: --pair nearest:0.02)" if tolerance is None else f"within {tolerance:g}"
        looked = f"{counts[0]} photos and {counts[1]} depth maps, but no two go together {how}"
    elif patterns is HABITS:
        looked = (
            f"looked for photos in {', '.join(PHOTO_FOLDERS)} with depth maps of the same name in "
            f"{' or '.join(DEPTH_FOLDERS)}, and for NAME.jpg beside NAME_depth.png or NAME.npy; "
            "say where they are with --photos and --depths"
        )
    else:
        looked = f"looked for {patterns[0][0]} and {patterns[0][1]}"
    raise tool.Failure(f"{top}: no photo with a depth map: {looked}")


def _find(
    top: Path, pattern: str, fields: tuple[str, ...], suffixes: frozenset[str], but: Set[Path] = frozenset()
) -> dict[str, Path]:
    """The files under `top` that `pattern` describes, except those of `but`, by the text in the pattern's `fields`.

    Where the pattern leaves the suffix open, only `suffixes` count.
    """
    try:
        expression = re.compile(_expression(pattern))
        paths = sorted(top.glob(FIELD.sub("*", pattern)))
    except (re.error, ValueError, NotImplementedError) as error:
        raise tool.UsageError(f"{pattern!r} is no pattern: {error}") from error
    found: dict[str, Path] = {}
    for path in paths:
        match = expression.fullmatch(path.relative_to(top).as_posix())
        if not match or path in but or path.name.startswith(".") or not path.is_file():
            continue
        if pattern.endswith(".*") and path.suffix.lower() not in suffixes:
            continue
        name = "-".join(match[field] for field in fields)
        if name in found:
            raise tool.Failure(f"{path}: there is another {name!r}, {found[name]}: say which with --photos, --depths")
        found[name] = path
    return found


def _expression(pattern: str) -> str:
    """The regular expression of a pattern, each field a named group (a second time: the same text again)."""
    expression, seen = "", set()
    for part in re.split(r"(\{[A-Za-z]\w*\}|\*\*/|[*?]|\[!?[^]]+\])", pattern):
        if field := FIELD.fullmatch(part):
            name = field[1]
            expression += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
            seen.add(name)
        elif part.startswith("[") and part.endswith("]"):
            expression += part.replace("[!", "[^", 1)
        else:
            expression += {"**/": "(?:[^/]+/)*", "*": "[^/]*", "?": "[^/]"}.get(part) or re.escape(part)
    return expression


def pair_by_name(photos: dict[Key, Path], depths: dict[Key, Path]) -> list[tuple[Key, Path, Path]]:
    """What has the same key in both, in the order of the keys: key, photo, depth map."""
    return [(name, photos[name], depths[name]) for name in sorted(photos.keys() & depths.keys())]


def _pair_nearest(photos: dict[str, Path], depths: dict[str, Path], tolerance: float) -> list[tuple[str, Path, Path]]:
    """Photo and depth map whose names are numbers at most `tolerance` apart, the closest first, each used once."""
    times = sorted((_number(name, path), name) for name, path in depths.items())
    candidates = []
    for name, path in photos.items():
        time = _number(name, path)
        for other, depth in times[bisect.bisect_left(times, (time - tolerance, "")) :]:
            if other > time + tolerance:
                break
            candidates.append((abs(other - time), name, depth))
    taken: dict[str, str] = {}
    used = set()
    for _, name, depth in sorted(candidates):
        if name not in taken and depth not in used:
            taken[name] = depth
            used.add(depth)
    return [(name, photos[name], depths[taken[name]]) for name in sorted(taken)]


def _number(name: str, path: Path) -> float:
    try:
        number = float(name)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise tool.Failure(f"{path}: {name!r} is no number, as pairing by the nearest needs")
    return number


def say_unpaired(photos: dict[Key, Path], depths: dict[Key, Path], pairs: list[tuple[Key, Path, Path]]) -> None:
    """Name on stderr the photos and depth maps that are in no pair."""
    paired = {path for _, *both in pairs for path in both}
    for found, missing in ((photos, "depth map"), (depths, "photo")):
        left = [str(path) for path in found.values() if path not in paired]
        if left:
            tool.say(f"left out, having no {missing}: {tool.some(left, 10)}")
