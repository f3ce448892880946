"""The logs of a run's nodes as one stream: RUN/logs/NODE.log, where an attempt begins with a line `---- attempt N`."""

import time
from collections.abc import Iterator
from pathlib import Path

from depthfield.tool import Failure

LOOK_SECONDS = 0.5
TAIL_BYTES = 2**18  # of a log, in which its last lines are looked for
ATTEMPT = "---- attempt "


def follow(run: Path, lines: int, once: bool = False) -> Iterator[tuple[str, str]]:
    """Each log's last `lines` lines of its last attempt, then, unless `once`, new lines without end: (node, line).

    Raises Failure where no run is there.
    """
    folder = run / "logs"
    if not folder.is_dir():
        raise Failure(f"{run}: no run of a cluster is there")
    read: dict[Path, int] = {}  # bytes of each log
    first = True
    while True:
        for path in sorted(folder.glob("*.log")):
            begin = read.get(path, 0)
            if path not in read and first:
                begin, last = _last(path, lines)
                yield from ((path.stem, line) for line in last)
            elif path.stat().st_size < begin:  # somebody has emptied it
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
    """Where a log ends, in bytes, and its last whole lines, of its last attempt."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - TAIL_BYTES, 0))
        tail = file.read()
    end = size - len(tail) + tail.rfind(b"\n") + 1 if b"\n" in tail else 0
    found = tail[: tail.rfind(b"\n") + 1].decode(errors="replace").splitlines()
    begins = [number for number, line in enumerate(found) if ATTEMPT in line]
    current = found[begins[-1] :] if begins else found
    return end, current[max(len(current) - lines, 0) :]
