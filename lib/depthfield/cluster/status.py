"""How a run is, from the files it leaves: its job, its attempt, its nodes, the age of its last step and checkpoint."""

import contextlib
import json
import time
import tomllib
from pathlib import Path

from depthfield.cluster import announcements
from depthfield.tool import Failure

SILENT_SECONDS = 15  # the watcher tells of itself every two

COLUMNS = ("role", "index", "host", "port", "state", "memory", "load")


def of(run: Path) -> dict:
    """The status of a run as plain data: times are ages in seconds, memory is in bytes, None is what is not known."""
    if not (run / "nodes").is_dir() and not (run / "recipe.toml").exists():
        raise Failure(f"{run}: no run is there")
    now = time.time()
    attempt = max((int(one.name) for one in (run / "nodes").glob("[0-9]*")), default=None)
    here = announcements.folder(run, attempt) if attempt else None
    watched = _watched(here / "state.json") if here else None
    newest = max(run.glob("checkpoints/[0-9]*.npz"), default=None)
    metrics = _last_lines(run / "metrics.jsonl")
    training = next((line for line in reversed(metrics) if line.get("kind") == "training"), {})
    told = watched["time"] if watched else None
    status = {
        "run": str(run),
        "job": _text(run / "job"),
        "attempt": attempt,
        "from_step": _number(_text(here / "from")) if here else None,
        "step": metrics[-1]["step"] if metrics else None,
        "steps": _steps(run / "recipe.toml"),
        "step_age": round(now - metrics[-1]["time"], 1) if metrics else None,
        "photos_per_second": training.get("photos_per_second"),
        "checkpoint": str(newest) if newest else None,
        "checkpoint_age": round(now - newest.stat().st_mtime, 1) if newest else None,
        "heard": round(now - told, 1) if told else None,
        "nodes": _nodes(watched["nodes"], here) if watched else [],
    }
    return status | {"state": _state(status, run, here, metrics[-1]["time"] if metrics else 0)}


def table(status: dict) -> str:
    """The status for people."""
    rows = [("run", status["run"])]
    if status["job"]:
        rows.append(("job", status["job"]))
    if status["attempt"]:
        begun = "the beginning" if status["from_step"] is None else f"step {status['from_step']}"
        rows.append(("attempt", f"{status['attempt']}, from {begun}"))
    rows.append(("state", status["state"]))
    if status["step"] is not None:
        rows.append(("last step told", f"{status['step']}, {_age(status['step_age'])}"))
    if status["checkpoint"]:
        rows.append(("checkpoint", f"{status['checkpoint']}, {_age(status['checkpoint_age'])}"))
    lines = [f"{name:16}{value}" for name, value in rows]
    if status["nodes"]:
        cells = [COLUMNS] + [tuple(_cell(node, column) for column in COLUMNS) for node in status["nodes"]]
        widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]
        lines += ["", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)]
    return "\n".join(lines)


def _state(status: dict, run: Path, here: Path | None, stepped: float) -> str:
    job = status["job"]
    if here is None:
        if job:
            return f"waiting for slots (job {job})"
        return f"step {status['step']} of {status['steps']}" if status["step"] is not None else "not begun"
    # cluster.sh writes `from` when it begins an attempt; a person who calls watch-nodes does not.
    began = _written(here / "from") or _written(here / f"{announcements.WATCHER}-0.json") or time.time()
    # An older job of another number is that of an earlier attempt: this one went on without the grid.
    if job and job != _text(here / "job") and _written(run / "job") > began:
        return f"waiting for slots (job {job})"
    said = _text(here / "state") or "starting"
    if said.startswith("ended"):
        return said
    silence = status["heard"] or time.time() - here.stat().st_ctime
    if silence > SILENT_SECONDS:
        return f"nothing heard for {silence:.0f} s: suspended, or lost"
    if stepped > began:
        rate = "" if status["photos_per_second"] is None else f", {status['photos_per_second']:.0f} photos/s"
        return f"training step {status['step']} of {status['steps']}{rate}"
    there = sum(node["state"] == "serving" for node in status["nodes"])
    if there < len(status["nodes"]):
        return f"{said} ({there} of {len(status['nodes'])} are there)"
    return "starting to train"


def _nodes(told: list[dict], here: Path) -> list[dict]:
    """The nodes as the watcher told of them last; it is the first to end, and the nodes end with it."""
    if not (_text(here / "state") or "").startswith("ended"):
        return told
    return [node | {"state": "ended"} if node["state"] in ("starting", "serving") else node for node in told]


def _cell(node: dict, column: str) -> str:
    value = node.get(column, "-")
    return f"{value / 2**20:.0f} MB" if column == "memory" and value != "-" else str(value)


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.1f} h ago"


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _written(path: Path) -> float:
    """When a file was written; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0


def _watched(path: Path) -> dict | None:
    """What the watcher told; None where it has not, or where its file is damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() >= {"time", "nodes"} else None


def _steps(path: Path) -> int | None:
    try:
        return tomllib.loads(path.read_text()).get("steps")
    except (FileNotFoundError, ValueError):
        return None


def _last_lines(path: Path) -> list[dict]:
    """The whole lines at the end of a file of JSON lines, without one that is being written or never was finished."""
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
