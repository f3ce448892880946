"""Starting the nodes of a plan, and seeing to their end: what start-nodes does between the two."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from depthfield.cluster import announcements, plan, settings, ways
from depthfield.cluster.plan import Node
from depthfield.cluster.processes import living
from depthfield.tool import Failure, detail, showing

LOOK_SECONDS = 0.3


def start_nodes(
    home: Path, run: Path, attempt: int, way: str, nodes: Sequence[Node], threads: int, seconds: float, starter: int
) -> None:
    """Start all nodes but the chief, each with the address of its watcher, and stay until the watcher has ended.

    `way` is one of endings.MACHINE, PE and ARRAY; `seconds` how long to wait for the watcher. Raises Failure where
    nobody watches the attempt, or a node cannot be started.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):  # the chief heeds them, and ends us
        signal.signal(number, signal.SIG_IGN)
    lives = living(starter)
    with showing("waiting for watch-nodes"):
        watcher = awaited(run, attempt, lives, seconds)
    if watcher is None:
        return  # whoever started us has gone before it watched
    address = f"{watcher.host}:{watcher.port}"
    given = settings.read(home, os.environ | {"RUN_DIR": str(run.parent), "RUNID": run.name})
    place = ways.here(given) if way != ways.ThisMachine.name else ways.ThisMachine(given)
    if place.name != way:
        raise Failure(f"--way {way}: this is {place.name}, by JOB_ID and PE_HOSTFILE")
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
    except Failure as failure:  # nobody need wait for nodes that cannot come
        (of.folder / "failed").write_text(f"{failure}\n")
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        place.end()


def awaited(run: Path, attempt: int, lives: Callable[[], bool], seconds: float) -> announcements.Announcement | None:
    """The announcement of the watcher on this host, once it is there; None where our starter has gone."""
    folder, deadline = announcements.folder(run, attempt), time.monotonic() + seconds
    while lives():
        found = announcements.read(folder, announcements.WATCHER, 0, announcements.token(run))
        if found and living(found.pid, found.start)():
            return found
        if time.monotonic() > deadline:
            raise Failure(f"nobody watches attempt {attempt}: no watch-nodes within {seconds:g} s")
        time.sleep(LOOK_SECONDS)
    return None
