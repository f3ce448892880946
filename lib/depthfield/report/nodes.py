"""Tables of where a run was trained: its starts, its attempts on a cluster, its nodes, and its speed."""

from collections.abc import Sequence

from depthfield.history import SPENT, Attempt, Run, number
from depthfield.report.cells import Cell, Head, Table, figure, last, lasted, percent, several, text, time_of_day
from depthfield.report.curves import WHERE
from depthfield.report.view import View

ROWS = 40  # most rows of a table; those of several runs share them
USUAL = ("serving", "ended", None)  # states of a node without problems


def speed(views: Sequence[View]) -> Table | None:
    rows = []
    for view in views:
        run = view.run
        if run.training:
            exchange = median(run, "exchange_seconds")
            cells = [
                figure(run.photos_per_second, 1),
                figure(median(run, "round_steps"), 0),
                figure(None if exchange is None else 1000 * exchange, 1),
            ]
            rows.append([Cell(view.name, view.name), *cells, *(percent(run.spent.get(name)) for name in SPENT)])
    heads = [Head("run"), Head("photos/s", True, "median"), Head("steps a round", True, "median")]
    heads += [
        Head("ms an exchange", True, "median"),
        *(Head(name, True, "of the workers' time") for name in WHERE.values()),
    ]
    return Table("Speed", heads, rows) if rows else None


def median(run: Run, key: str) -> float | None:
    values = sorted(line[key] for line in run.training if number(line, key) is not None)
    return values[len(values) // 2] if values else None


def starts(run: Run, most: int) -> Table | None:
    """List the last `most` starts of train-depth: steps and duration."""
    kept, more = last(list(enumerate(run.starts, start=1)), most, "starts", "commands.jsonl")
    rows = []
    for at, start in kept:
        end = max((line["step"] for line in (*start.training, *start.validation)), default=None)
        cells = [figure(at, 0), time_of_day(start.time), text(start.command.get("host"))]
        rows.append([*cells, figure(start.step, 0), figure(end, 0), lasted(start.seconds())])
    heads = [Head("start", True), Head("began"), Head("host")]
    heads += [Head("from step", True), Head("to step", True, "of its last line of metrics"), Head("lasted", True)]
    return Table("Starts of train-depth", heads, rows, more) if rows else None


def attempts(run: Run, most: int) -> Table | None:
    """List the last `most` attempts on a cluster and their outcome."""
    kept, more = last(run.attempts, most, "attempts", "nodes/")
    rows = []
    for attempt in kept:
        restarts = sum(node["restarts"] for node in attempt.nodes)
        cells = [figure(attempt.number, 0), time_of_day(attempt.begun), figure(attempt.step or 0, 0), text(attempt.job)]
        went = text(attempt.state)
        rows.append([*cells, text(roles(attempt)), figure(restarts, 0), text(" ".join(attempt.lost)), went])
    heads = [Head("attempt", True), Head("began"), Head("from step", True), Head("job")]
    heads += [Head("nodes", wraps=True), Head("restarts", True, "of its workers"), Head("lost hosts", wraps=True)]
    heads += [Head("outcome", wraps=True)]
    return Table("Attempts", heads, rows, more) if rows else None


def roles(attempt: Attempt) -> str:
    counts = {role: sum(node["role"] == role for node in attempt.nodes) for role in ("chief", "ps", "worker")}
    return ", ".join(several(count, role) if role != "ps" else f"{count} ps" for role, count in counts.items() if count)


def of_last_attempt(run: Run, most: int) -> Table | None:
    """List `most` nodes of the last attempt, and among them all with restarts or problems.

    The chief is no node: the table of starts has its host.
    """
    attempt = run.attempts[-1] if run.attempts else None
    nodes = [node for node in attempt.nodes if node["role"] != "chief"] if attempt else []
    if not nodes:
        return None
    chosen = sorted(nodes, key=lambda node: node["restarts"] == 0 and node.get("state") in USUAL)[:most]
    rows = []
    for node in nodes:
        if node in chosen:
            memory = number(node, "memory")
            cells = [Cell(f"{node['role']} {node['index']}", f"{node['role']} {node['index']:06d}")]
            cells += [text(node.get(name)) for name in ("host", "gpus", "state")]
            cells += [figure(None if memory is None else memory / 2**20, 0), figure(number(node, "load"), 2)]
            rows.append([*cells, figure(node["restarts"], 0)])
    heads = [Head("node"), Head("host"), Head("GPUs"), Head("state"), Head("memory, MB", True, "in its last seconds")]
    heads += [Head("load", True, "cores kept busy in its last seconds"), Head("restarts", True)]
    left = len(nodes) - len(rows)
    more = f"{left:,} more nodes are in nodes/{attempt.number}/plan.tsv." if left else ""
    return Table(f"Nodes of attempt {attempt.number}", heads, rows, more)
