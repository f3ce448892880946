"""The test photos that a page shows."""

from collections.abc import Sequence
from typing import NamedTuple

from depthfield.report.view import Shown, View

EACH = 3  # number of best, of median and of worst photos


class Tile(NamedTuple):
    picture: bytes  # JPEG
    caption: str
    alt: str


class Row(NamedTuple):
    """One photo with its pictures; the colours of truth and prediction go from `low` to `high` metres."""

    name: str
    low: float
    high: float
    width: int
    height: int
    tiles: list[Tile]


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
    name = first.name
    tiles = [Tile(first.photo, "photo", f"Photo {name}"), Tile(first.truth, "truth", f"Measured depth of {name}")]
    for photo, view in zip(shown, views, strict=True):
        whose = f"{view.name}: " if several else ""
        by = f"of {name} by {view.name}, rel {photo.rel:.3f}"
        tiles.append(Tile(photo.prediction, f"{whose}prediction, rel {photo.rel:.3f}", f"Predicted depth {by}"))
        tiles.append(Tile(photo.error, f"{whose}error", f"Error {by}"))
        if not several:
            mark = "" if view.tested.calibrated else ", not calibrated"
            tiles.append(Tile(photo.uncertainty, f"uncertainty{mark}", f"Uncertainty {by}"))
    return Row(name, first.low, first.high, first.width, first.height, tiles)
