"""Why a run waits or has ended, according to Grid Engine's scheduler and accounting."""

from collections.abc import Iterable
from contextlib import suppress

from depthfield.cluster import accounting, gridengine
from depthfield.tool import Failure


def of_waiting(job: str) -> list[str]:
    """Explain why a job does not run yet: its error or the scheduler's reasons, or why it ended if it is gone."""
    return _of(job, waiting=True)


def of_ended(job: str, nodes: Iterable[str] = ()) -> list[str]:
    """Explain why a job and the array jobs of its `nodes` failed, one line each; empty if nothing is known.

    Nodes that the owner deleted are left out, because that is how an attempt ends.
    """
    found, nodes = _of(job), list(nodes)
    for array in nodes:
        with suppress(Failure):
            ends = accounting.of(array)
            by_itself = [end for end in ends if end.deleted_by is None or end.deleted_by.partition("@")[0] != end.owner]
            of_workers = array == nodes[-1]  # they are submitted last
            setting = "WORKER_REQUEST" if of_workers else "PS_REQUEST"
            found += [line.replace(" REQUEST='", f" {setting}='") for line in _explained(array, by_itself)]
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
    """Explain why a job ended, from its records: one line or none."""
    limits: list[int] = []
    with suppress(Failure):  # a queue may be gone
        limits = gridengine.limits({}, sorted({record.queue for record in records if record.queue}))
    line = accounting.explain(records, {}, limits)
    return [f"job {job}: {line}"] if line else []
