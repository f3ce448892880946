"""Scores of runs: on test photos, on held-out photos, by protocol beside the paper's, and of the uncertainty."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from depthfield.history import number
from depthfield.report import figures, tables
from depthfield.report.cells import Cell, Head, Table, figure, hint, percent, text
from depthfield.report.curves import most
from depthfield.report.figures import Plot, Series
from depthfield.report.view import View

METRICS = [column for column in tables.COLUMNS if column.key in tables.METRICS]
HEADS = [Head(f"{column.key} {'↑' if column.signed > 0 else '↓'}", True, hint(column.signed)) for column in METRICS]
AVERAGES = (tables.POOLED, "mean of images")


class Protocol(NamedTuple):
    """The scores of runs by one protocol."""

    rule: str
    table: Table
    remarks: list[str]


def of_metrics(values: dict) -> list[Cell]:
    return [figure(number(values, column.key)) for column in METRICS]


def on_test_photos(views: Sequence[View]) -> Table | None:
    """List the scores of each run in both averages, and those of the mean depth everywhere."""
    rows, means = [], {}
    for view in views:
        for average in AVERAGES:
            field, mean = (view.run.scores.get(method, {}).get(average, {}) for method in ("field", "mean depth"))
            if field:
                rows.append([Cell(view.name, view.name), Cell(average, average), *of_metrics(field)])
            if mean:
                whose = "mean depth everywhere"
                means[tuple(of_metrics(mean))] = [Cell(whose, whose), Cell(average, average), *of_metrics(mean)]
    heads = [Head("method"), Head("average"), *HEADS]
    return Table("Scores on test photos", heads, [*rows, *means.values()]) if rows else None


def extent(views: Sequence[View]) -> list[str]:
    """Return what the scores on test photos cover, one line for runs that share it."""
    lines: dict[str, list[str]] = {}
    for view in views:
        field = view.run.scores.get("field", {})
        if number(field, "images") is not None:
            coverage = f", {field['coverage']:.1%} of those measured" if number(field, "coverage") else ""
            step = f", by the checkpoint of step {field['steps']:,}" if number(field, "steps") else ""
            line = f"{field['images']:,} test photos, {field.get('pixels', 0):,} pixels{coverage}{step}."
            lines.setdefault(line, []).append(view.name)
    return [line if len(names) == len(views) else f"{', '.join(names)}: {line}" for line, names in lines.items()]


def on_held_out_photos(views: Sequence[View]) -> Table | None:
    """List the best and last scores of each run that has held-out photos."""
    rows = []
    for view in views:
        best, last = view.run.best, view.run.validation[-1] if view.run.validation else {}
        for which, line in (("best", best), ("last", last)) if best else ():
            if which == "best" or line is not best:
                cells = [Cell(view.name, view.name), Cell(which, which), figure(line["step"], 0), *of_metrics(line)]
                rows.append([*cells, figure(number(line, "unary_rel"))])
    heads = [Head("run"), Head("which"), Head("step", True), *HEADS, Head("rel without field ↓", True, "of z alone")]
    return Table("Scores on held-out training photos", heads, rows) if rows else None


def by_protocols(views: Sequence[View]) -> list[Protocol]:
    """List the runs beside the published rows, for each protocol with scores of a run."""
    if not any(view.run.protocols for view in views):
        return []
    from depthfield import protocols, published

    found = []
    for name, protocol in protocols.PROTOCOLS.items():
        rows, remarks = [], []
        for view in views:
            scored = view.run.protocols.get(name, {})
            for method, summary in scored.items():
                whose = view.name if method == "field" else f"{view.name}: {method}"
                rows.append([Cell(whose, whose), text("here"), *of_metrics(summary.get(protocol.headline, {}))])
            images = scored.get("field", {}).get("images")
            if images is not None and images != protocol.photos:
                remarks.append(f"{view.name}: {images} of {protocol.photos} photos, so these are not benchmark scores.")
        if not rows:
            continue
        sources = list(dict.fromkeys(row.source for row in published.ROWS[name]))
        for row in published.ROWS[name]:
            values = dict(zip(tables.METRICS, row.values, strict=False))
            rows.append([text(row.method), text(f"published [{sources.index(row.source) + 1}]"), *of_metrics(values)])
        remarks += [f"[{at}] {source}." for at, source in enumerate(sources, start=1)]
        remarks += [] if sources else ["The paper has no row for this protocol."]
        table = Table(f"Protocol {name}", [Head("method"), Head("from"), *HEADS], rows)
        found.append(Protocol(protocol.rule, table, remarks))
    return found


def by_photo(views: Sequence[View]) -> Plot | None:
    """Plot rel of the test photos in ascending order."""
    series = []
    for view in views:
        if view.tested:
            rels = sorted(photo.rel for photo in view.tested.photos)
            series.append(Series(view.name, view.colour, [list(enumerate(rels, start=1))]))
    return figures.plot("rel of each test photo, in order", series, "photo", most=most(views), zero=True)


def calibration(views: Sequence[View]) -> Plot | None:
    """Plot the share of pixels within each number of standard deviations against that of a Gaussian."""
    tested = [view for view in views if view.tested]
    if not tested:
        return None
    from depthfield.calibration import EDGES

    expected = [0.0, *(math.erf(k / math.sqrt(2)) for k in EDGES[1:-1])]
    series = [Series("ideal", figures.NEUTRAL, [[(0, 0), (1, 1)]], dashed=True)]
    for view in tested:
        total = sum(view.tested.counted)
        observed = [0.0, *(below / total for below in itertools.accumulate(view.tested.counted[:-1]))]
        series.append(Series(view.name, view.colour, [list(zip(expected, observed, strict=True))]))
    title = "Pixels within k standard deviations"
    return figures.plot(title, series, "share of a Gaussian's", zero=True)


def uncertainty(views: Sequence[View]) -> Table | None:
    """List how many errors are within the uncertainty, and its calibration on held-out photos."""
    rows = []
    for view in views:
        field = view.run.scores.get("field", {})
        line = view.run.best or (view.run.validation[-1] if view.run.validation else {})
        calibrated = text({True: "on held-out photos", False: "no"}.get(field.get("calibrated")))
        shares = [percent(number(field, f"within {deviations} σ")) for deviations in (1, 2)]
        if line or any(cell.key is not None for cell in shares):
            set_to = [figure(number(line, name)) for name in ("tau", "scale")]
            rows.append([Cell(view.name, view.name), *shares, calibrated, *set_to])
    heads = [
        Head("run"),
        Head("within 1 σ", True, "of a Gaussian's errors, 68.3 % are"),
        Head("within 2 σ", True, "of a Gaussian's errors, 95.4 % are"),
        Head("calibrated"),
        Head("τ", True, "the precision of the field, set on held-out photos"),
        Head("scale", True, "of all standard deviations, set on held-out photos"),
    ]
    return Table("Uncertainty", heads, rows) if rows else None
