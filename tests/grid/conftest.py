"""The grid that the tests of a real Grid Engine share: booted once, gone with pytest however that ends."""

import contextlib
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from shell import wait_for

from .runs import Run

SANDBOX = Path(__file__).with_name("sandbox")
NODES = 4


class Grid(NamedTuple):
    """A sandbox that is up."""

    folder: Path
    seconds: float  # that it took to boot

    def sandbox(self, *arguments: object, seconds: float = 60) -> subprocess.CompletedProcess:
        """Run the command sandbox itself to its end."""
        return subprocess.run(
            [SANDBOX, *map(str, arguments)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, env=self.environment(),
        )  # fmt: skip

    def run(self, user: str, *command: object, on: str = "head", seconds: float = 60, **environment: str):
        """Run a command as a user to its end; returns its status, stdout and stderr as subprocess does."""
        return self.sandbox(*as_user(user, on, environment, command), seconds=seconds)

    def popen(self, user: str, *command: object, on: str = "head", **environment: str) -> subprocess.Popen:
        """Start a command as a user; what pytest does not end itself ends with the grid."""
        return subprocess.Popen(
            [SANDBOX, *as_user(user, on, environment, command)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment(),
        )  # fmt: skip

    def cut(self, host: str) -> None:
        self.change("cut", host)

    def heal(self, host: str) -> None:
        self.change("heal", host)

    def kill(self, host: str) -> None:
        self.change("kill", host)

    def shape(self, host: str, *limits: str) -> None:
        """Give a host's wire a bandwidth and a delay, `100mbit`, `5ms`; or `none`."""
        self.change("shape", host, *limits)

    def change(self, *arguments: object) -> None:
        done = self.sandbox(*arguments)
        assert done.returncode == 0, done.stderr

    def home(self, user: str) -> Path:
        return self.folder / "shared/home" / user

    def processes(self, text: str = "") -> list[psutil.Process]:
        """The processes on any host whose command line or environment mentions `text`."""
        inside = {disk_of(p) for p in psutil.process_iter() if mentions(p, f"bash {self.folder}/init")} - {None}
        return [p for p in psutil.process_iter() if disk_of(p) in inside and mentions(p, text)]

    def environment(self) -> dict[str, str]:
        return os.environ | {"GRID_DIR": str(self.folder)}


def as_user(user: str, on: str, environment: dict[str, str], command: tuple) -> list:
    return ["as", user, "--on", on, "env", *(f"{name}={value}" for name, value in environment.items()), *command]


def disk_of(process: psutil.Process) -> str | None:
    """The mount namespace of a process, by which hosts differ; None where it has ended."""
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{process.pid}/ns/mnt").readlink())
    return None


def mentions(process: psutil.Process, text: str) -> bool:
    with contextlib.suppress(psutil.Error):
        return text in " ".join(process.cmdline()) or any(text in f"{k}={v}" for k, v in process.environ().items())
    return False


def unavailable() -> str | None:
    """Why there can be no grid here, None where there can."""
    if os.environ.get("GRID") == "no":
        return "GRID=no"
    nothing = os.environ | {"GRID_DIR": "/nonexistent"}
    told = subprocess.run([SANDBOX, "status"], capture_output=True, text=True, timeout=60, env=nothing).stderr.strip()
    return None if "there is no sandbox" in told else told


@pytest.fixture(scope="session")
def grid(tmp_path_factory):
    """A grid of four nodes with four slots each; skips where there can be none, fails there with GRID_REQUIRED=1."""
    if why := unavailable():
        (pytest.fail if os.environ.get("GRID_REQUIRED") == "1" else pytest.skip)(f"no grid: {why}")
    with held(tmp_path_factory.mktemp("grid")) as grid:
        yield grid


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Grid]:
    """A grid in this folder, for as long as the block and this process live."""
    begun = time.monotonic()
    holder = subprocess.Popen(
        [SANDBOX, "up", "--hold", str(NODES)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"GRID_DIR": str(folder)},
    )  # fmt: skip
    try:
        assert select.select([holder.stdout], [], [], 60)[0], "the grid did not boot within 60 s"
        assert holder.stdout.readline() == "ready\n", "the grid did not boot"
        yield Grid(folder, time.monotonic() - begun)
    finally:
        holder.stdin.close()
        try:
            holder.wait(timeout=60)
        finally:
            holder.kill()  # which takes the grid along


@pytest.fixture(scope="session")
def data(grid, prepared):
    """The records of small rooms on the shared disk."""
    target = grid.folder / "shared/data"
    shutil.copytree(prepared, target)
    return target


@pytest.fixture
def run(grid, data, request):
    """A run named like the test; whatever is left of it in the grid is deleted."""
    runs = []

    def make(name: str = "", user: str = "ada") -> Run:
        runs.append(Run(grid, (name or request.node.originalname.removeprefix("test_"))[:40], user))
        shutil.rmtree(runs[-1].path, ignore_errors=True)
        return runs[-1]

    yield make
    for user in {run.user for run in runs}:
        grid.run(user, "qdel", "-u", user)
        # The jobs of a host that was dead go when it has told of itself.
        wait_for(lambda user=user: not grid.run(user, "qstat", "-u", user).stdout, 240, "an empty grid")
