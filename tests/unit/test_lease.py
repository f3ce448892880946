"""The lease of a run: who may train it when processes are killed or suspended, and when hosts vanish."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from shell import wait_for

from depthfield import files, lease
from depthfield.tool import Failure

# A process that takes the lease of RUN as one of the machine MACHINE ("" for this one), says so, and waits for a line.
HOLD = """
import sys, pathlib
from depthfield import lease
from depthfield.tool import Failure
run, machine, lapse, renew = pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
if machine:
    lease._machine, lease.socket.gethostname = lambda: machine, lambda: machine
lease.LAPSE_SECONDS, lease.RENEW_SECONDS, lease.LOOK_SECONDS = lapse, renew, 0.05
try:
    with lease.take(run) as held:
        print("holding", flush=True)
        sys.stdin.readline()
        held.check()
        print("still holding", flush=True)
except Failure as failure:
    print(failure, flush=True)
"""


@pytest.fixture
def run(tmp_path):
    return tmp_path


@pytest.fixture
def start(run):
    """Start a process that takes the lease of the run; all are killed in the end."""
    started = []

    def start(machine="", lapse=30.0, renew=5.0, wait=True):
        words = [sys.executable, "-c", HOLD, run, machine, lapse, renew]
        process = subprocess.Popen(
            list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        if wait:
            assert process.stdout.readline() == "holding\n", process.stderr.read()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def quick(monkeypatch):
    """Leases that lapse after a second and a half."""
    monkeypatch.setattr(lease, "LAPSE_SECONDS", 1.5)
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.05)


def forge(run, age, **changes):
    """The lease of a process on another host, renewed `age` seconds ago."""
    holder = lease.Holder("far.example", "another boot", 4711, 99, "0123456789abcdef")._replace(**changes)
    (run / "lease").write_text(json.dumps(holder._asdict()))
    os.utime(run / "lease", (time.time() - age, time.time() - age))


def rest(run):
    """What is beside the lease."""
    return sorted(path.name for path in run.iterdir() if path.name not in ("lease", "lock"))


# ---- one host


def test_a_lease_is_there_while_it_is_held_and_nothing_is_left_of_it(run):
    with lease.take(run) as held:
        assert held.held() and json.loads((run / "lease").read_text())["pid"] == os.getpid()
        assert (run / "lease").stat().st_mode & 0o777 == 0o600 and not rest(run)
    assert [path.name for path in run.iterdir()] == ["lock"]
    assert not held.held()


def test_a_second_process_fails_at_once_and_names_the_first(run, start):
    first = start()
    begun = time.monotonic()
    with pytest.raises(Failure) as told:
        lease.take(run)
    assert time.monotonic() - begun < lease.LAPSE_SECONDS
    who = rf"process {first.pid} on \S+, which renewed its lease \d s ago"
    assert told.match(f"{run}: another train-depth is already training this run: {who}")
    first.communicate("\n", timeout=60)
    lease.take(run).__exit__()


def test_the_run_of_a_killed_process_is_taken_over_at_once(run, start, capsys):
    first = start()
    first.kill()
    wait_for(lambda: os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT))  # a corpse is nobody, either
    begun = time.monotonic()
    with lease.take(run) as held:
        assert time.monotonic() - begun < lease.LAPSE_SECONDS and held.held()
    assert capsys.readouterr().err == ""


def test_a_process_id_that_is_used_again_holds_nothing(run):
    forge(run, 0, machine=lease._machine(), pid=os.getpid(), start=1)
    lease.take(run).__exit__()


def test_a_suspended_process_of_this_host_holds_the_run(run, start):
    first = start()
    first.send_signal(signal.SIGSTOP)
    os.utime(run / "lease", (1, 1))
    with pytest.raises(Failure, match="another train-depth is already training"):
        lease.take(run)
    first.send_signal(signal.SIGCONT)
    assert first.communicate("\n", timeout=60)[0] == "still holding\n"


# ---- other hosts


@pytest.mark.parametrize("locked", [False, True], ids=["lock free", "lock of the vanished host"])
def test_the_run_of_a_host_that_vanished_is_taken_over(run, capsys, locked):
    forge(run, 31)
    holding = subprocess.Popen(["flock", run / "lock", "sleep", "60"]) if locked else None
    try:
        if locked:
            wait_for(lambda: subprocess.run(["flock", "-n", run / "lock", "true"]).returncode)
        begun = time.monotonic()
        with lease.take(run) as held:
            assert time.monotonic() - begun < lease.LAPSE_SECONDS and held.held() and not rest(run)
    finally:
        if holding:
            holding.kill()
            holding.wait()
    told = capsys.readouterr().err
    assert f"{run}: taken over from process 4711 on far.example, silent for 31 s\n" in told and told.count("\n") == 1


def test_locks_that_the_file_system_does_not_have_are_not_missed(run, monkeypatch):
    def no_locks(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    with lease.take(run) as held:
        assert held.held()


def test_links_that_the_file_system_does_not_have_are_not_missed(run, monkeypatch):
    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(lease.Path, "hardlink_to", no_links)
    with lease.take(run) as held:
        assert held.held() and not rest(run)
        with pytest.raises(Failure, match=f"process {os.getpid()}"):
            lease.take(run)
    forge(run, 31)
    lease.take(run).__exit__()


def test_a_fresh_lease_of_another_host_that_is_not_renewed_lapses(run, quick):
    forge(run, 0)
    begun = time.monotonic()
    lease.take(run).__exit__()
    assert time.monotonic() - begun > 1


def test_a_lease_from_the_future_lapses_too(run, quick):
    forge(run, -3600)
    begun = time.monotonic()
    lease.take(run).__exit__()
    assert time.monotonic() - begun > 1


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"id": "../x"}'])
def test_a_damaged_lease_lapses_too(run, quick, content):
    (run / "lease").write_text(content)
    begun = time.monotonic()
    lease.take(run).__exit__()
    assert time.monotonic() - begun > 1


def test_a_living_process_of_another_host_is_known_by_its_renewal(run, start, quick):
    first = start("far", renew=0.4)
    with pytest.raises(Failure, match=f"another train-depth is already training this run: process {first.pid} on far"):
        lease.take(run)


def test_a_stop_request_is_not_delayed(run):
    forge(run, 0)
    answers = iter([None, None, "SIGTERM"])
    begun = time.monotonic()
    assert lease.take(run, give_up=lambda: next(answers)) is None
    assert time.monotonic() - begun < lease.LAPSE_SECONDS
    with files.lock(run / "lock", wait=False):
        pass


def test_the_local_clock_does_not_count(run, monkeypatch):
    forge(run, 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert abs(lease.look(run / "lease").age) < 2


def test_a_process_that_was_suspended_on_another_host_must_not_write(run, start, quick):
    first = start("far", lapse=1.5, renew=0.2)
    first.send_signal(signal.SIGSTOP)
    with lease.take(run) as held:
        first.send_signal(signal.SIGCONT)
        told = first.communicate("\n", timeout=60)[0]
        assert f"{run}: process {os.getpid()} on " in told and "took over this run while this process was sus" in told
        assert held.held()  # nor did it renew or remove what is ours now
    start("far")


def test_a_lease_that_was_lost_is_neither_renewed_nor_removed(run):
    with lease.take(run) as held:
        forge(run, 20)
        assert not held.held()
    assert 15 < lease.look(run / "lease").age < 25


def test_a_claim_whose_process_does_not_continue_lapses(run, quick):
    forge(run, 31)
    (run / "lease").rename(run / ".lease-after-0123456789abcdef")
    forge(run, 31)
    claim = run / ".lease-after-0123456789abcdef"
    os.utime(claim)
    begun = time.monotonic()
    with lease.take(run) as held:
        assert held.held() and not rest(run)
    assert time.monotonic() - begun > 1


def test_what_others_left_beside_the_lease_is_removed_when_it_is_old(run):
    old, new = run / ".lease-old", run / ".lease-new"
    for path in (old, new):
        path.touch()
    os.utime(old, (time.time() - 100, time.time() - 100))
    files.sweep(run)
    lease.take(run).__exit__()
    assert not old.exists() and new.exists()


@pytest.mark.parametrize("kind", ["free", "vanished", "killed here"])
def test_of_many_takers_just_one_wins(run, kind):
    def taker(_):
        together.wait()
        try:
            return lease.take(run)
        except Failure as failure:
            return str(failure)

    together = threading.Barrier(6)
    with ThreadPoolExecutor(6) as pool:
        for _ in range(15):
            if kind != "free":
                forge(run, 31, **({"machine": lease._machine(), "pid": 2**22} if kind == "killed here" else {}))
            results = list(pool.map(taker, range(6)))
            (taken,) = [result for result in results if isinstance(result, lease.Lease)]
            assert sum("already training" in result for result in results if isinstance(result, str)) == 5
            assert taken.held() and not rest(run)
            taken.__exit__()


def test_of_two_processes_just_one_wins(run, start):
    forge(run, 31)
    both = [start(wait=False), start(wait=False)]
    lines = sorted(process.stdout.readline() for process in both)
    assert lines[1] == "holding\n" and "another train-depth is already training this run" in lines[0]


# ---- wait


def test_waiting_for_a_run_ends_when_no_process_has_it(run, start, quick):
    lease.wait(run, 0)
    lease.wait(run / "none", 0)
    first = start()
    with pytest.raises(Failure, match=f"another train-depth is already training this run: process {first.pid} on"):
        lease.wait(run, 0.3)
    threading.Timer(0.5, first.kill).start()
    begun = time.monotonic()
    lease.wait(run, 20)
    assert time.monotonic() - begun > 0.3
    forge(run, 31)
    lease.wait(run, 0)
    forge(run, 0)
    begun = time.monotonic()
    lease.wait(run, 10)
    assert time.monotonic() - begun > 1 and (run / "lease").exists() and not rest(run)


def test_waiting_for_a_living_process_of_another_host_fails_and_names_it(run, start, quick):
    first = start("far", renew=0.2)
    with pytest.raises(Failure, match=f"process {first.pid} on far"):
        lease.wait(run, 3)
    first.kill()
    begun = time.monotonic()
    lease.wait(run, 10)
    assert time.monotonic() - begun > 1
