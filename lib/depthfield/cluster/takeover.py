"""Who goes on with a run when hosts lose sight of each other: whoever reaches the qmaster, and claims it first.

The chief's host may be dead, or cut off from the network while the disk, on another one, is still there for all. What
is written on the disk does not tell which; a host that reaches the qmaster is where the grid is.
"""

import os
import time
from pathlib import Path

from depthfield import files
from depthfield.cluster import attempts, gridengine, ways
from depthfield.tool import Failure, say

SILENT_SECONDS = 15  # the watcher writes its state every two
GRACE_SECONDS = 30  # for a chief that still writes to claim the next attempt: it may see the grid, and not us
PATIENCE_SECONDS = 3600  # for a qmaster that answers nobody
POLL_SECONDS = 2


def reached_first(folder: Path, who: str) -> bool:
    """Wait until the qmaster answers, and claim what follows this attempt; False where somebody else has.

    Raises Failure when nobody has reached the qmaster for PATIENCE_SECONDS.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while attempts.claimed(folder) is None:
        if gridengine.reachable():
            return attempts.claim(folder, who)
        if time.monotonic() > deadline:
            raise Failure(f"the qmaster has not answered for {PATIENCE_SECONDS} s; the same command goes on")
        time.sleep(POLL_SECONDS)
    return False


def after_loss(run: Path, folder: Path, job: str, lost: str, who: str) -> None:
    """What a node does when the host of its chief, `lost`, does not answer: see to it that the run goes on.

    With that host the job script is gone, and a parallel job stays as it is until the host is back (rescheduled, it
    stays in the state Rt). So one of the nodes submits a copy of the job that avoids the host, and deletes the job.
    """
    begun = time.monotonic()
    while attempts.claimed(folder) is None and not attempts.ended(folder) and folder.exists():
        waited = time.monotonic() - begun
        silence = files.age(folder / "state.json")  # of the watcher
        if (waited > GRACE_SECONDS or silence is None or silence >= SILENT_SECONDS) and gridengine.reachable():
            if attempts.claim(folder, who):
                _take_over(run, folder, job, lost)
            return
        if waited > PATIENCE_SECONDS:
            say(f"the qmaster has not answered for {PATIENCE_SECONDS} s")
            return
        time.sleep(POLL_SECONDS)


def _take_over(run: Path, folder: Path, job: str, lost: str) -> None:
    say(f"{lost}, the host of the chief, does not answer: job {job} goes on in a copy")
    try:
        attempts.avoid(folder, [lost])
        copy = ways.copied(run, job)
    except Failure as failure:  # another node may be on a submit host
        say(failure)
        attempts.unclaim(folder)
        return
    files.write_text(folder / "claim", f"job {copy}, submitted by {os.uname().nodename}\n")
    attempts.write_state(folder, f"ended: its host {lost} does not answer, job {copy} goes on")
    try:
        gridengine.delete([job])
    except Failure as failure:
        say(f"{failure}; delete it by hand: qdel {job}")
