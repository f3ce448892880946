"""The line that shows how far a command is: in place on a terminal, now and then in a log, or not at all."""

import os
import sys

import pytest
from screen import Screen

from depthfield import terminal, tool


class Clock:
    """A time.monotonic that goes on when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tool, "time", clock)
    monkeypatch.setattr(terminal, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def command(monkeypatch):
    """Messages are under this name, and as many as without an option."""
    monkeypatch.setattr(sys, "argv", ["bin/make-patches"])
    monkeypatch.delenv(tool.LEVEL, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def screen(monkeypatch):
    """A terminal that is this process's stdout and stderr until it is closed."""
    screen = Screen(columns=60)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, os.fdopen(os.dup(screen.theirs), "w", buffering=1))
    close = screen.close

    def closed() -> Screen:
        sys.stdout.close()
        sys.stderr.close()
        monkeypatch.undo()
        close()
        return screen

    screen.close = closed
    return screen


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (99.4, "99 s"), (100, "2 min"), (5940, "99 min"), (6000, "1 h 40 min"), (200_000, "2 d 7 h")],
)
def test_times_are_as_exact_as_a_person_wants_them(seconds, words):
    assert terminal.duration(seconds) == words


def test_a_rate_is_of_the_last_while(clock):
    rate = terminal.Rate()
    assert rate.per_second() == 0
    for second in range(100):
        clock.now += 1
        rate.note(second + 1 if second < 50 else 50 + 3 * (second - 49))
    assert rate.per_second() == 3
    for _ in range(10_000):  # many at once
        clock.now += 0.001
        rate.note(200)
    assert len(rate.marks) < 1000


def test_on_a_terminal_one_line_is_rewritten_and_erased(screen, clock):
    for number in tool.progress(range(4), 4, "photos"):
        clock.now += 2
        if number == 2:
            tool.say("photo 2 is damaged")
            tool.emit("one/path")
    shown = screen.close()
    assert shown.left == ["make-patches: photo 2 is damaged", "one/path"]
    assert shown.shown[0] == "make-patches: 0 of 4 photos (0%)"
    assert "make-patches: 1 of 4 photos (25%), 0.5/s, 6 s left" in shown.shown
    assert "make-patches: 4 of 4 photos (100%), 0.5/s, 0 s left" in shown.shown


def test_parts_that_do_not_fit_are_left_out(screen):
    tool.show("step 4 of 5", "a" * 20, "b" * 20, "c")
    tool.show("much " * 30, "more")
    tool.line.erase()
    first, second = screen.close().shown
    assert first == f"make-patches: step 4 of 5, {'a' * 20}" and len(second) == 59


def test_a_rewriting_takes_time_so_there_are_not_many(screen, clock):
    for _ in tool.progress(range(1000), 1000, "photos"):
        clock.now += 0.001
    assert 5 <= len(screen.close().shown) <= 12


@pytest.mark.parametrize("level", ["quiet", "dumb"])
def test_nothing_is_rewritten_when_quiet_or_where_it_cannot_be(screen, clock, monkeypatch, level):
    monkeypatch.setenv(*((tool.LEVEL, "quiet") if level == "quiet" else ("TERM", "dumb")))
    for _ in tool.progress(range(3), 3, "photos"):
        clock.now += 1
    tool.show("this")
    tool.inform("good to know")
    tool.say("a warning")
    expected = (
        ["make-patches: a warning"] if level == "quiet" else ["make-patches: good to know", "make-patches: a warning"]
    )
    assert screen.close().left == screen.shown == expected


def test_in_a_log_there_is_a_line_now_and_then(capsys, clock):
    for _ in tool.progress(range(100), 100, "photos"):
        clock.now += 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "make-patches: 20 of 100 photos (20%), 1/s, 80 s left"
    assert [line.split()[1] for line in told] == ["20", "40", "60", "80", "100"]
    for _ in tool.progress(range(50), None, "photos"):
        clock.now += 1
    assert capsys.readouterr().err.splitlines()[0] == "make-patches: 20 photos, 1/s"


def test_levels(capsys, monkeypatch):
    def told(level: str | None) -> list[str]:
        if level:
            monkeypatch.setenv(tool.LEVEL, level)
        for how in (tool.say, tool.inform, tool.detail):
            how(how.__name__)
        return [line.removeprefix("make-patches: ") for line in capsys.readouterr().err.splitlines()]

    assert (told(None), told("quiet"), told("verbose")) == (["say", "inform"], ["say"], ["say", "inform", "detail"])
