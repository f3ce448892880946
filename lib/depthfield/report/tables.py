"""A table of runs, one row each, as text, CSV, Markdown and LaTeX."""

import csv
import io
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from depthfield import history
from depthfield.history import Run
from depthfield.tool import UsageError, some
from depthfield.training import recipe as recipes

METRICS = ("rel", "log10", "rms", "delta1", "delta2", "delta3")  # as scoring.METRICS, which needs numpy
POOLED = "pooled over pixels"
TEST = "test"  # the scores of scores.json, pooled over pixels
SCORES = (TEST, "nyu", "nyu-eigen", "make3d-c1", "make3d-c2")  # the others are protocols.PROTOCOLS
MISSING = {"text": "-", "csv": "", "markdown": "–", "latex": "--"}
FEW = 2  # hosts shown; CSV has all


class Spread(NamedTuple):
    """A value over several runs."""

    mean: float
    deviation: float  # standard, of a sample


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
COUNT = Column("n", "n", "$n$", 0)  # of joined runs
DEVIATION = "_sd"  # ends the name of a column of standard deviations in CSV


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


def differing(runs: Sequence[Run]) -> list[Column]:
    """Return a column for each setting that differs between runs of one recipe, besides those of no consequence."""
    found: dict[str, None] = {}
    for run in runs:
        for other in (other for other in runs if other.recipe == run.recipe):
            unlike = (key for key, value in run.settings.items() if other.settings.get(key, value) != value)
            found |= dict.fromkeys(key for key in unlike if key not in recipes.MAY_CHANGE)
    return [of_setting(key) for key in found]


def of_setting(key: str) -> Column:
    return Column(key, key, escaped(key))


def columns(names: str | None, runs: Sequence[Run]) -> list[Column]:
    """Return the columns of these names, separated by commas; if None, COLUMNS with what is `differing` after recipe.

    A name is a key of COLUMNS or a setting of the runs. Raises UsageError for another.
    """
    if names is None:
        return [*COLUMNS[:2], *differing(runs), *COLUMNS[2:]]
    known = {column.key: column for column in (*COLUMNS, COUNT)}
    settings = dict.fromkeys(key for run in runs for key in run.settings)
    known |= {key: of_setting(key) for key in settings if key not in known}
    chosen = [name.strip() for name in names.split(",")]
    if wrong := [name for name in chosen if name not in known]:
        raise UsageError(f"--columns: no column {wrong[0]!r}; there are {', '.join(known)}")
    return [known[name] for name in chosen]


def over_seeds(runs: Sequence[Run], rows: Sequence[dict]) -> list[dict]:
    """Join the rows of runs that differ only in their seed, with their number as `n` and a Spread of each number.

    Runs with other photos, first weights or numbers of nodes stay apart. A number that one of them lacks is missing; a
    text is kept if it is the same for all.
    """
    groups: dict[str, list[dict]] = {}
    for run, each in zip(runs, rows, strict=True):
        alike = {key: value for key, value in run.settings.items() if key not in ("seed", *recipes.MAY_CHANGE)}
        begun = (run.recipe, run.steps, run.begun_with, run.survey.get("digest"), each["workers"], each["ps"])
        groups.setdefault(repr((*begun, sorted(alike.items()))), []).append(each)
    joined = []
    for group in groups.values():
        hosts = list(dict.fromkeys(host for each in group for host in each["hosts"] or ()))
        found = {key: value for key, value in group[0].items() if all(each.get(key) == value for each in group)}
        for column in COLUMNS if len(group) > 1 else ():
            values = [each[column.key] for each in group]
            if column.digits is not None and None not in values and column.key not in found:
                found[column.key] = Spread(statistics.mean(values), statistics.stdev(values))
        name = some([each["run"] for each in group], 1)
        joined.append(found | {"run": name, "hosts": hosts or None, COUNT.key: len(group)})
    return joined


def of_paper(which: str) -> tuple[list[dict], list[str]]:
    """Return the rows of the paper's scores by a protocol, and their sources, one line each."""
    from depthfield import published  # which needs numpy

    sources = list(dict.fromkeys(row.source for row in published.ROWS[which]))
    rows = [
        {"run": f"published {row.method} [{sources.index(row.source) + 1}]"}
        | dict(zip(METRICS, row.values, strict=False))
        for row in published.ROWS[which]
    ]
    return rows, [f"[{number}] {source}" for number, source in enumerate(sources, start=1)]


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
    if isinstance(value, Spread):
        mean, deviation = (shown(column, number, kind) for number in value)
        return mean if kind == "csv" else f"{mean} ± {deviation}"
    if isinstance(value, list):
        texts = [str(item) for item in value]
        return " ".join(texts) if kind == "csv" else some(texts, FEW)
    if column.digits is None or kind == "csv":
        return str(value)
    return f"{value:.{column.digits}f}"


def text(rows: Sequence[dict], columns: Sequence[Column] = COLUMNS) -> str:
    """Format rows as aligned text."""
    cells = [[column.title for column in columns], *strings(rows, columns, "text")]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    aligned = [str.ljust if column.digits is None else str.rjust for column in columns]
    lines = [[align(cell, width) for align, cell, width in zip(aligned, line, widths, strict=True)] for line in cells]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def comma_separated(rows: Sequence[dict], columns: Sequence[Column] = COLUMNS) -> str:
    """Format rows as CSV; standard deviations have columns of their own."""
    spread = {key for row in rows for key, value in row.items() if isinstance(value, Spread)}
    apart = [(column, Column(column.key + DEVIATION, "", "")) for column in columns]
    columns = [one for column, its in apart for one in ((column, its) if column.key in spread else (column,))]
    rows = [row | {k + DEVIATION: v.deviation for k, v in row.items() if isinstance(v, Spread)} for row in rows]
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(column.key for column in columns)
    table.writerows(strings(rows, columns, "csv"))
    return file.getvalue().rstrip("\n")


def markdown(rows: Sequence[dict], columns: Sequence[Column] = COLUMNS) -> str:
    rules = ["---" if column.digits is None else "---:" for column in columns]
    cells = [[marked(cell) for cell in line] for line in strings(rows, columns, "markdown")]
    return "\n".join(f"| {' | '.join(line)} |" for line in ([column.title for column in columns], rules, *cells))


def marked(cell: str) -> str:
    """Escape text for Markdown."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]<>#|~" else letter for letter in cell)


def latex(rows: Sequence[dict], columns: Sequence[Column] = COLUMNS) -> str:
    """Format rows as a tabular with the rules of booktabs."""
    aligned = "".join("l" if column.digits is None else "r" for column in columns)
    lines = [
        [column.latex for column in columns],
        *([escaped(cell) for cell in line] for line in strings(rows, columns, "latex")),
    ]
    head, *body = [f"{' & '.join(line)} \\\\" for line in lines]
    return "\n".join(
        [f"\\begin{{tabular}}{{{aligned}}}", "\\toprule", head, "\\midrule", *body, "\\bottomrule", "\\end{tabular}"]
    )


LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"}
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$"}


def escaped(cell: str) -> str:
    """Escape text for LaTeX."""
    return "".join(LATEX.get(letter, letter) for letter in cell)


def strings(rows: Sequence[dict], columns: Sequence[Column], kind: str) -> list[list[str]]:
    return [[shown(column, row.get(column.key), kind) for column in columns] for row in rows]


FORMATS: dict[str, Callable[[Sequence[dict], Sequence[Column]], str]] = {
    "text": text, "csv": comma_separated, "markdown": markdown, "latex": latex,
}  # fmt: skip
