"""The keeper of one node on its host: starts the node, and restarts a crashed worker on the port it had.

A crashed parameter server has lost its parameters, and all-reduce cannot continue without one of its workers: then the
next attempt starts from the checkpoint.
"""

import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from depthfield import files, tool
from depthfield.cluster import announcements, attempts, grid, takeover
from depthfield.cluster.node import WATCHER_LOST
from depthfield.cluster.plan import Node
from depthfield.cluster.processes import Child, Signals, end
from depthfield.tool import say

RESTARTS = 5
PAUSE_SECONDS = 1  # before a restart
TERM_SECONDS = 4  # for a node to end by itself
LOOK_SECONDS = 60


class Kept(NamedTuple):
    """A node and its settings."""

    home: Path
    run: Path
    attempt: int
    role: str
    index: int
    host: str
    watcher: str  # HOST:PORT
    threads: int
    gpus: str | None  # numbers of GPUs of this host, I/N for the Ith share of N, - for none, None for all
    job: str | None  # the chief's
    reduces: bool = False  # whether a worker trains by all-reduce, with the chief


def keep(node: Kept, environment: Mapping[str, str] = os.environ) -> None:
    """Run a node until it ends; all output goes to its log."""
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):  # warnings that only the chief handles
        signal.signal(number, signal.SIG_IGN)
    signals = Signals(signal.SIGTERM, signal.SIGINT)
    folder = announcements.folder(node.run, node.attempt)
    mine = folder, node.role, node.index, announcements.token(node.run)
    for restart in range(RESTARTS + 1):
        say(f"---- attempt {node.attempt}, {time.strftime('%F %T')}, {socket.gethostname()}{of_job(environment)}")
        child = Child(command(node), env=with_gpus(node, environment))
        while not child.wait(LOOK_SECONDS, signals):
            if signals.take():
                end([child], (signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, TERM_SECONDS))
                return
        if child.status == 0:
            return
        if child.status == WATCHER_LOST:
            if node.job:
                who = f"{node.role} {node.index} on {node.host}, process {os.getpid()}"
                takeover.after_loss(node.run, folder, node.job, node.watcher.rpartition(":")[0], who)
            return
        if short := too_little_memory(child.status, announced=announcements.read(*mine) is not None):
            where = f"{node.role} {node.index} on {node.host}"
            files.write_text(folder / attempts.UNSTARTED, f"{where}: {short}\n")  # watch-nodes ends the attempt
            if child.status != tool.NO_MEMORY:  # with which the node has said so
                say(short)
            return
        if node.role == "ps" or node.reduces or restart == RESTARTS:
            break
        say(f"{node.role}-{node.index} ended with status {child.status}; restart {restart + 1} of {RESTARTS}")
        time.sleep(PAUSE_SECONDS)
    if folder.exists() and not attempts.ended(folder):
        (folder / f"{node.role}-{node.index}.failed").touch()  # watch-nodes looks for it


def too_little_memory(status: int, announced: bool) -> str | None:
    """Return what to say of a node that ended for its limit of memory, None if it ended for another reason.

    TensorFlow aborts if it cannot start its threads; one that has announced itself had them.
    """
    aborted = status == 128 + signal.SIGABRT and not announced
    limit = tool.memory_limit()
    return tool.needs_memory(limit) if limit and (aborted or status == tool.NO_MEMORY) else None


def of_job(environment: Mapping[str, str]) -> str:
    return f", job {environment['JOB_ID']}" if environment.get("JOB_ID") else ""


def command(node: Kept) -> list[object]:
    """Return the command line of the node itself."""
    words = [node.home / "bin" / f"{node.role}-node", "--run", node.run, "--attempt", node.attempt]
    words += ["--reduce"] if node.reduces else []
    words += ["--index", node.index, "--host", node.host, "--threads", node.threads]
    return [*words, "--parent", os.getpid(), "--watcher", node.watcher]


def with_gpus(node: Kept, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the node: its threads, and the GPUs that it may use."""
    threads = {name: str(node.threads) for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")}
    found = dict(environment) | threads
    allowed = shown_gpus(node.gpus, allotted(environment)) if node.role == "worker" else []
    if allowed is not None:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(allowed)
    return found


def allotted(environment: Mapping[str, str]) -> list[str] | None:
    """Return the GPUs that the site gave this job on this host; None if it does not say.

    Most sites set CUDA_VISIBLE_DEVICES; the resource maps of Univa and Open Cluster Scheduler are in SGE_HGR_NAME, ids
    separated by blanks.
    """
    if (devices := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in devices.split(",") if name.strip() not in ("", "-1")]
    for name in grid.GPU_NAMES:
        if (granted := environment.get(f"SGE_HGR_{name}")) is not None:
            return granted.replace(",", " ").split()
    return None


def shown_gpus(planned: str | None, allotted: Sequence[str] | None) -> list[str] | None:
    """Return the value of a worker's CUDA_VISIBLE_DEVICES as a list; None to leave it unchanged.

    Workers that share a GPU take each other's memory, so they share one only if there are fewer GPUs than workers.
    """
    if planned is None:
        return None if allotted is None else list(allotted)
    if planned == "-":
        return []
    if "/" in planned:
        which, shares = map(int, planned.split("/"))
        given = allotted or []
        return list(given[which::shares]) or list(given[which % len(given) :][:1] if given else [])
    numbers = planned.split(",")  # the plan counts GPUs; their names are those that the site gives us
    return [allotted[int(n)] if n.isdigit() and allotted and int(n) < len(allotted) else n for n in numbers]


def gpus_of_chief(nodes: Sequence[Node], allotted: Sequence[str] | None) -> list[str] | None:
    """The same for a chief that is one of the workers: it counts as the first worker of its host."""
    if any(node.host == "*" for node in nodes):
        return None if allotted is None else list(allotted)
    return list(allotted or nodes[0].gpus)[:1]
