"""What happens to a training on a real Grid Engine, and what is done: hosts, processes, suspension."""

import re

import pytest
from shell import wait_for

from .runs import STARTING, Run


def test_nodes_and_chief_are_killed_one_after_the_other(run):
    one = run().start(PE="orte", PS_NODES=1, WORKERS=2)
    one.trains()
    before = one.node("worker-1")
    one.kill("worker-1")
    at = one.step()
    wait_for(lambda: one.node("worker-1") not in ({}, before), 60, "the worker")
    assert one.node("worker-1")["port"] == before["port"]
    wait_for(lambda: one.step() > at + 100, 60, "training going on")
    assert one.attempt() == 1

    saved = one.saves()
    one.kill("ps-0")
    one.comes_to(2)
    one.trains()
    assert one.step() >= saved and re.search(r"ps 0 on \S+ has ended; ending this attempt", one.log())
    assert len(set(one.attempts("job"))) == 1

    saved = one.saved()
    one.kill("chief")
    one.comes_to(3)
    one.trains()
    assert int(one.attempts("from")[2]) >= saved > 0
    assert "train-depth was killed" in one.log()
    assert one.stop().returncode == 0
    one.leaves_nothing()


def apart(one: Run, role: str) -> str:
    """A host with nodes of this role, but not the chief."""
    chief = one.host("watcher-0")
    hosts = [node["host"].partition(".")[0] for node in one.status()["nodes"] if node["role"] == role]
    return next(host for host in hosts if host != chief)


def test_the_host_of_a_worker_is_cut_off(run, grid):
    one = run().start(PE="orte", PS_NODES=1, WORKERS=2)
    one.trains()
    saved = one.saves()
    host = apart(one, "worker")
    one.waits()
    grid.cut(host)
    try:
        wait_for(lambda: "its host does not answer" in one.log(), 90, "notice")
        one.comes_to(2)
        one.trains()
        one.waits()
        assert one.step() >= saved and f"continuing without {host}.grid.test" in one.log()
        # The host that is cut off has ended its nodes by itself, and leaves the run to those who go on.
        gone = lambda: not [w for w in one.processes("-node").values() if f"{host}.grid.test" in w]  # noqa: E731
        wait_for(gone, 60, "the end of the nodes of the lost host")
    finally:
        grid.heal(host)
    # The host is back, and with it the memory of its tasks; the training must not mind.
    job = ["-sync", "y", "-b", "y", "-l", f"hostname={host}.grid.test", "-o", "/dev/null", "-j", "y", "true"]
    assert grid.run("ada", "qsub", *job, seconds=180).returncode == 0
    one.trains()
    assert one.attempt() == 2 and not list((one.path / "nodes").glob("origin-*")), one.log()
    assert one.stop().returncode == 0
    one.leaves_nothing()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["is cut off", pytest.param("dies", marks=pytest.mark.long)])
def test_the_host_of_the_chief(run, grid, how):
    """Cut off, it still sees the disk, as hosts do whose storage is on another network."""
    one = run().start(PE="orte", PS_NODES=1, WORKERS=1)
    one.trains()
    one.saves()
    one.waits()
    first, host = one.job, one.host("watcher-0")
    after = grid.run("ada", "qsub", "-terse", "-b", "y", "-o", "/dev/null", "-hold_jid", first, "true").stdout.strip()
    (grid.kill if how == "dies" else grid.cut)(host)
    try:
        wait_for(lambda: one.job != first, 180, "a copy of the job")
        one.comes_to(2)
        saved = int(one.attempts("from")[1])
        one.trains()
        one.waits()
        assert one.step() >= saved > 0 and one.host("watcher-0") != host
        # What waited for the job waits for its copy.
        waits = grid.run("ada", "qstat", "-j", after).stdout
        assert re.search(rf"(?m)^jid_predecessor_list:\s+{one.job}$", waits), waits
        if how == "is cut off":
            assert "other hosts and the qmaster do not answer: this host may be cut off" in one.log()
            wait_for(lambda: f"this run continues without {host}.grid.test: " in one.log(), 60)
    finally:
        grid.heal(host)
    wait_for(lambda: grid.run("ada", "qstat", "-j", first).returncode != 0, 240, "the end of the first job")
    one.trains()
    assert one.attempt() == 2  # what came back has left the run alone
    assert one.stop().returncode == 0
    wait_for(lambda: grid.run("ada", "qstat", "-j", after).returncode != 0, 60, "the job that waited for it")
    one.leaves_nothing()


@pytest.mark.long
def test_a_host_that_is_back_as_soon_as_it_is_missed(run, grid):
    """Its tasks still live then, and Grid Engine must not find that one of them failed."""
    one = run().start(PE="orte", PS_NODES=1, WORKERS=2)
    one.trains()
    host = apart(one, "worker")
    grid.cut(host)
    try:
        wait_for(lambda: "its host does not answer" in one.log(), 90, "notice")
    finally:
        grid.heal(host)
    one.comes_to(2)
    one.trains()
    assert len(set(one.attempts("job"))) == 1 and not list((one.path / "nodes").glob("origin-*")), one.log()
    assert one.stop().returncode == 0
    one.leaves_nothing()


def test_a_slow_host_is_waited_for(run):
    one = run().start(steps=48, PE="orte", PS_NODES=1, WORKERS=1)
    slow = min(wait_for(lambda: one.processes("bin/worker-node"), STARTING), key=lambda process: process.pid)
    slow.suspend()
    wait_for(lambda: "waiting for nodes: 1 of 2" in one.log(), STARTING, "all others")
    slow.resume()
    one.ends(STARTING)
    assert one.saved() == 48 and one.attempt() == 1, one.log()


def test_three_failed_attempts_are_enough(run):
    one = run().start(PE="orte", PS_NODES=1, WORKERS=1)
    for attempt in (1, 2, 3):
        starts = f"--run {one.path} --attempt {attempt}"
        ps = lambda: str([" ".join(words) for words in one.processes("ps-node").values()])  # noqa: E731
        wait_for(lambda starts=starts, ps=ps: starts in ps(), STARTING)
        one.kill("ps-0")
    wait_for(lambda: "Eqw" in one.grid.run("ada", "qstat").stdout, 60, "the error state")
    assert one.attempt() == 3 and "gave up after 3 attempts without a new checkpoint" in one.log()
    assert "put itself into the error state" in str(one.status()["why"])
    assert one.stop().returncode == 0
    one.leaves_nothing()
