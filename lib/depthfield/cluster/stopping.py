"""Stop a run from any machine that shares its disk."""

import time
from pathlib import Path

from depthfield.cluster import attempts, gridengine
from depthfield.tool import Failure, say

LOOK_SECONDS = 0.5
LEAVE_SECONDS = 10  # for an ended job to leave the grid


def stop(run: Path, seconds: float) -> str:
    """Ask a run to save and end, and wait until it has; returns its final state in words.

    Raises Failure if `run` is not the folder of a run on a cluster, or it does not end within `seconds`.
    """
    if not (run / "nodes").is_dir():
        raise Failure(f"{run}: not the folder of a run on a cluster")
    job, number = attempts.text(run / "job"), attempts.last(run)
    folder = run / "nodes" / str(number)
    stuck = None
    if number and not attempts.ended(folder):
        (folder / "stop").touch()
        if not _wait(lambda: attempts.ended(folder), seconds):
            stuck = f"{run}: attempt {number} does not end; see its logs"
    if job and gridengine.present():
        if _leaves(job, began=number > 0 and attempts.text(folder / "job") == job):
            stuck = None
        else:
            stuck = f"{run}: job {job} is still in the grid; see qstat"
    if stuck:
        raise Failure(stuck)
    state = attempts.text(folder / "state") or "ended before its first attempt"
    return f"{run}: {state}; run the same command to continue"


def _leaves(job: str, began: bool) -> bool:
    """Wait until a job leaves the grid; one that never started, or stays too long, is deleted."""
    if began and _wait(lambda: gridengine.job(job) is None, LEAVE_SECONDS / 2):
        return True
    if gridengine.job(job) is not None:
        say(f"deleting job {job}")
        gridengine.delete([job])
    return _wait(lambda: gridengine.job(job) is None, LEAVE_SECONDS)


def _wait(done, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True
