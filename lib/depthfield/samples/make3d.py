"""Make3D, "Laser+Image data" 1 and 2: outdoor photos with laser range, 400 + 134 and Dataset3 + Dataset2.

Depth is the fourth channel of `Position3DGrid`, as in all published scores on Make3D: the laser's distance along the
ray of each pixel. (The third channel is the distance along the optical axis.)
"""

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from depthfield import tool
from depthfield.samples import Sample, images, pairing

# The size of published scores; the photos have 2272×1704 pixels, the laser grids 55×305.
HEIGHT, WIDTH = 460, 345
FOLDERS = {"train": ("train400", "dataset3"), "test": ("test134", "gridlaserdata", "dataset2")}


def samples(raw: Path, resampling: Image.Resampling = Image.Resampling.NEAREST) -> Iterator[Sample]:
    """Yield the photos under `raw` that have a laser grid; both are recognised by the names of their folders.

    A photo and its grid share the ID in their names: `img-ID.jpg` and `depth_sph_corr-ID.mat` or `depth-ID.mat`. Files
    without a partner are named on stderr and left out. Photos are read at 460×345, and depth is resized to that by
    `resampling`, nearest neighbour or bilinear. Photos whose IDs differ only in pan and tilt, such as `-p-015t000` at
    the end, are a group: they show the same place. Raises tool.Failure if nothing is found.
    """
    photos = _files(Path(raw), (".jpg", ".jpeg"))
    grids = _files(Path(raw), (".mat",))
    found = pairing.by_name(photos, grids)
    if not found:
        looked = " or ".join(f"{name}*" for names in FOLDERS.values() for name in names)
        raise tool.Failure(f"{raw}: no Make3D photo with its laser grid in folders {looked}; run fetch-dataset")
    pairing.say_unpaired(photos, grids, found)
    for (split, name), photo, grid in found:
        yield Sample(
            name=name,
            split=split,
            source=str(photo.relative_to(raw)),
            group=re.sub(r"-p-\d+t\d+$", "", name),
            inputs=(str(photo), str(grid)),
            read=functools.partial(_read, photo, grid, resampling),
        )


def _files(raw: Path, suffixes: tuple[str, ...]) -> dict[tuple[str, str], Path]:
    """Return the files with these suffixes, by split and ID."""
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(Path(top, name) for top, _, names in os.walk(raw, followlinks=True) for name in names):
        split = _split(path.relative_to(raw))
        if split is None or path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        key = split, re.sub(r"^((img|depth\w*)-)+", "", path.stem)
        if key in found:
            raise tool.Failure(f"{path}: {found[key]} has the same name; remove one")
        found[key] = path
    return found


def _split(path: Path) -> str | None:
    for part in path.parts[:-1]:
        for split, names in FOLDERS.items():
            if part.lower().startswith(names):
                return split
    return None


def _read(photo: Path, grid: Path, resampling: Image.Resampling) -> tuple[np.ndarray, np.ndarray]:
    with images.opened(photo) as image:
        pixels = images.as_rgb(image)
    if pixels.shape[1] > pixels.shape[0]:  # photos of Dataset2 and 3 lie on their side, their grids are upright
        pixels = np.rot90(pixels, k=-1)
    values = images.read_matlab(grid, "Position3DGrid", "depthMap")
    if values.ndim == 3 and values.shape[2] == 4:
        values = values[..., 3]
    if values.ndim != 2 or values.dtype.kind not in "fui":
        raise tool.Failure(f"{grid}: {values.dtype} of shape {values.shape} is not a laser grid")
    depth = Image.fromarray(images.measured(values, grid))
    return (
        np.array(Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)),
        np.array(depth.resize((WIDTH, HEIGHT), resampling)),
    )
