"""Stop a run from any machine that shares its disk."""

import time
from collections.abc import Callable
from pathlib import Path

from depthfield.cluster import attempts, gridengine
from depthfield.tool import Failure, detail, inform, show, showing

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
        detail(f"{folder / 'stop'}: asks watch-nodes to end attempt {number}")
        if not _wait(lambda: attempts.ended(folder), seconds, f"waiting for attempt {number} to save and end"):
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
    what = f"waiting for job {job} to leave the grid"
    if began and _wait(lambda: gridengine.job(job) is None, LEAVE_SECONDS / 2, what):
        return True
    if gridengine.job(job) is not None:
        inform(f"deleting job {job}")
        gridengine.delete([job])
    return _wait(lambda: gridengine.job(job) is None, LEAVE_SECONDS, what)


def _wait(done: Callable[[], bool], seconds: float, what: str) -> bool:
    """Whether it is `done()` within `seconds`; `what` is shown meanwhile."""
    deadline = time.monotonic() + seconds
    with showing(what):
        while not done():
            left = deadline - time.monotonic()
            if left < 0:
                return False
            show(what, f"giving up in {left:.0f} s")
            time.sleep(LOOK_SECONDS)
    return True
