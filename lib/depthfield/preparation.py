"""From the photos of a dataset to patch files: which module reads a folder, and one photo's way."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from depthfield import files
from depthfield.field import similarity, superpixels
from depthfield.records import manifest, patches
from depthfield.samples import Doubts, Sample, catalogue, folder, images, layouts, make3d, nyu
from depthfield.tool import Failure, UsageError

READERS = {"nyu": nyu.samples, "make3d": make3d.samples, "folder": folder.samples}


class Way(NamedTuple):
    """How photos are made into patches."""

    superpixels: str
    similarities: tuple[str, ...]
    width: int | None  # a photo larger than this is made smaller, in proportion
    height: int | None
    force: bool  # also where the patch file is there and good

    @property
    def bounds(self) -> str:
        return f"{self.width or ''}x{self.height or ''}"


class Outcome(NamedTuple):
    path: Path
    source: str  # of the photo
    refused: str | None = None  # why there is no patch file
    doubts: Doubts | None = None  # where the patch file was made anew


def way(method: str, names: str, width: int | None, height: int | None, force: bool) -> Way:
    """Check the options of make-patches; UsageError for what is unknown."""
    superpixels.parse(method)
    chosen = tuple(name.strip() for name in names.split(","))
    for name in chosen:
        if name not in similarity.SIMILARITIES:
            raise UsageError(f"no similarity {name!r}; there are {', '.join(similarity.SIMILARITIES)}")
    if len(set(chosen)) != len(chosen):
        raise UsageError(f"a similarity is named twice in {names}")
    return Way(method, chosen, width, height, force)


def reader(raw: Path, name: str | None, options: dict) -> Callable[[Path], Iterator[Sample]]:
    """The function that reads `raw`: by `name`, by the catalogue where raw is NAME/raw, or by what it holds.

    That is nyu where it has NYU's file, as rendered rooms have, or else a folder of photos.
    `options` are those of samples.folder and samples.layouts; UsageError where they are given for another reader.
    """
    given = {option: value for option, value in options.items() if value is not None}
    if layout := given.get("layout"):
        if name is not None:
            raise UsageError("--layout and --reader: give one of them")
        if layout != "nyu" or not (raw / nyu.FRAMES).is_file():
            return partial(layouts.samples, **given)
        name = given.pop("layout")
    if name is None:
        datasets = catalogue.read()
        named = raw.resolve().parent.name
        if raw.name == "raw" and named in datasets:
            name = datasets[named].reader
        else:
            name = "nyu" if (raw / nyu.FRAMES).is_file() else "folder"
    if name not in READERS:
        raise UsageError(f"no reader {name!r}; there are {', '.join(READERS)}")
    if given and name != "folder":
        options = ", ".join(f"--{option.replace('_', '-')}" for option in given)
        raise UsageError(f"{raw}: read as {name}, which knows no {options}")
    return partial(READERS[name], **given)


def title(raw: Path) -> str:
    """What a dataset is called: NAME for NAME/raw and for another folder NAME."""
    raw = raw.resolve()
    return raw.parent.name if raw.name == "raw" else raw.name


def target(raw: Path) -> Path:
    """Where patch files go by default: to NAME/patches for NAME/raw, to $DATA_DIR/NAME/patches for another NAME."""
    raw = raw.resolve()
    home = raw.parent if raw.name == "raw" else Path(os.environ.get("DATA_DIR", "data")) / raw.name
    return home / "patches"


def claim(samples: Iterable[Sample], raw: Path, out: Path) -> None:
    """Write the manifest OUT/NAME.manifest of the patch files that these samples of `raw` are to become.

    Raises Failure where two want to be the same patch file, or where one belongs to another dataset's manifest.
    """
    sources: dict[str, str] = {}
    for sample in samples:
        place = f"{sample.split}/{sample.name}.npz"
        if place in sources:
            raise Failure(f"{raw}: {sources[place]} and {sample.source} both want to be {out / place}")
        sources[place] = sample.source
    manifest.write(out, title(raw), sources)


def make(sample: Sample, out: Path, way: Way) -> Outcome:
    """Make one patch file OUT/SPLIT/NAME.npz, unless it is there, made this way, and newer than what it is made of.

    Where the photo cannot be used, a patch file that is not current goes away.
    """
    path = out / sample.split / f"{sample.name}.npz"
    try:
        if not way.force and files.is_current(path, sample.inputs) and made_alike(path, sample, way):
            return Outcome(path, sample.source)
        image, depth = fitted(*sample.read(), way.width, way.height)
        made = patches.make(image, depth, sample.source, sample.group, way.superpixels, way.similarities)
        patches.write(path, made._replace(reading=sample.reading, bounds=way.bounds))
        return Outcome(path, sample.source, doubts=sample.doubts())
    except Failure as failure:
        path.unlink(missing_ok=True)  # made in another way, or of what was there before
        reason = str(failure) if sample.source in str(failure) else f"{sample.source}: {failure}"
        return Outcome(path, sample.source, reason)


def doubtful(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """What a person is to be told of the depth maps that were read, a line for each doubt."""
    read = [outcome for outcome in outcomes if outcome.doubts]
    if dropped := [outcome.doubts for outcome in read if outcome.doubts.greatest]:
        share = sum(one.greatest for one in dropped) / sum(outcome.doubts.pixels for outcome in read)
        where = f"{100 * share:.2g} % of all pixels, in {len(dropped)} of {len(read)} photos"
        yield f"{images.GREATEST} is taken for no measurement, {where}; --missing VALUE names another value"
    if apart := [outcome for outcome in read if outcome.doubts.apart]:
        near, far = apart[0].doubts.apart
        more = f" (and so in {len(apart) - 1} more photos)" if len(apart) > 1 else ""
        doubt = f"the farthest depths, from {far:.4g} m on, lie far from all others, up to {near:.4g} m{more}"
        yield f"{apart[0].source}: {doubt}; if they mean no measurement, say --missing VALUE or --depth-range MIN,MAX"
    if known := [outcome.doubts for outcome in read if outcome.doubts.usual]:
        median, (least, most) = float(np.median([one.median for one in known])), known[0].usual
        if not least <= median <= most:
            found = f"the median depth of {len(known)} photos is {median:.3g} m"
            yield f"{found}, usual for this layout is {least:g} to {most:g} m: is the scale right? (--scale METRES)"


def made_alike(path: Path, sample: Sample, way: Way) -> bool:
    """Whether a patch file is whole and was made of this photo, read and divided in this way."""
    try:
        patch = patches.read(path)
        made = patches.Settings.from_json(patch.settings)
    except (Failure, ValueError, TypeError):
        return False
    read_alike = (patch.source, patch.group, patch.reading) == (sample.source, sample.group, sample.reading)
    return read_alike and (*made[:2], patch.bounds) == (way.superpixels, way.similarities, way.bounds)


def fitted(
    image: np.ndarray, depth: np.ndarray, width: int | None, height: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """A photo and its depth made smaller in proportion, to fit into width×height pixels; depth by nearest neighbour."""
    rows, columns = depth.shape
    shrink = min((width or columns) / columns, (height or rows) / rows)
    if shrink >= 1:
        return image, depth
    size = max(1, round(columns * shrink)), max(1, round(rows * shrink))
    small = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(small), np.asarray(Image.fromarray(depth).resize(size, Image.Resampling.NEAREST))
