"""How a training goes: its numbers over the last while, and a line of them."""

import time
from collections.abc import Mapping

from depthfield import terminal, tool
from depthfield.training import pace
from depthfield.training.rounds import Report

LEAST_SECONDS = 2  # of rounds, before their numbers mean something
SHOW_SECONDS = 0.5  # between two rewritings of the line on a terminal
WINDOW_SECONDS = 120  # that the time left is reckoned by


class Gauge:
    """What the rounds of a training have told. Its numbers are of a period, which begins with `begin`."""

    def __init__(self, step: int, until: int, photos_a_step: float):
        self.step, self.until, self.photos_a_step = step, until, photos_a_step
        self.rate: terminal.Rate | None = None  # of steps, since the first round has ended
        self.rel: float | None = None  # of the held-out photos when they were last measured
        self.last: Mapping[str, float] = {}  # the numbers that were last shown
        self.shown = 0.0
        self.begin()

    def begin(self) -> None:
        """Begin a period; no time before this counts."""
        self.since, self.reports = time.monotonic(), []

    def note(self, step: int, report: Report) -> None:
        """A round has ended at this step."""
        self.step = step
        self.reports.append(report)
        if self.rate is None:
            self.rate = terminal.Rate(step, WINDOW_SECONDS)  # before, graphs were made
        self.rate.note(step)

    def due(self, seconds: float) -> bool:
        """Whether the period has lasted so long, and something is known of it."""
        return bool(self.reports) and time.monotonic() - self.since >= seconds

    def numbers(self) -> dict[str, float]:
        """The means of the period: loss, photos_per_second, shares of the workers' time, and what rounds are."""
        taken = sum(report.steps for report in self.reports)
        seconds = time.monotonic() - self.since
        self.last = {
            "loss": sum(report.loss * report.steps for report in self.reports) / taken,
            "photos_per_second": taken * self.photos_a_step / seconds,
            **pace.shares(self.reports),
            "rounds": len(self.reports),
            "round_steps": taken / len(self.reports),
            "exchange_seconds": sum(report.moving for report in self.reports) / len(self.reports),
        }
        return self.last

    def to_be_shown(self) -> bool:
        """Whether it is time to rewrite the line."""
        return not tool.line.shown or time.monotonic() - self.shown >= SHOW_SECONDS

    def line(self) -> list[str]:
        """How the training goes, in parts, the most important first."""
        self.shown = time.monotonic()
        if self.due(LEAST_SECONDS) or not self.last:
            self.numbers()
        return in_words(self.step, self.until, self.seconds_left(), self.rel, self.last)

    def seconds_left(self) -> float | None:
        rate = self.rate.per_second() if self.rate else 0
        return (self.until - self.step) / rate if rate else None


def in_words(
    step: int, until: int, seconds_left: float | None, rel: float | None, numbers: Mapping[str, float]
) -> list[str]:
    """The parts of a line about training."""
    return [
        f"step {step} of {until}",
        *([f"{terminal.duration(seconds_left)} left"] if seconds_left is not None else []),
        f"loss {numbers['loss']:.4f}",
        *([f"rel {rel:.3f}"] if rel is not None else []),
        f"{numbers['photos_per_second']:.1f} photos/s",
        f"{numbers['waiting']:.0%} waiting for data",
        f"{numbers['moving']:.0%} moving parameters",
        f"{numbers['round_steps']:.0f} steps a round",
    ]
