"""Which process continues a run when its hosts lose contact: the first that reaches the qmaster and claims the run.

The chief's host may be dead, or cut off from one network while all hosts still share the disk through another. The disk
does not show which; a host that reaches the qmaster is on the grid's side.
"""

import os
import time
from pathlib import Path

from depthfield import files
from depthfield.cluster import attempts, gridengine, ways
from depthfield.tool import Failure, say

SILENT_SECONDS = 15  # the watcher writes its state every two
GRACE_SECONDS = 30  # for a chief that still writes to claim the next attempt: it may reach the grid, but not us
PATIENCE_SECONDS = 3600  # to wait for a qmaster that answers no host
POLL_SECONDS = 2


def reached_first(folder: Path, who: str) -> bool:
    """Wait until the qmaster answers, and claim what follows this attempt; False if another process has claimed it.

    Raises Failure if the qmaster has answered no process for PATIENCE_SECONDS.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while attempts.claimed(folder) is None:
        if gridengine.reachable():
            return attempts.claim(folder, who)
        if time.monotonic() > deadline:
            raise Failure(f"the qmaster has not answered for {PATIENCE_SECONDS} s; run the same command to continue")
        time.sleep(POLL_SECONDS)
    return False


def after_loss(run: Path, folder: Path, job: str, lost: str, who: str) -> None:
    """Make sure that a run continues when the host of its chief, `lost`, does not answer; called by its nodes.

    The job script is lost with that host, and a parallel job stays as it is until the host is back (if rescheduled, in
    state Rt). So one of the nodes submits a copy of the job that avoids the host, and deletes the job.
    """
    begun = time.monotonic()
    while attempts.claimed(folder) is None and not attempts.ended(folder) and folder.exists():
        waited = time.monotonic() - begun
        silence = files.age(folder / "state.json")  # the watcher's
        if (waited > GRACE_SECONDS or silence is None or silence >= SILENT_SECONDS) and gridengine.reachable():
            if attempts.claim(folder, who):
                _take_over(run, folder, job, lost)
            return
        if waited > PATIENCE_SECONDS:
            say(f"the qmaster has not answered for {PATIENCE_SECONDS} s")
            return
        time.sleep(POLL_SECONDS)


def _take_over(run: Path, folder: Path, job: str, lost: str) -> None:
    say(f"{lost}, the host of the chief, does not answer: job {job} continues in a copy")
    try:
        attempts.avoid(folder, [lost])
        copy = ways.copied(run, job)
    except Failure as failure:  # another node may be on a submit host
        say(failure)
        attempts.unclaim(folder)
        return
    files.write_text(folder / "claim", f"job {copy}, submitted by {os.uname().nodename}\n")
    attempts.write_state(folder, f"ended: its host {lost} does not answer; job {copy} continues")
    try:
        gridengine.delete([job])
    except Failure as failure:
        say(f"{failure}; delete it by hand: qdel {job}")
