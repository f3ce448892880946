"""How many steps a round has on a cluster, and whether it exchanges around them or beside them.

As few as keep the workers computing: the further they go by themselves, the more they disagree. What a worker does
besides computing is a TOLERATED share of its time, as long as that takes no more than LONGEST steps, and a training has
no fewer than FEWEST rounds. Steps may grow by the square of the learning rate's fall (Gu et al. 2024, the quadratic
synchronisation rule), GROWTH times at most. Where a network is so slow that so many steps leave HIDDEN of the time to
exchanges, these run beside computing, and rounds last as long as they do.

Workers that compute faster take more steps, so that all rounds last about as long as each other and no difference is
old when it is pushed (Liu et al. 2024, dynamic local steps).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from depthfield.training.exchange import AROUND, BESIDE
from depthfield.training.rounds import Report

TOLERATED, HIDDEN = 0.05, 0.25
LONGEST, FEWEST, GROWTH = 100, 100, 4
NEW = 0.3  # of a mean that the last round makes up
FIRST = 2  # steps of a round of a worker that no times are known of
BUILDING = 1  # rounds of a worker, whose times are of no use: it builds its graph


class Plan(NamedTuple):
    """What the next round shall be."""

    counts: list[int]  # steps of each worker
    when: int  # it exchanges


class Pace:
    """What rounds have taken so far, and what the next one shall be."""

    def __init__(self, workers: int, fixed: int, steps: int):
        self.workers, self.fixed = workers, fixed  # a number of steps for all rounds, 0 to adapt it
        self.longest = max(1, min(LONGEST, steps // (workers * FEWEST)))  # of a training of so many steps
        self.rounds = [0] * workers
        self.step: list[float | None] = [None] * workers  # seconds of one
        self.moving: list[float] = [0.0] * workers  # of an exchange
        self.lost: list[float] = [0.0] * workers  # of all else in a round, and between two

    def note(self, report: Report) -> None:
        """Take in what a round has told."""
        worker = report.worker
        self.rounds[worker] += 1
        if self.rounds[worker] <= BUILDING or not report.steps:
            return
        known = self.step[worker] is not None
        step = (report.computing + report.waiting) / report.steps
        self.step[worker] = mean(self.step[worker] if known else step, step)
        if report.moving:
            self.moving[worker] = mean(self.moving[worker] or report.moving, report.moving)
        exposed = report.seconds - report.computing - report.waiting
        lost = report.idle + max(exposed - report.moving, 0)
        self.lost[worker] = mean(self.lost[worker] if known else lost, lost)

    def plan(self, rate: float) -> Plan:
        """The next round at a share `rate` of the highest learning rate."""
        known = [worker for worker in range(self.workers) if self.step[worker]]
        if not known:
            return Plan([self.fixed or FIRST] * self.workers, AROUND)
        moving = max(self.moving[worker] for worker in known)
        lost = min(self.lost[worker] for worker in known)  # others also wait for the slowest, longer with more steps
        growth = min(1 / max(rate, 1e-3) ** 2, GROWTH)
        longest = self.longest * growth * min(self.step[worker] for worker in known)
        beside = moving > HIDDEN * longest
        seconds = max(longest, 1.1 * moving) if beside else min((moving + lost) / TOLERATED, longest)
        counts = [max(1, math.ceil(seconds / step)) if step else FIRST for step in self.step]
        return Plan([self.fixed] * self.workers if self.fixed else counts, BESIDE if beside else AROUND)


def mean(old: float, new: float) -> float:
    return old + NEW * (new - old)


def shares(reports: Sequence[Report]) -> dict[str, float]:
    """Where the workers' time went: shares for computing, for data, and for exchanges that computing did not hide."""
    whole = sum(report.seconds + report.idle for report in reports)
    computing, waiting = (sum(getattr(report, name) for report in reports) / whole for name in ("computing", "waiting"))
    return {"computing": computing, "waiting": waiting, "moving": max(1 - computing - waiting, 0.0)}
