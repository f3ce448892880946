"""One node of a cluster, TensorFlow's server or a replica; it ends with its watcher and with its starter."""

import contextlib
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import psutil

from depthfield import tool
from depthfield.cluster import announcements, lifeline
from depthfield.cluster.announcements import Announcement
from depthfield.cluster.processes import living
from depthfield.tool import Failure, UsageError

WITH_ATTEMPT = "with its attempt"
LOOK_SECONDS = 0.5  # between two checks of the process that started us
MEASURE_SECONDS = 5
LOG_SECONDS = 30
WATCHER_LOST = 75  # EX_TEMPFAIL of sysexits.h
JOIN_TRIES, JOIN_SECONDS = 3, 1  # attempts to reach the watcher, and seconds between them


class Start(NamedTuple):
    """The settings of a node."""

    role: str
    index: int
    run: Path
    attempt: int
    host: str
    port: int | None
    threads: int | None
    starter: int  # the process that this node ends with
    watcher: tuple[str, int] | None  # host and port of the watcher, with which it also ends


def asked(role: str, arguments: dict) -> Start:
    """Return the settings from the command line of `ps-node` or `worker-node`."""
    port = tool.number(arguments, "--port", least=1)
    if port and port >= 2**16:
        raise UsageError(f"--port takes a number below {2**16}, not {port}")
    return Start(
        role,
        tool.number(arguments, "--index", least=0),
        Path(arguments["--run"]),
        tool.number(arguments, "--attempt", least=1),
        arguments["--host"] or os.environ.get("HOSTNAME") or socket.gethostname(),
        port,
        tool.number(arguments, "--threads", least=1),
        tool.number(arguments, "--parent", least=1) or os.getppid(),
        _address(arguments["--watcher"]),
    )


def _address(text: str | None) -> tuple[str, int] | None:
    host, _, port = (text or "").rpartition(":")
    if text and not (host and port.isdigit() and 0 < int(port) < 2**16):
        raise UsageError(f"--watcher takes HOST:PORT, not {text!r}")
    return (host, int(port)) if text else None


def without_proxies() -> None:
    """Remove proxies from the environment: gRPC would look for nodes behind them forever. Also for the chief."""
    for proxy in ("grpc_proxy", "https_proxy", "http_proxy"):
        os.environ.pop(proxy, None)


Work = Callable[[Callable[[], dict]], None]  # takes a function that waits for the cluster.json


def rearm() -> None:
    """Restore our SIGTERM handler: a replica's server replaces it. Call it in the main thread; also for the chief."""
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


def serve(start: Start, work: Work | None = None) -> NoReturn:
    """Run a node: serve, announce the address, and exit with status 0 when asked to or when the starter is gone.

    With `work`, the port is only held for the server that `work` starts in a thread of its own, because it may wait for
    other nodes forever.
    Raises Failure if the node already runs, was announced on another host, or cannot get its port.
    """
    ignored = [signal.SIGUSR1, signal.SIGUSR2]  # Grid Engine warns every task, but only the chief acts on it
    if start.watcher:
        ignored.append(signal.SIGHUP)  # a closed terminal ends the chief, which saves everything, and then this node
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    starter_lives = living(start.starter)
    folder = announcements.folder(start.run, start.attempt)
    me, mine, state, status = psutil.Process(), None, {}, tool.DONE
    try:
        token = announcements.token(start.run)
        port = start.port or _recorded_port(start, folder, token)
        if port:
            _check_free(port)
        if start.watcher:
            _hold_lifeline(start, token, state)
        if work:
            _holder, taken = lifeline.held(port or 0)
        else:
            with _ending_directly(start, state):
                server = _server(start, port or 0)
            taken = int(server.target.rpartition(":")[2])
        mine = Announcement(start.host, taken, me.pid, me.create_time(), token)
        folder.mkdir(parents=True, exist_ok=True)
        announcements.announce(folder, start.role, start.index, mine)
        state["port"] = taken
        if work:
            threading.Thread(target=_work, args=(start, folder, mine, work, state), daemon=True).start()
        _live(f"{start.role} {start.index} on {start.host}:{taken}", me, starter_lives, state)
        end = "the process that started it is gone"
    except SystemExit:
        end, status = _told(state)
    except KeyboardInterrupt:
        end = "interrupted"
    except OSError as error:
        end, status = tool.reason(error), tool.FAILED
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if mine:
            with contextlib.suppress(OSError):
                announcements.withdraw(folder, start.role, start.index, mine)
    _tell_end(start, end)
    os._exit(status)  # TensorFlow's server cannot be shut down: a normal exit ends in a segmentation fault


def _tell_end(start: Start, why: str) -> None:
    tool.say(f"{start.role} {start.index} ended{'' if why == WITH_ATTEMPT else ':'} {why}")


def _told(state: dict) -> tuple[str, int]:
    """Return why this node got SIGTERM, in words, and the exit status."""
    return state.get("end", "SIGTERM"), state.get("status", tool.DONE)


@contextlib.contextmanager
def _ending_directly(start: Start, state: dict) -> Iterator[None]:
    """In this context a signal ends the process at once: TensorFlow's import turns a SystemExit into other errors."""

    def end(number: int, frame: object) -> NoReturn:
        why, status = ("interrupted", tool.DONE) if number == signal.SIGINT else _told(state)
        _tell_end(start, why)
        os._exit(status)

    heeded = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hold_lifeline(start: Start, token: str, state: dict) -> None:
    """Answer the watcher of this attempt in a thread, and end this process with SIGTERM when the watcher is gone."""
    who = {"role": start.role, "index": start.index, "host": start.host, "pid": os.getpid()}
    for left in reversed(range(JOIN_TRIES)):
        try:
            connection = lifeline.join(*start.watcher, token, who)
            break
        except (ConnectionRefusedError, TimeoutError):  # many nodes at once may fill the watcher's backlog
            if not left:
                state["end"] = "no watch-nodes watches this attempt"
                raise SystemExit from None
            time.sleep(JOIN_SECONDS)
        except lifeline.REFUSED:
            state["end"] = "no watch-nodes watches this attempt"
            raise SystemExit from None

    def answer() -> None:
        lost = lifeline.answer(connection, lambda: dict(state))
        state["end"] = "the host of watch-nodes does not answer" if lost else WITH_ATTEMPT
        state["status"] = WATCHER_LOST if lost else tool.DONE
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=answer, daemon=True).start()


def _work(start: Start, folder: Path, mine: Announcement, work: Work, state: dict) -> None:
    """Do the work of a node; if it fails, end the node."""

    def cluster() -> dict:
        while not (found := announcements.gathered(folder, start.role, start.index, mine)):
            time.sleep(LOOK_SECONDS)
        return found

    try:
        work(cluster)
    except Failure as failure:
        state.update(end=str(failure), status=tool.FAILED)
    except BaseException as error:
        if (limit := tool.memory_limit()) and tool.lacks_memory(error):
            state.update(end=tool.needs_memory(limit), status=tool.NO_MEMORY)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        traceback.print_exc()
        state.update(end="it failed", status=tool.FAILED)
    else:
        return
    os.kill(os.getpid(), signal.SIGTERM)


def _live(who: str, me: psutil.Process, starter_lives: Callable[[], bool], state: dict) -> None:
    """Measure memory (bytes) and load (cores kept busy) until the process that started this node is gone."""
    measured, busy = me.create_time(), 0.0
    due = log = time.monotonic()
    while starter_lives():
        rearm()
        if time.monotonic() >= due:
            due += MEASURE_SECONDS
            now, used = time.time(), sum(me.cpu_times()[:2])
            state["memory"], state["load"] = me.memory_info().rss, round((used - busy) / max(now - measured, 1e-3), 2)
            measured, busy = now, used
            if time.monotonic() >= log:
                log += LOG_SECONDS
                tool.say(f"{who}, {state['memory'] / 2**20:.0f} MB, load {state['load']:.1f}")
        time.sleep(LOOK_SECONDS)


def _server(start: Start, port: int):
    """Start TensorFlow's server for this node only: the chief names the other nodes when it connects."""
    without_proxies()
    with tool.hushed():
        import tensorflow as tf
    cores = start.threads or tool.cores()
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=cores,
        # With a single thread, a worker that calls a parameter server waits for itself forever.
        inter_op_parallelism_threads=max(4, cores),
    )
    address = {start.role: {start.index: f"{start.host}:{port}"}}
    try:
        return tf.distribute.Server(
            address, job_name=start.role, task_index=start.index, protocol="grpc", config=config
        )
    except tf.errors.OpError as error:
        raise Failure(f"TensorFlow's server cannot start on port {port or '0 (any)'}: {error.message}") from None


def _recorded_port(start: Start, folder: Path, token: str) -> int | None:
    """Return the port that this node had before it crashed: the chief expects it there."""
    before = announcements.read(folder, start.role, start.index, token)
    if not before:
        return None
    who = f"{start.role} {start.index} of attempt {start.attempt}"
    if before.host != start.host:
        raise Failure(f"{who} was announced on {before.host}; on another host it can only join the next attempt")
    if living(before.pid, before.start)():
        raise Failure(f"{who} is already running: process {before.pid}, port {before.port}")
    return before.port


def _check_free(port: int) -> None:
    """Raise Failure if a port is in use, before TensorFlow is imported for seconds."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise Failure(f"port {port} cannot be used: {tool.reason(error)}") from None
