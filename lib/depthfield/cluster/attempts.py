"""The attempts of a run: each is one start of its cluster, in a folder `RUN/nodes/ATTEMPT` created by one process.

Besides the nodes' announcements, the folder holds: `job` and `origin`, to which job it belongs; `from`, the step it
starts at; `command.json`, the settings and the command of run-cluster; `hosts` and `plan.tsv`; `array-jobs`, the ids
of its nodes' jobs; `state`, one line for people, and `why`, what it leaves open; `stop`, a request to end; `failed`,
why no further attempt would start its nodes; `lost`, the hosts that its watcher has lost; `claim`, who decides what
follows; and `avoid`, the hosts that the next attempt must avoid. Beside these folders is `command-JOB.json`, the
settings and the command that submitted a job: not all reach it.
"""

import contextlib
import json
import os
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from depthfield import files
from depthfield.tool import Failure

NO_CHECKPOINT = "none"
ARRAY_JOBS = "array-jobs"
UNSTARTED = "failed"
ALLOWED = 3  # attempts in a row without a new checkpoint
WELL = ("ended: trained", "ended: stopped as asked")  # how the state of such an attempt begins
AVOID_SECONDS = 3600  # for a lost host: Grid Engine takes minutes to notice, and still sends jobs there


def last(run: Path) -> int:
    """Return the number of the last attempt, 0 if there was none."""
    return max((int(path.name) for path in (run / "nodes").glob("[0-9]*") if path.name.isdigit()), default=0)


def begin(run: Path, job: str, origin: str) -> Path:
    """Create the folder of a new attempt and return it. `origin` is the first job of which `job` is a copy."""
    number = last(run) + 1
    while True:
        folder = run / "nodes" / str(number)
        try:
            folder.mkdir(parents=True)  # succeeds for exactly one process
            break
        except FileExistsError:
            number += 1
    for name, text in (("job", job), ("origin", origin), ("from", newest_checkpoint(run))):
        files.write_text(folder / name, f"{text}\n")
    return folder


def newest_checkpoint(run: Path) -> str:
    """Return the step of the newest checkpoint, from its file name."""
    return max((path.stem for path in run.glob("checkpoints/[0-9]*.npz")), default=NO_CHECKPOINT)


def fruitless(run: Path, origin: str) -> int:
    """Return how many of the last attempts of this origin started from the newest checkpoint."""
    now = newest_checkpoint(run)
    return sum(1 for _ in takewhile(lambda folder: text(folder / "from") == now, newest_first(run, origin)))


def newest_first(run: Path, origin: str) -> Iterator[Path]:
    """Yield the folders of the last attempts in a row that have this origin, newest first."""
    folders = (run / "nodes" / str(number) for number in range(last(run), 0, -1))
    return takewhile(lambda folder: text(folder / "origin") == origin, folders)


def origin(run: Path, job: str) -> str:
    """Return the job of which `job` is a copy, directly or not; `job` itself if it is not a copy."""
    return text(run / "nodes" / f"origin-{job}") or job


def tell_job(run: Path, job: str, copy_of: str | None = None) -> None:
    """Write the current job of a run into `RUN/job`."""
    if copy_of:
        files.write_text(run / "nodes" / f"origin-{job}", f"{origin(run, copy_of)}\n")
    files.write_text(run / "job", f"{job}\n")


def forget_job(run: Path) -> None:
    """Take the current job of a run, which was deleted before it began, out of `RUN/job`: the last that began is it."""
    begun = text(run / "nodes" / str(last(run)) / "job")
    if begun:
        tell_job(run, begun)
    else:
        (run / "job").unlink(missing_ok=True)


def tell_command(path: Path, settings: Mapping[str, str], words: Sequence[object]) -> None:
    """Write the settings and the words of a command as one line of JSON."""
    told = {"settings": dict(settings), "command": shlex.join(map(str, words))}
    files.write_text(path, json.dumps(told) + "\n")


def claim(folder: Path, who: str) -> bool:
    """Claim the decision on what follows this attempt; False if another process already has it.

    Linking a file to a name succeeds for one process only, also on NFS. When the network is cut, hosts that cannot
    reach each other may still share the disk; without the claim, the run would continue twice.
    """
    mine = folder / f".claim.{secrets.token_hex(8)}"
    try:
        mine.write_text(f"{who}\n")
        os.link(mine, folder / "claim")
        return True
    except FileExistsError:
        return False
    except FileNotFoundError:
        raise Failure(f"{folder}: the folder of the attempt was removed") from None
    finally:
        mine.unlink(missing_ok=True)


def claimed(folder: Path) -> str | None:
    """Return who decides what follows this attempt; None if nobody has claimed it."""
    return text(folder / "claim")


def unclaim(folder: Path) -> None:
    """Give up a claim, so that another process can decide."""
    for name in ("avoid", "claim"):
        (folder / name).unlink(missing_ok=True)


def avoid(folder: Path, hosts: Sequence[str]) -> None:
    """Write the hosts that the next attempt must avoid; only for the process that holds the claim."""
    files.write_text(folder / "avoid", "".join(f"{host}\n" for host in hosts))


def avoided(run: Path, job: str) -> list[str]:
    """Return the hosts that attempts of this job, and of those it is a copy of, avoided in the last AVOID_SECONDS."""
    hosts: list[str] = []
    for folder in newest_first(run, origin(run, job)):
        if (age := files.age(folder / "avoid")) is None:
            continue
        if age > AVOID_SECONDS:
            break
        hosts = [*(text(folder / "avoid") or "").split(), *hosts]
    return list(dict.fromkeys(hosts))


def write_state(folder: Path, state: str) -> None:
    """Write the state of the attempt in one line, for cluster-status and stop-cluster; a full disk is ignored."""
    with contextlib.suppress(OSError):
        files.write_text(folder / "state", f"{state}\n")


def ended(folder: Path) -> bool:
    return (text(folder / "state") or "").startswith("ended")


def ended_well(folder: Path) -> bool:
    """Whether an attempt did what it was asked to: it trained to the last step, or stopped with everything saved."""
    return (text(folder / "state") or "").startswith(WELL)


def end_in_words(run: Path, stopped: bool) -> str:
    """Return the state of an attempt that ended well: `stopped` early, or at the last step."""
    newest = newest_checkpoint(run)
    step = 0 if newest == NO_CHECKPOINT else int(newest)
    if not stopped:
        return f"ended: trained to step {step}, done"
    return f"ended: stopped as asked at step {step}, everything saved; the same command continues it"


def in_words(folder: Path) -> str | None:
    """Return the state of an attempt as people see it; None if it has none yet."""
    return (text(folder / "state") or "").removeprefix("ended: ") or None


def text(path: Path) -> str | None:
    """Return the text of a small file without surrounding space; None if it is missing or empty."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
