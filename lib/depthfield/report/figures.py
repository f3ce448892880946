"""Geometry of figures in a box of WIDTH×HEIGHT units. The templates draw them as SVG."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

Point = tuple[float, float]
WIDTH, HEIGHT = 400, 236
LEFT, RIGHT, TOP, BOTTOM = 46, 388, 12, 202  # edges of the area with the curves
LOGARITHMIC = 20  # ratio of the highest to the lowest positive value from which on an axis is logarithmic
FEWEST = 3  # points of the longest curve of a figure: fewer are numbers, not a course
DOTTED = 40  # most points of a curve that are shown as dots
LABELLED = 24  # most marks that have labels
APART = 16  # units between the labels of marks; those of marks that are closer are joined
NEUTRAL = -1  # colour of a reference line, which has no dots
SHARES = (7, 6, 5)  # colours of shares: runs take theirs from the other end


class Series(NamedTuple):
    """One curve. The points of a part are joined; `lost` has parts that were superseded."""

    name: str
    colour: int
    parts: list[list[Point]]
    lost: Sequence[list[Point]] = ()
    dashed: bool = False


class Mark(NamedTuple):
    """A vertical line."""

    x: float
    label: str  # a number
    title: str


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
    logarithmic: bool = False  # its vertical axis


class Scale(NamedTuple):
    """Maps values from `low` to `high` to units from `first` to `last`."""

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
    ends: Sequence[float] = (),
) -> Plot | None:
    """Plot curves, each thinned to `most` points; with `zero` the vertical axis starts at 0.

    The horizontal axis includes the `ends`, so that figures beside each other have the same one.

    Returns None if no curve has FEWEST points.
    """
    if max((length(one) for one in series), default=0) < FEWEST:
        return None
    series = [one._replace(parts=shared(one.parts, most), lost=shared(one.lost, most // 4)) for one in series]
    series = [one for one in series if one.parts]
    points = [point for one in series for part in (*one.parts, *one.lost) for point in part]
    x = across([*(x for x, _ in points), *ends])
    y = upwards([y for _, y in points], zero)
    dots = [
        Dot(x(px), y(py), one.colour, f"{one.name}: {short(py)} at {x_label} {short(px)}")
        for one in series
        if sum(map(len, one.parts)) <= DOTTED and one.colour != NEUTRAL
        for part in one.parts
        for px, py in part
    ]
    paths = [Path(joined(part, x, y), one.colour, "lost") for one in series for part in one.lost]
    for one in series:
        paths += [Path(joined(part, x, y), one.colour, "dashed" if one.dashed else "") for part in one.parts]
    alt = described(title, series, x_label)
    return Plot(title, x_label, x.ticks(5), y.ticks(6), [], paths, dots, placed(marks, x), series, alt, y.logarithmic)


def stacked(
    title: str,
    names: Sequence[str],
    shares: Sequence[list[Point]],
    marks: Sequence[Mark],
    most: int,
    ends: Sequence[float] = (),
) -> Plot | None:
    """Plot shares that add up to one as stacked areas; each is a list of points with the same x.

    Returns None if there are fewer than FEWEST points.
    """
    if not shares or len(shares[0]) < FEWEST:
        return None
    shares = [
        (name, colour, thinned(points, most)) for colour, name, points in zip(SHARES, names, shares, strict=True)
    ]
    x = across([*(x for x, _ in shares[0][2]), *ends])
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


def length(series: Series) -> int:
    """Return the number of points of a curve."""
    return sum(map(len, series.parts))


def placed(marks: Sequence[Mark], x: Callable[[float], float]) -> list[Mark]:
    """Place marks, and join the labels of those that are close; if there are many, without labels, one per unit."""
    if len(marks) > LABELLED:
        return [Mark(at, "", "") for at in sorted({round(x(mark.x)) for mark in marks})]
    groups: list[list[Mark]] = []
    for mark in sorted((mark._replace(x=x(mark.x)) for mark in marks), key=lambda mark: mark.x):
        if groups and mark.x - groups[-1][-1].x < APART:
            groups[-1].append(mark)
        else:
            groups.append([mark])
    found = []
    for group in groups:
        first, *others = sorted({mark.x for mark in group})
        title = "; ".join(mark.title for mark in group)
        found.append(Mark(first, ranges(int(mark.label) for mark in group), title))
        found += [Mark(at, "", "") for at in others]
    return found


def ranges(numbers: Iterable[int]) -> str:
    """Join whole numbers, those in a row to a range: `2, 4-6`."""
    rows: list[list[int]] = []
    for number in sorted(set(numbers)):
        if rows and number == rows[-1][-1] + 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    return ", ".join(str(row[0]) if len(row) == 1 else f"{row[0]}-{row[-1]}" for row in rows)


def across(values: Sequence[float]) -> Scale:
    low, high = min(values), max(values)
    return Scale(low, high if high > low else low + 1, LEFT, RIGHT)


def upwards(values: Sequence[float], zero: bool = False) -> Scale:
    low, high = min(values), max(values)
    if not zero and low > 0 and high / low >= LOGARITHMIC:
        return Scale(low / 1.1, high * 1.1, BOTTOM, TOP, logarithmic=True)
    margin = 0.06 * ((high - low) or abs(high) or 1)
    low = 0 if zero and low >= 0 else low - margin
    return Scale(low, high + margin, BOTTOM, TOP)


def joined(points: Iterable[Point], x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """Return the SVG path through points."""
    return "M" + "L".join(f"{x(px):g},{y(py):g}" for px, py in points)


def shared(parts: Sequence[list[Point]], most: int) -> list[list[Point]]:
    """Thin the parts of a curve to about `most` points in total; empty parts are left out, very many parts joined."""
    total = sum(map(len, parts))
    if len(parts) > most / 4:
        parts = [list(itertools.chain(*parts))]
    return [thinned(part, max(2, most * len(part) // total)) for part in parts if part]


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Thin a curve to `most` points: means of consecutive points, and the first and last point unchanged."""
    if len(points) <= most:
        return list(points)
    inner, wanted = points[1:-1], most - 2
    cuts = [number * len(inner) // wanted for number in range(wanted + 1)] if wanted else []
    rows = [inner[begin:end] for begin, end in itertools.pairwise(cuts)]
    means = [(sum(x for x, _ in row) / len(row), sum(y for _, y in row) / len(row)) for row in rows]
    return [points[0], *means, points[-1]]


def steps(low: float, high: float, most: int) -> list[float]:
    """Return at most `most` round numbers for an axis: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return round numbers for a logarithmic axis: powers of ten, and if these are few 2 and 5 times them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high / low <= 200 else (1,)
    return [f * 10.0**power for power in powers for f in factors if low <= f * 10.0**power <= high]


def short(value: float) -> str:
    """Format a number in few characters: 12,000, 0.25, 3e-05."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value / 1e6:.3g}M" if abs(value) >= 1e6 else f"{value:,.0f}"
    return f"{value:.3g}"


def described(title: str, series: Sequence[Series], x_label: str) -> str:
    """Describe a figure in words."""
    texts = []
    for one in series:
        points = [point for part in one.parts for point in part]
        (x0, y0), (x1, y1) = points[0], points[-1]
        texts.append(f"{one.name} goes from {short(y0)} at {x_label} {short(x0)} to {short(y1)} at {short(x1)}")
    return f"{title}: {'; '.join(texts)}."
