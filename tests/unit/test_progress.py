"""The line that shows how far a command is: in place on a terminal, now and then in a log, or not at all."""

import contextlib
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


@contextlib.contextmanager
def on_screen():
    """A terminal of 60 columns that is this process's stdout and stderr, to be looked at afterwards."""
    screen = Screen(columns=60)
    stream = os.fdopen(os.dup(screen.theirs), "w", buffering=1)
    with stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        yield screen
    screen.close()


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


def test_on_a_terminal_one_line_is_rewritten_and_erased(clock):
    with on_screen() as screen:
        for number in tool.progress(range(4), 4, "photos"):
            clock.now += 2
            if number == 2:
                tool.say("photo 2 is damaged")
                tool.emit("one/path")
    assert screen.left == ["make-patches: photo 2 is damaged", "one/path"]
    assert screen.shown[0] == "make-patches: 0 of 4 photos (0%)"
    assert "make-patches: 1 of 4 photos (25%), 0.5/s, 6 s left" in screen.shown
    assert "make-patches: 4 of 4 photos (100%), 0.5/s, 0 s left" in screen.shown


def test_parts_that_do_not_fit_are_left_out():
    with on_screen() as screen:
        tool.show("step 4 of 5", "a" * 20, "b" * 20, "c")
        tool.show("much " * 30, "more")
        tool.line.erase()
    first, second = screen.shown
    assert first == f"make-patches: step 4 of 5, {'a' * 20}" and len(second) == 59


def test_a_rewriting_takes_time_so_there_are_not_many(clock):
    with on_screen() as screen:
        for _ in tool.progress(range(1000), 1000, "photos"):
            clock.now += 0.001
    assert 5 <= len(screen.shown) <= 12


@pytest.mark.parametrize(("name", "value", "lines"), [(tool.LEVEL, "quiet", 1), ("TERM", "dumb", 2)])
def test_nothing_is_rewritten_when_quiet_or_where_it_cannot_be(clock, monkeypatch, name, value, lines):
    monkeypatch.setenv(name, value)
    with on_screen() as screen:
        for _ in tool.progress(range(3), 3, "photos"):
            clock.now += 1
        tool.show("this")
        tool.inform("good to know")
        tool.say("a warning")
    expected = ["make-patches: good to know", "make-patches: a warning"][-lines:]
    assert screen.left == screen.shown == expected


def test_amounts_are_in_their_own_words(clock):
    with on_screen() as screen, tool.Meter("", 1e6, 5e5, lambda size: f"{size / 1000:.0f} kB", "a file:") as meter:
        clock.now += 2
        meter.advance(1e5)
    assert screen.shown[-1] == "make-patches: a file: 600 kB of 1000 kB (60%), 50 kB/s"


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
