"""A terminal for tests: what commands write to it, as a person sees it."""

import contextlib
import fcntl
import os
import re
import subprocess
import termios
import threading
from pathlib import Path

PIECES = re.compile(r"(\r|\n|\033\[K)")


class Screen:
    """A pseudo-terminal. `left` are the lines that stay on it, `shown` all that stood in a line, one after the other.

    `theirs` is the file descriptor to write to; what it knows of control characters is \\r, \\n and \\033[K.
    """

    def __init__(self, columns: int = 120):
        self.ours, self.theirs = os.openpty()
        termios.tcsetwinsize(self.theirs, (25, columns))
        self.left, self.shown, self.line, self.column = [], [], "", 0
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        rest = b""
        with contextlib.suppress(OSError):  # nobody holds the other end any more
            while more := os.read(self.ours, 1 << 16):
                rest += more
        for piece in PIECES.split(rest.decode()):
            self._take(piece)

    def _take(self, piece: str) -> None:
        match piece:
            case "\r":
                self.column = 0
            case "\n":
                self.left.append(self.line.rstrip())
                self.line, self.column = "", 0
            case "\033[K":
                self.line = self.line[: self.column]
            case "":
                pass
            case text:
                self.line = self.line[: self.column] + text + self.line[self.column + len(text) :]
                self.column += len(text)
                self.shown.append(self.line)

    def close(self) -> None:
        """Read to the end: nobody else may hold `theirs` by now."""
        os.close(self.theirs)
        self.reader.join(30)
        os.close(self.ours)
        assert not self.reader.is_alive() and self.line == "", f"the last line is not ended: {self.line!r}"

    def run(self, *words: object, cwd: Path, seconds: float = 120, **environment: str) -> int:
        """Run a command with this as its terminal; its status. The screen is closed then."""

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(1, termios.TIOCSCTTY, 0)

        process = subprocess.Popen(
            [str(word) for word in words], cwd=cwd, stdin=subprocess.DEVNULL, stdout=self.theirs, stderr=self.theirs,
            env=os.environ | {"TERM": "xterm"} | environment, preexec_fn=take_terminal,
        )  # fmt: skip
        try:
            return process.wait(seconds)
        finally:
            process.kill()
            process.wait()
            self.close()
