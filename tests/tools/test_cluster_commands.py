"""split-resources, ps-node, worker-node, gather-spec and sge/cluster.sh from the shell.

Two tests run TensorFlow's real servers; the nodes of the others are real, too, but for a tensorflow of our own.
"""

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path

import psutil
import pytest
from grid_formats import UNKNOWN, host, qhost
from shell import PROJECT, wait_for

from depthfield.cluster import announcements
from depthfield.cluster.announcements import Announcement

BIN = PROJECT / "bin"
PATIENCE = 90  # seconds until what is awaited has failed; two busy cores import TensorFlow slowly
ODD = "a:b $c & (d 'e"  # a folder's name

# In the place of TensorFlow, which takes seconds to import: its server listens, as far as a node can tell.
TENSORFLOW = """
import socket
from types import SimpleNamespace

class Server:
    def __init__(self, cluster, job_name, task_index, **options):
        port = int(cluster[job_name][task_index].rpartition(":")[2])
        self.socket = socket.create_server(("127.0.0.1", port))
        self.target = f"grpc://127.0.0.1:{self.socket.getsockname()[1]}"

distribute = SimpleNamespace(Server=Server)
compat = SimpleNamespace(v1=SimpleNamespace(ConfigProto=dict))
errors = SimpleNamespace(OpError=OSError)
"""

CHIEF = """
import json, sys
from depthfield.cluster.node import without_proxies
without_proxies()
import tensorflow as tf

tf.get_logger().setLevel("INFO")  # it tells when a worker has been recovered
cluster = tf.train.ClusterSpec(json.load(open(sys.argv[1])))
resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
    cluster, task_type="chief", task_id=0, rpc_layer="grpc"
)
strategy = tf.distribute.ParameterServerStrategy(resolver)
coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
with strategy.scope():
    count = tf.Variable(0.0)  # on the parameter server

@tf.function
def step():
    for _ in tf.range(10):
        count.assign_add(0.1)

while True:
    for _ in range(10):
        coordinator.schedule(step)
    coordinator.join()
    print(float(count), flush=True)
"""


@pytest.fixture
def start():
    """Start a process; whatever still lives of it, and of what it started, is ended after the test, by its id."""
    started = []

    def start(*command, log: Path, **options) -> subprocess.Popen:
        with log.open("a") as file:
            process = subprocess.Popen([str(word) for word in command], stdout=file, stderr=file, **options)
        started.append(psutil.Process(process.pid))
        return process

    start.also = lambda pid: started.append(psutil.Process(pid))
    yield start
    for process in started:
        if process.is_running():
            for one in [*process.children(recursive=True), process]:
                one.kill()
    psutil.wait_procs(started, timeout=5)


def run(command: str, *arguments, given: str = "", **options) -> subprocess.CompletedProcess:
    words = [BIN / command, *map(str, arguments)]
    return subprocess.run(words, input=given, capture_output=True, text=True, timeout=PATIENCE, **options)


def announced(folder: Path, node: str) -> Announcement | None:
    run_folder = folder.parent.parent
    return announcements.read(folder, *node.split("-"), announcements.token(run_folder))


def said(log: Path) -> list[str]:
    """What our commands said, without TensorFlow's own lines."""
    return [line for line in log.read_text().splitlines() if re.match(r"(ps-node|worker-node|run-cluster): ", line)]


def tensorflow(folder: Path, content: str = TENSORFLOW) -> dict[str, str]:
    """An environment in which commands import this instead of TensorFlow."""
    folder.mkdir(exist_ok=True)
    (folder / "tensorflow.py").write_text(content)
    return os.environ | {"PYTHONPATH": str(folder)}


def hasten(command: Path, at: Path, **constants: float) -> Path:
    """Write the script `at`, which runs a command with other constants of its modules: `ways__TERM_SECONDS=1`."""
    lines = [f"#!{sys.executable}", "import runpy, sys"]
    for name, value in constants.items():
        module, constant = name.split("__")
        lines += [f"from depthfield.cluster import {module}", f"{module}.{constant}  # must exist"]
        lines.append(f"{module}.{constant} = {value}")
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_text("\n".join([*lines, f"runpy.run_path({str(command)!r}, run_name='__main__')\n"]))
    at.chmod(0o755)
    return at


def stand_in(command: Path, script: str) -> None:
    command.unlink(missing_ok=True)
    command.write_text(f"#!/bin/bash\n{script}\n")
    command.chmod(0o755)


def failed(result: subprocess.CompletedProcess, status: int = 1) -> str:
    """The one line that a command failed with."""
    assert result.returncode == status and not result.stdout, result
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


# ------------------------------------------------------------------------------------------------- split-resources


def test_split_resources_plans_hosts_from_stdin():
    done = run("split-resources", "--ps", 2, "--workers", 2, given="# mine\nanna 3\n\nbert 4 1 64G\n")
    assert done.returncode == 0 and not done.stderr
    assert done.stdout == (
        "chief\t0\tanna\t0\t-\nps\t0\tbert\t0\t-\nps\t1\tanna\t1\t-\nworker\t0\tbert\t1\t0\nworker\t1\tanna\t2\t-\n"
    )


def test_split_resources_says_what_is_missing_or_wrong():
    assert "10 slots wanted (1 chief, 3 ps, 6 workers), 2 given, 8 missing" in failed(
        run("split-resources", "--ps", 3, "--workers", 6, given="anna 2\n")
    )
    assert "line 2" in failed(run("split-resources", "--ps", 1, "--workers", 1, given="anna 9\nbert\n"))
    assert "no hosts" in failed(run("split-resources", "--ps", 1, "--workers", 1))
    assert "--workers" in failed(run("split-resources", "--ps", 1, "--workers", 0, given="anna 9\n"), status=2)
    assert run("split-resources", "--ps", 1).returncode == 2


def test_split_resources_takes_this_machine_and_lets_nodes_share_its_slots():
    cores = len(os.sched_getaffinity(0))
    assert "--oversubscribe" in failed(run("split-resources", "--local", "--ps", 1, "--workers", cores))
    done = run("split-resources", "--local", "--oversubscribe", "--ps", 1, "--workers", cores)
    assert done.returncode == 0
    plan = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(plan) == cores + 2 and {line[2] for line in plan} == {"127.0.0.1"}
    assert all(int(line[3]) < cores for line in plan)


GRID = qhost([
    host("node1.grid.test", {"mem_free": "20.5G"}, {"all.q": (4, 4, 0, ""), "long.q": (2, 0, 0, "d")}),
    host("node2.grid.test", {"mem_free": "20.5G", "gpu": "2.000000", "a100": "1.000000"}, {"all.q": (4, 1, 0, "")}),
    host("node3.grid.test", {"mem_free": "99.5G"}, {"all.q": (4, 0, 0, ""), "long.q": (2, 0, 0, "")}),
    host("node4.grid.test", {}, {"all.q": (4, 0, 0, "au"), "long.q": (2, 0, 0, "au")}, UNKNOWN),
])  # fmt: skip
JOB = "node3 2 all.q@node3.grid.test UNDEFINED\nnode2 1 all.q@node2.grid.test 0,1\nnode3 1 long.q@node3 0,2:0,3\n"


def planned(*arguments, **options) -> list[str]:
    """The plan, a line a node, parted by blanks."""
    done = run("split-resources", *arguments, **options)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.replace("\t", " ").splitlines()


def test_split_resources_plans_a_job_on_the_slots_of_its_host_file(tmp_path):
    (tmp_path / "pe_hostfile").write_text(JOB)
    plan = ["chief 0 node3 0 -", "ps 0 node3 1 -", "worker 0 node3 2 -", "worker 1 node2 0 -"]
    assert planned("--pe", tmp_path / "pe_hostfile", "--ps", 1, "--workers", 2) == plan
    assert planned("--pe", "-", "--ps", 1, "--workers", 2, given=JOB) == plan
    # qhost is asked for GPUs and memory alone: that all queues of the job's hosts look full is the job's own doing.
    (tmp_path / "qhost.xml").write_text(GRID.replace("'slots_used'>0", "'slots_used'>4"))
    job = ["--pe", tmp_path / "pe_hostfile", "--qhost", tmp_path / "qhost.xml", "--ps", 1, "--workers", 2]
    assert planned(*job) == [*plan[:2], "worker 0 node2 0 0", "worker 1 node3 2 -"]
    assert planned(*job, "--gpus-per-slot", 1) == [*plan[:2], "worker 0 node3 2 0", "worker 1 node2 0 0"]


def test_split_resources_plans_a_grid_on_its_free_slots(tmp_path):
    plan = ["chief 0 node2.grid.test 0 -", "ps 0 node3.grid.test 0 -"]
    plan += ["worker 0 node2.grid.test 1 0", "worker 1 node2.grid.test 2 1", "worker 2 node3.grid.test 1 -"]
    assert planned("--qhost", "-", "--ps", 1, "--workers", 3, given=GRID) == plan
    plan[3:] = ["worker 1 node3.grid.test 1 -", "worker 2 node3.grid.test 2 -"]
    assert planned("--qhost", "-", "--gpu-complex", "a100", "--ps", 1, "--workers", 3, given=GRID)[3] == plan[3]
    only_long = os.environ | {"GRID_QUEUES": "long.q"}
    told = failed(run("split-resources", "--qhost", "-", "--ps", 1, "--workers", 3, given=GRID, env=only_long))
    assert "5 slots wanted (1 chief, 1 ps, 3 workers), 2 given, 3 missing" in told
    assert told.endswith(
        "3 hosts left out: node1.grid.test (all.q not in GRID_QUEUES, long.q disabled), "
        "node2.grid.test (all.q not in GRID_QUEUES), node4.grid.test (all.q not in GRID_QUEUES, long.q unknown)\n"
    )
    crowd = qhost(host(f"n{number}", {}, {"all.q": (4, 4, 0, "")}) for number in range(9))
    told = failed(run("split-resources", "--qhost", "-", "--ps", 1, "--workers", 3, given=crowd))
    assert "no hosts to plan with; 9 hosts left out: n0 (all.q full), n1 (all.q full), n2 (all.q full), 6 more" in told


def test_split_resources_gives_a_node_as_many_slots_as_it_takes(tmp_path):
    two = ("--slots-per-node", 2, "--ps", 1, "--workers", 2)
    given = "anna 5\nbert 3 1\ncarl 1\ndora 2\n"  # two nodes, one, none, one
    assert planned(*two, given=given) == ["chief 0 anna 0 -", "ps 0 anna 1 -", "worker 0 bert 0 0", "worker 1 dora 0 -"]
    told = failed(run("split-resources", *two, given=given.replace("dora 2", "dora 1")))
    assert "4 nodes of 2 slots wanted (1 chief, 1 ps, 2 workers), room for 3, 1 missing" in told
    assert "2 hosts left out: carl (1 slot), dora (1 slot)\n" in told
    told = failed(run("split-resources", *two, given="anna 1\nbert 20\n"))
    assert "the chief needs 2 slots on the first host, but anna has 1 slot; --oversubscribe" in told
    shared = planned(*two, "--oversubscribe", given="anna 1\nbert 3\n")
    assert sorted(line.split()[2:4] for line in shared) == [["anna", "0"]] * 2 + [["bert", "0"]] * 2
    # Of a grid, the first host with room is the chief's.
    full = planned(*two, "--qhost", "-", given=GRID)
    assert full[0] == "chief 0 node2.grid.test 0 -" and len(full) == 4
    told = failed(run("split-resources", "--slots-per-node", 5, "--qhost", "-", "--ps", 1, "--workers", 1, given=GRID))
    assert "node2.grid.test (3 of 5 slots free)" in told and "room for 1" in told


def test_split_resources_names_what_grid_engine_never_wrote(tmp_path):
    def told(*arguments, given: str = "", status: int = 1) -> str:
        return failed(run("split-resources", *arguments, "--ps", 1, "--workers", 1, given=given), status)

    for line in ("node2", "node2 many all.q@node2 UNDEFINED", "node2 0 all.q@node2 UNDEFINED", "anna 8 2 64G"):
        message = told("--pe", "-", given=JOB + line + "\n")
        assert f"stdin: line 4 is {line!r}; expected `host slots queue@host processors`" in message
    assert "stdin: no hosts" in told("--pe", "-", given="\n")
    assert "none: No such file" in told("--pe", tmp_path / "none")
    lines = len(GRID.splitlines())
    for content, line, why in [
        ("", 1, "no element found"), (GRID[:-5], lines, "unclosed token"), ("HOSTNAME ARCH\n", 1, "syntax error"),
        (GRID.replace("</qhost>", "</host>"), lines, "mismatched tag"), ("<job_info>\n</job_info>", 1, "<job_info>"),
        (GRID.replace("'slots'>4<", "'slots'>many<", 1), GRID[: GRID.index("'slots'")].count("\n") + 1, "slots is 'm"),
    ]:  # fmt: skip
        message = told("--qhost", "-", given=content)
        assert f"stdin: line {line}: {why}" in message and "output of `qhost -q -F -xml`" in message, message
    assert "no host has the complex a1000" in told("--qhost", "-", "--gpu-complex", "a1000", given=GRID)
    assert "no hosts" in told("--qhost", "-", given=qhost([]))
    assert "stdin" in told("--qhost", "-", "--pe", "-", status=2)
    assert "not an empty one" in told("--pe", "", given="anna 9\n", status=2)  # "$PE_HOSTFILE" outside of a job
    assert "--gpus-per-slot" in told("--pe", "-", "--gpus-per-slot", "x", given=JOB, status=2)
    for apart in ("--local --qhost -", "--local --pe -", "--gpu-complex gpu", "--gpus-per-slot 1",
                  "--pe - --gpu-complex gpu", "--qhost - --gpus-per-slot 1"):  # fmt: skip
        assert run("split-resources", *apart.split(), "--ps", 1, "--workers", 1, given=JOB).returncode == 2, apart


# ----------------------------------------------------------------------------------------------------- gather-spec

PLAN = "chief\t0\ta\t0\t-\nps\t0\tb\t0\t-\nworker\t0\tc\t0\t-\nworker\t1\td\t0\t-\n"


def test_gather_spec_names_who_is_missing(tmp_path):
    here = announcements.folder(tmp_path, 2)
    there = Announcement("b", 4001, 1, 1.0, announcements.token(tmp_path))
    announcements.announce(here, "ps", 0, there)
    announcements.announce(here, "worker", 0, there._replace(token="another run's"))
    (here / "worker-1.json").touch()
    told = failed(run("gather-spec", "--run", tmp_path, "--attempt", 2, "--timeout", 1, given=PLAN))
    assert "2 of 3 nodes" in told and "worker 0 on c, worker 1 on d" in told
    announcements.announce(here, "worker", 0, there._replace(host="c"))
    announcements.announce(here, "worker", 1, there._replace(host="d"))
    (tmp_path / "plan.tsv").write_text(PLAN)
    done = run("gather-spec", "--run", tmp_path, "--attempt", 2, tmp_path / "plan.tsv")
    assert json.loads(done.stdout) == {"chief": ["a:0"], "ps": ["b:4001"], "worker": ["c:4001", "d:4001"]}
    assert done.returncode == 0 and not done.stderr


def test_gather_spec_refuses_an_invalid_plan(tmp_path):
    assert "stdin: line 1" in failed(run("gather-spec", "--run", tmp_path, given='{"ps": []}\n'))
    assert "no.tsv: No such file" in failed(run("gather-spec", "--run", tmp_path, tmp_path / "no.tsv"))
    assert "--timeout" in failed(run("gather-spec", "--run", tmp_path, "--timeout", "soon", given=PLAN), status=2)


# --------------------------------------------------------------------------------------------- ps-node, worker-node


def test_nodes_refuse_at_once_what_cannot_work(tmp_path):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = failed(run("ps-node", "--run", tmp_path, "--index", 0, "--port", port))
        assert f"port {port} cannot be used: Address already in use" in told
    token, me = announcements.token(tmp_path), psutil.Process()
    mine = Announcement("here", 4001, me.pid, me.create_time(), token)
    announcements.announce(announcements.folder(tmp_path, 1), "worker", 0, mine)
    start = ["worker-node", "--run", tmp_path, "--index", 0]
    assert f"already running: process {me.pid}" in failed(run(*start, "--host", "here"))
    assert "announced on here" in failed(run(*start, "--host", "there"))
    assert "--index" in failed(run("ps-node", "--run", tmp_path, "--index", "x"), status=2)
    assert run("ps-node", "--run", tmp_path).returncode == 2
    (tmp_path / "file").touch()
    assert "Not a directory" in failed(run("ps-node", "--run", tmp_path / "file" / "run", "--index", 0))


def test_a_node_told_to_end_while_it_starts_ends_at_once(tmp_path, start):
    endless = "import pathlib, time\npathlib.Path(__file__).with_name('importing').touch()\ntime.sleep(600)\n"
    environment = tensorflow(tmp_path / "fake", endless)
    node = start(BIN / "ps-node", "--run", tmp_path / "run", "--index", 0, log=tmp_path / "log", env=environment)
    wait_for((tmp_path / "fake/importing").exists)
    node.terminate()
    assert node.wait(PATIENCE) == 0
    assert said(tmp_path / "log") == ["ps-node: ps 0 ended: SIGTERM"] and not (tmp_path / "run" / "nodes").exists()


def test_an_import_that_makes_another_error_of_a_signal_does_not_hide_it(tmp_path, start):
    environment = tensorflow(
        tmp_path / "fake",
        "import os, signal\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.getpid()\n"
        "except SystemExit as ended:\n"
        "    raise ImportError('initialisation failed') from ended\n",
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run/survey.json").touch()  # what score-depth looks for before it imports
    node = ["ps-node", "--run", tmp_path / "run", "--index", 0]
    score = ["score-depth", "--run", tmp_path / "run", "shard"]
    for command, status, told in ((node, 0, ["ps-node: ps 0 ended: SIGTERM"]), (score, 143, [])):
        process = start(BIN / command[0], *command[1:], log=tmp_path / command[0], env=environment)
        assert process.wait(PATIENCE) == status
        assert said(tmp_path / command[0]) == told


def test_a_cluster_trains_on_when_a_worker_crashes_and_its_nodes_end_as_they_should(tmp_path, start):
    folder, token = announcements.folder(tmp_path, 1), announcements.token(tmp_path)
    folder.mkdir(mode=0o755, parents=True)
    plan = run("split-resources", "--local", "--oversubscribe", "--ps", 1, "--workers", 2).stdout
    environment = os.environ | {"http_proxy": "http://127.0.0.1:9"}  # a proxy must not come between the nodes

    def begin(node: str, *before: str) -> subprocess.Popen:
        role, index = node.split("-")
        words = [BIN / f"{role}-node", "--run", tmp_path, "--index", index, "--host", "127.0.0.1", "--threads", 1]
        return start(*before, *words, log=tmp_path / f"{node}.log", env=environment, umask=0o022)

    # A forged and a half-written announcement are there before the nodes are.
    announcements.announce(folder, "ps", 0, Announcement("127.0.0.1", 9, 1, 1.0, "f" * 64))
    (folder / "worker-1.json").write_text('{"host": "127.0.0.1"')
    nodes = {node: begin(node) for node in ("ps-0", "worker-0", "worker-1")}
    gathered = run("gather-spec", "--run", tmp_path, given=plan)
    assert gathered.returncode == 0, gathered.stderr
    (tmp_path / "cluster.json").write_text(gathered.stdout)
    first = announcements.read(folder, "worker", 0, token)
    readable = {path.name: oct(path.stat().st_mode & 0o777) for path in (*folder.iterdir(), tmp_path / "token")}
    assert readable == dict.fromkeys(["ps-0.json", "worker-0.json", "worker-1.json", "token"], "0o600")
    assert (first.pid, first.start) == (nodes["worker-0"].pid, psutil.Process(first.pid).create_time())
    assert json.loads(gathered.stdout)["worker"][0] == f"127.0.0.1:{first.port}"

    counts = tmp_path / "counts"
    (tmp_path / "chief.py").write_text(CHIEF)
    chief = start(sys.executable, tmp_path / "chief.py", tmp_path / "cluster.json", log=counts, env=environment)

    def trained() -> float:
        return float(["0", *re.findall(r"^[\d.]+$", counts.read_text(), re.MULTILINE)][-1])

    def goes_on() -> None:
        before = trained()
        wait_for(lambda: trained() > before + 20 or chief.poll() is not None)
        assert chief.poll() is None, counts.read_text()

    goes_on()
    nodes["worker-0"].kill()
    nodes["worker-0"].wait()
    goes_on()  # by the other worker
    # Restarted in place, by a shell: it takes the port it had. `wait` keeps the shell from becoming the node.
    shell = begin("worker-0", "sh", "-c", '"$@" & wait', "sh")
    wait_for(lambda: announcements.read(folder, "worker", 0, token) != first)
    again = announcements.read(folder, "worker", 0, token)
    start.also(again.pid)
    assert again.port == first.port and again.pid not in (first.pid, shell.pid)
    wait_for(lambda: "task:0 has been recovered" in counts.read_text())
    # SIGTERM, in the middle of work.
    nodes["worker-1"].terminate()
    assert nodes["worker-1"].wait(PATIENCE) == 0
    goes_on()  # by the restarted worker alone

    # Whoever started it is gone: so is the node, and what it announced.
    restarted = psutil.Process(again.pid)
    shell.kill()
    restarted.wait(PATIENCE)
    assert said(tmp_path / "worker-0.log")[-1] == "worker-node: worker 0 ended: the process that started it is gone"
    # Grid Engine's warnings before a suspend and a kill are not for a node; Ctrl-C is.
    assert [path.name for path in folder.iterdir()] == ["ps-0.json"]
    for warning in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        nodes["ps-0"].send_signal(warning)
    assert nodes["ps-0"].wait(PATIENCE) == 0
    assert not list(folder.iterdir())
    first_line, *_, last_line = said(tmp_path / "ps-0.log")
    assert re.fullmatch(r"ps-node: ps 0 on 127\.0\.0\.1:\d+, \d+ MB, load \d+\.\d", first_line), first_line
    assert last_line == "ps-node: ps 0 ended: interrupted"


# --------------------------------------------------------------------------------------------------- sge/cluster.sh

# In the place of train-depth: it waits, and saves when it is told to end.
WAITS = """
save() {
    for file in runs/trial/nodes/*/*-*.json; do
        kill -0 "$(sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p' "$file")" && echo "${file##*/}" >> saved
    done
    exit 99
}
trap save TERM INT HUP
cat > cluster.seen
[ -s cluster.seen ] || exit 1
echo "$*" > new
mv new arguments
while :; do sleep 0.1; done
"""


@pytest.fixture
def house(tmp_path):
    """A copy of the project whose train-depth only waits: what is looked at is what cluster.sh does around it."""
    return copied(tmp_path / "house")


def copied(folder: Path) -> Path:
    """A copy of the project in `folder`, with a dataset beside it and a tensorflow of our own."""
    shutil.copytree(BIN, folder / "bin")
    shutil.copytree(PROJECT / "sge", folder / "sge")
    (folder / "lib").mkdir()
    (folder / "lib/launch.sh").symlink_to(PROJECT / "lib/launch.sh")
    (folder / ".venv").symlink_to(PROJECT / ".venv")
    stand_in(folder / "bin/train-depth", WAITS)
    records = folder.parent / "data/rooms/records"
    records.mkdir(parents=True)
    (records / "train-00000-of-00001.tfrecord").touch()
    (folder.parent / "cluster").symlink_to(folder / "sge/cluster.sh")
    tensorflow(folder.parent / "fake")
    return folder


def settings(tmp_path: Path, **more: str) -> dict[str, str]:
    """The environment of cluster.sh: few nodes, which import our tensorflow, on this machine."""
    given = {"GRID": "no", "WORKERS": "1", "STEPS": "7", "BATCHSIZE": "3", "TIMEOUT": "60", "RUNID": "trial"}
    return tensorflow(tmp_path / "fake") | given | more


def hastened(house: Path, command: str, **constants: float) -> None:
    """Let a command of the house run with other constants of its modules."""
    real = (house / "bin" / command).rename(house / "bin" / f".{command}")
    hasten(real, house / "bin" / command, **constants)


@pytest.fixture
def terminal():
    """Start a command in a session of its own, as a terminal does; what is left of it is killed in the end."""
    started = []

    def start(*command, log: Path | None = None, slave: int | None = None, **options) -> subprocess.Popen:
        def set_up():
            for number in (signal.SIGINT, signal.SIGHUP):  # pytest in the background has some ignored
                signal.signal(number, signal.SIG_DFL)
            if slave is not None:
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        with (log or Path(os.devnull)).open("a") as file:
            where = slave if slave is not None else file
            options |= {"stdin": subprocess.DEVNULL, "stdout": where, "stderr": where}
            started.append(
                subprocess.Popen(list(map(str, command)), start_new_session=True, preexec_fn=set_up, **options)
            )
        return started[-1]

    yield start
    for process in started:
        for one in session(process):
            one.kill()
        process.wait(PATIENCE)


def session(leader: subprocess.Popen) -> list[psutil.Process]:
    """The living processes of the session that `leader` was started with: orphans too."""

    def belongs(process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) == leader.pid and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    return [process for process in psutil.process_iter() if belongs(process)]


def test_cluster_sh_starts_its_nodes_restarts_a_crashed_worker_and_ends_all_on_sigterm(tmp_path, house, terminal):
    log, run = tmp_path / "log", tmp_path / "runs" / "trial"
    folder = run / "nodes" / "3"
    for attempt in ("1", "2"):
        (folder.parent / attempt).mkdir(parents=True)
    words = ["./cluster", "CKPT_FREQ=30", "--set", "seed=1"]
    script = terminal(*words, log=log, cwd=tmp_path, env=settings(tmp_path))
    wait_for((tmp_path / "arguments").exists)
    told = (tmp_path / "arguments").read_text().split()
    assert 0 < int(told.pop(told.index("--timeout") + 1)) <= 60  # what is left of TIMEOUT: starting takes time
    expected = (
        f"--recipe small --run {run} --cluster - --timeout --steps 7 --set batch_size=3 --set checkpoint_seconds=30 "
        f"--set seed=1 {tmp_path}/data/rooms/records/train-00000-of-00001.tfrecord"
    ).replace(f"{tmp_path}/data", "./data")
    assert told == expected.split()
    cluster = json.loads((tmp_path / "cluster.seen").read_text())
    assert [len(cluster[role]) for role in ("chief", "ps", "worker")] == [1, 1, 1]
    assert json.loads((folder / "cluster.json").read_text()) == cluster
    watcher = psutil.Process(announced(folder, "watcher-0").pid)
    listening = [one.laddr for one in watcher.net_connections() if one.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", announced(folder, "watcher-0").port)]
    before = announced(folder, "worker-0")
    os.kill(before.pid, signal.SIGKILL)
    wait_for(lambda: announced(folder, "worker-0") != before)
    again = announced(folder, "worker-0")
    assert again.port == before.port
    told = (run / "logs" / "worker-0.log").read_text()
    assert "worker-0 ended with status 137; restart 1 of 5" in told and told.count("---- attempt 3, ") == 2
    wait_for(lambda: "watch-nodes: worker 0 on 127.0.0.1 has restarted" in log.read_text())
    script.terminate()
    assert script.wait(PATIENCE) == 99
    assert not session(script)
    left = ["claim", "cluster.json", "command.json", "from", "job", "origin", "plan.tsv", "state", "state.json"]
    assert sorted(path.name for path in folder.iterdir()) == left and "attempt 3" in log.read_text()
    assert (folder / "state").read_text().startswith("ended: stopped as asked at step 0, ")


def test_cluster_sh_tries_three_times_and_kills_a_node_that_will_not_end(tmp_path, house, terminal):
    stand_in(house / "bin" / "worker-node", "echo 'worker-node: broken' >&2; exit 1")
    stand_in(house / "bin" / "ps-node", 'trap "" TERM; echo $$ >> stubborn; while :; do sleep 0.1; done')
    hastened(house, "start-nodes", ways__LIFELINE_SECONDS=0.5)
    hastened(house, "keep-node", keeper__TERM_SECONDS=0.5)
    log = tmp_path / "log"
    script = terminal("./cluster", "TIMEOUT=", "--wait", "1", log=log, cwd=tmp_path, env=settings(tmp_path))
    assert script.wait(2 * PATIENCE) == 1
    pids = [int(line) for line in (tmp_path / "stubborn").read_text().split()]
    assert len(pids) == 3 and not [pid for pid in pids if psutil.pid_exists(pid)]
    wait_for(lambda: not session(script))  # a sleep of the shell's
    assert "gather-spec: 2 of 2 nodes have not announced themselves within 1 s" in log.read_text()
    assert "gave up after 3 attempts without a new checkpoint" in said(log)[-1]
    assert "worker-node: broken" in (tmp_path / "runs/trial/logs/worker-0.log").read_text()
    assert not (tmp_path / "arguments").exists()


def test_cluster_sh_says_what_is_missing_or_wrong(tmp_path, house, terminal):
    for words, status, told in [
        (["DATASET=nyu"], 1, "data/nyu/records: make download preprocess convert nyu makes them; there is rooms"),
        (["WORKERS=two"], 2, "WORKERS takes a whole number of at least 1, not 'two'"),
        (["RUNID=a b"], 2, "RUNID takes letters"),
        (["--wait"], 2, "WAIT takes a whole number of at least 1, not 'nothing'"),
        (["PE=orte"], 2, "GRID=no does not use the grid, but PE needs it"),
        (["MEMORY=lots"], 2, "MEMORY takes an amount"),
        (["WORKRES=8"], 2, "no setting WORKRES; the nearest is WORKERS"),
        (["RECIPE=smal"], 2, "no recipe 'smal'; there are"),
        (["--set", "sed=1"], 2, "unknown setting sed"),
        (["STEPS=1k"], 2, "STEPS takes a whole number of at least 1, not '1k'"),
        (["CKPT_FREQ=soon"], 2, "CKPT_FREQ takes a number of seconds, not 'soon'"),
    ]:
        script = terminal("./cluster", *words, log=tmp_path / "log", cwd=tmp_path, env=settings(tmp_path))
        assert script.wait(PATIENCE) == status, words
        (line,) = said(tmp_path / "log")
        assert told in line and not (tmp_path / "runs").exists()
        (tmp_path / "log").unlink()


@pytest.mark.parametrize("asked", ["PE=orte", "REQUEST=-q long.q", "MEMORY=8G"])
def test_what_is_asked_of_a_grid_fails_where_none_is_reached(tmp_path, house, terminal, asked):
    without = tmp_path / "without"  # a PATH without qsub
    without.mkdir()
    for tool in ("env", "sh", "bash", "readlink", "dirname", "basename", "mkdir", "cat", "tee"):
        (without / tool).symlink_to(shutil.which(tool))
    environment = settings(tmp_path, GRID="", PATH=str(without))
    script = terminal("./cluster", asked, log=tmp_path / "log", cwd=tmp_path, env=environment)
    assert script.wait(PATIENCE) == 1
    (line,) = said(tmp_path / "log")
    assert f"{asked.partition('=')[0]} needs a grid, but there is none here" in line
    assert not (tmp_path / "runs").exists() and not (tmp_path / "arguments").exists()


def test_cluster_sh_takes_any_path_on_one_machine(tmp_path, terminal):
    """The project's own folder, DATA_DIR and RUN_DIR."""
    odd = tmp_path / ODD
    odd.mkdir()
    house = copied(odd / ODD)
    stand_in(house / "bin/train-depth", 'printf "%s\\n" "$@" > arguments; cat > cluster.seen')
    (odd / "data").rename(odd / f"data {ODD}")
    environment = settings(tmp_path, RUN_DIR=f"runs {ODD}", DATA_DIR=str(odd / f"data {ODD}"))
    script = terminal("./cluster", log=tmp_path / "log", cwd=odd, env=environment)
    assert script.wait(PATIENCE) == 0, (tmp_path / "log").read_text()
    cluster, told = json.loads((odd / "cluster.seen").read_text()), (odd / "arguments").read_text().splitlines()
    assert [len(cluster[role]) for role in ("chief", "ps", "worker")] == [1, 1, 1] and not session(script)
    assert told[-1] == str(odd / f"data {ODD}/rooms/records/train-00000-of-00001.tfrecord")
    run = odd / f"runs {ODD}/trial"
    assert told[told.index("--run") + 1] == str(run) and (run / "nodes/1/state").read_text().startswith("ended")
    assert "worker-node: worker 0 on 127.0.0.1:" in (run / "logs/worker-0.log").read_text()


def test_a_closed_terminal_ends_a_run_with_everything_saved(tmp_path, house, terminal):
    master, slave = pty.openpty()
    # The shell, which leads the session, is ended by the hangup, and with it the kernel ends what is in the foreground.
    script = terminal("bash", "-c", "./cluster; exit", slave=slave, cwd=tmp_path, env=settings(tmp_path))
    os.close(slave)
    wait_for((tmp_path / "arguments").exists)
    assert len(session(script)) >= 8  # four of the chain, train-depth, the nodes and their keepers
    os.close(master)
    wait_for(lambda: not session(script))
    assert script.wait(PATIENCE) == -signal.SIGHUP
    assert sorted((tmp_path / "saved").read_text().split()) == ["ps-0.json", "watcher-0.json", "worker-0.json"]
    assert (tmp_path / "runs/trial/nodes/1/state").read_text().startswith("ended: stopped as asked at step 0, ")


def test_ctrl_c_saves_before_the_nodes_end_and_ends_a_loop_around_the_script(tmp_path, house, terminal):
    loop = "for round in 1 2 3; do ./cluster; echo again >> rounds; done"
    script = terminal("bash", "-c", loop, log=tmp_path / "log", cwd=tmp_path, env=settings(tmp_path))
    wait_for((tmp_path / "arguments").exists)
    os.killpg(script.pid, signal.SIGINT)
    assert script.wait(PATIENCE) == -signal.SIGINT
    assert not (tmp_path / "rounds").exists() and not session(script)
    assert sorted((tmp_path / "saved").read_text().split()) == ["ps-0.json", "watcher-0.json", "worker-0.json"]
    assert (tmp_path / "runs/trial/nodes/1/state").read_text().startswith("ended: stopped as asked at step 0, ")
    assert said(tmp_path / "log")[-2:] == [
        "run-cluster: stopped as asked; run the same command to continue", "run-cluster: interrupted",
    ]  # fmt: skip


def test_an_attempt_by_hand_leaves_nothing(tmp_path, house, terminal):
    stand_in(house / "bin/train-depth", 'cat > cluster.seen; echo "$*" > arguments; exit 7')
    environment = settings(tmp_path, ATTEMPT="2", RUN=str(tmp_path / "mine"), RUNID="", RUN_DIR="")
    script = terminal("./cluster", log=tmp_path / "log", cwd=tmp_path, env=environment)
    assert script.wait(PATIENCE) == 7
    wait_for(lambda: not session(script))
    cluster = json.loads((tmp_path / "cluster.seen").read_text())
    assert [len(cluster[role]) for role in ("chief", "ps", "worker")] == [1, 1, 1]
    left = ["cluster.json", "plan.tsv", "state.json"]
    assert sorted(path.name for path in (tmp_path / "mine/nodes/2").iterdir()) == left
    assert not (tmp_path / "runs").exists() and said(tmp_path / "log") == []


def test_announcements_are_for_their_owner_alone(tmp_path, start):
    """Also in a run's folder that others may read; those of nodes are looked at beside TensorFlow's real servers."""
    folder = tmp_path / "run/nodes/1"
    folder.mkdir(mode=0o755, parents=True)
    (tmp_path / "plan.tsv").write_text(PLAN)
    words = [BIN / "watch-nodes", "--run", tmp_path / "run", "--plan", tmp_path / "plan.tsv", "sleep", "600"]
    start(*words, log=tmp_path / "log", umask=0o022)
    wait_for((folder / "watcher-0.json").exists)
    for path in (folder / "watcher-0.json", tmp_path / "run/token"):
        assert path.stat().st_mode & 0o777 == 0o600, path
