"""What tests and benchmarks of commands share: where the project is, small records made by one pipe, waiting."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).resolve().parents[1]
SMALL = ["network.widths=[8,16,16,16]", "network.features=8", "network.dense=[8]"]  # of the recipe small
QUICK = "dcnf-small"  # the recipe whose graph is soonest made, where any training will do; with these settings
TINY = ["network.patch=16", 'network.convolutions=["8 3x3 /2"]', "network.dense=[8]"]


def options(settings: list[str]) -> list[str]:
    """The settings as arguments of train-depth and cluster.sh."""
    return [word for setting in settings for word in ("--set", setting)]


def records(data: Path, count: str, size: str, superpixels: str) -> subprocess.CompletedProcess:
    """Bring rooms all the way to three shards a split in the DATA_DIR `data`, readable for everybody."""
    pipe = f"fetch-dataset rooms --count {count} --size {size} | make-patches --superpixels {superpixels}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{pipe} | to-tfrecord --shards 3; chmod -R a+rX ."],
        cwd=data, capture_output=True, text=True, timeout=300,
        env=os.environ | {"DATA_DIR": str(data), "PATH": f"{PROJECT / 'bin'}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def shards(data: Path, split: str) -> list[Path]:
    """Those of the rooms in the DATA_DIR `data`."""
    return sorted((data / "rooms/records").glob(f"{split}-*"))


def wait_for(what: Callable, seconds: float = 90, why: str = "what the test waits for"):
    """What `what()` is as soon as it is true. Two busy cores import TensorFlow slowly."""
    end = time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        if found := what():
            return found
        time.sleep(min(max(0.05, 4 * (time.monotonic() - begun)), 2))  # a look at the grid keeps a core busy
    pytest.fail(f"{why} did not come within {seconds} s")


def lines(path: Path) -> list[dict]:
    """What a file of JSON lines holds so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def events(folder: Path):
    """All event files of a folder, as TensorBoard reads them: an EventAccumulator."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    found.Reload()
    return found


def event_tags(folder: Path) -> set[str]:
    return set(events(folder).Tags()["tensors"])


def processes_of(run: Path) -> list[psutil.Process]:
    """All processes with this run on their command line: nodes, their keepers, train-depth, watch-nodes."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(run) in (p.info["cmdline"] or [])]
