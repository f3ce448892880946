"""Why a run waits or has ended, as far as Grid Engine knows: from the scheduler, and from the accounting."""

from collections.abc import Iterable
from contextlib import suppress

from depthfield.cluster import accounting, gridengine
from depthfield.tool import Failure


def of_waiting(job: str) -> list[str]:
    """Why a job does not run yet: its error, or what the scheduler says; why it ended if it is there no more."""
    return _of(job, waiting=True)


def of_ended(job: str, nodes: Iterable[str] = ()) -> list[str]:
    """Why a job has ended badly, and the array jobs of its `nodes`; a line each, none where nothing is known.

    What the owner deleted of the nodes is left out: whoever ends an attempt does that.
    """
    found = _of(job)
    for array in nodes:
        with suppress(Failure):
            ends = accounting.of(array)
            by_itself = [end for end in ends if end.deleted_by is None or end.deleted_by.partition("@")[0] != end.owner]
            found += _explained(array, by_itself)
    return found


def _of(job: str, waiting: bool = False) -> list[str]:
    try:
        there = gridengine.job(job, patience=0)
        if there is None:
            return _explained(job, accounting.of(job)) or [f"job {job} is no longer in the grid"]
        if there.errors:
            return [f"job {job}: {accounting.explain_errors(there.errors, job)}"]
        return [f"job {job}: {'; '.join(there.messages)}"] if waiting and there.messages else []
    except Failure as failure:
        return [str(failure)]


def _explained(job: str, records: list[accounting.Record]) -> list[str]:
    """Why a job ended, by its records: one line, or none."""
    limits: list[int] = []
    with suppress(Failure):  # a queue that is gone
        limits = gridengine.limits({}, sorted({record.queue for record in records if record.queue}))
    line = accounting.explain(records, {}, limits)
    return [f"job {job}: {line}"] if line else []
