"""Curves of a page: loss, scores on held-out photos, and speed, with the starts of train-depth marked."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from depthfield.history import SPENT, Run, Start, number
from depthfield.report import figures
from depthfield.report.cells import Cell, Head, Table, moment, text
from depthfield.report.figures import Mark, Plot, Point, Series
from depthfield.report.view import View

POINTS, EACH = 1000, 300  # most points of a figure, and of one curve
WHERE = {"computing": "computing", "waiting": "waiting for data", "moving": "moving parameters"}


def most(views: Sequence[View]) -> int:
    """Return the most points of a curve."""
    return min(POINTS // len(views), EACH)


def by_step(start: Start, line: dict, before: float) -> float:
    return line["step"]


def by_minute(start: Start, line: dict, before: float) -> float:
    """Return minutes of training; `before` are the seconds of earlier starts."""
    return (before + start.seconds(line)) / 60


def curve(
    view: View, kind: str, key: str, name: str, colour: int, x: Callable = by_step, dashed: bool = False
) -> Series:
    """Return the curve of a number in lines of metrics of a kind, `training` or `validation`, one part per start.

    Points beyond the step that a later start continued from are lost: those steps were taken again.
    """
    parts: list[list[Point]] = []
    lost: list[list[Point]] = []
    before, starts = 0.0, view.run.starts
    for at, start in enumerate(starts):
        again = min((later.step for later in starts[at + 1 :]), default=math.inf)
        lines = [line for line in getattr(start, kind) if number(line, key) is not None]
        points = [(x(start, line, before), line[key]) for line in lines]
        kept = sum(line["step"] <= again for line in lines)
        parts.append(points[:kept])
        lost.append(points[max(kept - 1, 0) :] if kept < len(points) else [])
        before += start.seconds()
    return Series(name, colour, parts, lost, dashed)


def marks(views: Sequence[View]) -> list[Mark]:
    """Return marks at the steps from which train-depth continued."""
    return [
        Mark(start.step, str(at), f"{view.name}: start {at}, {moment(start.time)}, from step {start.step:,}")
        for view in views
        for at, start in enumerate(view.run.starts[1:], start=2)
    ]


def ends(views: Sequence[View]) -> list[float]:
    """Return the ends of axes of steps."""
    return [0, *(view.run.step for view in views if view.run.step)]


class Wanted(NamedTuple):
    """A figure to plot, or a few numbers."""

    title: str
    series: list[Series]
    x_label: str = "step"


def of_scores(views: Sequence[View]) -> tuple[list[Plot], Table | None]:
    """Plot loss and scores; figures that would have too few points are rows of a table."""
    wanted = of_one(views[0]) if len(views) == 1 else of_several(views)
    plots, rows = [], []
    for title, series, x_label in wanted:
        by_steps = x_label == "step"
        marked, reach = (marks(views), ends(views)) if by_steps else ((), [0])
        plot = figures.plot(title, series, x_label, marked, most(views), ends=reach)
        if plot:
            plots.append(plot)
        elif any(map(figures.length, series)) and by_steps:
            rows += few(title, series, len(views) > 1)
    heads = [Head("number"), *(Head(view.name if len(views) > 1 else "value") for view in views)]
    return plots, Table("Measured once or twice", heads, rows) if rows else None


def few(title: str, series: Sequence[Series], several: bool) -> list[list[Cell]]:
    """Return rows with the numbers of a figure: one row with a cell for each of several runs, or one for each curve."""
    cells = [
        text(", ".join(f"{figures.short(y)} at step {figures.short(x)}" for part in one.parts for x, y in part))
        for one in series
    ]
    if several:
        return [[text(title), *cells]]
    names = [title if len(series) == 1 else f"{title}: {one.name}" for one in series]
    return [[text(name), cell] for name, cell, one in zip(names, cells, series, strict=True) if figures.length(one)]


def of_one(view: View) -> list[Wanted]:
    run = view.run
    whose = "photos trained on" if run.survey.get("held_out") == 0 else "held-out photos"
    betas = [key for key in (run.training[0] if run.training else {}) if key.startswith("beta_")]

    def wanted(title: str, kind: str, *lines: tuple[str, str, bool]) -> Wanted:
        series = [curve(view, kind, key, name, at, dashed=dashed) for at, (key, name, dashed) in enumerate(lines)]
        return Wanted(title, series)

    return [
        wanted("Training loss", "training", ("loss", "loss", False)),
        wanted(f"rel, {whose}", "validation", ("rel", "with the field", False), ("unary_rel", "without", True)),
        wanted(f"Deltas, {whose}", "validation", *((f"delta{n}", f"delta{n}", False) for n in (1, 2, 3))),
        wanted(f"rms in metres, {whose}", "validation", ("rms", "rms", False)),
        wanted("Weights β of the field", "training", *((key, key.removeprefix("beta_"), False) for key in betas)),
        wanted("Learning rate", "training", ("learning_rate", "learning rate", False)),
    ]


def of_several(views: Sequence[View]) -> list[Wanted]:
    def wanted(title: str, kind: str, key: str, x: Callable = by_step, label: str = "step") -> Wanted:
        return Wanted(title, [curve(view, kind, key, view.name, view.colour, x) for view in views], label)

    whose = "held-out photos"
    return [
        wanted("Training loss", "training", "loss"),
        wanted(f"rel, {whose}", "validation", "rel"),
        wanted(f"rel, {whose}, by time", "validation", "rel", by_minute, "minute"),
        wanted(f"delta1, {whose}", "validation", "delta1"),
        wanted(f"rms in metres, {whose}", "validation", "rms"),
        wanted(f"log10, {whose}", "validation", "log10"),
    ]


def of_speed(views: Sequence[View]) -> list[Plot]:
    """Plot photos per second, and for a single run the shares of its workers' time."""
    series = [curve(view, "training", "photos_per_second", view.name, view.colour) for view in views]
    plots = [figures.plot("Photos per second", series, "step", marks(views), most(views), True, ends(views))]
    if len(views) == 1:
        shares = [shares_of(views[0].run, name) for name in SPENT]
        plots.append(
            figures.stacked("Workers' time", list(WHERE.values()), shares, marks(views), most(views), ends(views))
        )
    return [plot for plot in plots if plot]


def shares_of(run: Run, name: str) -> list[Point]:
    lines = [line for line in run.training if all(number(line, each) is not None for each in SPENT)]
    return [(line["step"], line[name]) for line in sorted(lines, key=lambda line: line["step"])]
