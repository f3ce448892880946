"""split-resources, ps-node, worker-node, gather-spec and sge/cluster.sh from the shell: TensorFlow's real servers."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from grid_formats import UNKNOWN, host, qhost
from shell import PROJECT, wait_for

from depthfield.cluster import announcements
from depthfield.cluster.announcements import Announcement

BIN = PROJECT / "bin"
PATIENCE = 90  # seconds until what is awaited has failed; two busy cores import TensorFlow slowly

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
    return [line for line in log.read_text().splitlines() if re.match(r"(ps-node|worker-node|cluster\.sh): ", line)]


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
    assert "the first host is the chief's, and anna has 1 slot of the 2 that a node takes" in told
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
        assert "stdin: line 4 is no `host slots queue@host processors`" in message and repr(line) in message
    assert "stdin: no hosts" in told("--pe", "-", given="\n")
    assert "none: No such file" in told("--pe", tmp_path / "none")
    lines = len(GRID.splitlines())
    for content, line, why in [
        ("", 1, "no element found"), (GRID[:-5], lines, "unclosed token"), ("HOSTNAME ARCH\n", 1, "syntax error"),
        (GRID.replace("</qhost>", "</host>"), lines, "mismatched tag"), ("<job_info>\n</job_info>", 1, "<job_info>"),
        (GRID.replace("'slots'>4<", "'slots'>many<", 1), GRID[: GRID.index("'slots'")].count("\n") + 1, "slots is 'm"),
    ]:  # fmt: skip
        message = told("--qhost", "-", given=content)
        assert f"stdin: line {line}: {why}" in message and "`qhost -q -F -xml` was expected" in message, message
    assert "no host has a complex a1000" in told("--qhost", "-", "--gpu-complex", "a1000", given=GRID)
    assert "no hosts" in told("--qhost", "-", given=qhost([]))
    assert "stdin" in told("--qhost", "-", "--pe", "-", status=2)
    assert "empty name" in told("--pe", "", given="anna 9\n", status=2)  # "$PE_HOSTFILE" outside of a job
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


def test_gather_spec_refuses_what_is_no_plan(tmp_path):
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
        assert f"port {port} cannot be taken: Address already in use" in told
    token, me = announcements.token(tmp_path), psutil.Process()
    mine = Announcement("here", 4001, me.pid, me.create_time(), token)
    announcements.announce(announcements.folder(tmp_path, 1), "worker", 0, mine)
    start = ["worker-node", "--run", tmp_path, "--index", 0]
    assert f"running already: process {me.pid}" in failed(run(*start, "--host", "here"))
    assert "announced on here" in failed(run(*start, "--host", "there"))
    assert "--index" in failed(run("ps-node", "--run", tmp_path, "--index", "x"), status=2)
    assert run("ps-node", "--run", tmp_path).returncode == 2
    (tmp_path / "file").touch()
    assert "Not a directory" in failed(run("ps-node", "--run", tmp_path / "file" / "run", "--index", 0))


def test_a_node_told_to_end_while_it_starts_ends_at_once(tmp_path, start):
    node = start(BIN / "ps-node", "--run", tmp_path / "run", "--index", 0, log=tmp_path / "log")
    wait_for((tmp_path / "run" / "token").exists)
    time.sleep(0.5)  # into the import of TensorFlow
    node.terminate()
    assert node.wait(2) == 0
    assert said(tmp_path / "log") == ["ps-node: ps 0 ended: SIGTERM"] and not (tmp_path / "run" / "nodes").exists()


def test_an_import_that_makes_another_error_of_a_signal_does_not_hide_it(tmp_path, start):
    (tmp_path / "tensorflow.py").write_text(
        "import os, signal\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.getpid()\n"
        "except SystemExit as ended:\n"
        "    raise ImportError('initialisation failed') from ended\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    node = ["ps-node", "--run", tmp_path / "run", "--index", 0]
    score = ["score-depth", "--run", tmp_path / "run", "shard"]
    for command, status, told in ((node, 0, ["ps-node: ps 0 ended: SIGTERM"]), (score, 143, [])):
        process = start(BIN / command[0], *command[1:], log=tmp_path / command[0], env=environment)
        assert process.wait(30) == status
        assert said(tmp_path / command[0]) == told


def test_a_cluster_trains_on_when_a_worker_crashes_and_its_nodes_end_as_they_should(tmp_path, start):
    folder, token = announcements.folder(tmp_path, 1), announcements.token(tmp_path)
    plan = run("split-resources", "--local", "--oversubscribe", "--ps", 1, "--workers", 2).stdout
    environment = os.environ | {"http_proxy": "http://127.0.0.1:9"}  # a proxy must not come between the nodes

    def begin(node: str, *before: str) -> subprocess.Popen:
        role, index = node.split("-")
        words = [BIN / f"{role}-node", "--run", tmp_path, "--index", index, "--host", "127.0.0.1", "--threads", 1]
        return start(*before, *words, log=tmp_path / f"{node}.log", env=environment)

    # A forged and a half-written announcement are there before the nodes are.
    announcements.announce(folder, "ps", 0, Announcement("127.0.0.1", 9, 1, 1.0, "f" * 64))
    (folder / "worker-1.json").write_text('{"host": "127.0.0.1"')
    nodes = {node: begin(node) for node in ("ps-0", "worker-0", "worker-1")}
    gathered = run("gather-spec", "--run", tmp_path, given=plan)
    assert gathered.returncode == 0, gathered.stderr
    (tmp_path / "cluster.json").write_text(gathered.stdout)
    first = announcements.read(folder, "worker", 0, token)
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
    assert nodes["worker-1"].wait(2) == 0
    goes_on()  # by the restarted worker alone

    # Whoever started it is gone: so is the node, and what it announced.
    restarted = psutil.Process(again.pid)
    shell.kill()
    restarted.wait(5)
    assert said(tmp_path / "worker-0.log")[-1] == "worker-node: worker 0 ended: whoever started it is gone"
    # Grid Engine's warnings before a suspend and a kill are not for a node; Ctrl-C is.
    assert [path.name for path in folder.iterdir()] == ["ps-0.json"]
    for warning in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        nodes["ps-0"].send_signal(warning)
    assert nodes["ps-0"].wait(4) == 0
    assert not list(folder.iterdir())
    first_line, *_, last_line = said(tmp_path / "ps-0.log")
    assert re.fullmatch(r"ps-node: ps 0 on 127\.0\.0\.1:\d+, \d+ MB, load \d+\.\d", first_line), first_line
    assert last_line == "ps-node: ps 0 ended: interrupted"


# --------------------------------------------------------------------------------------------------- sge/cluster.sh


@pytest.fixture
def house(tmp_path):
    """A copy of the house whose train-depth only waits: what is looked at is what cluster.sh does around it."""
    (tmp_path / "house" / "bin").mkdir(parents=True)
    for command in ("split-resources", "ps-node", "worker-node", "gather-spec", "watch-nodes"):
        (tmp_path / "house" / "bin" / command).symlink_to(BIN / command)
    waits = 'trap "exit 99" TERM; cat > cluster.seen; [ -s cluster.seen ] || exit 1; echo "$*" > new; mv new arguments'
    waits += "; while :; do sleep 0.1; done"
    stand_in(tmp_path / "house" / "bin" / "train-depth", waits)
    shutil.copytree(PROJECT / "sge", tmp_path / "house" / "sge")
    (tmp_path / "data" / "rooms" / "records").mkdir(parents=True)
    (tmp_path / "data" / "rooms" / "records" / "train-00000-of-00001.tfrecord").touch()
    (tmp_path / "cluster").symlink_to("house/sge/cluster.sh")
    return tmp_path / "house"


def stand_in(command: Path, script: str) -> None:
    command.unlink(missing_ok=True)
    command.write_text(f"#!/bin/bash\n{script}\n")
    command.chmod(0o755)


SETTINGS = {"GRID": "no", "WORKERS": "1", "STEPS": "7", "BATCHSIZE": "3", "TIMEOUT": "60", "RUNID": "trial"}


def test_cluster_sh_starts_its_nodes_restarts_a_crashed_worker_and_ends_all_on_sigterm(tmp_path, house, start):
    log, run = tmp_path / "log", tmp_path / "runs" / "trial"
    folder = run / "nodes" / "3"
    for attempt in ("1", "2"):
        (folder.parent / attempt).mkdir(parents=True)
    words = ["./cluster", "CKPT_FREQ=30", "--set", "a=b"]
    script = start(*words, log=log, cwd=tmp_path, env=os.environ | SETTINGS)
    wait_for((tmp_path / "arguments").exists)
    told = (tmp_path / "arguments").read_text().split()
    assert 50 < int(told.pop(told.index("--timeout") + 1)) <= 60  # what is left of TIMEOUT: starting takes time
    expected = (
        f"--recipe small --run {run} --cluster - --timeout --steps 7 --set batch_size=3 --set checkpoint_seconds=30 "
        f"--set a=b {tmp_path}/data/rooms/records/train-00000-of-00001.tfrecord"
    )
    assert told == expected.split()
    cluster = json.loads((tmp_path / "cluster.seen").read_text())
    assert [len(cluster[role]) for role in ("chief", "ps", "worker")] == [1, 1, 1]
    assert json.loads((folder / "cluster.json").read_text()) == cluster
    before = announced(folder, "worker-0")
    nodes = [announced(folder, "ps-0").pid, before.pid]
    start.also(nodes[0])
    os.kill(before.pid, signal.SIGKILL)
    wait_for(lambda: announced(folder, "worker-0") != before)
    again = announced(folder, "worker-0")
    start.also(again.pid)
    assert again.port == before.port
    told = (run / "logs" / "worker-0.log").read_text()
    assert "worker-0 ended with status 137, restart 1 of 5" in told and told.count("---- attempt 3, ") == 2
    assert "watch-nodes: worker 0 on 127.0.0.1 starts again" in log.read_text()
    script.terminate()
    assert script.wait(10) == 99
    assert not [pid for pid in (*nodes, again.pid) if psutil.pid_exists(pid)]
    left = ["cluster.json", "from", "job", "origin", "plan.tsv", "state", "state.json"]
    assert sorted(path.name for path in folder.iterdir()) == left and "attempt 3" in log.read_text()


def test_cluster_sh_tries_three_times_and_kills_a_node_that_will_not_end(tmp_path, house, start):
    stand_in(house / "bin" / "worker-node", "echo 'worker-node: broken' >&2; exit 1")
    stand_in(house / "bin" / "ps-node", 'trap "" TERM; echo $$ >> stubborn; while :; do sleep 0.1; done')
    log, stubborn = tmp_path / "log", tmp_path / "stubborn"
    script = start("./cluster", "TIMEOUT=", "--wait", "1", log=log, cwd=tmp_path, env=os.environ | SETTINGS)
    wait_for(stubborn.exists)
    start.also(int(stubborn.read_text()))
    assert script.wait(90) == 1
    pids = [int(line) for line in stubborn.read_text().split()]
    assert len(pids) == 3 and not [pid for pid in pids if psutil.pid_exists(pid)]
    assert "gather-spec: 2 of 2 nodes have not announced themselves within 1 s" in log.read_text()
    assert "3 attempts without a new checkpoint, giving up" in said(log)[-1]
    assert "worker-node: broken" in (tmp_path / "runs/trial/logs/worker-0.log").read_text()
    assert not (tmp_path / "arguments").exists()


def test_cluster_sh_says_what_is_missing_or_wrong(tmp_path, house, start):
    for words, status, told in [
        (["DATASET=nyu"], 1, f"{tmp_path}/data/nyu/records"),
        (["WORKERS=two"], 2, "WORKERS takes a whole number of at least 1, not 'two'"),
        (["RUNID=a b"], 2, "RUNID takes letters"),
    ]:
        script = start("./cluster", *words, log=tmp_path / "log", cwd=tmp_path, env=os.environ | SETTINGS)
        assert script.wait(10) == status
        (line,) = said(tmp_path / "log")
        assert told in line and not (tmp_path / "runs").exists()
        (tmp_path / "log").unlink()
