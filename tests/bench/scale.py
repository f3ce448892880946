"""make bench-scale: whether more machines are faster, on the network people have, beside the bars.

Each process is held to its cores. Rates are in photos a second, medians over what training tells of itself after it has
warmed up; ratios are of rates measured in one call. Hosts with slow links are the sandbox's (root, Debian).
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import report
from bench.report import Row
from grid.conftest import Grid, held
from shell import PROJECT, wait_for

BIG = "network.widths=[24,48,64,96,840]"  # of demo: 13.9 M parameters, 55.7 MB
PARAMETERS = 13_929_799  # that are trained
LINKS = {"1 Gbit/s": ("1gbit", "0.2ms"), "100 Mbit/s": ("100mbit", "0.2ms")}
WARM = 12  # seconds of training that do not count
SECONDS = 40  # that do
NO_END = "steps=1000000"
OLD = "e4b4094"  # the last commit whose rounds read and wrote parameters and slots, whole


class Place(NamedTuple):
    """Where a process runs: a host of the sandbox, or none for this machine, and its cores."""

    host: str | None = None
    cores: str = "0,1"


class Bench:
    def __init__(self, folder: Path, grid: Grid | None):
        self.folder, self.grid, self.runs = folder, grid, 0
        self.data = folder / "data"

    def command(self, place: Place, words: Sequence[object]) -> list[str]:
        held_to = ["taskset", "-c", place.cores, *words]
        if place.host:
            held_to = ["env", f"GRID_DIR={self.grid.folder}", PROJECT / "tests/grid/sandbox", "as", "root", "--on",
                       place.host, *held_to]  # fmt: skip
        return [str(word) for word in held_to]

    def start(self, place: Place, *words: object, log: Path, **options) -> subprocess.Popen:
        with log.open("a") as file:
            return subprocess.Popen(
                self.command(place, words), stdin=subprocess.DEVNULL, stderr=file, stdout=options.pop("stdout", file),
                text=True, **options,
            )  # fmt: skip

    def new_run(self) -> Path:
        self.runs += 1
        run = self.folder / f"run{self.runs}"
        (run / "logs").mkdir(parents=True)
        return run

    def shards(self) -> list[Path]:
        return sorted((self.data / "rooms/records").glob("train-*"))

    def alone(self, place: Place, changes: Sequence[str] = (), seconds: float = SECONDS) -> "Rate":
        """One process."""
        run = self.new_run()
        train = self.train(place, run, changes, ())
        with ended([train]):
            return self.measured(run, train, seconds)

    def train(self, place: Place, run: Path, changes: Sequence[str], more: Sequence[object], home: Path = PROJECT):
        settings = [NO_END, "summary_seconds=1", "checkpoint_seconds=100000", "validation_steps=1000000", *changes]
        options = [word for change in settings for word in ("--set", change)]
        command = [home / "bin/train-depth", "--recipe", "demo", "--run", run, *options, *more, *self.shards()]
        one = {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"} if len(place.cores) == 1 else {}
        words = ["env", *(f"{name}={value}" for name, value in one.items()), *command]
        return self.start(place, *words, log=run / "logs/chief.log", stdout=subprocess.DEVNULL)

    @contextlib.contextmanager
    def cluster(
        self, workers: Sequence[Place], servers: Sequence[Place], changes: Sequence[str] = (), home: Path = PROJECT
    ) -> Iterator[tuple[Path, subprocess.Popen]]:
        """Nodes at these places, and a chief beside the first server; yields the run and the chief."""
        run, processes, plan = self.new_run(), [], []
        plan.append(("chief", 0, servers[0]))
        plan += [(role, index, place) for role, places in (("ps", servers), ("worker", workers))
                 for index, place in enumerate(places)]  # fmt: skip
        with contextlib.ExitStack() as stack:
            for role, index, place in plan[1:]:
                node = [home / f"bin/{role}-node", "--run", run, "--index", index, "--host", place.host or "127.0.0.1",
                        "--threads", len(place.cores.split(","))]  # fmt: skip
                processes.append(self.start(place, *node, log=run / f"logs/{role}-{index}.log"))
                stack.enter_context(ended(processes[-1:]))
            text = "".join(f"{role}\t{i}\t{place.host or '127.0.0.1'}\t0\t-\n" for role, i, place in plan)
            gathered = subprocess.run(
                [home / "bin/gather-spec", "--run", run], input=text, capture_output=True, text=True, timeout=180
            )
            assert gathered.returncode == 0, gathered.stderr
            (run / "cluster.json").write_text(gathered.stdout)
            more = ["--cluster", run / "cluster.json"]
            chief = self.train(Place(servers[0].host), run, changes, more, home)
            with ended([chief]):
                yield run, chief

    def measured(self, run: Path, process: subprocess.Popen, seconds: float) -> "Rate":
        """The rate of a training after WARM seconds, over at least `seconds` and some rounds."""
        lines = wait_for(lambda: training(run) or process.poll() is not None, 180, "training")
        assert process.poll() is None, (run / "logs/chief.log").read_text()[-3000:]
        warm = lines[0]["time"] + WARM
        wait_for(lambda: training(run)[-1]["time"] > warm + seconds or process.poll() is not None, seconds * 6 + 300)
        assert process.poll() is None, (run / "logs/chief.log").read_text()[-3000:]
        lines = [line for line in training(run) if line["time"] > warm]
        steps, took = lines[-1]["step"] - lines[0]["step"], lines[-1]["time"] - lines[0]["time"]
        shares = {name: statistics.median(line.get(name, 0) for line in lines)
                  for name in ("computing", "waiting", "moving", "round_steps", "exchange_seconds")}  # fmt: skip
        return Rate(2 * steps / took, **shares)


class Rate(NamedTuple):
    photos_per_second: float
    computing: float
    waiting: float
    moving: float
    round_steps: float
    exchange_seconds: float


@contextlib.contextmanager
def ended(processes: Sequence[subprocess.Popen]) -> Iterator[None]:
    """End processes of ours by their ids, whatever happens."""
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(15)


def training(run: Path) -> list[dict]:
    """The lines of training that a run has told so far."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [told for line in lines if line.endswith("}") and (told := json.loads(line))["kind"] == "training"]
