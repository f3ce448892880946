"""A real training on real nodes: one parameter server and two workers, one of them killed on the way."""

import json
import os
import signal
import subprocess

import psutil
import pytest
from shell import PROJECT, QUICK, TINY, options, wait_for


def nodes_of(run) -> list[psutil.Process]:
    """The processes of a run's nodes, wherever they hang."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(run) in words and any(word.endswith("-node") for word in words):
            found.append(process)
    return found


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def cluster(prepared, tmp_path):
    """Starts sge/cluster.sh with given settings; ends it and its nodes by their ids whatever happens."""
    started = []

    def start(*arguments: str, **settings: str) -> subprocess.Popen:
        environment = (
            os.environ | {"DATA_DIR": str(prepared), "RUN_DIR": str(tmp_path), "RUNID": "run", "GRID": "no"} | settings
        )
        with (tmp_path / "log").open("w") as log:
            command = [PROJECT / "sge/cluster.sh", f"RECIPE={QUICK}", *options(TINY), *arguments]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=tmp_path)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    for node in nodes_of(tmp_path / "run"):
        node.kill()


def test_training_goes_on_after_a_worker_is_killed_and_leaves_no_process(cluster, tmp_path):
    run = tmp_path / "run"
    # more steps than there is time for: it must not end by itself meanwhile
    shell = cluster("--set", "summary_seconds=0", STEPS="1000000", WORKERS="2", PS_NODES="1")
    wait_for(lambda: lines(run / "metrics.jsonl") or shell.poll() is not None, 90)
    assert shell.poll() is None, (tmp_path / "log").read_text()
    victim = json.loads((run / "nodes/1/worker-1.json").read_text())["pid"]
    killed_at = lines(run / "metrics.jsonl")[-1]["step"]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: lines(run / "metrics.jsonl")[-1]["step"] > killed_at + 100, 60)  # the other one works on
    wait_for(lambda: json.loads((run / "nodes/1/worker-1.json").read_text())["pid"] != victim, 40)  # back in place
    shell.send_signal(signal.SIGTERM)
    assert shell.wait(timeout=60) == 99, (tmp_path / "log").read_text()
    assert "worker 1 on 127.0.0.1 has ended" in (tmp_path / "log").read_text()
    assert nodes_of(run) == []
    checkpoint = max((run / "checkpoints").glob("0*.npz"))

    # the same command goes on from there, with new nodes
    steps = str(int(checkpoint.stem) + 64)
    again = cluster("--set", "summary_seconds=0", STEPS=steps, WORKERS="2", PS_NODES="1")
    assert again.wait(timeout=120) == 0, (tmp_path / "log").read_text()
    assert f"going on from {checkpoint}" in (tmp_path / "log").read_text()
    assert nodes_of(run) == [] and (run / "nodes/2/cluster.json").exists()
