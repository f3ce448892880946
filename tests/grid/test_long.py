"""What takes long to be seen on a real Grid Engine: make test-long."""

import json
import re
import subprocess
import time
from datetime import datetime

import pytest
from shell import PROJECT, records, wait_for

from .runs import STARTING, WAYS

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]


def rel(run_folder, data) -> float:
    """The score on the test rooms, pooled over pixels."""
    saved = run_folder / "scores.json"
    shards = sorted((data / "rooms/records").glob("test-*"))
    command = [PROJECT / "bin/score-depth", "--run", run_folder, "--save", saved, *shards]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return json.loads(saved.read_text())["field"]["pooled over pixels"]["rel"]


def test_scores_are_those_of_one_machine(run, grid, tmp_path):
    data, steps = tmp_path, 1200
    records(data, count="60,30", size="120x160", superpixels="grid:16")
    shared = grid.folder / "shared/more"
    subprocess.run(["cp", "-r", data, shared], check=True)
    alone = []
    for seed in (0, 1, 2):
        folder = tmp_path / f"alone-{seed}"
        words = ["--recipe", "small", "--run", folder, "--steps", steps, "--set", f"seed={seed}"]
        shards = sorted((data / "rooms/records").glob("train-*"))
        command = map(str, [PROJECT / "bin/train-depth", *words, *shards])
        subprocess.run(list(command), check=True, capture_output=True, timeout=600)
        alone.append(rel(folder, data))
    spread = max(max(alone) - min(alone), 0.1 * max(alone))  # that of three seeds varies a lot: .043 once, .008 once
    for name, way in WAYS.items():
        one = run(name.partition(" ")[0])
        settings = {"DATA_DIR": shared, "RUNID": one.name, "STEPS": steps, "PS_NODES": 2, "WORKERS": 3, **way}
        done = grid.run("ada", PROJECT / "sge/cluster.sh", **{key: str(value) for key, value in settings.items()})
        assert done.returncode == 0, done.stderr
        one.ends(600)
        score = rel(one.path, data)
        print(f"{name}: {score:.3f}, alone {', '.join(f'{each:.3f}' for each in alone)}")
        assert min(alone) - spread <= score <= max(alone) + spread


def enough(run, **settings) -> int:
    """A time limit in seconds, half of it to train in, by a trial."""
    one, begun = run("trial"), time.monotonic()
    one.start(**settings)
    one.trains()
    starts = time.monotonic() - begun
    assert one.stop().returncode == 0
    one.leaves_nothing()
    return int(2 * starts) + 40  # run-cluster leaves 15 s before it


def trains_beyond_its_limit(one, attempts: int) -> None:
    """Wait for this attempt to train; what the ones before it saved is not lost."""
    one.comes_to(attempts, 900)
    one.trains()
    # 75: the limit has ended the nodes first.
    assert all(re.match("ended with status (99|75) ", state) for state in one.attempts("state")[:-1]), one.log()
    begun = [int(step) for step in one.attempts("from")[1:]]
    assert begun == sorted(begun) and 0 < begun[-1] <= one.step(), one.log()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_queue_with_a_limit(run, grid, way):
    settings = {"PS_NODES": 1, "WORKERS": 2, **way}
    limit = enough(run, **settings)
    for name, value in (("h_rt", limit), ("notify", "00:01:00")):  # a minute, as Grid Engine's own default
        changed = grid.run("root", "qconf", "-rattr", "queue", name, value, "short.q")
        assert changed.returncode == 0, changed.stderr
    requests = {"REQUEST": "-q short.q", "WORKER_REQUEST": "-q short.q", "PS_REQUEST": "-q short.q"}
    one = run().start(**requests, **settings)
    one.trains()
    # The first attempt is still training when the limit is reached, and Grid Engine tells the job to end.
    begun = (one.path / "nodes/1/command.json").stat().st_mtime
    (chief,) = one.processes("bin/train-depth")
    chief.suspend()
    try:
        wait_for(lambda: time.time() > begun + limit + 3, limit + 3, "the limit")
    finally:
        chief.resume()
    trains_beyond_its_limit(one, 2)
    assert one.stop().returncode == 0
    one.leaves_nothing()


def test_a_limit_shorter_than_the_training(run, grid):
    """All slots of all hosts: the case that a rerun by exit status 99 does not come back from."""
    settings = {"PE": "orte", "PS_NODES": 1, "WORKERS": 2, "SLOTS_PER_NODE": 4}
    limit = enough(run, **settings)
    one = run().start(REQUEST=f"-l h_rt={limit}", **settings)
    after = grid.run("ada", "qsub", "-terse", "-b", "y", "-o", "/dev/null", "-hold_jid", one.job, "true").stdout.strip()
    first = one.job
    trains_beyond_its_limit(one, 3)
    assert one.stop().returncode == 0
    attempts = one.attempt()
    assert len(set(one.attempts("job"))) == attempts and len(set((one.path / "nodes").glob("origin-*"))) == attempts - 1
    # A job that goes on in a copy has not finished: its status is not 0, and what waits for it waits on.
    told = wait_for(lambda: grid.run("ada", "qacct", "-j", first).stdout, 60, "the first job's accounting")
    assert re.search(r"(?m)^exit_status\s+75\b", told), told
    waited = wait_for(lambda: grid.run("ada", "qacct", "-j", after).stdout, 60, "the accounting of the job that waited")
    last = wait_for(lambda: grid.run("ada", "qacct", "-j", one.job).stdout, 60, "the last job's accounting")
    assert begins(waited) >= ends(last)
    one.leaves_nothing()


def begins(accounting: str) -> datetime:
    return moment(accounting, "start_time")


def ends(accounting: str) -> datetime:
    return moment(accounting, "end_time")


def moment(accounting: str, what: str) -> datetime:
    told = re.findall(rf"(?m)^{what}\s+(\S.*\d)\s*$", accounting)[-1]
    return datetime.strptime(told, "%a %b %d %H:%M:%S %Y")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_suspended_run_continues_where_it_was(run, grid, way):
    one = run().start(PS_NODES=1, WORKERS=1, **way)
    one.trains()
    one.waits()
    suspended = grid.run("ada", "qmod", "-sj", one.job)
    assert "suspended job" in suspended.stdout, suspended.stderr
    (chief,) = one.processes("bin/train-depth")
    wait_for(lambda: chief.status() == "stopped", 30, "a suspended chief")
    at = one.step()
    wait_for(lambda: one.status()["heard"] > 45, 120, "time")  # longer than a lost host takes to be noticed
    assert one.step() == at and "suspended or lost" in one.status()["state"]
    grid.run("ada", "qmod", "-usj", one.job)
    one.trains()
    assert one.attempt() == 1 and "ending this attempt" not in one.log(), one.log()
    assert one.stop().returncode == 0
    one.leaves_nothing()


def test_array_jobs_live_through_what_happens(run, grid):
    one = run().start(PS_NODES=1, WORKERS=3)
    one.trains()
    before = one.node("worker-1")
    one.kill("worker-1")
    wait_for(lambda: one.node("worker-1") not in ({}, before), 60, "the worker")
    one.trains()
    one.saves()
    saved = one.saved()
    one.kill("ps-0")
    one.comes_to(2)
    one.trains()
    one.kill("chief")
    one.comes_to(3)
    one.trains()
    assert one.step() >= saved
    hosts = [one.host(name) for name in ("worker-0", "worker-1", "worker-2", "ps-0")]
    host = next(host for host in hosts if host != one.host("watcher-0"))
    grid.kill(host)
    try:
        one.comes_to(4)
        one.trains()
        assert host not in [one.host(name) for name in ("worker-0", "worker-1", "worker-2", "ps-0")]
        chief, job = one.host("watcher-0"), one.job
        grid.kill(chief)
        try:
            wait_for(lambda: one.job != job, 180, "a copy of the job")
            one.comes_to(5)
            one.trains()
            assert one.stop().returncode == 0
        finally:
            grid.heal(chief)
    finally:
        grid.heal(host)
    one.leaves_nothing(180)


def trace(grid) -> dict[str, object]:
    """What is on the hosts besides Grid Engine itself."""
    found = {}
    files = f"find /tmp /dev/shm -mindepth 1 -path {grid.folder} -prune -o -path {PROJECT} -prune -o -print"
    for host in ("head", "node1", "node2", "node3", "node4"):
        script = f"ss -Hltn | wc -l; ipcs -s | grep -c 0x; {files} | wc -l; ps -e --no-headers | wc -l"
        found[host] = grid.run("root", "bash", "-c", script, on=host).stdout.split()
    return found


def test_thirty_runs_one_after_the_other_leave_nothing(run, grid):
    wait_for(lambda: not grid.run("ada", "qstat").stdout, 60)
    before, memory = trace(grid), []
    for number in range(30):
        one = run("again").start(
            steps=16, PS_NODES=1, WORKERS=2, **(WAYS["parallel environment"] if number % 2 else {})
        )
        wait_for(lambda one=one: one.saved() == 16 and one.gone(), STARTING + 30, "the end")
        one.leaves_nothing()
        (qmaster,) = [p for p in grid.processes("sge_qmaster") if p.name() == "sge_qmaster"]
        memory.append(qmaster.memory_info().rss / 2**20)
    wait_for(lambda: trace(grid) == before, 60, f"what was there before: {before}, {trace(grid)}")
    print("qmaster, MB:", *(f"{each:.0f}" for each in memory))
    assert memory[-1] < memory[9] + 5
