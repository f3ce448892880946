"""Stop a run from any machine that shares its disk."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from depthfield import files
from depthfield.cluster import attempts, gridengine, logs, submission
from depthfield.tool import Failure, detail, inform, show, showing

LOOK_SECONDS = 0.5
LEAVE_SECONDS = 10  # for an ended job to leave the grid


def stop(run: Path, seconds: float) -> str:
    """Ask a run to save and end, and wait until it has; returns its final state in words.

    Raises Failure if `run` is not a run, was never started on a cluster, or does not end within `seconds`.
    """
    files.check_run(run)
    if not (run / "nodes").is_dir():
        raise Failure(f"{run}: {logs.NO_CLUSTER}")
    number = attempts.last(run)
    folder = run / "nodes" / str(number)
    if lives := number > 0 and not attempts.ended(folder):
        (folder / "stop").touch()
        detail(f"{folder / 'stop'}: asks watch-nodes to end attempt {number}")
    jobs = submission.jobs_of(run.absolute()) if attempts.text(run / "job") and gridengine.present() else []
    begun = [job for job in jobs if job == attempts.text(folder / "job")]
    if waiting := [job for job in jobs if job not in begun]:
        _delete(waiting)  # while the attempt saves: after its end one of them would start
        attempts.forget_job(run)
    stuck = None
    if lives and not _wait(lambda: attempts.ended(folder), seconds, f"waiting for attempt {number} to save and end"):
        stuck = f"{run}: attempt {number} does not end; see its logs"
    leaving = f"waiting for job {', '.join(jobs)} to leave the grid"
    if begun and not _wait(lambda: not _there(begun), LEAVE_SECONDS / 2, leaving):
        _delete(begun)
    if jobs:
        stuck = None  # an attempt ends with its job
        left = [] if _wait(lambda: not _there(jobs), LEAVE_SECONDS, leaving) else _there(jobs)
        deleted = {task.id for task in gridengine.tasks() if "d" in task.state} if left else set()
        if lost := [job for job in left if job in deleted]:
            inform(f"job {', '.join(lost)} is deleted, and leaves the grid when its host answers again")
        if left := [job for job in left if job not in deleted]:
            stuck = f"{run}: job {', '.join(left)} is still in the grid; see qstat"
    if stuck:
        raise Failure(stuck)
    state = attempts.in_words(folder) or "ended before its first attempt"
    again = "" if attempts.ended_well(folder) else "; the same command continues it"
    return f"{run}: {state}{again}"


def _there(jobs: Sequence[str]) -> list[str]:
    """Return those of these jobs that are still in the grid."""
    return [job for job in jobs if gridengine.job(job) is not None]


def _delete(jobs: Sequence[str]) -> None:
    inform(f"deleting job {', '.join(jobs)}")
    gridengine.delete(jobs)


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
