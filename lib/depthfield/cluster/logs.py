"""The logs of a run's nodes as one stream: RUN/logs/NODE.log, where each attempt starts with `---- attempt N`."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

from depthfield import files
from depthfield.tool import Failure

LOOK_SECONDS = 0.5
TAIL_BYTES = 2**18  # to search for the last lines, from the end of a log
ATTEMPT = "---- attempt "
NO_CLUSTER = "trained by train-depth alone, so it has no nodes"
ERROR = re.compile(r"(?:[a-z]+-[a-z]+|[\w.]*(?:Error|Exception)): ")  # how a message of a command, or of Python, begins
ENDED = "run-cluster: ended with status"


def of_jobs(run: Path) -> Path:
    """Return the log of a run's jobs."""
    return run / "logs/cluster.log"


def last_error(run: Path, attempt: int | None = None) -> str | None:
    """Return the last message in the log of a run's jobs, of this attempt if one is given; None if there is none.

    For an attempt that failed: its last message is the error.
    """
    try:
        with of_jobs(run).open("rb") as file:
            file.seek(max(of_jobs(run).stat().st_size - TAIL_BYTES, 0))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    begins = re.compile(rf"run-cluster: run .*, attempt {attempt}\b")
    found = None
    for line in lines:
        if attempt is not None and begins.match(line):
            found = None
        elif ERROR.match(line) and not line.startswith(ENDED):
            found = line
    return found


def follow(run: Path, lines: int, once: bool = False) -> Iterator[tuple[str, str]]:
    """Yield (node, line): the last `lines` lines of the last attempt in each log, then new lines forever unless `once`.

    Raises Failure if `run` is not a run, or was never started on a cluster.
    """
    folder = run / "logs"
    if not folder.is_dir():
        files.check_run(run)
        raise Failure(f"{run}: {NO_CLUSTER}")
    read: dict[Path, int] = {}  # bytes read of each log
    first = True
    while True:
        for path in sorted(folder.glob("*.log")):
            begin = read.get(path, 0)
            if path not in read and first:
                begin, last = _last(path, lines)
                yield from ((path.stem, line) for line in last)
            elif path.stat().st_size < begin:  # it was truncated
                begin = 0
            with path.open("rb") as file:
                file.seek(begin)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            yield from ((path.stem, line) for line in whole.decode(errors="replace").splitlines())
            read[path] = begin + len(whole)
        if once:
            return
        first = False
        time.sleep(LOOK_SECONDS)


def _last(path: Path, lines: int) -> tuple[int, list[str]]:
    """Return where a log ends, in bytes, and the last whole lines of its last attempt."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - TAIL_BYTES, 0))
        tail = file.read()
    end = size - len(tail) + tail.rfind(b"\n") + 1 if b"\n" in tail else 0
    found = tail[: tail.rfind(b"\n") + 1].decode(errors="replace").splitlines()
    begins = [number for number, line in enumerate(found) if ATTEMPT in line]
    current = found[begins[-1] :] if begins else found
    return end, current[max(len(current) - lines, 0) :]
