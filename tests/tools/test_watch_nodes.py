"""watch-nodes from the shell. Nodes are processes on lifelines, without TensorFlow.

A node of these tests joins as a real one does and tells what it is told to; ps-node and worker-node themselves are in
test_cluster_commands.py, hosts that vanish are in tests/grid.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import AuthenticationError
from pathlib import Path

import psutil
import pytest
from shell import wait_for
from test_cluster_commands import BIN, failed, hasten, run, session

from depthfield.cluster import announcements, lifeline

SOON = 25  # seconds for what takes less than one on an idle machine; a host is lost after 30

NODE = """
import json, os, sys
from pathlib import Path
from depthfield.cluster import announcements, lifeline

run, role, index, host, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
token = announcements.token(run)
port = port or announcements.read(announcements.folder(run, 1), announcements.WATCHER, 0, token).port
connection = lifeline.join("127.0.0.1", port, token, {"role": role, "index": index, "host": host, "pid": os.getpid()})
print("joined", flush=True)

count = 0

def tell():
    global count
    count += 1
    serving = {"port": 4711, "memory": 300 * 2**20, "load": 0.5, "answers": count}
    return serving if (run / f"{role}-{index}.serves").exists() else {}

print("host lost" if lifeline.answer(connection, tell) else "watcher ended", flush=True)
"""

WAITS = """
trap 'echo TERM >> got; exit 5' TERM
for other in INT USR1 USR2; do trap "echo $other >> got" $other; done
echo $$ > began
while :; do sleep 0.1; done
"""  # a command that tells what signals came


@pytest.fixture
def start():
    """Start a process in a session of its own; what still lives of the session is ended after the test, by its id."""
    started = []

    def start(*command, log: Path, **options) -> subprocess.Popen:
        words = [str(word) for word in command]
        with log.open("a") as file:
            started.append(subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True, **options))
        return started[-1]

    yield start
    for process in started:
        for one in session(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait(5)


class Attempt:
    """The first attempt of a run: its plan, what watches it, and nodes that join."""

    def __init__(self, folder: Path, start, *nodes: str, **constants: float):
        """Each of `nodes` is a role, an index and a host; `constants` are those of modules, as `hasten` takes them."""
        self.watch_nodes = BIN / "watch-nodes"
        if constants:
            self.watch_nodes = hasten(self.watch_nodes, folder / "hastened/watch-nodes", **constants)
        self.start, self.run, self.log = start, folder / "run", folder / "log"
        self.here = announcements.folder(self.run, 1)
        self.cwd, self.plan = folder, folder / "plan.tsv"
        lines = ["chief 0 desk", *(nodes or ["ps 0 anna", "worker 0 bert"])]
        self.plan.write_text("".join("\t".join([*line.split(), "0", "-"]) + "\n" for line in lines))
        self.token = announcements.token(self.run)

    def command(self, *command: str) -> list[str]:
        return [str(word) for word in (self.watch_nodes, "--run", self.run, "--plan", self.plan, *command)]

    def watch(self, *command: str, before: tuple = ()) -> subprocess.Popen:
        """watch-nodes with a command, or one that tells what signals came; as soon as both are at work."""
        command = command or ("bash", "-c", WAITS)
        process = self.start(*before, *self.command(*command), log=self.log, cwd=self.cwd)
        wait_for(lambda: (self.here / "state.json").exists() and (command[-1] != WAITS or self.began()), SOON)
        return process

    def node(self, node: str, port: int = 0) -> subprocess.Popen:
        role, index, host = node.split()
        log = self.cwd / f"{role}-{index}.{time.monotonic_ns()}"
        process = self.start(sys.executable, "-c", NODE, self.run, role, index, host, port, log=log)
        process.log = log
        wait_for(lambda: log.read_text().endswith("\n"), SOON)
        assert log.read_text() == "joined\n", log.read_text()
        return process

    def serves(self, node: str) -> None:
        role, index, *_ = node.split()
        (self.run / f"{role}-{index}.serves").touch()

    def nodes(self) -> dict[str, dict]:
        """What state.json tells, by role and index."""
        return {f"{node['role']} {node['index']}": node for node in self.told()["nodes"]}

    def told(self) -> dict:
        return json.loads((self.here / "state.json").read_text())

    def states(self) -> dict[str, str]:
        return {name: node["state"] for name, node in self.nodes().items()}

    def become(self, **states: str) -> None:
        """Wait until state.json tells these states: ps_0="serving"."""
        wait_for(lambda: self.states().items() >= {n.replace("_", " "): s for n, s in states.items()}.items(), SOON)

    def writes(self) -> None:
        """Wait until the state has been written twice: whatever was noticed by now is in it."""
        for _ in range(2):
            before = (self.here / "state.json").stat().st_mtime_ns
            wait_for(lambda: (self.here / "state.json").stat().st_mtime_ns != before, SOON)  # noqa: B023

    def began(self) -> bool:
        return (self.cwd / "began").exists() and bool((self.cwd / "began").read_text())

    def got(self) -> list[str]:
        """The signals that came to the command."""
        return (self.cwd / "got").read_text().split() if (self.cwd / "got").exists() else []

    def said(self) -> str:
        return "".join(re.findall(r"^watch-nodes: .*\n", self.log.read_text(), re.MULTILINE))

    def watcher(self) -> announcements.Announcement:
        return announcements.read(self.here, announcements.WATCHER, 0, self.token)


@pytest.fixture
def attempt(tmp_path, start):
    return Attempt(tmp_path, start)


# ------------------------------------------------------------------------------------------- watch-nodes: its command


def test_watch_nodes_ends_as_its_command_does_and_passes_everything_on(attempt):
    for script, status in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill $$", 143), ("exit 2", 2)]:
        done = run(*attempt.command("sh", "-c", script))
        assert (done.returncode, done.stdout, done.stderr) == (status, "", ""), script
    words = ["--run", "elsewhere", "-h", "--help", "--plan=x", "--", "a  b", "", "*", "-"]
    done = run(*attempt.command("sh", "-c", 'cat; printf "<%s>" "$@"; echo to stderr >&2', "sh", *words), given="é\n\n")
    assert done.stdout == "é\n\n" + "".join(f"<{word}>" for word in words)
    assert (done.returncode, done.stderr) == (0, "to stderr\n")
    assert sorted(path.name for path in attempt.here.iterdir()) == ["state.json"]  # nobody looks for it any more
    assert attempt.states() == {"ps 0": "awaited", "worker 0": "awaited"}


def test_watch_nodes_says_what_is_wrong(attempt, tmp_path):
    words = attempt.command("true")
    for wrong in (words[:-1], [*words[:3], "true"], [*words[:1], *words[3:]], [*words[:1], "--hosts", *words[1:]]):
        assert run(*wrong).returncode == 2, wrong
    for number in ("0", "x", "-1"):
        assert "--attempt" in failed(run(*words[:1], "--attempt", number, *words[1:]), status=2)
    attempt.plan.write_text('{"ps": []}\n')
    assert f"{attempt.plan}: line 1" in failed(run(*words))
    attempt.plan.unlink()
    assert f"{attempt.plan}: No such file" in failed(run(*words))
    assert not attempt.here.exists()
    other = Attempt(tmp_path, None)
    assert "no-such-command: No such file" in failed(run(*other.command("no-such-command")))
    assert not list(other.here.glob("watcher*"))


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_each_way_to_ask_for_an_end_comes_to_the_command_as_sigterm(attempt, sent):
    watching = attempt.watch()
    watching.send_signal(signal.SIGUSR1)
    wait_for(attempt.got, SOON)
    watching.send_signal(sent)
    assert watching.wait(SOON) == 5
    assert attempt.got() == ["USR1", "TERM"]  # SIGUSR1 ends nothing: save, and go on
    assert attempt.said() == "" and not session(watching)


def test_the_stop_file_ends_the_command(attempt):
    watching = attempt.watch()
    (attempt.here / "stop").touch()
    assert watching.wait(SOON) == 5 and attempt.got() == ["TERM"]
    assert attempt.said() == "watch-nodes: asked to stop\n"


def test_a_run_that_was_removed_ends_and_does_not_come_back(attempt):
    watching = attempt.watch()
    shutil.rmtree(attempt.run)
    assert watching.wait(SOON) == 5 and attempt.got() == ["TERM"]
    assert not attempt.run.exists()


def test_the_command_ends_when_whoever_started_watch_nodes_is_killed(attempt):
    shell = attempt.watch(before=("bash", "-c", '"$@"; true', "bash"))
    assert len(session(shell)) >= 3
    shell.kill()
    wait_for(attempt.got, SOON)
    wait_for(lambda: not session(shell), SOON)
    assert attempt.got() == ["TERM"]


def test_what_the_disk_or_the_terminal_does_is_not_the_end_of_a_training(tmp_path, start):
    """An attempt's folder that cannot be read, and a stderr that nobody reads any more."""
    attempt = Attempt(tmp_path, start, watch__TOLD_SECONDS=0.1)
    reads, writes = os.pipe()
    watching = attempt.start(*attempt.command("bash", "-c", f"exec 2> /dev/null; {WAITS}"), log=attempt.log,
                             cwd=attempt.cwd, preexec_fn=lambda: os.dup2(writes, 2), pass_fds=[writes])  # fmt: skip
    os.close(writes)
    wait_for(attempt.began, SOON)
    node, worker = attempt.node("ps 0 anna"), attempt.node("worker 0 bert")
    os.close(reads)
    worker.kill()
    attempt.become(worker_0="gone")
    attempt.node("worker 0 bert")
    attempt.become(worker_0="starting")
    aside = attempt.here.rename(attempt.run / "aside")
    attempt.here.touch()  # as a disk that answers with an error
    time.sleep(1)  # some looks at it
    assert watching.poll() is None and not attempt.got()
    attempt.here.unlink()
    aside.rename(attempt.here)
    node.kill()
    assert watching.wait(SOON) == 75 and attempt.got() == ["TERM"]


# --------------------------------------------------------------------------------------------- watch-nodes: its nodes


def lifelines(watching: subprocess.Popen) -> int:
    """How many nodes the watcher is connected to."""
    return sum(one.status == psutil.CONN_ESTABLISHED for one in psutil.Process(watching.pid).net_connections())


def test_nodes_are_reported_a_worker_may_return_and_the_end_of_a_ps_ends_the_command(tmp_path, start):
    all_of_them = ["ps 0 anna", "worker 0 bert", "worker 1 carl", "worker 2 bert", "worker 3 dora", "worker 4 carl"]
    attempt = Attempt(tmp_path, start, *all_of_them, lifeline__ASK_SECONDS=0.3, watch__TOLD_SECONDS=0.1)
    watching = attempt.watch()
    assert set(attempt.states().values()) == {"awaited"} and len(attempt.nodes()) == 6  # the chief is no node
    nodes = {name: attempt.node(name) for name in all_of_them[:3]}
    attempt.become(ps_0="starting", worker_0="starting", worker_1="starting", worker_2="awaited")
    for name in nodes:
        attempt.serves(name)
    attempt.become(ps_0="serving", worker_0="serving", worker_1="serving")
    told = attempt.nodes()["worker 1"]
    assert (told["host"], told["port"], told["memory"]) == ("carl", 4711, 300 * 2**20)
    assert told["pid"] == nodes["worker 1 carl"].pid
    shown = run("cluster-status", "--run", attempt.run).stdout
    assert re.search(r"^ps +0 +anna +4711 +serving +300 MB +0\.5$", shown, re.MULTILINE), shown
    assert re.search(r"^worker +2 +bert +- +awaited +- +-$", shown, re.MULTILINE), shown
    assert "starting (3 of 6 are ready)" in shown

    nodes["worker 1 carl"].kill()
    attempt.become(worker_1="gone")
    assert attempt.said() == "watch-nodes: worker 1 on carl has ended; waiting 45 s for it to restart\n"
    back = attempt.node("worker 1 emil")
    attempt.become(worker_1="serving")
    assert attempt.nodes()["worker 1"]["pid"] == back.pid and attempt.nodes()["worker 1"]["host"] == "emil"
    assert attempt.said().endswith("watch-nodes: worker 1 on emil has restarted\n")
    # One that comes before the end of the one before it was noticed is not taken for it.
    twin = attempt.node("worker 1 emil")
    wait_for(lambda: attempt.nodes()["worker 1"].get("pid") == twin.pid, SOON)
    there = lifelines(watching)
    back.kill()
    wait_for(lambda: lifelines(watching) == there - 1, SOON)
    attempt.writes()
    assert attempt.states()["worker 1"] == "serving" and not attempt.got() and watching.poll() is None

    nodes["ps 0 anna"].kill()
    assert watching.wait(SOON) == 75
    assert attempt.got() == ["TERM"]
    assert attempt.said().endswith("watch-nodes: ps 0 on anna has ended; ending this attempt\n")
    assert attempt.states()["ps 0"] == "gone"
    # On bert a node serves; carl and dora were never heard of.
    assert (attempt.here / "lost").read_text() == "carl\ndora\n"
    for node in (nodes["worker 0 bert"], twin):
        assert node.wait(SOON) == 0 and node.log.read_text() == "joined\nwatcher ended\n"


def test_a_command_that_does_not_end_is_killed_soon_when_the_cluster_broke(tmp_path, start):
    attempt = Attempt(tmp_path, start, watch__BROKEN_SECONDS=1)  # else it has 60 s
    watching = attempt.watch("bash", "-c", 'trap "echo TERM >> got" TERM; while :; do sleep 0.1; done')
    node = attempt.node("ps 0 anna")
    attempt.become(ps_0="starting")
    began = time.monotonic()
    node.kill()
    assert watching.wait(SOON) == 75 and time.monotonic() - began > 1
    assert attempt.got() == ["TERM"]
    wait_for(lambda: not session(watching), SOON)  # a sleep of the shell's
    assert attempt.said().count("bash does not end; killed it") == 1


def test_without_parameter_servers_the_chief_has_a_port_and_the_end_of_a_worker_ends_the_command(tmp_path, start):
    attempt = Attempt(tmp_path, start, "worker 0 bert", "worker 1 carl")
    watching = attempt.watch()
    chief = announcements.read(attempt.here, "chief", 0, attempt.token)
    assert chief._replace(port=0) == attempt.watcher()._replace(port=0)
    with socket.socket() as taken, pytest.raises(OSError, match="in use"):
        taken.bind(("", chief.port))
    nodes = [attempt.node(name) for name in ("worker 0 bert", "worker 1 carl")]
    attempt.become(worker_0="starting", worker_1="starting")
    nodes[1].kill()
    assert watching.wait(SOON) == 75 and attempt.got() == ["TERM"]
    assert attempt.said() == "watch-nodes: worker 1 on carl has ended; ending this attempt\n"
    assert not (attempt.here / "chief-0.json").exists()
    assert nodes[0].wait(SOON) == 0


def whole(attempt: Attempt) -> None:
    attempt.node("worker 0 bert")
    attempt.become(ps_0="starting", worker_0="starting")


def without_worker(attempt: Attempt) -> None:
    attempt.node("worker 0 bert").kill()
    attempt.become(worker_0="gone")


def without_ps(attempt: Attempt) -> None:
    attempt.ps.kill()
    wait_for(lambda: "ps 0 on anna has ended" in attempt.said(), SOON)


def test_why_a_command_failed_is_reported_and_only_a_broken_cluster_is_tried_again(tmp_path, start):
    def end(number: int, status: int, before=lambda attempt: None) -> tuple[int, str | None, str]:
        """What became of a command that ends with `status` when something came before: its status, `lost`, a line."""
        (tmp_path / f"{number}").mkdir()
        attempt = Attempt(tmp_path / f"{number}", start)
        wait = f"trap : TERM; while [ ! -e {attempt.run}/now ]; do sleep 0.1; done; exit {status}"
        watching = attempt.watch("sh", "-c", wait)
        attempt.ps = attempt.node("ps 0 anna")
        before(attempt)
        (attempt.run / "now").touch()
        lost = attempt.here / "lost"
        status = watching.wait(SOON)
        return status, lost.read_text() if lost.exists() else None, attempt.said().removesuffix("\n").split("\n")[-1]

    broke = "watch-nodes: ps 0 on anna has ended; ending this attempt"
    away = "watch-nodes: worker 0 on bert has ended; waiting 45 s for it to restart"
    ends = {
        (1,): (75, "bert\n", "watch-nodes: worker 0 on bert never connected"),
        (1, without_worker): (75, "", "watch-nodes: worker 0 on bert has ended"),
        # The command's own failure, and what it did in spite of everything.
        (1, whole): (1, None, ""),
        (7, whole): (7, None, ""),
        (0, without_worker): (0, None, away),
        (2, without_worker): (2, None, away),
        (99, without_worker): (99, None, away),
        # Asked to end, it was just done; what else it says of a broken cluster is no news.
        (0, without_ps): (0, None, broke),
        (2, without_ps): (2, None, broke),
        (99, without_ps): (75, "bert\n", broke),
    }
    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(end, number, *how) for number, how in enumerate(ends)]
    assert [one.result() for one in found] == list(ends.values())


def test_a_node_that_was_given_up_ends_the_command(attempt):
    watching = attempt.watch()
    attempt.node("ps 0 anna")
    (attempt.here / "worker-0.failed").touch()  # keep-node leaves it
    assert watching.wait(SOON) == 75 and attempt.got() == ["TERM"]
    assert attempt.said() == "watch-nodes: worker 0 on bert has failed; see its log; ending this attempt\n"


def test_news_that_come_while_the_state_is_written_do_no_harm(tmp_path, start):
    attempt = Attempt(tmp_path, start, watch__TOLD_SECONDS=0.1)
    watching = attempt.watch()
    who = {"role": "worker", "index": 0, "host": "bert", "pid": 1}
    connection = lifeline.join("127.0.0.1", attempt.watcher().port, attempt.token, who)
    written, count = set(), 0
    while len(written) < 8:  # each of the news is of another kind, and is not waited for
        written.add((attempt.here / "state.json").stat().st_mtime_ns)
        for _ in range(100):
            connection.send_bytes(json.dumps({f"{count}": 0}).encode())
            count += 1
        while connection.poll(0):
            connection.recv_bytes()
        assert watching.poll() is None, attempt.log.read_text()
    watching.terminate()
    assert watching.wait(SOON) == 5
    connection.close()


# -------------------------------------------------------------------------------------------------- what may not join


def received(stranger: socket.socket, seconds: float = SOON) -> bytes:
    """All that is sent to it until the other end closes."""
    stranger.settimeout(seconds)
    got = b""
    try:
        while more := stranger.recv(4096):
            got += more
    except ConnectionResetError:  # closed before everything we sent was read
        pass
    return got


def framed(message: bytes) -> bytes:
    return struct.pack("!i", len(message)) + message


def parted(sent: bytes) -> tuple[bytes, bytes]:
    """The first message, and what came after it."""
    end = 4 + struct.unpack("!i", sent[:4])[0]
    return sent[4:end], sent[end:]


def test_strangers_never_join_disturb_or_learn_anything(tmp_path, start):
    attempt = Attempt(tmp_path, start, lifeline__HELLO_SECONDS=4)
    watching = attempt.watch()
    there = ("127.0.0.1", attempt.watcher().port)
    silent = socket.create_connection(there)
    connected = time.monotonic()
    memory = psutil.Process(watching.pid).memory_info().rss
    garbage = [b"GET / HTTP/1.0\r\n\r\n", b"\0", os.urandom(300), struct.pack("!i", 2**31 - 1) + b"x" * 1000]
    garbage += [struct.pack("!iQ", -1, 2**62) + b"x", struct.pack("!i", -5), framed(b""), framed(b"x" * 16)]
    garbage += [framed(attempt.token.encode()), framed(b"#WELCOME#") * 3]
    me = json.dumps({"role": "ps", "index": 0, "host": "evil", "pid": 1}).encode()
    garbage.append(framed(b"x" * 16) + framed(b"#CHALLENGE#" + bytes(20)) + framed(b"#WELCOME#") + framed(me))
    for bytes_sent in garbage:
        with socket.create_connection(there) as stranger:
            stranger.sendall(bytes_sent)
            with contextlib.suppress(OSError):  # the other end may have closed already
                stranger.shutdown(socket.SHUT_WR)
            # A few random bytes, and that they were not answered well.
            challenge, refusal = parted(received(stranger))
            assert challenge.startswith(b"#CHALLENGE#") and len(challenge) < 70
            assert attempt.token.encode() not in challenge
            assert refusal in (b"", framed(b"#FAILURE#"))
    other = announcements.token(tmp_path / "another run")
    for role, index in (("ps", 0), ("worker", 0), ("worker", 7)):
        who = {"role": role, "index": index, "host": "evil", "pid": 1}
        with pytest.raises(AuthenticationError):
            lifeline.join(*there, other, who)
    # With the token, but no node of the plan.
    for who in ({"role": "worker", "index": 7, "host": "bert", "pid": 1}, ["worker", 0], {}, {"role": []}):
        with pytest.raises(EOFError):
            lifeline.join(*there, attempt.token, who).recv_bytes()
    assert set(attempt.states().values()) == {"awaited"}
    nodes = [attempt.node("ps 0 anna"), attempt.node("worker 0 bert")]
    attempt.become(ps_0="starting", worker_0="starting")
    assert psutil.Process(watching.pid).memory_info().rss < memory + 50 * 2**20
    assert parted(received(silent))[1] == b"" and time.monotonic() - connected > 3.5  # waited for long enough
    silent.close()
    assert watching.poll() is None and attempt.said() == "" and "Traceback" not in attempt.log.read_text()
    assert attempt.states() == {"ps 0": "starting", "worker 0": "starting"} and all(n.poll() is None for n in nodes)
    assert all(node["host"] != "evil" for node in attempt.nodes().values())


def test_more_strangers_than_there_are_file_descriptors_keep_no_node_away_for_long(attempt):
    watching = attempt.watch(before=("bash", "-c", 'ulimit -n 40; exec "$@"', "bash"))
    there = ("127.0.0.1", attempt.watcher().port)
    crowd = [socket.create_connection(there) for _ in range(60)]
    wait_for(lambda: psutil.Process(watching.pid).num_fds() > 38, SOON)
    time.sleep(0.5)  # some tries to accept more
    for stranger in crowd:
        stranger.close()
    attempt.node("ps 0 anna")
    attempt.become(ps_0="starting")
    watching.terminate()
    assert watching.wait(SOON) == 5


class Relay:
    """Between a node and the watcher: whatever either sends goes through, and is kept."""

    def __init__(self, port: int):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.bytes = self.listener.getsockname()[1], {"node": b"", "watcher": b""}
        threading.Thread(target=self._serve, args=(port,), daemon=True).start()

    def _serve(self, port: int) -> None:
        node, _ = self.listener.accept()
        watcher = socket.create_connection(("127.0.0.1", port))
        threading.Thread(target=self._pass_on, args=("node", node, watcher), daemon=True).start()
        self._pass_on("watcher", watcher, node)

    def _pass_on(self, who: str, sender: socket.socket, receiver: socket.socket) -> None:
        while got := sender.recv(4096):
            self.bytes[who] += got
            receiver.sendall(got)
        receiver.close()


def test_the_token_never_crosses_the_wire(attempt):
    attempt.watch()
    relay = Relay(attempt.watcher().port)
    attempt.serves("ps 0")
    attempt.node("ps 0 anna", port=relay.port)
    attempt.become(ps_0="serving")
    for sent in relay.bytes.values():
        assert b"#CHALLENGE#" in sent  # each asks the other
        assert attempt.token.encode() not in sent and bytes.fromhex(attempt.token) not in sent
    assert b'"memory"' in relay.bytes["node"]


class Pretender:
    """Listens where a watcher is awaited, without the token, and says what it is given, a message for each it gets.

    With another run's token it is a watcher in all else; one that does not listen is nobody.
    """

    def __init__(self, *messages: bytes, token: str | None = None, listens: bool = True):
        self.token = token
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.port, self.bytes, self.messages, self.reached = self.listener.getsockname()[1], b"", messages, 0
        if listens:
            self.listener.listen()
            threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        node, _ = self.listener.accept()
        self.reached = 1
        if self.token:
            with contextlib.suppress(*lifeline.REFUSED):
                lifeline.accept(node, self.token)
            return
        with contextlib.suppress(OSError):  # the node closes as soon as it does not like what it hears
            for message in self.messages:
                node.sendall(message)
                self.bytes += node.recv(4096)
            node.shutdown(socket.SHUT_WR)
            self.bytes += received(node)
        node.close()


CHALLENGE = framed(b"#CHALLENGE#" + bytes(20))
WELCOME = framed(b"#WELCOME#")
PRETENDERS = {
    "another's token": None, "closes": (), "banner": (b"SSH-2.0-OpenSSH_9.2p1\r\n",), "huge": (b"\x7f\xff\xff\xff",),
    "no challenge": (framed(b"hello"),), "empty": (framed(b""),), "refuses": (CHALLENGE, framed(b"#FAILURE#")),
    "answers wrongly": (CHALLENGE, WELCOME, framed(bytes(16)), WELCOME),
    "repeats": (CHALLENGE, WELCOME, CHALLENGE, WELCOME), "nobody": None,
}  # fmt: skip


@pytest.mark.parametrize("how", PRETENDERS)
def test_a_node_joins_no_watcher_without_the_token(attempt, tmp_path, monkeypatch, how):
    """worker-node itself, which must not even import TensorFlow for somebody like that."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "tensorflow.py").write_text("import pathlib; pathlib.Path(__file__).with_name('seen').touch()")
    token = "f" * 64 if how == "another's token" else None
    pretender = Pretender(*(PRETENDERS[how] or ()), token=token, listens=how != "nobody")
    words = ["worker-node", "--run", attempt.run, "--index", 0, "--host", "bert"]
    words += ["--watcher", f"127.0.0.1:{pretender.port}"]
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"), prepend=os.pathsep)
    done = run(*words)
    assert done.stderr == "worker-node: worker 0 ended: no watch-nodes watches this attempt\n"
    assert done.returncode == 0
    assert not (tmp_path / "fake" / "seen").exists() and not list(attempt.here.glob("worker*"))
    assert pretender.reached == (how != "nobody")
    assert attempt.token.encode() not in pretender.bytes and bytes.fromhex(attempt.token) not in pretender.bytes
    assert b"bert" not in pretender.bytes and b"worker" not in pretender.bytes


def test_a_stranger_cannot_make_nodes_answer_each_other():
    """What one node asks, another could answer: it has the token too."""
    with socket.create_server(("127.0.0.1", 0)) as stranger, ThreadPoolExecutor() as nodes:
        who = {"role": "worker", "index": 0, "host": "bert", "pid": 1}
        joining = [nodes.submit(lifeline.join, *stranger.getsockname(), "a token", who) for _ in range(2)]
        (one, _), (other, _) = stranger.accept(), stranger.accept()
        one.sendall(CHALLENGE)
        one.recv(4096)
        one.sendall(WELCOME)
        asked = one.recv(4096)
        assert asked[4:].startswith(b"#CHALLENGE#")
        other.sendall(asked)
        one.sendall(other.recv(4096))
        assert one.recv(4096) == framed(b"#FAILURE#")
        other.sendall(framed(b"#FAILURE#"))
        for node in joining:
            with pytest.raises(AuthenticationError):
                node.result(SOON)
        one.close()
        other.close()


# --------------------------------------------------------------------------------- a watcher that ends, one suspended


def test_nodes_end_at_once_when_the_watcher_is_killed(attempt):
    watching = attempt.watch()
    nodes = [attempt.node("ps 0 anna"), attempt.node("worker 0 bert")]
    attempt.become(ps_0="starting", worker_0="starting")
    watching.kill()
    for node in nodes:
        assert node.wait(SOON) == 0 and node.log.read_text() == "joined\nwatcher ended\n"


def test_a_suspended_process_continues_where_it_was(tmp_path, start):
    """The watcher, and then a node: the kernel of a suspended process still answers."""
    asking = 0.4  # seconds between two questions
    attempt = Attempt(tmp_path, start, lifeline__ASK_SECONDS=asking, watch__TOLD_SECONDS=0.1)
    watching = attempt.watch()
    nodes = {name: attempt.node(name) for name in ("ps 0 anna", "worker 0 bert")}
    for name in nodes:
        attempt.serves(name)
    attempt.become(ps_0="serving", worker_0="serving")

    def suspend(process: subprocess.Popen) -> None:
        process.send_signal(signal.SIGSTOP)
        time.sleep(3 * asking)
        before = {name: node["answers"] for name, node in attempt.nodes().items()}
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: all(node["answers"] > before[name] + 1 for name, node in attempt.nodes().items()), SOON)
        assert set(attempt.states().values()) == {"serving"}

    suspend(watching)
    suspend(nodes["ps 0 anna"])
    assert all(node.poll() is None for node in nodes.values()) and not attempt.got() and attempt.said() == ""
    watching.terminate()
    assert watching.wait(SOON) == 5
