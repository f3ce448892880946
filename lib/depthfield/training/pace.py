"""The number of steps per round on a cluster, and whether exchanges run around or beside computing.

Rounds are as short as possible, because workers diverge between exchanges. A TOLERATED share of a worker's time may go
to anything but computing, with at most LONGEST steps per round and at least FEWEST rounds in a training. Steps grow
with the square of the learning rate's decrease (Gu et al. 2024, the quadratic synchronisation rule), at most GROWTH
times. If a network is so slow that exchanges still take HIDDEN of the time, they run beside computing, and rounds last
as long as exchanges.

Faster workers take more steps, so that all rounds take about the same time and no change is old when it is pushed (Liu
et al. 2024, dynamic local steps).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from depthfield.training.exchange import AROUND, BESIDE
from depthfield.training.rounds import Report

TOLERATED, HIDDEN = 0.03, 0.25
LONGEST, FEWEST, GROWTH = 100, 100, 4
NEW = 0.3  # share of the last round in a moving mean
FIRST = 2  # steps per round of a worker without known times
BUILDING = 1  # first rounds of a worker to ignore: it builds its graph


class Plan(NamedTuple):
    """The settings of the next round."""

    counts: list[int]  # steps per worker
    when: int  # when it exchanges


class Pace:
    """The times of the rounds so far, and the plan of the next."""

    def __init__(self, workers: int, fixed: int, steps: int):
        self.workers, self.fixed = workers, fixed  # steps for all rounds, 0 to adapt them
        self.longest = max(1, min(LONGEST, steps // (workers * FEWEST)))  # for a training of this many steps
        self.rounds = [0] * workers
        self.step: list[float | None] = [None] * workers  # seconds per step
        self.moving: list[float] = [0.0] * workers  # seconds per exchange
        self.lost: list[float] = [0.0] * workers  # seconds for everything else in a round, and between rounds

    def note(self, report: Report) -> None:
        """Record the report of a round."""
        worker = report.worker
        self.rounds[worker] += 1
        if self.rounds[worker] <= BUILDING or not report.steps:
            return
        known = self.step[worker] is not None
        step = (report.computing + report.waiting) / report.steps
        # Accidents make steps longer, never shorter: a shorter time is believed at once.
        self.step[worker] = min(step, mean(self.step[worker] if known else step, step))
        if report.moving:
            self.moving[worker] = mean(self.moving[worker] or report.moving, report.moving)
        exposed = report.seconds - report.computing - report.waiting
        lost = report.idle + max(exposed - report.moving, 0)
        self.lost[worker] = mean(self.lost[worker] if known else lost, lost)

    def plan(self, rate: float) -> Plan:
        """Plan the next round at a share `rate` of the highest learning rate."""
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
    """Return shares of the workers' time: computing, waiting for data, and exchanges not hidden by computing."""
    whole = sum(report.seconds + report.idle for report in reports)
    computing, waiting = (sum(getattr(report, name) for report in reports) / whole for name in ("computing", "waiting"))
    return {"computing": computing, "waiting": waiting, "moving": max(1 - computing - waiting, 0.0)}
