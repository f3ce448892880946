"""Curves of a page: loss, scores on held-out photos, and speed, with the starts of train-depth marked."""

import math
from collections.abc import Callable, Sequence

from depthfield.history import SPENT, Run, Start, number
from depthfield.report import figures
from depthfield.report.cells import moment
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


def of_scores(views: Sequence[View]) -> list[Plot]:
    """Plot loss and scores."""
    plots = of_one(views[0]) if len(views) == 1 else of_several(views)
    return [plot for plot in plots if plot]


def of_one(view: View) -> list[Plot | None]:
    run = view.run
    whose = "photos trained on" if run.survey.get("held_out") == 0 else "held-out photos"
    betas = [key for key in (run.training[0] if run.training else {}) if key.startswith("beta_")]

    def plot(title: str, kind: str, *lines: tuple[str, str, bool]) -> Plot | None:
        series = [curve(view, kind, key, name, at, dashed=dashed) for at, (key, name, dashed) in enumerate(lines)]
        return figures.plot(title, series, "step", marks([view]), most([view]), ends=ends([view]))

    return [
        plot("Training loss", "training", ("loss", "loss", False)),
        plot(f"rel, {whose}", "validation", ("rel", "with the field", False), ("unary_rel", "without", True)),
        plot(f"Deltas, {whose}", "validation", *((f"delta{n}", f"delta{n}", False) for n in (1, 2, 3))),
        plot(f"rms in metres, {whose}", "validation", ("rms", "rms", False)),
        plot("Weights β of the field", "training", *((key, key.removeprefix("beta_"), False) for key in betas)),
        plot("Learning rate", "training", ("learning_rate", "learning rate", False)),
    ]


def of_several(views: Sequence[View]) -> list[Plot | None]:
    def plot(title: str, kind: str, key: str, x: Callable = by_step, label: str = "step") -> Plot | None:
        series = [curve(view, kind, key, view.name, view.colour, x) for view in views]
        if x is by_step:
            return figures.plot(title, series, label, marks(views), most(views), ends=ends(views))
        return figures.plot(title, series, label, most=most(views), ends=[0])

    whose = "held-out photos"
    return [
        plot("Training loss", "training", "loss"),
        plot(f"rel, {whose}", "validation", "rel"),
        plot(f"rel, {whose}, by time", "validation", "rel", by_minute, "minute"),
        plot(f"delta1, {whose}", "validation", "delta1"),
        plot(f"rms in metres, {whose}", "validation", "rms"),
        plot(f"log10, {whose}", "validation", "log10"),
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
