"""The test photos that a page shows."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from depthfield import picture
from depthfield.report.view import Shown, View

EACH = 3  # number of best, of median and of worst photos
QUALITY = 80
LEVELS, NONE = 250, 255  # grey of an error as large as the depth, or larger, and of a pixel that was not measured


class Tile(NamedTuple):
    picture: bytes  # JPEG
    caption: str
    alt: str


class Scale(NamedTuple):
    """What the colours of some pictures mean."""

    of: str
    low: str
    high: str
    colours: str  # "depths" or "errors"


class Row(NamedTuple):
    """One photo with its pictures: its own, and a column for each run."""

    name: str
    scales: list[Scale]
    width: int
    height: int
    own: list[Tile]
    columns: list[list[Tile]]


def of_runs(views: Sequence[View]) -> dict[str, list[Row]]:
    """Return the best, median and worst photos by mean rel, of those that all runs predicted."""
    tested = [view for view in views if view.tested]
    photos = [{photo.digest: photo for photo in view.tested.photos} for view in tested]
    common = [digest for digest in photos[0] if all(digest in each for each in photos)] if photos else []
    rels = [sum(each[digest].rel for each in photos) / len(tested) for digest in common]
    chosen = choose(rels, EACH)
    rows = {name: [row([each[common[at]] for each in photos], tested) for at in chosen[name]] for name in chosen}
    return {name: found for name, found in rows.items() if found}


def choose(rels: Sequence[float], each: int) -> dict[str, list[int]]:
    """Return the indices of the best, median and worst, up to `each` of them and without duplicates."""
    order = sorted(range(len(rels)), key=rels.__getitem__)
    each = min(each, max(1, len(order) // 3))
    best = order[:each]
    worst = order[each:][::-1][:each]
    rest = order[each : len(order) - len(worst)]
    first = max(len(rest) - each, 0) // 2
    return {"Best": best, "Median": rest[first : first + each], "Worst": worst}


def row(shown: Sequence[Shown], views: Sequence[View]) -> Row:
    """Collect the pictures of a photo: predictions and errors of all runs; of a single run its uncertainty, too."""
    first, several = shown[0], len(views) > 1
    off, columns = max(photo.off for photo in shown), []
    scales = [
        Scale("truth and prediction", f"{first.low:.2f} m", f"{first.high:.2f} m", "depths"),
        Scale("error", "0", percent(off), "errors"),
    ]
    for photo, view in zip(shown, views, strict=True):
        rel, by = f"rel {photo.rel:.3f}", f"of {photo.name} by {view.name}, rel {photo.rel:.3f}"
        columns.append([
            Tile(photo.prediction, f"{view.name}, {rel}" if several else f"prediction, {rel}", f"Predicted depth {by}"),
            Tile(coloured(photo.error, off), "error", f"Error {by}"),
        ])  # fmt: skip
    if not several:
        mark = "" if views[0].tested.calibrated else ", not calibrated"
        columns[0].append(Tile(first.uncertainty, f"uncertainty{mark}", f"Uncertainty {by}"))
        scales.append(Scale("uncertainty", percent(first.sure), percent(first.unsure), "errors"))
    name = first.name
    own = [Tile(first.photo, "photo", f"Photo {name}"), Tile(first.truth, "truth", f"Measured depth of {name}")]
    return Row(name, scales, first.width, first.height, own, columns)


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def grey(errors: np.ndarray) -> bytes:
    """Return a map of errors, float H×W shares of the depth, as a PNG in LEVELS steps of grey."""
    levels = np.clip(np.nan_to_num(errors) * LEVELS, 0, LEVELS).round().astype(np.uint8)
    levels[np.isnan(errors)] = NONE
    return saved(levels, "PNG")


def coloured(errors: bytes, off: float) -> bytes:
    """Return the JPEG of a map that `grey` made, in colours from 0 to `off`, a share of the depth."""
    levels = np.asarray(Image.open(io.BytesIO(errors)))
    shares = np.where(levels == NONE, np.nan, levels / LEVELS)
    return jpeg(picture.coloured(shares, 0, off, picture.ERRORS))


def jpeg(pixels: np.ndarray) -> bytes:
    """Return a picture, uint8 H×W×3, as a JPEG."""
    return saved(pixels, "JPEG", quality=QUALITY, optimize=True)


def saved(pixels: np.ndarray, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()
