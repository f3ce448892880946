"""The geometry of figures: what lies where in a box of WIDTH×HEIGHT units. The templates draw it as SVG."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

Point = tuple[float, float]
WIDTH, HEIGHT = 400, 236
LEFT, RIGHT, TOP, BOTTOM = 46, 388, 12, 202  # of the area that curves lie in
LOGARITHMIC = 20  # a curve of positive values spans so many times its least: its axis is logarithmic
DOTTED = 40  # curves of no more points than this show each of them
LABELLED = 24  # so many marks bear their labels
NEUTRAL = -1  # the colour of what is no curve of its own, and has no dots


class Series(NamedTuple):
    """One curve: `parts` are joined each by itself, and `lost` are points that were superseded."""

    name: str
    colour: int
    parts: list[list[Point]]
    lost: Sequence[list[Point]] = ()
    dashed: bool = False


class Mark(NamedTuple):
    """A vertical line."""

    x: float
    label: str
    title: str
    colour: int | None = None


class Tick(NamedTuple):
    at: float
    label: str


class Path(NamedTuple):
    d: str
    colour: int
    kind: str  # "", "dashed" or "lost"


class Dot(NamedTuple):
    x: float
    y: float
    colour: int
    title: str


class Plot(NamedTuple):
    title: str
    x_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    areas: list[Path]
    paths: list[Path]
    dots: list[Dot]
    marks: list[Mark]
    legend: list[Series]
    alt: str


class Scale(NamedTuple):
    """Values from `low` to `high` to units from `first` to `last`."""

    low: float
    high: float
    first: float
    last: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return round(self.first + (value - low) / (high - low) * (self.last - self.first), 1)

    def ticks(self, most: int) -> list[Tick]:
        values = decades(self.low, self.high) if self.logarithmic else steps(self.low, self.high, most)
        return [Tick(self(value), short(value)) for value in values]


def plot(
    title: str,
    series: Sequence[Series],
    x_label: str = "step",
    marks: Sequence[Mark] = (),
    most: int = 400,
    zero: bool = False,
) -> Plot | None:
    """Curves over one axis, each of no more than `most` points; with `zero` the axis begins there.

    None where no series has a point.
    """
    series = [one._replace(parts=shared(one.parts, most), lost=shared(one.lost, most)) for one in series]
    series = [one for one in series if one.parts]
    points = [point for one in series for part in (*one.parts, *one.lost) for point in part]
    if not points:
        return None
    x = across([*(x for x, _ in points), *(mark.x for mark in marks)])
    y = upwards([y for _, y in points], zero)
    dots = [
        Dot(x(px), y(py), one.colour, f"{one.name}: {short(py)} at {x_label} {short(px)}")
        for one in series
        for part in one.parts
        if len(part) <= DOTTED and one.colour != NEUTRAL
        for px, py in part
    ]
    paths = [Path(joined(part, x, y), one.colour, "lost") for one in series for part in one.lost]
    for one in series:
        paths += [Path(joined(part, x, y), one.colour, "dashed" if one.dashed else "") for part in one.parts]
    alt = described(title, series, x_label)
    return Plot(title, x_label, x.ticks(5), y.ticks(6), [], paths, dots, placed(marks, x), series, alt)


def stacked(title: str, names: Sequence[str], shares: Sequence[list[Point]], marks: Sequence[Mark], most: int):
    """Shares that add up to one, each a list of points of common x, as areas upon each other: a Plot, or None where
    there are fewer than two points."""
    if not shares or len(shares[0]) < 2:
        return None
    shares = [
        (name, colour, thinned(points, most)) for colour, (name, points) in enumerate(zip(names, shares, strict=True))
    ]
    x = across([*(x for x, _ in shares[0][2]), *(mark.x for mark in marks)])
    y = Scale(0, 1, BOTTOM, TOP)
    areas, below = [], [(px, 0.0) for px, _ in shares[0][2]]
    for _, colour, points in shares:
        above = [(px, low + share) for (px, low), (_, share) in zip(below, points, strict=True)]
        areas.append(Path(joined([*above, *reversed(below)], x, y) + "Z", colour, ""))
        below = above
    ticks = [Tick(y(share), f"{share:.0%}") for share in (0, 0.25, 0.5, 0.75, 1)]
    legend = [Series(name, colour, [points]) for name, colour, points in shares]
    alt = described(title, legend, "step")
    return Plot(title, "step", x.ticks(5), ticks, areas, [], [], placed(marks, x), legend, alt)


def placed(marks: Sequence[Mark], x: Callable[[float], float]) -> list[Mark]:
    """Marks where they lie; many of them bear no labels."""
    few = len(marks) <= LABELLED
    return [mark._replace(x=x(mark.x), label=mark.label if few else "") for mark in marks]


def across(values: Sequence[float]) -> Scale:
    low, high = min(values), max(values)
    low = 0 if low >= 0 and low < high / 3 else low
    return Scale(low, high if high > low else low + 1, LEFT, RIGHT)


def upwards(values: Sequence[float], zero: bool = False) -> Scale:
    low, high = min(values), max(values)
    if not zero and low > 0 and high / low >= LOGARITHMIC:
        return Scale(low / 1.1, high * 1.1, BOTTOM, TOP, logarithmic=True)
    margin = 0.06 * ((high - low) or abs(high) or 1)
    low = 0 if zero and low >= 0 else low - margin
    return Scale(low, high + margin, BOTTOM, TOP)


def joined(points: Iterable[Point], x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """The path of SVG through points."""
    return "M" + "L".join(f"{x(px):g},{y(py):g}" for px, py in points)


def shared(parts: Sequence[list[Point]], most: int) -> list[list[Point]]:
    """Parts of a curve that have some `most` points together; those without a point are left out."""
    total = sum(map(len, parts))
    return [thinned(part, max(2, most * len(part) // total)) for part in parts if part]


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """No more than `most` points: means of points in a row, with the first and the last as they are."""
    if len(points) <= most:
        return list(points)
    inner, wanted = points[1:-1], most - 2
    cuts = [number * len(inner) // wanted for number in range(wanted + 1)] if wanted else []
    rows = [inner[begin:end] for begin, end in itertools.pairwise(cuts)]
    means = [(sum(x for x, _ in row) / len(row), sum(y for _, y in row) / len(row)) for row in rows]
    return [points[0], *means, points[-1]]


def steps(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two values: as many as `most` allows, for an axis."""
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten between two positive values; where these are few, their multiples of 2 and 5 too."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high / low <= 200 else (1,)
    return [f * 10.0**power for power in powers for f in factors if low <= f * 10.0**power <= high]


def short(value: float) -> str:
    """A number in few characters: 12,000, 0.25, 3e-05."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value / 1e6:.3g}M" if abs(value) >= 1e6 else f"{value:,.0f}"
    return f"{value:.3g}"


def described(title: str, series: Sequence[Series], x_label: str) -> str:
    """What a figure shows, in words."""
    texts = []
    for one in series:
        points = [point for part in one.parts for point in part]
        (x0, y0), (x1, y1) = points[0], points[-1]
        texts.append(f"{one.name} goes from {short(y0)} at {x_label} {short(x0)} to {short(y1)} at {short(x1)}")
    return f"{title}: {'; '.join(texts)}."
