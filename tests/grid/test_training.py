"""Training on a real Grid Engine: each way in, from submission to a free grid."""

import pytest
from shell import PROJECT, QUICK, options, wait_for

from .runs import NO_END, SETTINGS, STARTING, WAYS


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_trains_stops_and_continues_to_the_end(run, grid, data, way):
    """As users do it by make: distributed, status, stop, and distributed again."""
    ps, workers = (2, 3) if way else (1, 2)
    one = run()
    make = ["make", "--no-print-directory", "-C", PROJECT]
    settings = {"DATA_DIR": data, "RUN_DIR": one.path.parent, "RUNID": one.name, "RECIPE": QUICK, **way}
    settings |= {"STEPS": NO_END, "PS_NODES": ps, "WORKERS": workers}
    settings["SET"] = " ".join(setting for setting in SETTINGS if " " not in setting)  # that of make parts words
    settings = {name: str(value) for name, value in settings.items()}
    done = grid.run("ada", *make, "distributed", **settings)
    assert done.returncode == 0 and f"run {one.path}, job {one.job}: " in done.stderr, done.stderr
    one.trains()
    wait_for(lambda: all(node["state"] == "serving" for node in one.status()["nodes"]), 60, "news of all nodes")
    assert "training step" in grid.run("ada", *make, "status", **settings).stdout
    status = one.status()
    assert status["state"].startswith("training step") and status["steps"] == NO_END and status["job"] == one.job
    nodes = [(node["role"], node["index"]) for node in status["nodes"]]
    assert nodes == [*(("ps", index) for index in range(ps)), *(("worker", index) for index in range(workers))]
    assert all(node["port"] > 0 for node in status["nodes"])
    hosts = {node["host"] for node in status["nodes"]} | {one.node("watcher-0")["host"]}
    assert len(hosts) >= 3 and all(host.endswith(".grid.test") for host in hosts)
    shown = grid.run("ada", PROJECT / "bin/follow-logs", "--once", "--run", one.path).stdout
    named = {line.split()[0] for line in shown.splitlines()}
    assert named >= {"cluster", *(f"{role}-{index}" for role, index in nodes)}
    assert grid.run("ada", *make, "stop", seconds=120, **settings).returncode == 0
    assert one.saved() > 0
    one.leaves_nothing()
    settings |= {"STEPS": str(one.saved() + 48), "PS_NODES": "1", "WORKERS": "1"}
    assert grid.run("ada", *make, "distributed", **settings).returncode == 0
    wait_for(lambda: one.attempt() == 2 and one.gone(), STARTING, "the end")
    assert one.state().startswith("ended: trained to step ") and "continuing from" in one.log(), one.log()
    assert one.status()["state"].startswith("trained to step ") and one.status()["why"] == []
    one.leaves_nothing()


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_without_parameter_servers_workers_of_several_hosts_train_in_step(run, way):
    """One that is killed ends the attempt: nobody goes on without it."""
    one = run().start(PS_NODES=0, WORKERS=3, **way)
    one.trains()
    saved = one.saves()
    nodes = [(node["role"], node["index"]) for node in one.status()["nodes"]]
    assert nodes == [("worker", 0), ("worker", 1)]  # besides the chief
    one.kill("worker-1")
    one.comes_to(2)
    one.trains()
    assert int(one.attempts("from")[1]) >= saved and "worker 1 on" in one.log()
    assert one.stop().returncode == 0
    one.leaves_nothing()


def test_the_script_by_qsub_fills_the_slots_it_is_given(run, grid, data):
    """The parallel environment tf fills up hosts, and counts the job itself as a task; orte does neither."""
    one = run()
    given = {"DATA_DIR": data, "RUN_DIR": one.path.parent, "RUNID": one.name, "STEPS": 16, "RECIPE": QUICK}
    words = [*(f"{name}={value}" for name, value in given.items()), *options(SETTINGS)]
    script = PROJECT / "sge/cluster.sh"
    done = grid.run("ada", "qsub", "-v", f"DEPTHFIELD={PROJECT}", "-pe", "tf", "4", script, *words)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: one.saved() == 16 and one.gone(), STARTING, "the end")
    plan = [line.split("\t") for line in (one.path / "nodes/1/plan.tsv").read_text().splitlines()]
    assert [row[0] for row in plan] == ["chief", "ps", "ps", "worker"]  # a third besides the chief are workers
    assert len({row[2] for row in plan}) == 1
    one.leaves_nothing()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("phase", ["starting", "training"])
def test_qdel(run, grid, way, phase):
    one = run().start(PS_NODES=1, WORKERS=1, **way)
    if phase == "starting":
        wait_for(lambda: len(one.status()["nodes"]) == 2 and one.processes("-node"), STARTING, "starting nodes")
    else:
        one.trains()
    before = one.saved()
    grid.run("ada", "qdel", one.job)
    one.leaves_nothing()
    assert one.saved() >= before


def test_two_users_and_three_runs_at_once(run, grid):
    first = run("first").start(steps=304, PE="orte", PS_NODES=1, WORKERS=1)
    second = run("second").start(PE="tf", PS_NODES=1, WORKERS=1)
    third = run("first", user="ben").start(steps=304, PS_NODES=1, WORKERS=1)
    for one in (first, second, third):
        wait_for(lambda one=one: one.step() > 0, STARTING, f"a step of {one.path}")
    assert grid.run("ben", "ls", first.path).returncode != 0 and grid.run("ada", "ls", third.path).returncode != 0
    assert second.stop().returncode == 0 and "stopped as asked" in second.log()
    second.leaves_nothing()
    for one in (first, third):
        one.ends(STARTING)
        assert one.saved() == 304 and one.attempt() == 1, one.log()
        one.leaves_nothing()


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
