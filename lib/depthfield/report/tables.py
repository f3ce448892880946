"""A table of runs, one row each, as text, CSV, Markdown and LaTeX."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

from depthfield import history
from depthfield.history import Run
from depthfield.tool import some

METRICS = ("rel", "log10", "rms", "delta1", "delta2", "delta3")  # as scoring.METRICS, which needs numpy
POOLED = "pooled over pixels"
TEST = "test"  # the scores of scores.json, pooled over pixels
SCORES = (TEST, "nyu", "nyu-eigen", "make3d-c1", "make3d-c2")  # the others are protocols.PROTOCOLS
MISSING = {"text": "-", "csv": "", "markdown": "–", "latex": "--"}
FEW = 2  # hosts shown; CSV has all


class Column(NamedTuple):
    key: str  # its name in CSV
    title: str  # for people
    latex: str
    digits: int | None = None  # decimals; None for text
    signed: int = 0  # 1 if higher is better, -1 if lower is


COLUMNS = (
    Column("run", "run", "run"),
    Column("recipe", "recipe", "recipe"),
    Column("hosts", "hosts", "hosts"),
    Column("workers", "workers", "workers", 0),
    Column("ps", "ps", "ps", 0),
    Column("step", "step", "step", 0),
    Column("steps", "of", "of", 0),
    Column("seconds", "seconds", "seconds", 0),
    Column("photos_per_second", "photos/s", "photos/s", 1, 1),
    Column("held_out_rel", "held-out rel", r"held-out rel", 3, -1),
    Column("rel", "rel", "rel", 3, -1),
    Column("log10", "log10", r"$\log_{10}$", 3, -1),
    Column("rms", "rms", "rms", 3, -1),
    Column("delta1", "δ1", r"$\delta_1$", 3, 1),
    Column("delta2", "δ2", r"$\delta_2$", 3, 1),
    Column("delta3", "δ3", r"$\delta_3$", 3, 1),
)


def row(run: Run, name: str, which: str = TEST) -> dict:
    """Return the values of COLUMNS for a run, by key; None if unknown."""
    scores = scores_of(run, which)
    return {
        "run": name,
        "recipe": run.recipe,
        "hosts": run.hosts or None,
        "workers": run.count("worker") if run.starts else None,
        "ps": run.count("ps") if run.starts else None,
        "step": run.step,
        "steps": run.steps,
        "seconds": run.seconds,
        "photos_per_second": run.photos_per_second,
        "held_out_rel": history.number(run.best, "rel"),
        **{metric: history.number(scores, metric) for metric in METRICS},
    }


def scores_of(run: Run, which: str) -> dict:
    """Return the scores of a run by metric: on test photos pooled over pixels, or in the average of a protocol."""
    found = run.scores if which == TEST else run.protocols.get(which, {})
    field = found.get("field", {})
    scores = field.get(field.get("headline", POOLED))
    return scores if isinstance(scores, dict) else {}


def warnings(runs: Sequence[Run], which: str) -> list[str]:
    """Return what to know before comparing the scores of runs, one line each."""
    said = []
    for run in runs:
        said += [f"{run.path}: {note}" for note in run.notes]
    scored = [run for run in runs if scores_of(run, which)]
    file = history.SCORES if which == TEST else f"{which}.json"
    if lacking := [run.path for run in runs if run not in scored]:
        said.append(f"no {file} with scores: {some(lacking, 3)}; see --help")
    fields = [(run.scores if which == TEST else run.protocols[which])["field"] for run in scored]
    if any(len({field[key] for field in fields if key in field}) > 1 for key in ("photos", "images")):
        said.append("these runs were scored on different test photos")
    return said


def shown(column: Column, value: object, kind: str) -> str:
    """Format a value with the decimals of its column; CSV has all digits."""
    if value is None:
        return MISSING[kind]
    if isinstance(value, list):
        return " ".join(value) if kind == "csv" else some(value, FEW)
    if column.digits is None or kind == "csv":
        return str(value)
    return f"{value:.{column.digits}f}"


def text(rows: Sequence[dict]) -> str:
    """Format rows as aligned text."""
    cells = [[column.title for column in COLUMNS], *strings(rows, "text")]
    widths = [max(len(line[at]) for line in cells) for at in range(len(COLUMNS))]
    aligned = [str.ljust if column.digits is None else str.rjust for column in COLUMNS]
    lines = [[align(cell, width) for align, cell, width in zip(aligned, line, widths, strict=True)] for line in cells]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def comma_separated(rows: Sequence[dict]) -> str:
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(column.key for column in COLUMNS)
    table.writerows(strings(rows, "csv"))
    return file.getvalue().rstrip("\n")


def markdown(rows: Sequence[dict]) -> str:
    rules = ["---" if column.digits is None else "---:" for column in COLUMNS]
    cells = [[marked(cell) for cell in line] for line in strings(rows, "markdown")]
    return "\n".join(f"| {' | '.join(line)} |" for line in ([column.title for column in COLUMNS], rules, *cells))


def marked(cell: str) -> str:
    """Escape text for Markdown."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]<>#|~" else letter for letter in cell)


def latex(rows: Sequence[dict]) -> str:
    """Format rows as a tabular with the rules of booktabs."""
    columns = "".join("l" if column.digits is None else "r" for column in COLUMNS)
    lines = [
        [column.latex for column in COLUMNS],
        *([escaped(cell) for cell in line] for line in strings(rows, "latex")),
    ]
    head, *body = [f"{' & '.join(line)} \\\\" for line in lines]
    return "\n".join(
        [f"\\begin{{tabular}}{{{columns}}}", "\\toprule", head, "\\midrule", *body, "\\bottomrule", "\\end{tabular}"]
    )


LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"}
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}


def escaped(cell: str) -> str:
    """Escape text for LaTeX."""
    return "".join(LATEX.get(letter, letter) for letter in cell)


def strings(rows: Sequence[dict], kind: str) -> list[list[str]]:
    return [[shown(column, row[column.key], kind) for column in COLUMNS] for row in rows]


FORMATS: dict[str, Callable[[Sequence[dict]], str]] = {
    "text": text, "csv": comma_separated, "markdown": markdown, "latex": latex,
}  # fmt: skip
