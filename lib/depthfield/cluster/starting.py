"""What start-nodes does: start the nodes of a plan, and make sure that they end."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from depthfield.cluster import announcements, attempts, plan, settings, ways
from depthfield.cluster.plan import Node
from depthfield.cluster.processes import living
from depthfield.tool import Failure, detail, showing

LOOK_SECONDS = 0.3


def start_nodes(
    home: Path, run: Path, attempt: int, way: str, nodes: Sequence[Node], threads: int, seconds: float, starter: int
) -> None:
    """Start all nodes but the chief, each with the address of its watcher, and stay until the watcher has ended.

    `way` is one of endings.MACHINE, PE and ARRAY; `seconds` is how long to wait for the watcher. Raises Failure if no
    watcher announces itself, or a node cannot be started.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):  # the chief handles them, and ends us
        signal.signal(number, signal.SIG_IGN)
    lives = living(starter)
    with showing("waiting for watch-nodes"):
        watcher = awaited(run, attempt, lives, seconds)
    if watcher is None:
        return  # our starter ended before it watched
    address = f"{watcher.host}:{watcher.port}"
    given = settings.read(home, os.environ | {"RUN_DIR": str(run.parent), "RUNID": run.name})
    place = ways.here(given) if way != ways.ThisMachine.name else ways.ThisMachine(given)
    if place.name != way:
        raise Failure(f"--way {way}: JOB_ID and PE_HOSTFILE say that this is {place.name}; use --way {place.name}")
    of = ways.Attempt(run, attempt, address, threads, plan.reduces(nodes))
    watching = living(watcher.pid)
    try:
        started = [node for node in nodes if node.role != "chief"]
        place.start(started, of)
        for node in started:
            detail(f"{node.role} {node.index} on {node.host}, log {of.log(node)}")
        while lives() and watching():
            place.tend(of)
            time.sleep(LOOK_SECONDS)
    except Failure as failure:  # nothing needs to wait for nodes that cannot start
        (of.folder / attempts.UNSTARTED).write_text(f"{failure}\n")
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        place.end()


def awaited(run: Path, attempt: int, lives: Callable[[], bool], seconds: float) -> announcements.Announcement | None:
    """Wait for the announcement of the watcher on this host; None if our starter has ended."""
    folder, deadline = announcements.folder(run, attempt), time.monotonic() + seconds
    while lives():
        found = announcements.read(folder, announcements.WATCHER, 0, announcements.token(run))
        if found and living(found.pid, found.start)():
            return found
        if time.monotonic() > deadline:
            raise Failure(f"attempt {attempt}: no watch-nodes within {seconds:g} s; start it beside start-nodes")
        time.sleep(LOOK_SECONDS)
    return None
