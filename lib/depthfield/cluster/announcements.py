"""How the nodes of a run find each other: each writes its address into the run's folder; gather-spec reads all.

Each run has a secret token, so that a node never joins another run. Each attempt has its own folder
(`RUN/nodes/ATTEMPT/`), so that a node never joins an earlier attempt.
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

WATCHER = "watcher"  # watch-nodes announces itself like a node
POLL_SECONDS = 0.3
TOLD_SECONDS = 5  # until the first message about the nodes found so far; each pause is twice the last


class Announcement(NamedTuple):
    """A node's address and process; `start` (seconds since the epoch) distinguishes processes with the same id."""

    host: str
    port: int
    pid: int
    start: float
    token: str


def token(run: Path) -> str:
    """Return the run's token; the first caller creates it, and the run's folder, readable only by the owner."""
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = run / "token"
    if not path.exists():
        temporary = run / f".token.{secrets.token_hex(8)}"
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):  # another node was first; use its token
            os.link(temporary, path)
        temporary.unlink()
    found = path.read_text()
    if not found:
        raise Failure(f"{path}: the run's token is empty; stop the run's nodes, remove the file and start again")
    return found


def folder(run: Path, attempt: int) -> Path:
    """Return the folder where the nodes of an attempt announce themselves."""
    return run / "nodes" / str(attempt)


def announce(folder: Path, role: str, index: int, announcement: Announcement) -> None:
    """Write where a node listens; replaces its earlier announcement."""
    files.write_json(_path(folder, role, index), announcement._asdict(), mode=0o600)  # it contains the token


def withdraw(folder: Path, role: str, index: int, announcement: Announcement) -> None:
    """Remove an announcement, unless another one has replaced it."""
    if read(folder, role, index, announcement.token) == announcement:
        _path(folder, role, index).unlink(missing_ok=True)


def read(folder: Path, role: str, index: int, token: str) -> Announcement | None:
    """Return a node's announcement; None if it is missing or incomplete, or has another token."""
    try:
        found = Announcement(**json.loads(_path(folder, role, index).read_bytes()))
        numbers = 0 < found.port < 2**16 and found.pid > 0 and found.start > 0
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return found if numbers and found.host and isinstance(found.host, str) and found.token == token else None


def stop_asked(folder: Path) -> bool:
    """Whether this attempt should end: the file `stop` exists, or the folder is gone."""
    try:
        os.scandir(folder).close()  # opening the folder makes NFS ask the server instead of its cache
    except FileNotFoundError:
        return True
    return (folder / "stop").exists()


def gather(
    nodes: list[Node], run: Path, attempt: int, seconds: float, wanted: Callable[[], bool] = lambda: True
) -> dict[str, list[str]]:
    """Wait until all nodes have announced themselves; returns role -> list of `host:port` by index, as in TensorFlow.

    With parameter servers the chief needs no announcement: it starts last, on a port that no other node must know (0).
    Without them the chief is a replica like the workers, and watch-nodes announces it.
    Raises Failure after `seconds`, naming the missing nodes, or if the cluster is no longer `wanted`.
    """
    secret, here = token(run), folder(run, attempt)
    awaited = [node for node in nodes if node.role != "chief" or reduces(nodes)]
    found: dict[Node, Announcement] = {}
    begun, pause = time.monotonic(), TOLD_SECONDS
    while True:
        names = _names(here)
        missing = [node for node in awaited if node not in found]
        found |= _read_all([node for node in missing if _path(here, node.role, node.index).name in names], here, secret)
        for node in missing:
            if node in found:
                tool.detail(f"{node.role} {node.index} listens on {found[node].host}:{found[node].port}")
        if len(found) == len(awaited):
            found = _read_all(awaited, here, secret)  # a node that has ended since is awaited again
        if len(found) == len(awaited):
            break
        if not wanted():
            raise Failure("the process that waits for the cluster has ended")
        now = time.monotonic()
        if now - begun >= seconds:
            names = ", ".join(f"{node.role} {node.index} on {node.host}" for node in awaited if node not in found)
            count = f"{len(awaited) - len(found)} of {len(awaited)} nodes"
            raise Failure(f"{count} have not announced themselves within {seconds:g} s: {names}")
        spent = now - begun
        waiting = f"waiting for nodes: {len(found)} of {len(awaited)} have announced themselves after {spent:.0f} s"
        tool.show(waiting, f"giving up in {seconds - spent:.0f} s")
        if spent >= pause and not tool.line.there():
            pause *= 2
            tool.inform(waiting)
        time.sleep(POLL_SECONDS)
    tool.line.erase()
    where = {node: f"{found[node].host}:{found[node].port}" if node in found else f"{node.host}:0" for node in nodes}
    by_index = sorted(nodes, key=lambda node: node.index)
    cluster = {role: [where[node] for node in by_index if node.role == role] for role in ROLES}
    return {role: places for role, places in cluster.items() if places}


def gathered(folder: Path, role: str, index: int, mine: Announcement) -> dict[str, list[str]] | None:
    """Return the attempt's cluster.json if it is complete and names `mine` as this node, otherwise None."""
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
