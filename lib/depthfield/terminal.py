"""The line of a terminal that a command rewrites in place while it works, and how fast the work goes."""

import errno
import os
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TextIO

ERASE = "\r\033[K"  # back to the first column, and nothing from there on
WINDOW_SECONDS = 30  # that a rate is of
LEAST_SECONDS = 1  # that it is of
MARK_SECONDS = 0.1  # between two marks of a rate, at least


class Line:
    """The last line of stderr. It belongs to several processes, so each erases it before it writes a message."""

    def __init__(self):
        self.shown, self.lock = False, threading.Lock()

    def there(self) -> bool:
        """Whether stderr is a terminal with such a line, and this process in its foreground."""
        if os.environ.get("TERM") == "dumb" or not sys.stderr.isatty():
            return False
        try:
            return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
        except OSError:  # it is not the terminal of this process's session
            return True

    def show(self, parts: Sequence[str]) -> None:
        """Show as many parts, beginning with the first, as the terminal is wide, in place of what was there."""
        columns = _columns()
        text = parts[0][: columns - 1]
        for part in parts[1:]:
            if len(text) + 2 + len(part) >= columns:
                break
            text += f", {part}"
        self._write(f"\r{text}\033[K", shown=True)

    def erase(self, always: bool = False) -> None:
        """Erase what was shown; `always` even what another process may have shown."""
        if self.shown or (always and self.there()):
            self._write(ERASE, shown=False)

    def _write(self, text: str, shown: bool) -> None:
        with self.lock:
            write(text, sys.stderr)
            self.shown = shown


def write(text: str, stream: TextIO) -> None:
    """Write at once. Nobody reads a terminal that was closed, and what is to be saved then matters more."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if error.errno != errno.EIO or not stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
            raise
        silence(stream)


def silence(stream: TextIO) -> None:
    """Discard what is written to a stream from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


class Rate:
    """How much is done per second, over the last `window` seconds."""

    def __init__(self, done: float = 0, window: float = WINDOW_SECONDS):
        self.window, self.marks = window, deque([(time.monotonic(), done)])

    def note(self, done: float) -> None:
        """So much is done by now, all in all."""
        now = time.monotonic()
        if len(self.marks) > 1 and now - self.marks[-2][0] < MARK_SECONDS:
            self.marks.pop()
        self.marks.append((now, done))
        while len(self.marks) > 2 and self.marks[1][0] <= now - self.window:
            self.marks.popleft()

    def per_second(self) -> float:
        """0 where it is not known yet."""
        (begun, before), (ended, after) = self.marks[0], self.marks[-1]
        return (after - before) / (ended - begun) if ended - begun >= LEAST_SECONDS else 0.0


def duration(seconds: float) -> str:
    """A time in words, as exact as a person wants it: 95 s, 12 min, 3 h 20 min, 2 d 4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
