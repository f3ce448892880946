"""The numbers of a page as JSON, for programs."""

import json
import math
from collections.abc import Sequence

from depthfield.report import tables
from depthfield.report.view import View

BYTES = 60_000  # most bytes of JSON
LINES = 400  # most lines of metrics, and photos, of a run


def of_runs(views: Sequence[View]) -> dict:
    """Return the data of a page, with as many evenly spaced lines of metrics as fit in BYTES."""
    most = LINES
    while True:
        found = {"format": 1, "runs": [of_run(view, most) for view in views]}
        if most <= 1 or len(json.dumps(found)) <= BYTES:
            return found
        most //= 2


def of_run(view: View, most: int) -> dict:
    run = view.run
    starts = [
        {"step": start.step, "time": start.time, "seconds": start.seconds()}
        | {kind: columns(getattr(start, kind), max(most // len(run.starts), 1)) for kind in ("training", "validation")}
        for start in run.starts[-most:]
    ]
    photos = [{"name": photo.name, "rel": photo.rel} for photo in view.tested.photos[:most]] if view.tested else []
    more = {
        "hosts": run.hosts[:most],
        "settings": run.settings,
        "survey": run.survey,
        "scores": run.scores,
        "protocols": run.protocols,
    }
    return plain(tables.row(run, view.name) | more | {"starts": starts, "photos": photos})


def columns(lines: Sequence[dict], most: int) -> dict[str, list]:
    """Return lists by name of at most `most` lines of metrics, evenly spaced up to the last."""
    chosen = [lines[at * len(lines) // most] for at in range(most - 1)] + [lines[-1]] if len(lines) > most else lines
    names = list(dict.fromkeys(name for line in chosen for name in line if name != "kind"))
    return {name: [line.get(name) for line in chosen] for name in names}


def plain(value: object) -> object:
    """Convert to values of JSON: floats with five digits, null for NaN and infinity, strings for other types."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(f"{value:.5g}") if abs(value) < 1e6 else round(value, 3)
    return value if value is None or isinstance(value, str | int) else str(value)
