"""Tables of a page, and the format of numbers and times in them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

UNKNOWN = "–"
UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


class Head(NamedTuple):
    label: str
    numeric: bool = False
    hint: str = ""
    wraps: bool = False  # whether its cells may take several lines


class Cell(NamedTuple):
    text: str
    key: float | str | None = None  # to sort by; None comes last


class Table(NamedTuple):
    caption: str
    heads: list[Head]
    rows: list[list[Cell]]
    more: str = ""  # which rows are left out


def text(value: object) -> Cell:
    return Cell(UNKNOWN) if value in (None, "") else Cell(str(value), str(value))


def figure(value: float | None, digits: int = 3) -> Cell:
    return Cell(UNKNOWN) if value is None else Cell(f"{value:,.{digits}f}", value)


def percent(value: float | None) -> Cell:
    return Cell(UNKNOWN) if value is None else Cell(f"{value:.1%}", value)


def time_of_day(time: float | None) -> Cell:
    return Cell(moment(time) or UNKNOWN, time)


def lasted(seconds: float | None) -> Cell:
    return Cell(duration(seconds), seconds) if seconds else Cell(UNKNOWN)


def last(items: Sequence, most: int, what: str, where: str) -> tuple[list, str]:
    """Return the last `most` items, and a remark about the others."""
    left = len(items) - most
    return list(items[-most:]), f"{left:,} earlier {what} are in {where}." if left > 0 else ""


def hint(signed: int) -> str:
    """Return whether higher (1) or lower (-1) values of a score are better."""
    return {1: "higher is better", -1: "lower is better"}.get(signed, "")


def several(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """Format seconds in one or two units."""
    whole = round(seconds)
    for size, unit, small, less in UNITS:
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small} {less}"
    return f"{whole} s"


def moment(time: float | None) -> str:
    return "" if time is None else datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")
