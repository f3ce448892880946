"""How the nodes of a run find each other: each writes where it listens into the run's folder, one reader gathers it.

A run has a secret token, so that a node is never joined to another run; an attempt has a folder of its own
(`RUN/nodes/ATTEMPT/`), so that a node is never joined to an earlier one.
"""

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from depthfield import files, tool
from depthfield.cluster.plan import ROLES, Node, reduces
from depthfield.tool import Failure

WATCHER = "watcher"  # announces itself like a node: lib/depthfield/cluster/watch.py
POLL_SECONDS = 0.3
TOLD_SECONDS = 5  # between two lines about who is there


class Announcement(NamedTuple):
    """Where a node listens and which process it is; `start` (seconds since the epoch) tells it from a later one."""

    host: str
    port: int
    pid: int
    start: float
    token: str


def token(run: Path) -> str:
    """The run's token; whoever asks first makes it, and the run's folder with it, for the owner alone."""
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = run / "token"
    if not path.exists():
        temporary = run / f".token.{secrets.token_hex(8)}"
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):  # another node was first: its token it is
            os.link(temporary, path)
        temporary.unlink()
    found = path.read_text()
    if not found:
        raise Failure(f"{path}: the run's token is empty; end the run's nodes, remove the file and start again")
    return found


def folder(run: Path, attempt: int) -> Path:
    """Where the nodes of an attempt announce themselves."""
    return run / "nodes" / str(attempt)


def announce(folder: Path, role: str, index: int, announcement: Announcement) -> None:
    """Tell where a node listens; replaces what it told before."""
    files.write_json(_path(folder, role, index), announcement._asdict(), mode=0o600)  # the token is in it


def withdraw(folder: Path, role: str, index: int, announcement: Announcement) -> None:
    """Take an announcement back, unless it has been replaced by another's."""
    if read(folder, role, index, announcement.token) == announcement:
        _path(folder, role, index).unlink(missing_ok=True)


def read(folder: Path, role: str, index: int, token: str) -> Announcement | None:
    """A node's announcement; None where there is none, where it is not whole, or where its token is another."""
    try:
        found = Announcement(**json.loads(_path(folder, role, index).read_bytes()))
        numbers = 0 < found.port < 2**16 and found.pid > 0 and found.start > 0
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return found if numbers and found.host and isinstance(found.host, str) and found.token == token else None


def stop_asked(folder: Path) -> bool:
    """Whether this attempt shall end: there is a file `stop`, or the folder is gone."""
    try:
        os.scandir(folder).close()  # opening the folder makes NFS look anew instead of answering from memory
    except FileNotFoundError:
        return True
    return (folder / "stop").exists()


def gather(
    nodes: list[Node], run: Path, attempt: int, seconds: float, wanted: Callable[[], bool] = lambda: True
) -> dict[str, list[str]]:
    """Wait until all nodes have announced themselves; the cluster in TensorFlow's shape: role to `host:port` by index.

    Beside parameter servers the chief needs no announcement: it starts when the others are there, on a port nobody else
    must know (0). Without them it is a replica as the workers are, and watch-nodes announces it.
    Raises Failure after `seconds`, naming who is missing, or when the cluster is not `wanted` any more.
    """
    secret, here = token(run), folder(run, attempt)
    awaited = [node for node in nodes if node.role != "chief" or reduces(nodes)]
    found: dict[Node, Announcement] = {}
    begun = last = time.monotonic()
    while True:
        names = _names(here)
        missing = [node for node in awaited if node not in found]
        found |= _read_all([node for node in missing if _path(here, node.role, node.index).name in names], here, secret)
        for node in missing:
            if node in found:
                tool.detail(f"{node.role} {node.index} listens on {found[node].host}:{found[node].port}")
        if len(found) == len(awaited):
            found = _read_all(awaited, here, secret)  # one that ended meanwhile is waited for again
        if len(found) == len(awaited):
            break
        if not wanted():
            raise Failure("nobody waits for the cluster any more")
        now = time.monotonic()
        if now - begun >= seconds:
            names = ", ".join(f"{node.role} {node.index} on {node.host}" for node in awaited if node not in found)
            count = f"{len(awaited) - len(found)} of {len(awaited)} nodes"
            raise Failure(f"{count} have not announced themselves within {seconds:g} s: {names}")
        waiting = f"waiting for nodes: {len(found)} of {len(awaited)}"
        tool.show(waiting, f"giving up in {seconds - (now - begun):.0f} s")
        if now - last >= TOLD_SECONDS and not tool.line.there():
            last = now
            tool.inform(waiting)
        time.sleep(POLL_SECONDS)
    tool.line.erase()
    where = {node: f"{found[node].host}:{found[node].port}" if node in found else f"{node.host}:0" for node in nodes}
    by_index = sorted(nodes, key=lambda node: node.index)
    cluster = {role: [where[node] for node in by_index if node.role == role] for role in ROLES}
    return {role: places for role, places in cluster.items() if places}


def gathered(folder: Path, role: str, index: int, mine: Announcement) -> dict[str, list[str]] | None:
    """The attempt's cluster.json, once it is whole and names `mine` as that node; None before."""
    try:
        cluster = json.loads((folder / "cluster.json").read_bytes())
        return cluster if cluster[role][index] == f"{mine.host}:{mine.port}" else None
    except (FileNotFoundError, ValueError, KeyError, IndexError, TypeError):
        return None


def _path(folder: Path, role: str, index: int) -> Path:
    return folder / f"{role}-{index}.json"


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return set()


def _read_all(nodes: list[Node], folder: Path, token: str) -> dict[Node, Announcement]:
    announced = {node: read(folder, node.role, node.index, token) for node in nodes}
    return {node: announcement for node, announcement in announced.items() if announcement}
