"""A real training on real nodes: one parameter server and two workers, one of them killed on the way."""

import json
import os
import resource
import signal

import psutil
import pytest
from conftest import run as command
from shell import event_tags, lines, processes_of, wait_for


def nodes_of(run) -> list[psutil.Process]:
    """The processes of a run's nodes, wherever they hang."""
    return [process for process in processes_of(run) if any(word.endswith("-node") for word in process.info["cmdline"])]


def test_a_limit_of_memory_that_is_too_low_is_named_and_not_tried_again(on_this_machine, tmp_path):
    """The limit is that of a shell, as h_vmem is that of a job."""
    shell = on_this_machine(WORKERS="1", PS_NODES="1")
    resource.prlimit(shell.pid, resource.RLIMIT_AS, (700 * 2**20, 700 * 2**20))
    assert shell.wait(timeout=90) == 1, (tmp_path / "log").read_text()
    told = "TensorFlow needs more memory than this process may map (700M, by ulimit -v): allow 4G or more"
    assert told in (tmp_path / "log").read_text() and not (tmp_path / "run/nodes/2").exists()
    logs = [path.read_text() for path in (tmp_path / "run/logs").iterdir()]
    assert all(log.count(told) <= 1 for log in logs) and "Traceback" not in str(logs) and "restart" not in str(logs)
    (why,) = json.loads(command("cluster-status", "--json", "--run", "run", cwd=tmp_path).stdout)["why"]
    assert why.endswith(f" on 127.0.0.1: {told}")


@pytest.mark.long
def test_training_continues_after_a_worker_is_killed_and_leaves_no_process(on_this_machine, tmp_path):
    run = tmp_path / "run"
    # more steps than there is time for: it must not end by itself meanwhile
    shell = on_this_machine("--set", "summary_seconds=0", STEPS="1000000", WORKERS="2", PS_NODES="1")
    wait_for(lambda: lines(run / "metrics.jsonl") or shell.poll() is not None, 240)
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
    again = on_this_machine("--set", "summary_seconds=0", STEPS=steps, WORKERS="2", PS_NODES="1")
    assert again.wait(timeout=120) == 0, (tmp_path / "log").read_text()
    assert f"continuing from {checkpoint}" in (tmp_path / "log").read_text()
    assert nodes_of(run) == [] and (run / "nodes/2/cluster.json").exists()
    assert {"pictures/1", "beta", "z", "validation/rel"} <= event_tags(run / "events/validation")
    assert {"run", "training/loss", "training/moving"} <= event_tags(run / "events")
