"""The attempts of a run: one start of its cluster each, in a folder `RUN/nodes/ATTEMPT` that one process alone made.

What an attempt's folder holds beside the nodes' announcements: `job` and `origin`, whose attempt it is; `from`, the
step it begins at; `hosts` and `plan.tsv`; `array-jobs`, those of its nodes; `state`, one line for people; `stop`, a
request to end; `lost`, hosts that its watcher has lost; `claim`, made by who decides what follows it; and `avoid`, the
hosts that what follows does without.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from depthfield import files
from depthfield.tool import Failure

NO_CHECKPOINT = "none"
ARRAY_JOBS = "array-jobs"
ALLOWED = 3  # attempts in a row that bring no new checkpoint
AVOID_SECONDS = 3600  # a host that was lost: Grid Engine itself takes minutes to notice, and sends jobs there


def last(run: Path) -> int:
    """The number of the last attempt, 0 if there was none."""
    return max((int(path.name) for path in (run / "nodes").glob("[0-9]*") if path.name.isdigit()), default=0)


def begin(run: Path, job: str, origin: str) -> Path:
    """The folder of a new attempt. `origin` is the first of the jobs of which `job` is a copy."""
    number = last(run) + 1
    while True:
        folder = run / "nodes" / str(number)
        try:
            folder.mkdir(parents=True)  # succeeds for one of those who try
            break
        except FileExistsError:
            number += 1
    for name, text in (("job", job), ("origin", origin), ("from", newest_checkpoint(run))):
        files.write_text(folder / name, f"{text}\n")
    return folder


def newest_checkpoint(run: Path) -> str:
    """The step of the newest checkpoint, as its file is named."""
    return max((path.stem for path in run.glob("checkpoints/[0-9]*.npz")), default=NO_CHECKPOINT)


def fruitless(run: Path, origin: str) -> int:
    """How many of the last attempts of this origin began where we are now."""
    now = newest_checkpoint(run)
    return sum(1 for _ in takewhile(lambda folder: text(folder / "from") == now, newest_first(run, origin)))


def newest_first(run: Path, origin: str) -> Iterator[Path]:
    """The last attempts in a row that are of this origin."""
    folders = (run / "nodes" / str(number) for number in range(last(run), 0, -1))
    return takewhile(lambda folder: text(folder / "origin") == origin, folders)


def origin(run: Path, job: str) -> str:
    """The job that `job` is a copy of, or a copy of a copy; `job` itself if it is none."""
    return text(run / "nodes" / f"origin-{job}") or job


def tell_job(run: Path, job: str, copy_of: str | None = None) -> None:
    """Write the job that a run has now into `RUN/job`."""
    if copy_of:
        files.write_text(run / "nodes" / f"origin-{job}", f"{origin(run, copy_of)}\n")
    files.write_text(run / "job", f"{job}\n")


def claim(folder: Path, who: str) -> bool:
    """Become the one who decides what follows this attempt; False where somebody has already.

    A new name for one file is given to one of those who ask, on NFS too. After a network was cut, hosts that cannot
    see each other may all see the disk: without this they would go on twice.
    """
    mine = folder / f".claim.{secrets.token_hex(8)}"
    try:
        mine.write_text(f"{who}\n")
        os.link(mine, folder / "claim")
        return True
    except FileExistsError:
        return False
    except FileNotFoundError:
        raise Failure(f"{folder}: the attempt's folder is gone") from None
    finally:
        mine.unlink(missing_ok=True)


def claimed(folder: Path) -> str | None:
    """Who decides what follows this attempt, None while nobody does."""
    return text(folder / "claim")


def unclaim(folder: Path) -> None:
    """Leave the decision to others, for who claimed it and could not do it."""
    for name in ("avoid", "claim"):
        (folder / name).unlink(missing_ok=True)


def avoid(folder: Path, hosts: Sequence[str]) -> None:
    """Name the hosts that what follows this attempt does without; for who claimed it."""
    files.write_text(folder / "avoid", "".join(f"{host}\n" for host in hosts))


def avoided(run: Path, job: str) -> list[str]:
    """The hosts that attempts of this job, and of those it is a copy of, named in the last AVOID_SECONDS."""
    hosts: list[str] = []
    for folder in newest_first(run, origin(run, job)):
        if (age := files.age(folder / "avoid")) is None:
            continue
        if age > AVOID_SECONDS:
            break
        hosts = [*(text(folder / "avoid") or "").split(), *hosts]
    return list(dict.fromkeys(hosts))


def write_state(folder: Path, state: str) -> None:
    """Say in one line how the attempt is, for cluster-status and stop-cluster; a full disk must not end it."""
    with contextlib.suppress(OSError):
        files.write_text(folder / "state", f"{state}\n")


def ended(folder: Path) -> bool:
    return (text(folder / "state") or "").startswith("ended")


def text(path: Path) -> str | None:
    """What a small file says, without the newline; None where it is missing or empty."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
