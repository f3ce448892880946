"""Provenance of a run: commands.jsonl, one line per command that wrote to it."""

import datetime
import importlib.metadata
import json
import platform
import shlex
import socket
import subprocess
import sys
from pathlib import Path

from depthfield.home import HOME


def record(run: Path, **facts: object) -> None:
    """Add a line to commands.jsonl: when, where and how this command was called, its versions, and `facts`."""
    line = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "tensorflow": importlib.metadata.version("tensorflow"),
        "depthfield": importlib.metadata.version("depthfield"),
        "commit": commit(),
    }
    with (run / "commands.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line | facts) + "\n")


def commands(run: Path) -> list[dict]:
    """The lines of commands.jsonl."""
    return [json.loads(line) for line in (run / "commands.jsonl").read_text(encoding="utf-8").splitlines()]


def records(run: Path) -> list[Path]:
    """The folders of the shards that the run was last trained on, as its command named them; [] if that is unknown."""
    try:
        named = [shlex.split(line["command"]) for line in commands(run)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    for words in reversed(named):
        if folders := dict.fromkeys(Path(word).parent for word in words if word.endswith(".tfrecord")):
            return list(folders)
    return []


def dataset(run: Path) -> str:
    """What the run was trained on, in words: `data/rooms` for shards in data/rooms/records; empty if unknown."""
    return " and ".join(str(each.parent if each.name == "records" else each) for each in records(run))


def commit() -> str | None:
    """Return the commit of this project, with a `+` if files have changed since; None if git does not know.

    An installed package has no commit, even inside somebody's repository.
    """
    if not (HOME / ".git").exists():
        return None
    try:
        words = ["git", "-C", str(HOME), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
