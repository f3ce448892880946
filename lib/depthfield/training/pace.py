"""How many steps a round has on a cluster: as few as keep the workers computing.

An exchange with the parameter servers runs beside the computing of a round, but not for nothing: it takes turns with it
on the cores, and what a worker does between two rounds is lost. So a round lasts HIDDEN times as long as its exchange,
and LOST times as long as what is lost. Workers that compute faster take more steps, so that all rounds last about as
long as each other and no difference is old when it is pushed (Liu et al. 2024, dynamic local steps).

The further workers go by themselves, the more they disagree: rounds are no longer than LONGEST steps where the learning
rate is at its highest, and may grow by the square of its fall (Gu et al. 2024, the quadratic synchronisation rule).
Where a network is so slow that an exchange lasts longer than that, rounds last as long as it does.
"""

import math
from collections.abc import Sequence

from depthfield.training.rounds import Report

HIDDEN, LOST = 4, 30
LONGEST = 32
GROWTH = 4  # of LONGEST at most, as the rate falls
NEW = 0.3  # of a mean that the last round makes up
FIRST = 2  # steps of a round of a worker that no times are known of
BUILDING = 1  # rounds of a worker, whose times are of no use: it builds its graph


def mean(old: float | None, new: float) -> float:
    return new if old is None else old + NEW * (new - old)


class Pace:
    """What rounds have taken so far, and the number of steps that follows from it, for each worker."""

    def __init__(self, workers: int, fixed: int):
        self.workers, self.fixed = workers, fixed  # a number of steps for all rounds, 0 to adapt it
        self.rounds = [0] * workers
        self.step: list[float | None] = [None] * workers  # seconds of one
        self.moving: list[float | None] = [None] * workers
        self.lost: list[float | None] = [None] * workers

    def note(self, report: Report) -> None:
        """Take in what a round has told."""
        worker = report.worker
        self.rounds[worker] += 1
        if self.rounds[worker] <= BUILDING or not report.steps:
            return
        self.step[worker] = mean(self.step[worker], (report.computing + report.waiting) / report.steps)
        if report.moving:
            self.moving[worker] = mean(self.moving[worker], report.moving)
        beside = max(report.computing + report.waiting, report.moving)
        self.lost[worker] = mean(self.lost[worker], report.idle + report.seconds - beside)

    def counts(self, rate: float) -> list[int]:
        """How many steps each worker takes in its next round, at a share `rate` of the highest learning rate."""
        if self.fixed:
            return [self.fixed] * self.workers
        known = [self.seconds(worker) for worker in range(self.workers) if self.step[worker]]
        if not known:
            return [FIRST] * self.workers
        # All rounds last as long as those of the worker that needs the longest, as far as its steps allow.
        longest = LONGEST * min(1 / max(rate, 1e-3) ** 2, GROWTH)
        wanted = min(max(known), longest * min(step for step in self.step if step))
        wanted = max([wanted, *(moving for moving in self.moving if moving)])
        return [FIRST if step is None else max(1, math.ceil(wanted / step)) for step in self.step]

    def seconds(self, worker: int) -> float:
        """How long a round of a worker should last."""
        return max(HIDDEN * (self.moving[worker] or 0), LOST * (self.lost[worker] or 0))


def shares(reports: Sequence[Report]) -> dict[str, float]:
    """Where the workers' time went: shares for computing, for data, and for exchanges that computing did not hide."""
    whole = sum(report.seconds + report.idle for report in reports)
    computing, waiting = (sum(getattr(report, name) for report in reports) / whole for name in ("computing", "waiting"))
    return {"computing": computing, "waiting": waiting, "moving": max(1 - computing - waiting, 0.0)}
