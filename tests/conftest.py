"""What the tests share: commands run from the shell as users run them, and small datasets made once."""

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from browser import Browser
from clients import Clients
from shell import PROJECT, QUICK, SMALL, TINY, options, processes_of, records

from depthfield import files
from depthfield.cluster import gridengine

LEFT_OUT = {  # why tests were skipped, and how to include them
    "no grid": "; as root on Debian, `make test` without GRID=no includes them",
    "no browser": "; as root on Debian, `make test` includes them",
}


def run(name: str, *arguments: object, cwd: Path, stdin: str | None = None, seconds: float = 120, **environment: str):
    """Run bin/NAME to its end; returns its status, stdout and stderr as subprocess does."""
    return subprocess.run(
        [PROJECT / "bin" / name, *map(str, arguments)],
        cwd=cwd, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL, capture_output=True, text=True,
        timeout=seconds, env=os.environ | environment,
    )  # fmt: skip


def made_once(tmp_path_factory, name: str, make) -> Path:
    """The folder `name` of all processes of this test session; the first that wants it has `make(folder)` fill it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with files.lock(folder.with_name(f"{name}.lock")):
        if not folder.exists():
            try:
                make(folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    return folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """A DATA_DIR with small rooms brought all the way to records, by one pipe."""

    def prepare(data: Path) -> None:
        data.mkdir()
        done = records(data, count="12,4", size="72x96", superpixels="grid:12")
        assert done.stdout.split() == [
            str(data / f"rooms/records/{split}-{index:05d}-of-00003.tfrecord")
            for split in ("train", "test") for index in range(3)
        ]  # fmt: skip

    return made_once(tmp_path_factory, "data", prepare)


@pytest.fixture(scope="session")
def trained(prepared, tmp_path_factory) -> Path:
    """A run trained for a few steps in one process."""

    def train(folder: Path) -> None:
        shards = sorted((prepared / "rooms/records").glob("train-*"))
        words = ["--recipe", "small", "--run", folder, "--steps", 16, *options(SMALL), *shards]
        done = run("train-depth", *words, cwd=prepared)
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "first", train)


@pytest.fixture(scope="session")
def browser():
    """Chromium, started once; skips where it is not installed, fails there with GRID_REQUIRED=1."""
    with Browser() as browser:
        yield browser


@pytest.fixture
def clients(tmp_path, monkeypatch) -> Clients:
    """Stand-ins for Grid Engine's clients, asked again without much of a pause."""
    monkeypatch.setattr(gridengine, "FIRST_PAUSE_SECONDS", 0.01)
    return Clients(tmp_path, monkeypatch)


def pytest_unconfigure(config):
    """Say last of all what was left out, and how to include it."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(config, "workerinput") or reporter is None:  # one of the processes of pytest-xdist
        return
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reporter.stats.get("skipped", []))
    for reason, count in reasons.items():
        how = next((more for begins, more in LEFT_OUT.items() if reason.startswith(begins)), "")
        print(f"left out: {count} tests ({reason}){how}")


@pytest.fixture
def on_this_machine(prepared, tmp_path):
    """Starts sge/cluster.sh with given settings, its run and its log in tmp_path; ends it and whatever it left by their
    ids whatever happens."""
    started = []

    def start(*arguments: str, **settings: str) -> subprocess.Popen:
        where = {"DATA_DIR": str(prepared), "RUN_DIR": str(tmp_path), "RUNID": "run", "GRID": "no"}
        with (tmp_path / "log").open("w") as log:
            words = [PROJECT / "sge/cluster.sh", f"RECIPE={QUICK}", *options(TINY), *arguments]
            process = subprocess.Popen(words, env=os.environ | where | settings, stdout=log, stderr=log, cwd=tmp_path)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    for process in processes_of(tmp_path / "run"):
        process.kill()
