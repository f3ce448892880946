"""From the photos of a dataset to patch files: choose the reader of a folder, and make one patch file."""

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

USUAL = (0.1, 200.0)  # metres: where the median depth of photos lies, if their layout says no more


class Way(NamedTuple):
    """How patch files are made of photos."""

    superpixels: str
    similarities: tuple[str, ...]
    width: int | None  # larger photos are shrunk, keeping proportions
    height: int | None
    force: bool  # make patch files again even if they are current

    @property
    def bounds(self) -> str:
        return f"{self.width or ''}x{self.height or ''}"


class Outcome(NamedTuple):
    path: Path
    source: str  # the photo's
    refused: str | None = None  # why there is no patch file
    doubts: Doubts | None = None  # if the patch file was made now


def way(method: str, names: str, width: int | None, height: int | None, force: bool) -> Way:
    """Check the options of make-patches; raises UsageError for unknown values."""
    superpixels.parse(method)
    chosen = tuple(name.strip() for name in names.split(","))
    for name in chosen:
        if name not in similarity.SIMILARITIES:
            raise UsageError(f"no similarity {name!r}; there are {', '.join(similarity.SIMILARITIES)}")
    if len(set(chosen)) != len(chosen):
        raise UsageError(f"--similarities names one twice: {names}")
    return Way(method, chosen, width, height, force)


def reader(raw: Path, name: str | None, options: dict) -> Callable[[Path], Iterator[Sample]]:
    """Return the function that reads `raw`: by `name`, by the catalogue if raw is NAME/raw, or by its content.

    By content it is nyu if NYU's file is there, as for rendered rooms, or else a folder of photos. `options` are those
    of samples.folder and samples.layouts; raises UsageError if they are given for another reader.
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
        raise UsageError(f"{raw}: read as {name}, which has no option {options}")
    return partial(READERS[name], **given)


def title(raw: Path) -> str:
    """Return the name of a dataset: NAME for NAME/raw, and for any other folder NAME."""
    raw = raw.resolve()
    return raw.parent.name if raw.name == "raw" else raw.name


def target(raw: Path) -> Path:
    """Return the default folder of patch files: NAME/patches for NAME/raw, $DATA_DIR/NAME/patches for another NAME."""
    raw = raw.resolve()
    home = raw.parent if raw.name == "raw" else Path(os.environ.get("DATA_DIR", "data")) / raw.name
    return home / "patches"


def claim(samples: Iterable[Sample], raw: Path, out: Path) -> None:
    """Write the manifest OUT/NAME.manifest of the patch files for these samples of `raw`.

    Raises Failure if two samples have the same patch file, or one is in the manifest of another dataset.
    """
    sources: dict[str, str] = {}
    for sample in samples:
        place = f"{sample.split}/{sample.name}.npz"
        if place in sources:
            raise Failure(f"{raw}: {sources[place]} and {sample.source} would both become {out / place}; rename one")
        sources[place] = sample.source
    manifest.write(out, title(raw), sources)


def make(sample: Sample, out: Path, way: Way) -> Outcome:
    """Make one patch file OUT/SPLIT/NAME.npz, unless a current one exists, made in this way.

    If the photo cannot be used, an outdated patch file is removed.
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
        path.unlink(missing_ok=True)  # made in another way or from an older photo
        reason = str(failure) if sample.source in str(failure) else f"{sample.source}: {failure}"
        return Outcome(path, sample.source, reason)


def doubtful(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Yield a message for each doubt about the depth maps that were read."""
    read = [outcome for outcome in outcomes if outcome.doubts]
    if dropped := [outcome.doubts for outcome in read if outcome.doubts.greatest]:
        share = sum(one.greatest for one in dropped) / sum(outcome.doubts.pixels for outcome in read)
        where = f"{100 * share:.2g} % of all pixels, in {len(dropped)} of {len(read)} photos"
        yield f"{images.GREATEST} counts as no measurement: {where}; --missing VALUE names another value"
    if apart := [outcome for outcome in read if outcome.doubts.apart]:
        near, far = apart[0].doubts.apart
        more = f" (also in {len(apart) - 1} more photos)" if len(apart) > 1 else ""
        doubt = f"the largest depths, from {far:.4g} m, are far from all others, up to {near:.4g} m{more}"
        yield f"{apart[0].source}: {doubt}; if they mean no measurement, use --missing VALUE or --depth-range MIN,MAX"
    if known := [outcome.doubts for outcome in read if outcome.doubts.median is not None]:
        median, usual = float(np.median([one.median for one in known])), known[0].usual
        least, most = usual or USUAL
        found = f"the median depth of {len(known)} photos is {median:.3g} m"
        if not least <= median <= most and usual:
            yield f"{found}, usual for this layout is {least:g} to {most:g} m: is the scale right? (--scale METRES)"
        elif not least <= median <= most:
            yield f"{found}: --scale is metres per unit, such as 0.0002"


def made_alike(path: Path, sample: Sample, way: Way) -> bool:
    """Whether a patch file is complete and was made from this photo in this way."""
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
    """Shrink a photo and its depth map to fit into width×height pixels, keeping proportions; depth by nearest pixel."""
    rows, columns = depth.shape
    shrink = min((width or columns) / columns, (height or rows) / rows)
    if shrink >= 1:
        return image, depth
    size = max(1, round(columns * shrink)), max(1, round(rows * shrink))
    small = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(small), np.asarray(Image.fromarray(depth).resize(size, Image.Resampling.NEAREST))
