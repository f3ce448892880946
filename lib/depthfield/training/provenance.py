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

PROJECT = Path(__file__).resolve().parents[3]


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


def commit() -> str | None:
    """Return the commit of this project, with a `+` if files have changed since; None if git does not know."""
    try:
        words = ["git", "-C", str(PROJECT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
