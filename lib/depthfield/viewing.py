"""What there is to see of a photo on its way through the commands: as one picture, or in a terminal."""

import itertools
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from depthfield import blocks, picture
from depthfield.field import superpixels
from depthfield.preparation import Way, fitted
from depthfield.records import patches
from depthfield.records.patches import Patch
from depthfield.samples import images
from depthfield.tool import Failure, UsageError, hushed, some

if TYPE_CHECKING:  # these import TensorFlow
    from depthfield.prediction import Prediction, Predictor

PANELS = ("photo", "superpixels", "pairs", "depth", "prediction", "uncertainty")
FEWEST = 6  # pixels of a panel across a superpixel that leave room for its boundary
GAP = 12  # pixels between panels
LEAST_CELLS = 12  # that a panel in a terminal must be wide


class Subject(NamedTuple):
    """What is looked at; `depth` alone where it is nothing but a map."""

    name: str
    patch: Patch | None
    depth: np.ndarray  # float32 H×W metres, NaN where there is none
    dataset: str = ""  # that its file lies in
    shrunk: str = ""  # why its photo was made smaller
    what: str = "depth"  # the panel that `depth` is: depth, or the uncertainty that predict-depth writes


class Span(NamedTuple):
    """What the colours of a panel mean."""

    low: float
    high: float  # may be less than `low`
    unit: str
    name: str  # of what is measured
    colours: picture.Colours = picture.DEPTHS


class Panel(NamedTuple):
    """One view of a subject."""

    name: str  # of PANELS
    title: str  # says more
    draw: Callable[[tuple[int, int]], np.ndarray]  # at this width and height in pixels, as uint8 height×width×3
    span: Span | None = None


# ---- what is looked at


def subject(path: Path, which: str | None, samples: Callable, way: Way, predictor: "Predictor | None") -> Subject:
    """The photo that is shown of `path`: a patch file, a shard, a folder of photos with depth, a photo or a depth map.

    A .npy in a folder `uncertainty` is what predict-depth writes there. `which` is the photo's number in a shard or
    folder, from 1, or its name; the first where None. `samples(folder)` yields a folder's (see samples.Sample). Photos
    that are not divided yet are divided as those of the predictor's run, or else in this `way`. Raises Failure where
    there is no such photo, or it cannot be read.
    """
    if path.is_dir():
        sample = chosen(list(samples(path)), which, lambda sample: sample.name, path)
        found = divided(f"{sample.split} {sample.name}", *sample.read(), sample.source, way, predictor)
        return found._replace(dataset=dataset(path, "raw", 0))
    if path.suffix == ".tfrecord":
        return record(path, which)
    if which is not None:
        raise UsageError(f"{path}: one photo; --photo is for shards and folders")
    if path.suffix == ".npz":
        patch = patches.read(path)
        return Subject(path.stem, patch, patch.depth_map, dataset(path, "patches", 2))
    if is_depth_map(path):
        deviation = path.suffix == ".npy" and path.resolve().parent.name == "uncertainty"
        return Subject(path.stem, None, images.read_depth(path), what="uncertainty" if deviation else "depth")
    photo = images.read_photo(path)
    return divided(path.stem, photo, np.full(photo.shape[:2], np.nan, np.float32), path, way, predictor)


def dataset(path: Path, folder: str, above: int) -> str:
    """The dataset NAME of a path in NAME/`folder`, which is so many folders above it; empty for other paths."""
    place = [path.resolve(), *path.resolve().parents][above]
    return place.parent.name if place.name == folder else ""


def is_depth_map(path: Path) -> bool:
    """Whether a file is a depth map rather than a photo: a .npy, or a PNG that states its depth's scale."""
    if path.suffix == ".npy":
        return True
    with images.opened(path) as image:
        return image.format == "PNG" and images.DEPTH_SCALE in image.info


def divided(
    name: str, photo: np.ndarray, depth: np.ndarray, where: object, way: Way, predictor: "Predictor | None"
) -> Subject:
    """The subject of a photo, uint8 H×W×3, and its depth, float32 H×W metres."""
    size = photo.shape[:2]
    if predictor:
        patch = predictor.divide(photo, depth, where)
    else:
        photo, depth = fitted(photo, depth, way.width, way.height)
        try:
            patch = patches.make(photo, depth, str(where), "", way.superpixels, way.similarities)
        except Failure as failure:
            raise Failure(f"{where}: {failure}") from None
    why = "as in training" if predictor else "to divide it"
    return Subject(name, patch, patch.depth_map, shrunk="" if patch.superpixels.shape == size else why)


def record(shard: Path, which: str | None) -> Subject:
    """A photo of a shard."""
    with hushed():
        from depthfield.records import shards

    names = [example["name"].decode() for example in shards.read([shard], ("name",))]
    index = chosen(list(enumerate(names)), which, lambda numbered: numbered[1], shard)[0]
    fields = ("source", "group", "settings", *patches.LAYOUT)
    example = next(itertools.islice(shards.read([shard], fields), index, None))
    texts = {name: example[name].decode() for name in ("source", "group", "settings")}
    similarity_names = np.array([name.decode() for name in example["similarity_names"]])
    patch = Patch(**example | texts | {"similarity_names": similarity_names})
    return Subject(names[index], patch, patch.depth_map, dataset(shard, "records", 1))


def chosen(found: Sequence, which: str | None, name: Callable[[object], str], where: Path):
    """The one of `found` that `which` names or numbers from 1, or the first; a name counts before a number."""
    if which is None and found:
        return found[0]
    names = [name(one) for one in found]
    if which in names:
        return found[names.index(which)]
    if which and which.isdecimal() and 1 <= int(which) <= len(found):
        return found[int(which) - 1]
    raise Failure(f"{where}: no photo {which}; there are {len(found)}: {some(names, 3)}")


# ---- its panels


def panels(
    subject: Subject, wanted: Sequence[str], similarity: str | None, predictor: "Predictor | None"
) -> list[Panel]:
    """The panels out of PANELS that are `wanted` and that there are.

    `similarity` names the one that pairs are weighted by; the mean of all where None. Raises Failure where the patch
    has no such similarity, or was made with other settings than the photos of the predictor's run.
    """
    patch, found = subject.patch, {}
    predicted = predict(subject, predictor) if predictor and patch else None
    if patch:
        found |= of_patch(subject, similarity)
    maps = ([] if np.isnan(subject.depth).all() else [subject.depth]) + ([predicted.depth] if predicted else [])
    colours = picture.ERRORS if subject.what == "uncertainty" else picture.DEPTHS
    span = Span(*picture.span(*maps), "m", subject.what, colours) if maps else None
    if not np.isnan(subject.depth).all():
        holes = np.isnan(subject.depth).mean()
        title = subject.what + (f", {holes:.0%} not measured (black)" if holes >= 0.005 else "")
        found[subject.what] = Panel(subject.what, title, partial(draw_map, subject.depth, span), span)
    if predicted:
        found["prediction"] = Panel("prediction", "prediction", partial(draw_map, predicted.depth, span), span)
        relative, marked = 100 * predicted.sigma / predicted.depth, "" if predictor.calibrated else " (not calibrated)"
        percent = Span(*picture.span(relative), "%", "uncertainty", picture.ERRORS)
        title = "uncertainty" + marked
        found["uncertainty"] = Panel("uncertainty", title, partial(draw_map, relative, percent), percent)
    return [found[name] for name in wanted if name in found]


def predict(subject: Subject, predictor: "Predictor") -> "Prediction":
    """The prediction for a subject that is divided; Failure where that was done otherwise than for the run's photos."""
    settings = patches.Settings.from_json(subject.patch.settings)
    if not predictor.survey.fits(settings):
        raise Failure(
            f"{subject.name}: made with superpixels {settings.superpixels}, similarities "
            f"{','.join(settings.similarities)}, {settings.width}×{settings.height} pixels, but {predictor.run} was "
            f"trained on photos with {predictor.survey.made_with()}"
        )
    return predictor.patch(subject.patch._asdict())


def of_patch(subject: Subject, similarity: str | None) -> dict[str, Panel]:
    """The panels of a photo that is divided: itself, its superpixels, its pairs."""
    patch = subject.patch
    names = patch.similarity_names.tolist()
    if similarity is not None and similarity not in names:
        raise Failure(f"no similarity {similarity!r}; there are {', '.join(names)}")
    weights = patch.similarities.mean(axis=1) if similarity is None else patch.similarities[:, names.index(similarity)]
    by = f"{similarity} similarity" if similarity else f"mean of {', '.join(names)}"
    span = Span(float(weights.max(initial=1e-9)), 0.0, "", "similarity")  # the heaviest in the lightest of the colours
    height, width = patch.superpixels.shape
    size = f"shrunk to {width}×{height} {subject.shrunk}" if subject.shrunk else f"{width}×{height}"
    count, pairs = len(patch.depth), len(patch.pairs)
    return {
        "photo": Panel("photo", f"photo, {size}", partial(picture.resized, patch.image)),
        "superpixels": Panel("superpixels", f"{count} superpixels", partial(draw_superpixels, patch)),
        "pairs": Panel("pairs", f"{pairs} pairs by {by}", partial(draw_pairs, patch, weights), span),
    }


def draw_map(values: np.ndarray, span: Span, size: tuple[int, int]) -> np.ndarray:
    """A map, float32 H×W, in colours that reach over `span`."""
    return picture.coloured(picture.resized_map(values, size), span.low, span.high, span.colours)


def draw_superpixels(patch: Patch, size: tuple[int, int]) -> np.ndarray:
    """The photo with boundaries of superpixels; where there is no room for them, superpixels in their mean colours."""
    photo, labels = picture.resized(patch.image, size), picture.resized_map(patch.superpixels, size)
    across = math.sqrt(size[0] * size[1] / len(patch.depth))
    return (picture.outlined if across >= FEWEST else picture.averaged)(photo, labels)


def draw_pairs(patch: Patch, weights: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The photo with a line for each pair."""
    height, width = patch.superpixels.shape
    centres = (superpixels.centres(patch.superpixels) + 0.5) * (size[1] / height, size[0] / width) - 0.5
    return picture.linked(picture.resized(patch.image, size), centres, patch.pairs, weights)


# ---- all of them


def sheet(rows: Sequence[tuple[Subject, list[Panel]]], width: int) -> Image.Image:
    """All panels of all subjects as one picture: one subject below the other, panels `width` pixels wide."""
    grids = [grid(subject, found, width) for subject, found in rows]
    widest = max(block.width for block in grids)
    whole = Image.new("RGB", (widest, sum(block.height for block in grids)), picture.PAPER)
    top = 0
    for block in grids:
        whole.paste(block, (0, top))
        top += block.height
    return whole


def grid(subject: Subject, found: Sequence[Panel], width: int) -> Image.Image:
    """The panels of one subject in rows of up to three, each with its title above it and its scale bar beside it."""
    columns = len(found) if len(found) <= 3 else math.ceil(len(found) / 2)
    rows, columns_of = subject.depth.shape
    size = width, max(1, round(width * rows / columns_of))
    font = ImageFont.load_default(max(13, width // 32))
    head = sum(font.getmetrics()) + GAP
    cells = [titled(panel, size, font, head) for panel in found]
    lines = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    widths = [max(line[column].width for line in lines if column < len(line)) for column in range(columns)]
    below = GAP + head  # the subject's name
    whole_size = GAP + sum(widths) + GAP * columns, below + (head + size[1]) * len(lines) + GAP
    whole = Image.new("RGB", whole_size, picture.PAPER)
    ImageDraw.Draw(whole).text((GAP, below - GAP // 2), ascii_of(caption(subject)), picture.INK, font=font, anchor="ls")
    for row, line in enumerate(lines):
        for column, cell in enumerate(line):
            whole.paste(cell, (GAP + sum(widths[:column]) + GAP * column, below + (head + size[1]) * row))
    return whole


def caption(subject: Subject) -> str:
    """The name of a subject after its dataset's; where that is unknown, before where its photo came from."""
    if subject.dataset:
        return f"{subject.dataset}: {subject.name}"
    source = subject.patch.source if subject.patch else ""
    return subject.name + (f" ({source})" if source and Path(source).stem != subject.name else "")


def ascii_of(text: str) -> str:
    """A text in the letters that Pillow's own font has."""
    return unicodedata.normalize("NFKD", text.replace("×", "x")).encode("ascii", "replace").decode()


def titled(panel: Panel, size: tuple[int, int], font: ImageFont.FreeTypeFont, head: int) -> Image.Image:
    """A panel with its title above it and its scale bar, if any, on its right, with the bar's name where it fits."""
    drawn, title = panel.draw(size), ascii_of(panel.title)
    if panel.span:
        low, high, unit, _, colours = panel.span
        drawn = np.concatenate([drawn, picture.scale_bar(size[1], low, high, unit, colours)], axis=1)
    cell = Image.new("RGB", (drawn.shape[1], head + size[1]), picture.PAPER)
    cell.paste(Image.fromarray(drawn), (0, head))
    draw = ImageDraw.Draw(cell)
    draw.text((0, head - GAP // 2), title, picture.INK, font=font, anchor="ls")
    if panel.span and font.getlength(title) + GAP + font.getlength(panel.span.name) <= cell.width:
        draw.text((cell.width, head - GAP // 2), panel.span.name, picture.INK, font=font, anchor="rs")
    return cell


def in_terminal(subject: Subject, found: Sequence[Panel], cells: tuple[int, int], true: bool) -> Iterator[str]:
    """The panels of one subject as lines for a terminal of `cells`, width and height, in 24 bits of colour or fewer.

    Panels are as large as the terminal allows, with one line left for the prompt. Raises Failure where it is too small.
    """
    rows, columns_of = subject.depth.shape
    legends = list(dict.fromkeys(panel.span for panel in found if panel.span))
    columns, size = layout(len(found), cells, len(legends), columns_of / rows)
    yield caption(subject)[: cells[0]]
    for start in range(0, len(found), columns):
        line = found[start : start + columns]
        titles = (panel.title if len(panel.title) <= size[0] else panel.name for panel in line)
        yield " ".join(f"{title:{size[0]}}" for title in titles).rstrip()
        drawn = [panel.draw(size) for panel in line]
        for parts in zip(*(blocks.lines(one, true) for one in drawn), strict=True):
            yield " ".join(parts)
    for low, high, unit, name, colours in legends:
        bar = np.linspace(low, high, max(cells[0] // 4, 1))[None].repeat(2, axis=0)
        drawn = next(blocks.lines(picture.coloured(bar, low, high, colours), true))
        ends = (f"{end:.2g} {unit}".rstrip() for end in (low, high))
        yield f"{name} {next(ends)} {drawn} {next(ends)}"


def layout(number: int, cells: tuple[int, int], legends: int, aspect: float) -> tuple[int, tuple[int, int]]:
    """How many of `number` panels go side by side so that they become largest, and how many pixels wide and high each.

    `aspect` is their width to their height. Two pixels make a cell, one above the other. The caption, the titles of
    each row, each of the `legends` and the prompt take a line.
    """
    best = 1, (0, 0)
    for columns in range(1, number + 1):
        lines = math.ceil(number / columns)
        wide = (cells[0] - columns + 1) // columns
        high = (cells[1] - 2 - legends - lines) // lines * 2
        width = min(wide, int(high * aspect))
        height = min(high, math.ceil(width / aspect / 2) * 2)  # whole cells
        if width > best[1][0]:
            best = columns, (width, height)
    if best[1][0] < min(LEAST_CELLS, cells[0]) or best[1][1] < 2:
        raise Failure(
            f"a terminal of {cells[0]}×{cells[1]} characters is too small for {number} panels: enlarge it, show fewer "
            "with --panels, or write a PNG with --out FILE"
        )
    return best
