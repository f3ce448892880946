"""Folders laid out as those of well-known datasets of photos with depth: TUM, ScanNet, KITTI and NYU.

tum      a sequence of the TUM RGB-D benchmark: `rgb.txt` and `depth.txt` list `time file`, one a line. A unit is
         1/5000 m, 0 is no measurement. Its own associate.py pairs what is at most 0.02 s apart, the closest first.
         https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats, .../rgbd-dataset/tools
scannet  a scene as ScanNet's SensReader exports it: `color/0.jpg` of 1296×968 pixels, `depth/0.png` of 640×480 in
         millimetres. Photo and depth map are of two cameras side by side; as is usual, the photo is resized to the
         depth map. `scene0000_00` and `scene0000_01` are two scans of one place.
         https://github.com/ScanNet/ScanNet, SensReader/python/SensorData.py and README.md
kitti    the depth prediction benchmark of 2017: `DRIVE/proj_depth/groundtruth/image_02/0000000005.png` in folders
         train and val, beside `DRIVE/image_02/data/0000000005.png` of the raw data. A unit is 1/256 m, 0 is no
         measurement. The first and last five photos of a drive have no depth map.
         https://www.cvlibs.net/datasets/kitti/eval_depth_all.php, readme.txt of its development kit
nyu      synchronised frames of NYU Depth v2 as BTS and others train on: `SCENE/rgb_00000.jpg` with
         `SCENE/sync_depth_00000.png` in millimetres, in folders sync (training) and official_splits/test. A letter
         behind a scene's number marks a part of its video.
         https://github.com/cleinc/bts, pytorch/bts_dataloader.py and utils/extract_official_train_test_set_from_mat.py
"""

import collections
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from depthfield import tool
from depthfield.samples import Sample, folder, pairing

MILLIMETRE = 0.001
INDOORS = (0.6, 4.5)  # metres: where the median depth of a dataset of rooms lies; a unit that is wrong by 5 shows
ON_THE_ROAD = (6.0, 40.0)
CLOSE = 0.02  # seconds: the default of TUM's associate.py
SPLITS = {"train": "train", "val": "test", "test": "test"}  # what a folder of this name is for


class Frame(NamedTuple):
    """A photo and its depth map."""

    name: str  # unique below the folder
    place: str  # what was filmed there is filmed nowhere else: a scene, a sequence, a drive
    photo: Path
    depth: Path


class Layout(NamedTuple):
    """How photos and depth maps lie in the folders of a dataset, and what the depth maps mean."""

    frames: Callable[[Path], list[Frame]]
    scale: float  # metres a unit
    usual: tuple[float, float]  # metres: where the median depth lies
    fit: bool = False  # whether photos are resized to their depth maps


def samples(
    raw: Path,
    layout: str,
    scale: float | None = None,
    missing: float | None = None,
    depth_range: tuple[float, float] | None = None,
    test_share: float = 0.2,
    **others: object,
) -> Iterator[Sample]:
    """The photos under `raw` that have a depth map, as the `layout` of this name (see above) pairs them.

    `scale` in place of the layout's own, `missing` and `depth_range` are those of images.read_depth.

    Where depth maps lie below a folder train, val or test, that gives the split: val is for testing, and what is in
    none of them for training. Otherwise whole places are chosen for testing by a hash of their names, the share
    `test_share` of them, or of a single place its last photos. Places are groups; a place with more than a tenth of
    its split is divided into stretches, as in samples.folder.

    Raises tool.UsageError for an unknown layout and for options that do not go with one, tool.Failure where no photo
    has a depth map or a list cannot be read.
    """
    if layout not in LAYOUTS:
        raise tool.UsageError(f"--layout is one of {', '.join(LAYOUTS)}, not {layout!r}")
    if others:
        raise tool.UsageError(f"--layout {layout} says which files belong together; leave out --{min(others)}")
    raw, how = Path(raw), LAYOUTS[layout]
    reading = folder.checked(raw, how.scale if scale is None else scale, missing, depth_range, test_share)
    frames = sorted(how.frames(raw), key=lambda frame: folder.natural_order(frame.name))
    if not frames:
        raise tool.Failure(f"{raw}: no photo with a depth map in the layout {layout}: looked for {LOOKED_FOR[layout]}")
    stated = [_stated(frame.depth.relative_to(raw)) for frame in frames]
    splits = [split or "train" for split in stated] if any(stated) else _drawn(frames, test_share)
    found = [
        folder.sample(raw, frame.name, split, frame.photo, frame.depth, frame.place, reading, how.fit, how.usual)
        for frame, split in zip(frames, splits, strict=True)
    ]
    if not any(stated):
        folder.say_empty(found, test_share)
    yield from folder.grouped(found, folder.natural_order)


def _stated(depth: Path) -> str | None:
    """The split that a folder above a depth map gives."""
    return next((SPLITS[part] for part in depth.parts[:-1] if part in SPLITS), None)


def _drawn(frames: list[Frame], test_share: float) -> list[str]:
    """The split of each frame, by its place; of a single place the last frames are for testing."""
    if len({frame.place for frame in frames}) == 1:
        train = len(frames) - math.floor(test_share * len(frames))
        return ["train" if number < train else "test" for number in range(len(frames))]
    return ["test" if folder.draw(frame.place) < test_share else "train" for frame in frames]


def _by_patterns(
    raw: Path, patterns: tuple[tuple[str, str], ...], place: Callable[[str], str] = lambda scene: scene
) -> list[Frame]:
    """The frames by the first pair of patterns that finds any: fields (scene, frame), or (frame,) in a single scene."""
    for photo_pattern, depth_pattern in patterns:
        fields = pairing.fields_of(photo_pattern)
        depths = pairing.find(raw, depth_pattern, fields, pairing.DEPTH_SUFFIXES)
        if depths:
            photos = pairing.find(raw, photo_pattern, fields, pairing.PHOTO_SUFFIXES)
            pairs = pairing.by_name(photos, depths)
            pairing.say_unpaired(photos, depths, pairs)
            only = raw.resolve().name
            return [Frame("-".join(key), place(key[0]) if len(key) > 1 else only, *both) for key, *both in pairs]
    return []


def _scannet(raw: Path) -> list[Frame]:
    patterns = (
        ("**/{scene}/color/{frame}.*", "**/{scene}/depth/{frame}.png"),
        ("color/{frame}.*", "depth/{frame}.png"),
    )
    return _by_patterns(raw, patterns, lambda scene: re.sub(r"^(scene\d+)_\d+$", r"\1", scene))


def _kitti(raw: Path) -> list[Frame]:
    photos = "**/{drive}/image_02/data/{frame}.*"
    return _by_patterns(raw, ((photos, "**/{drive}/proj_depth/groundtruth/image_02/{frame}.png"),))


def _nyu(raw: Path) -> list[Frame]:
    patterns = (
        ("**/{scene}/rgb_{frame}.*", "**/{scene}/sync_depth_{frame}.png"),
        ("rgb_{frame}.*", "sync_depth_{frame}.png"),
    )
    return _by_patterns(raw, patterns, lambda scene: re.sub(r"^(.*\d)[a-z]$", r"\1", scene))


def _tum(raw: Path) -> list[Frame]:
    frames = []
    for photos in sorted(raw.glob("**/rgb.txt")):
        sequence = photos.parent.relative_to(raw)
        both = [_listed(path) for path in (photos, photos.with_name("depth.txt"))]
        pairs = pairing.nearest(*both, CLOSE)
        pairing.say_unpaired(*both, pairs)
        place = str(sequence) if sequence.parts else raw.resolve().name
        frames += [Frame("-".join((*sequence.parts, time)), place, *files) for time, *files in pairs]
    return frames


def _listed(path: Path) -> dict[str, Path]:
    """The files by their times, in seconds, that a list of TUM's names; those that are missing are named on stderr.

    A line is `time file`, between them blanks, tabs or a comma; `#` begins a comment. Times need not be sorted. Raises
    tool.Failure, naming the line, for anything else and for a time that comes twice.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise tool.Failure(tool.reason(error)) from None
    found, numbers = {}, collections.Counter()
    for number, line in enumerate(lines, start=1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 2 or not _is_time(words[0]):
            raise tool.Failure(f"{path}: line {number} is {line[:80]!r}, expected a time in seconds and a file")
        numbers[float(words[0])] += 1
        if numbers[float(words[0])] > 1:
            raise tool.Failure(f"{path}: line {number} has the time {words[0]} of an earlier line")
        found[words[0]] = path.parent / words[1]
    missing = [str(file) for file in found.values() if not file.is_file()]
    if missing:
        tool.say(f"{path}: left out, as these files are missing: {tool.some(missing, 3)}")
    return {time: file for time, file in found.items() if file.is_file()}


def _is_time(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


LAYOUTS = {
    "tum": Layout(_tum, 1 / 5000, INDOORS),
    "scannet": Layout(_scannet, MILLIMETRE, INDOORS, fit=True),
    "kitti": Layout(_kitti, 1 / 256, ON_THE_ROAD),
    "nyu": Layout(_nyu, MILLIMETRE, INDOORS),
}
LOOKED_FOR = {
    "tum": f"rgb.txt and depth.txt, whose times are at most {CLOSE:g} s apart",
    "scannet": "SCENE/color/FRAME.jpg and SCENE/depth/FRAME.png, as SensReader exports a .sens file",
    "kitti": "DRIVE/image_02/data/FRAME.png and DRIVE/proj_depth/groundtruth/image_02/FRAME.png",
    "nyu": "SCENE/rgb_FRAME.jpg and SCENE/sync_depth_FRAME.png (NYU's toolbox makes them of the raw dumps r-*.ppm, "
    "d-*.pgm)",
}
