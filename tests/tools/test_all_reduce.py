"""Real trainings by all-reduce, without parameter servers: the chief and one worker, one of them killed on the way."""

import functools
import hashlib
import json
import os
import signal
import subprocess

import numpy as np
import pytest
from conftest import run as command
from shell import QUICK, TINY, event_tags, lines, options, processes_of, shards, wait_for

ALL_REDUCE = {"WORKERS": "2", "PS_NODES": "0"}


@pytest.fixture
def cluster(on_this_machine):
    return functools.partial(on_this_machine, "--set", "summary_seconds=0", **ALL_REDUCE)


def trains_beyond(run, step: int, shell: subprocess.Popen) -> None:
    newest = lambda: max((line["step"] for line in lines(run / "metrics.jsonl")[-1:]), default=-1)  # noqa: E731
    wait_for(lambda: newest() > step or shell.poll() is not None, 90)
    assert shell.poll() is None, (run.parent / "log").read_text()


def test_replicas_end_with_the_same_parameters_and_one_process_continues(cluster, prepared, tmp_path):
    run = tmp_path / "run"
    shell = cluster(STEPS="51")
    assert shell.wait(timeout=120) == 0, (tmp_path / "log").read_text()
    assert processes_of(run) == []
    assert json.loads((run / "nodes/1/cluster.json").read_text()).keys() == {"chief", "worker"}
    assert [line["step"] for line in lines(run / "metrics.jsonl")][-1] == 51  # though two take 2 steps at a time
    assert {"pictures/1", "beta", "z", "validation/rel"} <= event_tags(run / "events/validation")
    assert {"run", "training/loss", "training/moving"} <= event_tags(run / "events")
    saved = np.load(run / "checkpoints/000000051.npz")
    paths = sorted(name.removeprefix("mean/") for name in saved.files if name.startswith("mean/"))
    digest = hashlib.sha256(b"".join(saved[path].tobytes() for path in paths)).hexdigest()
    log = (run / "logs/worker-0.log").read_text()
    assert f"replica 1 has ended at step 52, with parameters {digest}" in log
    assert log.endswith("worker-node: worker 0 ended with its attempt\n")  # by itself, not killed

    words = ["--recipe", QUICK, "--run", run, "--steps", 60, *options(TINY)]
    alone = command("train-depth", *words, *shards(prepared, "train"), cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert "continuing from" in alone.stderr and (run / "checkpoints/000000060.npz").exists()


@pytest.mark.long
def test_a_killed_worker_ends_the_attempt_and_sigterm_the_run_with_everything_saved(cluster, tmp_path):
    run = tmp_path / "run"
    shell = cluster("--set", "checkpoint_seconds=1", STEPS="1000000")
    wait_for(lambda: list(run.glob("checkpoints/0*.npz")) or shell.poll() is not None, 90)
    assert shell.poll() is None, (tmp_path / "log").read_text()
    os.kill(json.loads((run / "nodes/1/worker-0.json").read_text())["pid"], signal.SIGKILL)
    begun = int(wait_for(lambda: (path := run / "nodes/2/from").exists() and path.read_text(), 30))
    assert begun > 0
    wait_for(lambda: f"continuing from {run}/checkpoints/{begun:09d}.npz" in (tmp_path / "log").read_text(), 60)
    wait_for(lambda: "from step" in (run / "logs/worker-0.log").read_text().rpartition("attempt 2")[2], 60)
    trains_beyond(run, begun, shell)
    shell.send_signal(signal.SIGTERM)
    assert shell.wait(timeout=60) == 99, (tmp_path / "log").read_text()
    assert processes_of(run) == []
    log = (tmp_path / "log").read_text()
    assert "worker 0 on 127.0.0.1 has ended" in log
    assert f"stopped at step {int(max(run.glob('checkpoints/0*.npz')).stem)} (SIGTERM)" in log


def test_one_worker_without_parameter_servers_is_not_a_cluster(cluster, tmp_path):
    assert cluster(WORKERS="1").wait(timeout=60) == 2
    told = "one worker without parameter servers is a single process; use make train, or train-depth"
    assert (tmp_path / "log").read_text() == f"run-cluster: {told}\n"
    planned = command("split-resources", "--local", "--ps", 0, "--workers", 1, cwd=tmp_path)
    assert planned.returncode == 2 and "train-depth" in planned.stderr
