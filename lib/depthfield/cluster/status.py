"""The state of a run: its job, attempt and nodes, the ages of its last step and checkpoint, and why it does not train.

All of it comes from the files of the run. Ages are measured by the clock of the disk, because the clocks of the hosts
that write and read the files may differ.
"""

import contextlib
import json
import time
import tomllib
from pathlib import Path

from depthfield import files
from depthfield.cluster import accounting, attempts, diagnosis, gridengine, logs
from depthfield.tool import say

SILENT_SECONDS = 15  # the watcher writes its state every two
FAILED = ("ended with status 1 ", "ended with status 2 ")  # states of an attempt whose log ends with an error
SPENT = {"computing": "computing", "waiting": "waiting for data", "moving": "moving parameters"}
COLUMNS = ("role", "index", "host", "port", "state", "memory", "load")


def of(run: Path) -> dict:
    """Return the status of a run as plain data: times are ages in seconds, memory is in bytes, None is unknown.

    `why` is a list of lines; it is empty if the run trains or has succeeded. Raises Failure if `run` is not a run.
    """
    files.check_run(run)
    now = _now(run)
    attempt = attempts.last(run) or None
    here = run / "nodes" / str(attempt) if attempt else None
    newest = max(run.glob("checkpoints/[0-9]*.npz"), default=None)
    metrics = _last_lines(run / "metrics.jsonl")
    training = next((line for line in reversed(metrics) if line.get("kind") == "training"), {})
    logged, saved = metrics[-1]["step"] if metrics else None, _number(newest.stem) if newest else None
    step = max((step for step in (logged, saved) if step is not None), default=None)
    status = {
        "run": str(run),
        "job": attempts.text(run / "job"),
        "attempt": attempt,
        "from_step": _number(attempts.text(here / "from")) if here else None,
        "step": step,
        "steps": _steps(run),
        "step_age": None if step is None else _age(run / "metrics.jsonl" if step == logged else newest, now),
        "photos_per_second": training.get("photos_per_second"),
        "round_steps": training.get("round_steps"),
        "time": {name: training[name] for name in SPENT if name in training},
        "checkpoint": str(newest) if newest else None,
        "checkpoint_age": _age(newest, now) if newest else None,
        "heard": _age(here / "state.json", now) if here else None,
        "nodes": _nodes(here) if here else [],
    }
    return status | {"state": _state(status, here, now), "why": _why(status, run, here)}


def table(status: dict) -> str:
    """Format the status as text."""
    rows = [("run", status["run"])]
    if status["job"]:
        rows.append(("job", status["job"]))
    if status["attempt"]:
        begun = "the start" if status["from_step"] is None else f"step {status['from_step']}"
        rows.append(("attempt", f"{status['attempt']}, from {begun}"))
    rows.append(("state", status["state"]))
    rows += [("why", line) for line in status["why"]]
    if status["step"] is not None:
        rows.append(("last step", f"{status['step']}, {_ago(status['step_age'])}"))
    if status["time"]:
        shares = ", ".join(f"{share:.0%} {SPENT[name]}" for name, share in status["time"].items())
        rows.append(("workers' time", f"{shares}; {status['round_steps']:.0f} steps a round"))
    if status["checkpoint"]:
        rows.append(("checkpoint", f"{status['checkpoint']}, {_ago(status['checkpoint_age'])}"))
    lines = [f"{name:16}{value}" for name, value in rows]
    if status["nodes"]:
        cells = [COLUMNS] + [tuple(_cell(node, column) for column in COLUMNS) for node in status["nodes"]]
        widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]
        lines += ["", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)]
    return "\n".join(lines)


def _state(status: dict, here: Path | None, now: float) -> str:
    """Say in a few words what the run does."""
    job = status["job"]
    if here is None:
        if job:
            return f"waiting for slots (job {job})"
        return f"step {status['step']} of {status['steps']}" if status["step"] is not None else "not started"
    if job and _waits(Path(status["run"]), here):
        return f"waiting for slots (job {job})"
    said = attempts.in_words(here) or "starting"
    if attempts.ended(here):
        return said
    began = _began(here, now)
    silence = now - began if status["heard"] is None else status["heard"]
    if silence > SILENT_SECONDS:
        return f"no news for {silence:.0f} s: suspended or lost"
    if status["step_age"] is not None and now - status["step_age"] > began:
        rate = "" if status["photos_per_second"] is None else f", {status['photos_per_second']:.0f} photos/s"
        return f"training step {status['step']} of {status['steps']}{rate}"
    there = sum(node["state"] == "serving" for node in status["nodes"])
    if there < len(status["nodes"]):
        return f"{said} ({there} of {len(status['nodes'])} are ready)"
    return "starting to train" if there else said


def _why(status: dict, run: Path, here: Path | None) -> list[str]:
    """Explain why a run waits, is silent or has failed, as far as its nodes, its log and Grid Engine know."""
    if here and attempts.ended(here) and (unstarted := attempts.text(here / attempts.UNSTARTED)):
        return [unstarted]
    job = status["job"] if gridengine.present() else None
    if here is None or _waits(run, here):
        found = diagnosis.of_waiting(job) if job else []
        written = _written(logs.of_jobs(run)) > _written(run / "job")
        return _with_log(found, logs.last_error(run) if job and written else None)
    lives = not attempts.ended(here) and status["heard"] is not None and status["heard"] <= SILENT_SECONDS
    if lives or attempts.ended_well(here):
        return []
    if told := attempts.text(here / "why"):
        return told.splitlines()
    if status["job"] != attempts.text(here / "job"):
        return []
    found = diagnosis.of_ended(job, (attempts.text(here / attempts.ARRAY_JOBS) or "").split()) if job else []
    failed = (attempts.in_words(here) or "").startswith(FAILED)
    return _with_log(found, logs.last_error(run, status["attempt"]) if failed else None)


def _with_log(found: list[str], error: str | None) -> list[str]:
    """Put what the log says in the place of lines that refer to it."""
    return [error, *(line for line in found if not line.endswith(accounting.SEE_LOG))] if error else found


def _waits(run: Path, here: Path) -> bool:
    """Whether the run's job has not started yet: another, older job belongs to an earlier attempt."""
    other = attempts.text(run / "job") not in (None, attempts.text(here / "job"))
    return other and _written(run / "job") > _began(here, 0)


def _began(here: Path, otherwise: float) -> float:
    """Return when an attempt started: run-cluster writes `from` then, but a person who calls watch-nodes does not."""
    times = (_written(here / name) for name in ("from", "watcher-0.json"))
    return next((time for time in times if time), otherwise)


def _nodes(here: Path) -> list[dict]:
    """Return the nodes as last written by the watcher, which ends first; the nodes end with it."""
    try:
        nodes = json.loads((here / "state.json").read_bytes())["nodes"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # not written yet, or damaged
        return []
    if not attempts.ended(here):
        return nodes
    return [node | {"state": "ended"} if node["state"] in ("starting", "serving") else node for node in nodes]


def _cell(node: dict, column: str) -> str:
    value = node.get(column, "-")
    return f"{value / 2**20:.0f} MB" if column == "memory" and value != "-" else str(value)


def _now(run: Path) -> float:
    """Return the time by the clock of the run's disk."""
    try:
        return files.server_time(run)
    except OSError as error:  # the disk is full or read-only
        say(f"{error.filename}: {error.strerror}; ages are measured by this machine's clock")
        return time.time()


def _age(path: Path, now: float) -> float | None:
    """Return how many seconds ago a file was written; None if it is missing."""
    written = _written(path)
    return round(max(now - written, 0), 1) if written else None


def _written(path: Path) -> float:
    """Return when a file was written; 0 if it is missing."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.1f} h ago"


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _steps(run: Path) -> int | None:
    """Return the step up to which the run trains, from its last command or else its recipe."""
    asked = [line["steps"] for line in _last_lines(run / "commands.jsonl") if "steps" in line]
    try:
        return asked[-1] if asked else tomllib.loads((run / "recipe.toml").read_text()).get("steps")
    except (FileNotFoundError, ValueError):
        return None


def _last_lines(path: Path) -> list[dict]:
    """Return the complete lines at the end of a JSON lines file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 2**14))
            tail = file.read().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in tail:
        if line.startswith(b"{"):
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found
