"""Child processes by pidfd, and the signals that come, both as something to wait for."""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

import psutil

from depthfield.tool import need_linux

need_linux("it watches processes through pidfd and /proc")

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)  # all ask for an end with everything saved

CLOCK_SECONDS = 2  # by which a process seems to have begun at another time: the clock may have been set since
OF_TERMINAL = (signal.SIGINT, signal.SIGHUP)
PR_SET_CHILD_SUBREAPER = 36  # of prctl(2)
ORPHANS_SECONDS = 5


class Signals:
    """The signals that came, in their order, readable like a file when there are some.

    SIGHUP and SIGINT stay ignored where they were, by nohup or by a shell that starts something in the background: the
    terminal is not what such a process lives with.
    """

    def __init__(self, *numbers: int):
        self._reads, writes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in numbers:
            if number not in OF_TERMINAL or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, frame: None)
        signal.set_wakeup_fd(writes, warn_on_full_buffer=False)  # Python writes a byte for each, its number

    def fileno(self) -> int:
        return self._reads

    def take(self) -> list[int]:
        try:
            return list(os.read(self._reads, 4096))
        except BlockingIOError:
            return []


class Child:
    """A process of ours. It cannot be taken for another one, whatever becomes of its process id."""

    def __init__(self, command: Sequence[object], **options):
        self._process = subprocess.Popen([str(word) for word in command], **options)
        self._file = os.pidfd_open(self._process.pid)
        self.pid = self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, 128 + N where signal N ended it, None while it runs."""
        found = self._process.poll()
        return found if found is None or found >= 0 else 128 - found

    def wait(self, seconds: float, signals: Signals | None = None) -> bool:
        """Whether it has ended within `seconds`; returns early when one of `signals` comes."""
        readable = [self._file] + ([signals] if signals else [])
        select.select(readable, [], [], max(seconds, 0))
        return self.status is not None

    def send(self, number: int) -> None:
        if self.status is None:
            signal.pidfd_send_signal(self._file, number)


def end(children: Sequence[Child], *patience: tuple[int | None, float]) -> None:
    """End all of these processes: send each signal of `patience` (None: none yet) and wait so many seconds for all."""
    for number, seconds in patience:
        for child in children:
            if number is not None:
                child.send(number)
        deadline = time.monotonic() + seconds
        for child in children:
            child.wait(deadline - time.monotonic())


def adopt_orphans() -> None:
    """Become the parent of what our children leave behind, so that `end_orphans` finds it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans() -> None:
    """Kill all processes below this one, and wait for their end."""
    left = psutil.Process().children(recursive=True)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, ORPHANS_SECONDS)


def living(pid: int, start: float | None = None) -> Callable[[], bool]:
    """A function that tells whether the process that has this id now still lives; one that nobody has buried does not.

    With `start` (seconds since the epoch), only a process that began then counts.
    """
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return lambda: False
    if start is not None and abs(process.create_time() - start) > CLOCK_SECONDS:
        return lambda: False

    def lives() -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return lives
