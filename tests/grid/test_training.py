"""Training on a real Grid Engine: each way in, from submission to a free grid."""

import re

import pytest
from shell import PROJECT, options, wait_for

from .runs import NO_END, SETTINGS, STARTING, WAYS, Run


@pytest.mark.parametrize("way", [{"PE": "orte"}, {"PE": "tf"}, {}], ids=["orte", "tf", "array"])
def test_trains_to_the_end(run, way):
    one = run().start(steps=200, PS_NODES=2, WORKERS=3, **way)
    wait_for(lambda: one.step() >= 8, STARTING, "a step")
    status = one.status()
    assert status["state"].startswith("training step") and status["steps"] == 200 and status["job"] == one.job
    nodes = [(node["role"], node["index"]) for node in status["nodes"]]
    assert nodes == [("ps", 0), ("ps", 1), ("worker", 0), ("worker", 1), ("worker", 2)]
    assert all(node["state"] == "serving" and node["port"] > 0 for node in status["nodes"])
    hosts = {node["host"] for node in status["nodes"]} | {one.node("watcher-0")["host"]}
    assert len(hosts) >= (2 if way.get("PE") == "tf" else 3) and all(host.endswith(".grid.test") for host in hosts)
    one.ends(60)
    assert one.saved() == 200 and one.state().startswith("ended with status 0"), one.log()
    assert one.status()["state"].startswith("ended") and one.attempt() == 1
    one.leaves_nothing()


def test_the_script_by_qsub_and_by_make(run, grid, data):
    one, two = run("direct"), run("made")
    given = {"DATA_DIR": str(data), "RUN_DIR": str(one.path.parent), "STEPS": "16"}
    words = [*(f"{name}={value}" for name, value in given.items()), "RUNID=direct", *options(SETTINGS)]
    script = PROJECT / "sge/cluster.sh"
    done = grid.run("ada", "qsub", "-v", f"DEPTHFIELD={PROJECT}", "-pe", "orte", "4", script, *words)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: one.saved() == 16 and one.gone(), STARTING, "the end")
    roles = [line.split("\t")[0] for line in (one.path / "nodes/1/plan.tsv").read_text().splitlines()]
    assert roles == ["chief", "ps", "ps", "worker"]  # a third of the nodes besides the chief are workers
    one.leaves_nothing()

    make = ["make", "--no-print-directory", "-C", PROJECT]
    settings = given | {"STEPS": str(NO_END), "RUNID": "made", "PE": "orte", "WORKERS": "2"}
    done = grid.run("ada", *make, "distributed", **settings)
    assert done.returncode == 0 and f"run {two.path}: job " in done.stderr, done.stderr
    two.trains()
    assert "training step" in grid.run("ada", *make, "status", **settings).stdout
    assert grid.run("ada", *make, "stop", seconds=120, **settings).returncode == 0
    assert two.saved() > 0
    two.leaves_nothing()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("phase", ["starting", "training"])
def test_qdel(run, grid, way, phase):
    one = run().start(PS_NODES=2, WORKERS=3, **way)
    if phase == "starting":
        wait_for(lambda: len(one.status()["nodes"]) == 5 and one.processes(), STARTING, "starting nodes")
    else:
        one.trains()
    before = one.saved()
    grid.run("ada", "qdel", one.job)
    one.leaves_nothing(15)
    assert one.saved() >= before
    if phase == "training":
        again = one.start(steps=one.saved() + 50, PS_NODES=2, WORKERS=3, **way)
        again.ends(120)
        assert again.state().startswith("ended with status 0"), one.log()
        assert before == 0 or "going on from" in one.log()


def test_qdel_of_a_job_that_waits(run, grid):
    full = grid.run("ada", "qsub", "-terse", "-pe", "orte", "16", "-b", "y", "sleep", "300").stdout.strip()
    wait_for(lambda: " r " in grid.run("ada", "qstat").stdout, 20)
    one = run().start(PE="orte", PS_NODES=1, WORKERS=2)
    assert one.status()["state"] == f"waiting for slots (job {one.job})"
    grid.run("ada", "qdel", one.job)
    one.leaves_nothing()
    two = run("two").start(PE="orte", PS_NODES=1, WORKERS=2)
    assert two.stop().returncode == 0  # make stop does the same
    two.leaves_nothing()
    grid.run("ada", "qdel", full)


def test_nodes_and_chief_are_killed_one_after_the_other(run):
    one = run().start(PE="orte", PS_NODES=1, WORKERS=2)
    one.trains()
    before = one.node("worker-1")
    one.kill("worker-1")
    at = one.step()
    wait_for(lambda: one.node("worker-1") not in ({}, before), 20, "the worker")  # back within 20 s
    assert one.node("worker-1")["port"] == before["port"]
    wait_for(lambda: one.step() > at + 100, 20, "training going on")
    assert one.attempt() == 1

    wait_for(one.saved, 20, "a checkpoint")
    saved = one.saved()
    one.kill("ps-0")
    wait_for(lambda: one.attempt() == 2, 30, "the next attempt")
    one.trains()
    assert one.step() >= saved and re.search(r"ps 0 on \S+ has ended: ending this attempt", one.log())
    assert (one.path / "nodes/2/job").read_text() == (one.path / "nodes/1/job").read_text()

    saved = one.saved()
    one.kill("chief")
    wait_for(lambda: one.attempt() == 3, 60, "the rerun")
    one.trains()
    assert int((one.path / "nodes/3/from").read_text()) >= saved > 0
    assert "train-depth ended with status 137" in one.log()
    assert one.stop().returncode == 0
    one.leaves_nothing()


def apart(one: Run, role: str) -> str:
    """A host with nodes of this role, but not the chief."""
    status = one.status()["nodes"]
    chief = one.host("watcher-0")
    for node in status:
        host = node["host"].partition(".")[0]
        if node["role"] == role and host != chief:
            return host
    pytest.skip(f"each {role} is with the chief")


def test_the_host_of_a_worker_is_cut_off(run, grid):
    one = run().start(PE="orte", PS_NODES=1, WORKERS=3)
    one.trains()
    wait_for(one.saved, 20, "a checkpoint")
    host = apart(one, "worker")
    grid.cut(host)
    try:
        wait_for(lambda: "its host does not answer" in one.log(), 60, "notice")
        saved = one.saved()
        wait_for(lambda: one.attempt() == 2, 60, "the next attempt")
        one.trains()
        assert one.step() >= saved and f"going on without {host}.grid.test" in one.log()
        # The host that is cut off has ended its nodes by itself.
        assert not [words for words in one.processes("-node").values() if f"{host}.grid.test" in words]
    finally:
        grid.heal(host)
    # The host is back, and with it the memory of its tasks; the training must not mind.
    job = ["-sync", "y", "-b", "y", "-l", f"hostname={host}.grid.test", "-o", "/dev/null", "-j", "y", "true"]
    assert grid.run("ada", "qsub", *job, seconds=120).returncode == 0
    one.trains()
    assert one.attempt() == 2 and not list((one.path / "nodes").glob("origin-*")), one.log()
    assert one.stop().returncode == 0
    one.leaves_nothing(30)


def test_the_host_of_the_chief_dies(run, grid):
    one = run().start(PE="orte", PS_NODES=1, WORKERS=3)
    one.trains()
    wait_for(one.saved, 20, "a checkpoint")
    first, host, saved = one.job, one.host("watcher-0"), one.saved()
    grid.kill(host)
    try:
        wait_for(lambda: not one.processes() or one.attempt() == 2, 60, "the end of the nodes")
        wait_for(lambda: one.attempt() == 2, 60, "another job")
        one.trains()
        assert one.job != first and one.step() >= saved and one.host("watcher-0") != host
        assert one.stop().returncode == 0
    finally:
        grid.heal(host)
    wait_for(lambda: grid.run("ada", "qstat", "-j", first).returncode != 0, 150, "the end of the first job")
    one.leaves_nothing()


@pytest.mark.timeout(600)
def test_a_limit_shorter_than_the_training(run):
    # All slots of all hosts: the case that a rerun by exit status 99 does not come back from.
    one = run().start(steps=3000, PE="orte", PS_NODES=1, WORKERS=2, SLOTS_PER_NODE=4, REQUEST="-l h_rt=40")
    wait_for(lambda: one.saved() == 3000 and one.gone(), 540, "the last step")  # 80 s, unless the machine is busy
    attempts = one.attempt()
    assert one.saved() == 3000 and attempts >= 2, one.log()
    states = [(one.path / f"nodes/{number}/state").read_text().split()[3] for number in range(1, attempts + 1)]
    assert states == ["99"] * (attempts - 1) + ["0"]
    jobs = {(one.path / f"nodes/{number}/job").read_text() for number in range(1, attempts + 1)}
    assert len(jobs) == attempts and len(set((one.path / "nodes").glob("origin-*"))) == attempts - 1
    begun = [int((one.path / f"nodes/{number}/from").read_text()) for number in range(2, attempts + 1)]
    assert begun == sorted(set(begun)) and begun[0] > 0  # each brought something
    one.leaves_nothing()


def test_fewer_slots_than_asked_for(run, grid):
    never = run("never").submit(PE="orte", PS_NODES=1, WORKERS=98)
    assert never.returncode == 1 and "qsub refused it" in never.stderr and "no suitable queues" in never.stderr
    grid.run("ada", "qsub", "-pe", "orte", "12", "-b", "y", "sleep", "300")  # which leaves four
    # Array jobs: what is there is held until --wait is over, and given back.
    one = run().start("--wait", "8", PS_NODES=1, WORKERS=4)
    one.ends(60)
    assert "no slots for all nodes within 8 s, giving up; free slots by queue: all.q" in one.log()
    one.leaves_nothing()
    # A parallel environment: nothing is held; the job that waited too long is deleted.
    two = run("two").submit("--wait", "3", PE="orte", PS_NODES=1, WORKERS=4)
    assert two.returncode == 1 and "got no slots within 3 s and is deleted; free slots by queue" in two.stderr


def test_a_slow_host_is_waited_for_and_three_vain_attempts_are_enough(run):
    one = run().start(steps=48, PE="orte", PS_NODES=1, WORKERS=2)
    slow = min(wait_for(lambda: one.processes("bin/worker-node"), 30), key=lambda process: process.pid)
    slow.suspend()
    wait_for(lambda: "waiting for nodes: 2 of 3" in one.log(), 60, "all others")
    slow.resume()
    one.ends(90)
    assert one.saved() == 48 and one.attempt() == 1, one.log()

    two = run("vain").start(PE="orte", PS_NODES=1, WORKERS=2)
    for attempt in (1, 2, 3):
        starts = f"--run {two.path} --attempt {attempt}"
        wait_for(lambda starts=starts: starts in str([" ".join(w) for w in two.processes("ps-node").values()]), 30)
        two.kill("ps-0")
    wait_for(lambda: "Eqw" in two.grid.run("ada", "qstat").stdout, 30, "the error state")
    assert two.attempt() == 3 and "3 attempts without a new checkpoint, giving up" in two.log()
    assert two.stop().returncode == 0
    two.leaves_nothing()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_suspended_job_goes_on_where_it_was(run, grid, way):
    one = run().start(PS_NODES=1, WORKERS=2, **way)
    one.trains()
    suspended = grid.run("ada", "qmod", "-sj", one.job)
    assert "suspended job" in suspended.stdout, suspended.stderr
    (chief,) = one.processes("bin/train-depth")
    wait_for(lambda: chief.status() == "stopped", 20, "a suspended chief")
    at = one.step()
    wait_for(lambda: one.status()["heard"] > 45, 60, "time")  # longer than a lost host takes to be noticed
    assert one.step() == at and "suspended, or lost" in one.status()["state"]
    grid.run("ada", "qmod", "-usj", one.job)
    one.trains(30)
    assert one.attempt() == 1 and "ending this attempt" not in one.log(), one.log()
    assert one.stop().returncode == 0
    one.leaves_nothing()


def test_two_users_and_three_runs_at_once(run, grid):
    first = run("first").start(steps=304, PE="orte", PS_NODES=1, WORKERS=2)
    second = run("second").start(PE="tf", PS_NODES=1, WORKERS=2)
    third = run("first", user="ben").start(steps=304, PS_NODES=1, WORKERS=2)
    for one in (first, second, third):
        wait_for(lambda one=one: one.step() > 0, 180, f"a step of {one.path}")
    assert grid.run("ben", "ls", first.path).returncode != 0 and grid.run("ada", "ls", third.path).returncode != 0
    assert second.stop().returncode == 0 and "stopped as asked" in second.log()
    second.leaves_nothing()
    for one in (first, third):
        one.ends(120)
        assert one.saved() == 304 and one.attempt() == 1, one.log()
        one.leaves_nothing()


def test_submission_says_what_is_missing(run, grid):
    def refused(on: str = "head", **settings: object) -> str:
        words = {"DATA_DIR": grid.folder / "shared/data", "RUNID": "refused", "PS_NODES": 1, "WORKERS": 2} | settings
        named = {name: str(value) for name, value in words.items()}
        done = grid.run("ada", PROJECT / "sge/cluster.sh", on=on, **named)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
        return done.stderr

    assert "nope is not a parallel environment; the parallel environments here are: " in refused(PE="nope")
    assert "no suitable queues" in refused(PE="orte", REQUEST="-q short.q -l h_rt=3600")
    assert "qsub refused it" in refused(REQUEST="-q nope.q")
    grid.run("root", "qconf", "-ds", "node4.grid.test")
    try:
        assert "is not a submit host" in refused(on="node4")
    finally:
        grid.run("root", "qconf", "-as", "node4.grid.test")


def test_prepare_sh_shares_the_photos_among_its_tasks(grid, data):
    target = grid.home("ada") / "data/rooms"
    grid.run("ada", "mkdir", "-p", target)
    grid.run("ada", "cp", "-r", data / "rooms/raw", target / "raw")
    done = grid.run(
        "ada", "qsub", "-cwd", "-sync", "y", "-t", "1-3", "-v", f"DEPTHFIELD={PROJECT}",
        PROJECT / "sge/prepare.sh", "rooms", "--superpixels", "grid:12", seconds=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    made = {path.relative_to(target / "patches") for path in (target / "patches").rglob("*.npz")}
    assert made == {path.relative_to(data / "rooms/patches") for path in (data / "rooms/patches").rglob("*.npz")}
    logs = [path.read_text().split() for path in grid.home("ada").glob("prepare.sh.o*")]
    assert len(logs) == 3 and all(logs) and sum(map(len, logs)) == len(made)  # each photo by one task
