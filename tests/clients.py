"""Stand-ins for Grid Engine's clients, and what real ones printed."""

import os
import shlex
from pathlib import Path

RECORDED = Path(__file__).parent / "unit/recorded"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(errors="replace")


def says(text: str, status: int = 0, stream: int = 1) -> str:
    """A line of shell that prints this and ends."""
    return f"printf '%s\\n' {shlex.quote(text)} >&{stream}; exit {status}"


class Clients:
    """Puts a client on PATH that is a shell script; `calls` has the lines of arguments that all were called with."""

    def __init__(self, folder: Path, monkeypatch):
        self.folder, self.log = folder / "clients", folder / "calls"
        self.folder.mkdir()
        monkeypatch.setenv("PATH", f"{self.folder}:{os.environ['PATH']}")

    def __call__(self, name: str, script: str) -> None:
        client, log = self.folder / name, shlex.quote(str(self.log))
        client.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\ncalls=$(grep -c "^{name} " {log})\n{script}\n')
        client.chmod(0o755)

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []
