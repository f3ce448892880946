"""What was trained: key figures, facts and settings of one run, or of several side by side."""

from collections.abc import Callable, Iterable, Sequence

from depthfield.history import Run, number
from depthfield.report import tables
from depthfield.report.cells import UNKNOWN, Cell, Head, Table, duration, hint, moment, several, text
from depthfield.report.view import View
from depthfield.tool import some
from depthfield.training import provenance

FEW = 8  # hosts shown
ABOUT = ("held_out_rel", "step", "seconds", "photos_per_second", "recipe")  # columns of a run beside its scores


def in_a_sentence(run: Run) -> str:
    steps = run.step or 0
    of = f" of {run.steps:,}" if run.steps and run.steps != steps else ""
    time = f"in {duration(run.seconds)}" if run.seconds else ""
    on = f" on {several(run.survey['photos'] - held_out(run), 'photo')}" if number(run.survey, "photos") else ""
    out = f"{held_out(run):,} held out" if held_out(run) else ""
    parts = (f"Recipe {run.recipe or 'unknown'}", f"{steps:,}{of} steps{on}", out, trained_by(run), time)
    return ", ".join(part for part in parts if part) + "."


def trained_by(run: Run) -> str:
    if not run.cluster:
        return "by one process" if run.starts else ""
    workers = between(run.counts("worker"), "worker")
    if not run.count("ps"):
        return f"by {workers} in step (all-reduce)"
    return f"by {workers} and {between(run.counts('ps'), 'parameter server')}"


def between(counts: Sequence[int], noun: str) -> str:
    """Return how many there were in all attempts: `2 to 4 workers`."""
    least, most = min(counts), max(counts)
    return several(most, noun) if least == most else f"{least:,} to {several(most, noun)}"


def held_out(run: Run) -> int:
    return number(run.survey, "held_out") or 0


def state(run: Run) -> str:
    if run.step is None:
        return "no step taken yet"
    if run.steps and run.step >= run.steps:
        return f"trained to step {run.step:,}, the last"
    return f"at step {run.step:,} of {run.steps:,}" if run.steps else f"at step {run.step:,}"


def key_figures(run: Run) -> list[tuple[str, str, str]]:
    """Return the most important figures, each a value, a label and a remark."""
    found = []
    rel = number(tables.scores_of(run, tables.TEST), "rel")
    if rel is not None:
        images = run.scores["field"].get("images")
        found.append((f"{rel:.3f}", "rel on test photos", f"{images} photos, pooled over pixels" if images else ""))
        mean = number(run.scores.get("mean depth", {}).get(tables.POOLED, {}), "rel")
        if mean:
            found.append((f"{rel / mean:.2f}", "of the baseline's rel", f"the mean depth everywhere has {mean:.3f}"))
    if (held_out := number(run.best, "rel")) is not None:
        found.append((f"{held_out:.3f}", "rel on held-out photos", f"at step {run.best['step']:,}, over superpixels"))
    if run.photos_per_second is not None:
        share = run.spent.get("computing")
        remark = "median" if share is None else f"{share:.0%} of the time computing"
        found.append((f"{run.photos_per_second:.1f}", "photos per second", remark))
    if run.seconds:
        found.append((duration(run.seconds), "of training", f"in {several(len(run.starts), 'start')}"))
    return found


def runs_table(views: Sequence[View]) -> Table:
    """List the runs with their scores first; the table of facts below says where they were trained."""
    known = {column.key: column for column in tables.COLUMNS}
    columns = [known[key] for key in ("run", *tables.METRICS, *ABOUT)]
    heads = [Head(called(column), column.digits is not None, hint(column.signed)) for column in columns]
    rows = []
    for view in views:
        row = tables.row(view.run, view.name)
        rows.append([Cell(tables.shown(column, row[column.key], "markdown"), row[column.key]) for column in columns])
    return Table("Runs", heads, rows)


def called(column: tables.Column) -> str:
    """Return the name of a column; scores have those of score-depth, such as delta1."""
    return column.key if column.key in tables.METRICS else column.title


# What a recipe's networks and losses are, in few words; see network.registry.
WORDS = {
    "plain": "small, trained from scratch",
    "backbone": "on an encoder of Keras",
    "fcsp": "DCNF-FCSP",
    "patchwise": "DCNF",
    "unary": "squared error of z",
    "answer": "squared error of the field's answer",
    "absolute": "absolute error of the field's answer",
    "published": "the paper's, with τ = 1",
    "likelihood": "the paper's, with τ of held-out photos",
}


FACTS: dict[str, Callable[[Run], object]] = {
    "State": state,
    "Recipe": lambda run: recipe(run),
    "Dataset": lambda run: provenance.dataset(run.path),
    "Training photos": lambda run: photos(run),
    "Superpixels": lambda run: superpixels(run),
    "Similarities": lambda run: ", ".join(run.survey.get("similarities", [])),
    "First weights": lambda run: run.begun_with or "random",
    "Trained": trained_by,
    "Hosts": lambda run: some(run.hosts, FEW),
    "Began": lambda run: moment(run.starts[0].time) if run.starts else None,
    "Training time": lambda run: run.seconds and f"{duration(run.seconds)} in {several(len(run.starts), 'start')}",
    "Best checkpoint": lambda run: run.best and f"of step {run.best['step']:,}",
    "Folder": lambda run: run.path.resolve(),
}


def facts(views: Sequence[View]) -> list[tuple[str, list[str]]]:
    """Return the rows of the table of facts: a label, and a text for each run."""
    rows = [(label, [str(of(view.run) or UNKNOWN) for view in views]) for label, of in FACTS.items()]
    return [(label, values) for label, values in rows if set(values) != {UNKNOWN}]


def recipe(run: Run) -> str:
    about = [
        f"{what} `{value}`{f' ({WORDS[value]})' if value in WORDS else ''}"
        for what, value in (("network", run.settings.get("network.kind")), ("loss", run.settings.get("loss")))
        if value
    ]
    return ": ".join(filter(None, (run.recipe or "unknown", ", ".join(about))))


def superpixels(run: Run) -> str:
    setting = str(run.survey.get("superpixels") or "")
    return f"{setting} at 640×480 pixels, in smaller photos fewer" if setting.isdecimal() else setting


def photos(run: Run) -> str:
    total = number(run.survey, "photos")
    if total is None:
        return ""
    sizes = dict.fromkeys("×".join(map(str, run.survey.get(name, []))) for name in ("smallest", "largest"))
    size = " to ".join(filter(None, sizes))
    return f"{total - held_out(run):,} to train on, {held_out(run):,} held out{f'; {size} pixels' if size else ''}"


def settings(views: Sequence[View]) -> tuple[Table | None, Table | None]:
    """Return tables of the settings that differ between runs, and of all settings."""
    keys = list(dict.fromkeys(key for view in views for key in view.run.settings))
    values = {key: [plain(view.run.settings.get(key)) for view in views] for key in keys}
    heads = [Head("setting"), *(Head(view.name) for view in views)]

    def table(caption: str, keys: Iterable[str]) -> Table | None:
        rows = [[Cell(key, key), *(text(value) for value in values[key])] for key in keys]
        return Table(caption, heads, rows) if rows else None

    differ = [key for key in keys if len(set(values[key])) > 1]
    return table("Settings that differ", differ), table("All settings", keys)


def plain(value: object) -> str | None:
    """Format a setting as in a recipe, without quotes and brackets."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)
