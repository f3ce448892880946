"""watch-nodes, cluster-status and sge/stop.sh from the shell. Nodes are processes on lifelines, without TensorFlow.

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
from shell import PROJECT, wait_for
from test_cluster_commands import BIN, failed, run, stand_in

from depthfield.cluster import announcements, lifeline

SOON = 15  # seconds for what takes less than one on an idle machine

NODE = """
import json, os, sys
from pathlib import Path
from depthfield.cluster import announcements, lifeline

run, role, index, host, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
token = announcements.token(run)
port = port or announcements.read(announcements.folder(run, 1), announcements.WATCHER, 0, token).port
connection = lifeline.join("127.0.0.1", port, token, {"role": role, "index": index, "host": host, "pid": os.getpid()})
print("joined", flush=True)

def tell():
    return {"port": 4711, "memory": 300 * 2**20, "load": 0.5} if (run / f"{role}-{index}.serves").exists() else {}

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


def session(leader: subprocess.Popen) -> list[psutil.Process]:
    """The living processes of the session that `leader` was started with: orphans too."""

    def belongs(process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) == leader.pid and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    return [process for process in psutil.process_iter() if belongs(process)]


class Attempt:
    """The first attempt of a run: its plan, what watches it, and nodes that join."""

    def __init__(self, folder: Path, start, *nodes: str):
        """Each of `nodes` is a role, an index and a host."""
        self.start, self.run, self.log = start, folder / "run", folder / "log"
        self.here = announcements.folder(self.run, 1)
        self.cwd, self.plan = folder, folder / "plan.tsv"
        lines = ["chief 0 desk", *(nodes or ["ps 0 anna", "worker 0 bert"])]
        self.plan.write_text("".join("\t".join([*line.split(), "0", "-"]) + "\n" for line in lines))
        self.token = announcements.token(self.run)

    def command(self, *command: str) -> list[str]:
        return [str(word) for word in (BIN / "watch-nodes", "--run", self.run, "--plan", self.plan, *command)]

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
        wait_for(lambda: log.read_text(), SOON)
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


def test_what_the_disk_or_the_terminal_does_is_not_the_end_of_a_training(attempt):
    """An attempt's folder that cannot be read, and a stderr that nobody reads any more."""
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
    time.sleep(5)  # some looks at it
    assert watching.poll() is None and not attempt.got()
    attempt.here.unlink()
    aside.rename(attempt.here)
    node.kill()
    assert watching.wait(SOON) == 75 and attempt.got() == ["TERM"]


# --------------------------------------------------------------------------------------------- watch-nodes: its nodes


def test_nodes_are_told_of_a_worker_may_come_back_and_the_end_of_a_ps_ends_the_command(tmp_path, start):
    all_of_them = ["ps 0 anna", "worker 0 bert", "worker 1 carl", "worker 2 bert", "worker 3 dora", "worker 4 carl"]
    attempt = Attempt(tmp_path, start, *all_of_them)
    watching = attempt.watch()
    assert set(attempt.states().values()) == {"awaited"} and len(attempt.nodes()) == 6  # the chief is no node
    nodes = {name: attempt.node(name) for name in all_of_them[:3]}
    attempt.become(ps_0="starting", worker_0="starting", worker_1="starting", worker_2="awaited")
    for name in nodes:
        attempt.serves(name)
    attempt.become(ps_0="serving", worker_0="serving", worker_1="serving")
    told = attempt.nodes()["worker 1"]
    assert (told["host"], told["port"], told["memory"]) == ("carl", 4711, 300 * 2**20)
    assert told["pid"] == nodes["worker 1 carl"].pid and abs(told["told"] - time.time()) < SOON
    shown = run("cluster-status", "--run", attempt.run).stdout
    assert re.search(r"^ps +0 +anna +4711 +serving +300 MB +0\.5$", shown, re.MULTILINE), shown
    assert re.search(r"^worker +2 +bert +- +awaited +- +-$", shown, re.MULTILINE), shown
    assert "starting (3 of 6 are there)" in shown

    nodes["worker 1 carl"].kill()
    attempt.become(worker_1="gone")
    assert attempt.said() == "watch-nodes: worker 1 on carl has ended, it has 45 s to come back\n"
    back = attempt.node("worker 1 emil")
    attempt.become(worker_1="serving")
    assert attempt.nodes()["worker 1"]["pid"] == back.pid and attempt.nodes()["worker 1"]["host"] == "emil"
    assert attempt.said().endswith("watch-nodes: worker 1 on emil starts again\n")
    # One that comes before the end of the one before it was noticed is not taken for it.
    twin = attempt.node("worker 1 emil")
    back.kill()
    wait_for(lambda: attempt.nodes()["worker 1"].get("pid") == twin.pid, SOON)
    time.sleep(3)
    assert attempt.states()["worker 1"] == "serving" and not attempt.got() and watching.poll() is None

    ended = time.monotonic()
    nodes["ps 0 anna"].kill()
    assert watching.wait(SOON) == 75 and time.monotonic() - ended < 3
    assert attempt.got() == ["TERM"]
    assert attempt.said().endswith("watch-nodes: ps 0 on anna has ended: ending this attempt\n")
    assert attempt.states()["ps 0"] == "gone"
    # On bert a node serves; carl and dora were never heard of.
    assert (attempt.here / "lost").read_text() == "carl\ndora\n"
    for node in (nodes["worker 0 bert"], twin):
        assert node.wait(SOON) == 0 and node.log.read_text() == "joined\nwatcher ended\n"


def test_a_command_that_does_not_end_is_killed_soon_when_the_cluster_broke(attempt):
    watching = attempt.watch("bash", "-c", 'trap "echo TERM >> got" TERM; while :; do sleep 0.1; done')
    node = attempt.node("ps 0 anna")
    attempt.become(ps_0="starting")
    began = time.monotonic()
    node.kill()
    assert watching.wait(30) == 75 and 10 < time.monotonic() - began < 20
    assert attempt.got() == ["TERM"]
    wait_for(lambda: not session(watching), SOON)  # a sleep of the shell's
    assert attempt.said().count("bash does not end: killed") == 1


def whole(attempt: Attempt) -> None:
    attempt.node("worker 0 bert")
    attempt.become(ps_0="starting", worker_0="starting")


def without_worker(attempt: Attempt) -> None:
    attempt.node("worker 0 bert").kill()
    attempt.become(worker_0="gone")


def without_ps(attempt: Attempt) -> None:
    attempt.ps.kill()
    wait_for(lambda: "ps 0 on anna has ended" in attempt.said(), SOON)


def test_why_a_command_failed_is_told_and_only_a_broken_cluster_is_tried_again(tmp_path, start):
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

    broke = "watch-nodes: ps 0 on anna has ended: ending this attempt"
    away = "watch-nodes: worker 0 on bert has ended, it has 45 s to come back"
    ends = {
        (1,): (75, "bert\n", "watch-nodes: worker 0 on bert never came"),
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
    with ThreadPoolExecutor() as pool:
        found = [pool.submit(end, number, *how) for number, how in enumerate(ends)]
    assert [one.result() for one in found] == list(ends.values())


def test_a_node_that_was_given_up_ends_the_command(attempt):
    watching = attempt.watch()
    attempt.node("ps 0 anna")
    (attempt.here / "worker-0.failed").touch()  # node.sh leaves it
    assert watching.wait(SOON) == 75 and attempt.got() == ["TERM"]
    assert attempt.said() == "watch-nodes: worker 0 on bert has failed, see its log: ending this attempt\n"


def test_news_that_come_while_the_state_is_written_do_no_harm(attempt):
    watching = attempt.watch()
    who = {"role": "worker", "index": 0, "host": "bert", "pid": 1}
    connection = lifeline.join("127.0.0.1", attempt.watcher().port, attempt.token, who)
    began, count = attempt.told()["time"], 0
    while attempt.told()["time"] - began < 2.5:  # each of the news is of another kind, and is not waited for
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


def test_strangers_never_join_disturb_nobody_and_learn_nothing(attempt, tmp_path):
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
    assert parted(received(silent, 30))[1] == b"" and 15 < time.monotonic() - connected < 30  # waited for long enough
    silent.close()
    assert watching.poll() is None and attempt.said() == "" and "Traceback" not in attempt.log.read_text()
    assert attempt.states() == {"ps 0": "starting", "worker 0": "starting"} and all(n.poll() is None for n in nodes)
    assert all(node["host"] != "evil" for node in attempt.nodes().values())


def test_more_strangers_than_there_are_file_descriptors_keep_no_node_away_for_long(attempt):
    watching = attempt.watch(before=("bash", "-c", 'ulimit -n 40; exec "$@"', "bash"))
    there = ("127.0.0.1", attempt.watcher().port)
    crowd = [socket.create_connection(there) for _ in range(60)]
    wait_for(lambda: psutil.Process(watching.pid).num_fds() > 38, SOON)
    time.sleep(0.5)
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
    """Listens where a watcher is awaited, without the token, and says what it is given, a message for each it gets."""

    def __init__(self, *messages: bytes):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.bytes, self.messages, self.reached = self.listener.getsockname()[1], b"", messages, 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        node, _ = self.listener.accept()
        self.reached = 1
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
def test_a_node_joins_nobody_who_does_not_know_the_token(attempt, tmp_path, monkeypatch, how):
    """worker-node itself, which must not even import TensorFlow for somebody like that."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "tensorflow.py").write_text("import pathlib; pathlib.Path(__file__).with_name('seen').touch()")
    pretender = Pretender(*(PRETENDERS[how] or ()))
    attempt.here.mkdir(parents=True)
    if how != "nobody":
        token = "f" * 64 if how == "another's token" else attempt.token
        told = announcements.Announcement("127.0.0.1", pretender.port, 1, 1.0, token)
        announcements.announce(attempt.here, announcements.WATCHER, 0, told)
    words = ["worker-node", "--run", attempt.run, "--index", 0, "--host", "bert", "--watched"]
    began = time.monotonic()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"), prepend=os.pathsep)
    done = run(*words)
    assert done.stderr == "worker-node: worker 0 ended: nobody watches this attempt\n"
    assert done.returncode == 0 and time.monotonic() - began < SOON
    assert not (tmp_path / "fake" / "seen").exists() and not list(attempt.here.glob("worker*"))
    assert pretender.reached == (how not in ("another's token", "nobody"))
    assert attempt.token.encode() not in pretender.bytes and bytes.fromhex(attempt.token) not in pretender.bytes
    assert b"bert" not in pretender.bytes and b"worker" not in pretender.bytes


def test_nodes_that_came_to_a_stranger_cannot_be_made_to_answer_each_other():
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
    killed = time.monotonic()
    watching.kill()
    for node in nodes:
        assert node.wait(SOON) == 0 and node.log.read_text() == "joined\nwatcher ended\n"
    assert time.monotonic() - killed < 2


def test_who_is_suspended_goes_on_where_it_was(attempt):
    """The watcher, and then a node: the kernel of a suspended process still answers."""
    watching = attempt.watch()
    nodes = {name: attempt.node(name) for name in ("ps 0 anna", "worker 0 bert")}
    for name in nodes:
        attempt.serves(name)
    attempt.become(ps_0="serving", worker_0="serving")

    def suspend(process: subprocess.Popen, seconds: float) -> float:
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        return time.time()

    def goes_on(since: float) -> None:
        wait_for(lambda: all(node["told"] > since for node in attempt.nodes().values()), SOON)
        assert set(attempt.states().values()) == {"serving"}

    goes_on(suspend(watching, 3))
    goes_on(suspend(nodes["ps 0 anna"], 7))  # longer than from one question to the next
    assert all(node.poll() is None for node in nodes.values()) and not attempt.got() and attempt.said() == ""
    watching.terminate()
    assert watching.wait(SOON) == 5


# ----------------------------------------------------------------------------------------------------- cluster-status


class Told:
    """A run's folder as its parts leave it."""

    def __init__(self, folder: Path):
        self.run, self.attempts = folder / "run", folder / "run" / "nodes"
        self.run.mkdir()

    def recipe(self, steps: int = 50) -> "Told":
        (self.run / "recipe.toml").write_text(f"steps = {steps}\n")
        return self

    def job(self, number: object) -> "Told":
        self.attempts.mkdir(exist_ok=True)
        (self.run / "job").write_text(f"{number}\n")
        return self

    def attempt(self, state: str | None, *nodes: str, number: int = 1, job: object = "17", heard: float = 0) -> "Told":
        """Each of `nodes` is a role, an index, a host and a state."""
        here = self.attempts / str(number)
        here.mkdir(parents=True, exist_ok=True)
        (here / "job").write_text(f"{job}\n")
        (here / "from").write_text("none\n")
        if state:
            (here / "state").write_text(f"{state}\n")
        told = [dict(zip(("role", "index", "host", "state"), node.split(), strict=True)) for node in nodes]
        for node in told:
            if node["state"] == "serving":
                node |= {"port": 4711, "memory": 300 * 2**20, "load": 0.5}
        (here / "state.json").write_text(json.dumps({"time": time.time() - heard, "nodes": told}))
        return self

    def step(self, step: int, age: float = 0, kind: str = "training", more: str = "") -> "Told":
        line = {"step": step, "kind": kind, "time": time.time() - age}
        if kind == "training":
            line["photos_per_second"] = 12.4
        with (self.run / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n" + more)
        return self

    def status(self) -> dict:
        done = run("cluster-status", "--json", "--run", self.run)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    def state(self) -> str:
        """The same in both ways it is told."""
        status = self.status()["state"]
        shown = run("cluster-status", "--run", self.run)
        silence = re.compile(r"\d+ s: ")  # may have become longer meanwhile
        assert (shown.returncode, shown.stderr) == (0, "")
        assert re.search(f"^state +{re.escape(silence.sub('', status))}$", silence.sub("", shown.stdout), re.MULTILINE)
        return status


@pytest.fixture
def told(tmp_path):
    return Told(tmp_path)


NODES = ("ps 0 anna serving", "worker 0 bert starting", "worker 1 carl awaited")
SERVING = ("ps 0 anna serving", "worker 0 bert serving")


def test_cluster_status_says_when_no_run_is_there(told, tmp_path):
    assert failed(run("cluster-status", "--run", "no", cwd=tmp_path)) == "cluster-status: no: no run is there\n"
    assert "no run is there" in failed(run("cluster-status", "--json", "--run", told.run))  # a folder of something else
    assert run("cluster-status").returncode == 2 and run("cluster-status", told.run).returncode == 2


def test_cluster_status_of_a_run_without_a_cluster(told):
    told.recipe(50)
    assert told.state() == "not begun"
    told.step(40).step(41, kind="validation")
    assert told.state() == "step 41 of 50"
    status = told.status()
    assert status["attempt"] is status["job"] is status["heard"] is None and status["nodes"] == []


def test_cluster_status_of_a_run_that_waits_for_slots(told):
    told.job(17)
    assert told.state() == "waiting for slots (job 17)"
    told.attempt("ended with status 99 after 20 s", *SERVING, job="16").job(17)
    assert told.state() == "waiting for slots (job 17)"
    told.attempt("waiting for slots: array jobs 18 19", *NODES, number=2, job="17")
    assert told.state() == "waiting for slots: array jobs 18 19 (1 of 3 are there)"


def test_cluster_status_of_a_run_that_went_on_without_the_grid(told):
    told.job(17).attempt("ended with status 1 after 3 s", job="17")
    time.sleep(0.05)  # a file system's clock ticks every few milliseconds
    told.attempt("waiting for nodes", *NODES, number=2, job="desk-11-1700000000")
    assert told.state() == "waiting for nodes (1 of 3 are there)"


def test_cluster_status_of_a_run_that_waits_for_nodes_or_trains(told):
    told.recipe().job(17).step(7, age=60)  # of an attempt before
    told.attempt("waiting for nodes", *NODES)
    assert told.state() == "waiting for nodes (1 of 3 are there)"
    told.attempt("waiting for nodes", *SERVING)
    assert told.state() == "starting to train"
    (told.run / "nodes/1/from").write_text("7\n")
    os.utime(told.run / "nodes/1/from", (time.time() - 20, time.time() - 20))
    told.step(12).step(12, kind="validation")
    assert told.state() == "training step 12 of 50, 12 photos/s"
    assert "attempt         1, from step 7\n" in run("cluster-status", "--run", told.run).stdout
    told.attempt("waiting for nodes", *SERVING, number=10)  # which is after 2 to 9
    assert told.status()["attempt"] == 10


def test_cluster_status_of_a_run_nobody_hears_of(told):
    told.recipe().attempt("waiting for nodes", *SERVING, heard=100).step(12)
    assert re.fullmatch(r"nothing heard for 10\d s: suspended, or lost", told.state())
    assert [node["state"] for node in told.status()["nodes"]] == ["serving", "serving"]  # when it was last heard


def test_the_nodes_of_an_attempt_that_has_ended_do_not_serve(told):
    gone = ("worker 2 dora gone", "worker 3 emil lost", "worker 4 fred failed")
    told.recipe().attempt("ended with status 75 after 20 s", *NODES, *gone, heard=100).step(12)
    assert told.state() == "ended with status 75 after 20 s"
    # What it ended of is still to be seen.
    states = ["ended", "ended", "awaited", "gone", "lost", "failed"]
    assert [node["state"] for node in told.status()["nodes"]] == states
    told.job(18)
    assert told.state() == "waiting for slots (job 18)"
    assert [node["state"] for node in told.status()["nodes"]] == states


def test_cluster_status_tells_ages_and_sizes_as_one_object(told):
    told.recipe().job(17).attempt("waiting for nodes", *SERVING, heard=4).step(12, age=130).step(9, age=140)
    (told.run / "checkpoints").mkdir()
    for step, age in [(8, 9000), (12, 8000)]:
        path = told.run / f"checkpoints/{step:08d}.npz"
        path.touch()
        os.utime(path, (time.time() - age, time.time() - age))
    (told.run / "checkpoints/.00000013.npz").touch()  # half-written
    status = told.status()
    assert set(status) == {
        "run", "job", "attempt", "from_step", "step", "steps", "step_age", "photos_per_second", "checkpoint",
        "checkpoint_age", "heard", "nodes", "state",
    }  # fmt: skip
    assert (status["job"], status["attempt"], status["from_step"], status["steps"]) == ("17", 1, None, 50)
    assert (status["step"], status["photos_per_second"]) == (9, 12.4)  # the last told, whatever its number
    assert status["checkpoint"] == str(told.run / "checkpoints/00000012.npz")
    ages = {"step_age": 140, "checkpoint_age": 8000, "heard": 4}
    assert all(0 <= status[name] - age < SOON for name, age in ages.items()), status
    assert status["nodes"][0] == {
        "role": "ps", "index": "0", "host": "anna", "state": "serving", "port": 4711, "memory": 300 * 2**20, "load": 0.5
    }  # fmt: skip
    shown = run("cluster-status", "--run", told.run).stdout
    assert "last step told  9, 2 min ago\n" in shown and "00000012.npz, 2.2 h ago\n" in shown
    assert "attempt         1, from the beginning\n" in shown and "300 MB" in shown


def test_what_is_half_written_or_damaged_is_left_out(told):
    told.recipe().attempt("waiting for nodes", *SERVING)
    # The last line is being written; another was never finished, and went on as the next attempt's first.
    told.step(11, more='{"step": 12, "ki').step(13).step(14, more='7}\n7\n{"step": 15, "kind": "training"')
    assert told.status()["step"] == 14
    (told.run / "metrics.jsonl").write_text('{"step": 1')
    assert told.status()["step"] is None
    whole = (told.run / "nodes/1/state.json").read_text()
    for damaged in ("", whole[: len(whole) // 2], "\0" * 100, "null", "[]", "{}", '{"time": 1}'):
        (told.run / "nodes/1/state.json").write_text(damaged)
        assert told.state() == "starting to train", damaged
        assert told.status()["nodes"] == [] and told.status()["heard"] is None
    (told.run / "recipe.toml").write_text("steps = ")
    (told.run / "checkpoints").mkdir()
    (told.run / "checkpoints/.00000013.npz").touch()
    assert told.status()["steps"] is told.status()["checkpoint"] is None


def test_cluster_status_of_an_attempt_that_cluster_sh_did_not_begin(attempt):
    """watch-nodes by hand, as its help shows it, leaves neither `from` nor `job` nor `state`."""
    watching = attempt.watch()
    node = Told.__new__(Told)
    node.run = attempt.run
    assert node.state() == "starting (0 of 2 are there)"
    node.recipe().step(3)
    assert node.state() == "training step 3 of 50, 12 photos/s"
    watching.terminate()
    assert watching.wait(SOON) == 5


# -------------------------------------------------------------------------------------------------------- sge/stop.sh

CLUSTER = """
echo waiting for nodes > run/nodes/1/state
status=0
"$@" || status=$?
echo "ended with status $status after 3 s" > run/nodes/1/state
"""  # what cluster.sh does around watch-nodes


def stop(*arguments, cwd: Path, **options) -> subprocess.CompletedProcess:
    words = [PROJECT / "sge/stop.sh", *map(str, arguments)]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=60, **options)


@pytest.fixture
def runs(tmp_path, start):
    """Two runs at work, without a grid."""
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        found.append(Attempt(tmp_path / name, start))
        found[-1].here.mkdir(parents=True)
        found[-1].shell = found[-1].watch(before=("bash", "-c", CLUSTER, "bash"))
    return found


def test_stop_sh_ends_one_run_and_no_other(runs, tmp_path):
    one, other = runs
    done = stop("one/run", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "stop.sh: one/run: ended with status 5 after 3 s; the same command goes on\n"
    assert one.shell.wait(SOON) == 0 and one.got() == ["TERM"] and not session(one.shell)
    time.sleep(3)  # a look at the stop file, and more
    assert other.shell.poll() is None and other.got() == [] and not (other.here / "stop").exists()
    # A second time, and with a slash: it has ended, and is told so.
    (one.here / "stop").unlink()
    again = stop(f"{tmp_path}/one/run/", cwd="/")
    assert again.returncode == 0 and "ended with status 5 after 3 s" in again.stderr
    assert not (one.here / "stop").exists()  # an attempt that goes on from here must not find it


def test_stop_sh_looks_at_the_newest_attempt(runs, tmp_path):
    one, _ = runs
    (one.run / "nodes/10").mkdir()
    (one.run / "nodes/10/state").write_text("ended with status 0 after 3 s\n")
    (one.run / "nodes/9").mkdir()
    assert "status 0" in stop("one/run", cwd=tmp_path).stderr
    assert not list(one.run.glob("nodes/*/stop"))


def test_stop_sh_says_what_is_wrong(tmp_path):
    for words in ([], ["one", "two"]):
        assert "name a run's folder" in failed(stop(*words, cwd=tmp_path), status=2)
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained/recipe.toml").touch()
    for run_folder in ("nothing", "trained"):
        assert f"{run_folder}: no run of a cluster is there" in failed(stop(run_folder, cwd=tmp_path))


def test_stop_sh_says_when_a_run_does_not_end(tmp_path):
    (tmp_path / "run/nodes/1").mkdir(parents=True)
    (tmp_path / "run/nodes/1/state").write_text("waiting for nodes\n")
    stand_in(tmp_path / "sleep", "echo slept >> slept")  # the 90 seconds of patience, in one
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = stop("run", cwd=tmp_path, env=os.environ | {"PATH": path})
    assert "stop.sh: run: attempt 1 does not end\n" in done.stderr and "goes on" not in done.stderr
    assert done.returncode == 1 and (tmp_path / "run/nodes/1/stop").exists()
    assert (tmp_path / "slept").read_text().count("slept") >= 60


def test_stop_sh_of_a_run_that_never_got_slots(tmp_path):
    """qstat and qdel are stand-ins here; tests/grid asks the real ones."""
    (tmp_path / "run/nodes").mkdir(parents=True)
    (tmp_path / "run/job").write_text("17\n")
    stand_in(tmp_path / "qstat", 'echo "$*" >> asked; [ ! -e deleted ]')
    stand_in(tmp_path / "qdel", 'echo "$*" >> deleted; echo "deleted job $1"')
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = stop("run", cwd=tmp_path, env=os.environ | {"PATH": path})
    assert done.returncode == 0 and "ended before its first attempt" in done.stderr
    assert (tmp_path / "deleted").read_text() == "17\n"
    assert set((tmp_path / "asked").read_text().splitlines()) == {"-j 17"}
