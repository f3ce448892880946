"""Child processes by pidfd, and received signals; both can be waited for."""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

import psutil

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)  # each asks to save everything and end

CLOCK_SECONDS = 2  # tolerance for the start time of a process: the clock may have been adjusted since
OF_TERMINAL = (signal.SIGINT, signal.SIGHUP)
PR_SET_CHILD_SUBREAPER = 36  # of prctl(2)
ORPHANS_SECONDS = 5


class Signals:
    """The received signals in order; readable like a file when there are some.

    SIGHUP and SIGINT stay ignored if they were, by nohup or by a shell that starts a background process: such a process
    does not end with its terminal.
    """

    def __init__(self, *numbers: int):
        self._reads, writes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in numbers:
            if number not in OF_TERMINAL or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, frame: None)
        signal.set_wakeup_fd(writes, warn_on_full_buffer=False)  # Python writes one byte per signal, its number

    def fileno(self) -> int:
        return self._reads

    def take(self) -> list[int]:
        try:
            return list(os.read(self._reads, 4096))
        except BlockingIOError:
            return []


class Child:
    """A child process. It cannot be confused with another one, even if its process id is reused."""

    def __init__(self, command: Sequence[object], **options):
        self._process = subprocess.Popen([str(word) for word in command], **options)
        self._file = os.pidfd_open(self._process.pid)
        self.pid = self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, 128 + N if signal N ended it, None while it runs."""
        found = self._process.poll()
        return found if found is None or found >= 0 else 128 - found

    def wait(self, seconds: float, signals: Signals | None = None) -> bool:
        """Wait up to `seconds` and return whether it has ended; returns early when one of `signals` comes."""
        readable = [self._file] + ([signals] if signals else [])
        select.select(readable, [], [], max(seconds, 0))
        return self.status is not None

    def send(self, number: int) -> None:
        if self.status is None:
            signal.pidfd_send_signal(self._file, number)


def end(children: Sequence[Child], *patience: tuple[int | None, float]) -> None:
    """End these processes: send each signal of `patience` (None: no signal) and wait its seconds for all of them."""
    for number, seconds in patience:
        for child in children:
            if number is not None:
                child.send(number)
        deadline = time.monotonic() + seconds
        for child in children:
            child.wait(deadline - time.monotonic())


def adopt_orphans() -> None:
    """Become the parent of processes that our children leave behind, so that `end_orphans` finds them."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans() -> None:
    """Kill all descendants of this process, and wait until they have ended."""
    left = psutil.Process().children(recursive=True)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, ORPHANS_SECONDS)


def living(pid: int, start: float | None = None) -> Callable[[], bool]:
    """Return a function that says whether the process with this id still lives; a zombie does not.

    With `start` (seconds since the epoch), only a process that started then counts.
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
