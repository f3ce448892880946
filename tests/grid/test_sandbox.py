"""The sandbox itself: what the tests of the grid rely on, and that it leaves nothing."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from grid.conftest import SANDBOX, mentions, unavailable

CONNECT = "exec 3<> /dev/tcp/{host}/6445"  # where its execution daemon listens


@pytest.fixture
def own(tmp_path):
    """A function that runs `sandbox` on a folder of the test's own, in which nothing may be left."""
    if why := unavailable():
        pytest.skip(f"no grid: {why}")
    folder = tmp_path / "grid"

    def sandbox(*arguments: object) -> subprocess.CompletedProcess:
        return subprocess.run(
            [SANDBOX, *map(str, arguments)], capture_output=True, text=True, timeout=60, env=environment(folder)
        )

    sandbox.folder = folder
    yield sandbox
    sandbox("down")


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"GRID_DIR": str(folder)}


def left(folder: Path) -> list:
    """Processes and mounts of a sandbox, its folder, and network devices of its making."""
    processes = [p.cmdline() for p in psutil.process_iter() if p.pid != os.getpid() and mentions(p, str(folder))]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    links = [link for link in psutil.net_if_stats() if re.fullmatch(r"head|switch|node\d+", link)]
    return [*processes, *mounts, *links, *([folder] if folder.exists() else [])]


def eventually(done, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not (found := done()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(found)


def test_boots_and_takes_jobs_of_ordinary_users(grid):
    (grid.home("ada") / "job.sh").write_text("#!/bin/bash\nid -un; hostname; qstat > /dev/null && echo asked\n")
    done = grid.run("ada", "qsub", "-sync", "y", "-cwd", "-j", "y", "-o", "out", "job.sh")
    assert done.returncode == 0, done.stdout
    who, where, asked = (grid.home("ada") / "out").read_text().split()
    assert (who, asked) == ("ada", "asked") and where in {"node1", "node2", "node3", "node4"}


def test_jobs_that_name_no_queue_are_never_in_the_short_one(grid):
    (grid.home("ada") / "hosts.sh").write_text("#!/bin/bash\ncat $PE_HOSTFILE\n")
    for pe in ("orte", "tf"):
        done = grid.run("ada", "qsub", "-sync", "y", "-cwd", "-o", pe, "-j", "y", "-pe", pe, 6, "hosts.sh")
        assert done.returncode == 0, done.stdout
        lines = [line.split() for line in (grid.home("ada") / pe).read_text().splitlines()]
        assert sum(int(slots) for _, slots, *_ in lines) == 6
        assert {queue.partition("@")[0] for _, _, queue, _ in lines} == {"all.q"}


def test_users_have_their_own_files_and_processes(grid):
    script = "umask 077; id -un > mine; id -u; exec sleep 60"
    sleeper = grid.popen("ada", "bash", "-c", script, MARK="of-ada")
    try:
        assert sleeper.stdout.readline() == "61001\n"
        (inside,) = [p for p in grid.processes("MARK=of-ada") if p.uids().real == 61001]
        assert grid.run("ben", "cat", grid.home("ada") / "mine").returncode == 1
        assert grid.run("ben", "pkill", "-f", "sleep 60").returncode == 1
        assert grid.run("ben", "bash", "-c", "echo > ~ada/theirs").returncode == 1
        assert inside.is_running() and (grid.home("ada") / "mine").read_text() == "ada\n"
    finally:
        sleeper.terminate()
    assert sleeper.wait(timeout=60) == 128 + signal.SIGTERM
    assert not grid.processes("MARK=of-ada")


def test_commands_run_as_they_are_called(grid):
    assert grid.run("ada", "sh", "-c", "exit 7").returncode == 7
    assert grid.run("ada", "no-such-command").returncode == 127
    assert grid.run("ada", "echo", "--on", "--hold", "-h").stdout == "--on --hold -h\n"
    # What users run lives in folders that are root's alone here, or under the /tmp that each host has for itself.
    helped = grid.run("ada", SANDBOX.parents[2] / "bin/split-resources", "--help", on="node2")
    assert "Usage:" in helped.stdout, helped.stderr
    assert grid.run("ada", "hostname", on="node2").stdout == "node2\n"
    assert grid.run("ada", "hostname", "-f", on="node2").stdout == "node2.grid.test\n"
    nowhere = grid.run("ada", "true", on="node9")
    assert nowhere.returncode == 1 and "node9: no such host" in nowhere.stderr


def test_a_cut_host_is_silent_and_heals(grid):
    connect = ["timeout", "1", "bash", "-c", CONNECT.format(host="node2")]
    assert grid.run("ada", *connect, on="node1").returncode == 0
    grid.cut("node2")
    assert "node2\tcut" in grid.sandbox("status").stdout
    assert grid.run("ada", *connect, on="node1").returncode == 124  # neither refused nor unreachable
    assert "NO-CARRIER" not in grid.run("root", "ip", "link", "show", "eth0", on="node2").stdout
    grid.heal("node2")
    assert eventually(lambda: grid.run("ada", *connect, on="node1").returncode == 0)


def test_a_killed_host_is_silent_and_boots_again(grid):
    script = f"{CONNECT.format(host='node3')}; echo open; read -t 4 <&3; echo $?"
    listener = grid.popen("ada", "bash", "-c", script, on="node1")
    assert listener.stdout.readline() == "open\n"
    grid.kill("node3")
    assert int(listener.communicate(timeout=60)[0]) > 128  # the time was up: 1 would be the end of the connection
    assert "node3\tkilled\t0" in grid.sandbox("status").stdout
    assert grid.run("ada", "true", on="node3").returncode == 1
    grid.heal("node3")
    done = grid.run("ada", "qsub", "-sync", "y", "-b", "y", "-l", "hostname=node3.grid.test", "true", seconds=60)
    assert done.returncode == 0, done.stdout


def test_a_slower_wire_is_as_slow_as_it_says(grid):
    megabyte, port = 10**6, 5000
    serve = f"""if True:
        import socket
        server = socket.create_server(("", {port}))
        print(flush=True)
        server.accept()[0].sendall(bytes({megabyte}))"""
    fetch = f"""if True:
        import socket, time
        begun = time.monotonic()
        connection = socket.create_connection(("node1", {port}))
        connected = time.monotonic()
        while connection.recv({megabyte}):
            pass
        print(connected - begun, time.monotonic() - connected)"""
    grid.shape("node1", "8mbit", "20ms")
    try:
        server = grid.popen("ada", "python3", "-c", serve, on="node1")
        server.stdout.readline()
        round_trip, transfer = map(float, grid.run("ada", "python3", "-c", fetch, on="node2").stdout.split())
    finally:
        grid.shape("node1", "none")
    assert 0.04 <= round_trip < 0.2
    assert 0.9 < transfer < 3


def test_up_once_and_down_without_a_trace(own):
    assert own("up", 1).returncode == 0
    assert left(own.folder)
    assert own("up", 1).returncode == 0
    other = own("up", 2)
    assert other.returncode == 1 and "is up already" in other.stderr
    assert own("down").returncode == 0
    assert left(own.folder) == []
    assert own("down").returncode == 0
    assert own("status").returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_boot_leaves_nothing(own, number):
    booting = subprocess.Popen([SANDBOX, "up", "--hold", "1"], stdin=subprocess.PIPE, env=environment(own.folder))
    try:
        assert eventually((own.folder / "up.head").exists)
        booting.send_signal(number)
        assert booting.wait(timeout=30) in (128 + number, -number)
    finally:
        booting.kill()
        booting.stdin.close()
    if number == signal.SIGKILL:  # the processes go with it, the folder with whoever comes next
        assert eventually(lambda: left(own.folder) == [own.folder])
        assert own("up", 1).returncode == 0
        own("down")
    assert left(own.folder) == []


def test_a_folder_with_something_else_is_left_alone(own):
    own.folder.mkdir()
    (own.folder / "thesis.tex").touch()
    for verb in (["up", 1], ["down"]):
        assert own(*verb).returncode == 1
    assert (own.folder / "thesis.tex").exists()
