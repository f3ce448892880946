"""A training on the grid as its user sees it: sge/cluster.sh, qstat, and the files of the run."""

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from shell import PROJECT, QUICK, TINY, options, wait_for

if TYPE_CHECKING:
    from .conftest import Grid

WAYS = {"parallel environment": {"PE": "orte"}, "array jobs": {}}
SETTINGS = [*TINY, "summary_seconds=0.2", "checkpoint_seconds=3"]
NICE = 15  # of nodes that wait for what happens to them
NO_END = 10**6  # steps that nobody has time for
STARTING = 400  # seconds until the first step, at most: two busy cores import TensorFlow for all nodes of several runs


class Run:
    def __init__(self, grid: "Grid", name: str, user: str = "ada"):
        self.grid, self.name, self.user = grid, name, user
        self.path = grid.home(user) / "runs" / name

    def submit(self, *arguments: str, steps: int = NO_END, **settings: object) -> subprocess.CompletedProcess:
        """`sge/cluster.sh` on the head, as `make distributed` calls it, with a small network.

        The data is in a folder beside that of the submission, as ./data is, which is not the user's home.
        """
        given = {"DATA_DIR": "./data", "RUN_DIR": self.path.parent, "RUNID": self.name, "STEPS": steps, "RECIPE": QUICK}
        given |= {name: value for name, value in settings.items() if value != ""}
        script = PROJECT / "sge/cluster.sh"
        given = {name: str(value) for name, value in given.items()}
        submitted = ["env", "-C", self.grid.folder / "shared", script]
        return self.grid.run(self.user, *submitted, *arguments, *options(SETTINGS), **given)

    def start(self, *arguments: str, **settings: object) -> "Run":
        done = self.submit(*arguments, **settings)
        assert done.returncode == 0, done.stderr
        return self

    @property
    def job(self) -> str:
        return (self.path / "job").read_text().strip()

    def log(self) -> str:
        path = self.path / "logs/cluster.log"
        return path.read_text() if path.exists() else ""

    def lines(self) -> list[dict]:
        path = self.path / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def step(self) -> int:
        return self.lines()[-1]["step"] if self.lines() else 0

    def saved(self) -> int:
        return max((int(path.stem) for path in self.path.glob("checkpoints/[0-9]*.npz")), default=0)

    def node(self, name: str, attempt: int | None = None) -> dict:
        """An announcement of the last attempt, {} while there is none."""
        path = self.path / f"nodes/{attempt or self.attempt()}/{name}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def host(self, name: str) -> str:
        return self.node(name)["host"].partition(".")[0]

    def attempt(self) -> int:
        return max((int(path.name) for path in self.path.glob("nodes/[0-9]*")), default=0)

    def state(self) -> str:
        path = self.path / f"nodes/{self.attempt()}/state"
        return path.read_text().strip() if path.exists() else ""

    def attempts(self, name: str) -> list[str]:
        """What the file `name` says in each attempt's folder."""
        return [(self.path / f"nodes/{n}/{name}").read_text().strip() for n in range(1, self.attempt() + 1)]

    def comes_to(self, attempt: int, seconds: float = 120) -> None:
        begun = self.path / f"nodes/{attempt}/state"
        wait_for(begun.exists, seconds, f"attempt {attempt}")

    def saves(self, seconds: float = 60) -> int:
        """Wait until there is a checkpoint; its step."""
        return wait_for(self.saved, seconds, "a checkpoint")

    def trains(self, seconds: float = STARTING) -> int:
        """Wait until it has taken steps since now; the last of them."""
        before = len(self.lines())
        wait_for(lambda: len(self.lines()) > before + 3 or self.gone(), seconds, "a step")
        assert len(self.lines()) > before + 3, self.log()
        return self.step()

    def waits(self) -> None:
        """Leave the cores to other tests: the nodes of this attempt only have to be there when something happens."""
        for process in self.processes("-node"):
            with contextlib.suppress(psutil.Error, OSError):
                for thread in process.threads():
                    os.setpriority(os.PRIO_PROCESS, thread.id, NICE)
                # Linux shares cores among sessions, and then within each; every node on the grid is one.
                Path(f"/proc/{process.pid}/autogroup").write_text(str(NICE))

    def gone(self) -> bool:
        """Whether the job has left the grid."""
        return self.grid.run(self.user, "qstat", "-j", self.job, seconds=120).returncode != 0

    def ends(self, seconds: float) -> None:
        wait_for(self.gone, seconds, f"the end of job {self.job}")

    def processes(self, command: str = "") -> dict[psutil.Process, list[str]]:
        """What runs of it on any host, with its command line; with `command`, only what is called so."""
        found = {}
        for process in self.grid.processes(str(self.path)):
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                words = process.cmdline()
                if words and any(word.endswith(command) for word in words[:2]):
                    found[process] = words
        return found

    def leaves_nothing(self, seconds: float = 60) -> None:
        """No process on any host, no half-written file, no slot taken, within `seconds`."""

        def gone() -> bool:
            jobs = self.grid.run(self.user, "qstat", "-r", "-u", self.user).stdout
            return not self.processes() and f"-{self.name}\n" not in jobs

        wait_for(gone, seconds, "the end of its processes and jobs")
        assert not list(self.path.rglob(".*")), "half-written"

    def status(self) -> dict:
        done = self.grid.run(self.user, PROJECT / "bin/cluster-status", "--json", "--run", self.path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def stop(self) -> subprocess.CompletedProcess:
        command = [PROJECT / "bin/stop-cluster", "--timeout", 180, "--run", self.path]
        return self.grid.run(self.user, *command, seconds=240)

    def kill(self, node: str) -> None:
        """SIGKILL to a node, as in "worker-0", or to the chief."""
        role, _, index = node.partition("-")
        command = "bin/train-depth" if node == "chief" else f"bin/{role}-node"
        for process, words in self.processes(command).items():
            if node == "chief" or words[words.index("--index") + 1] == index:
                process.kill()
                return
        pytest.fail(f"no {node} is there: {self.processes()}")
