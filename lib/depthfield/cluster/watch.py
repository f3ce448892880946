"""The watcher of an attempt: holds the lifelines of its nodes while the command that uses them runs.

`state.json` in the attempt's folder has the state of each node. The watcher ends the command if the cluster breaks,
because TensorFlow would wait forever, and if the user asks to stop.
"""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from depthfield import files, tool
from depthfield.cluster import announcements, attempts, lifeline
from depthfield.cluster.announcements import Announcement
from depthfield.cluster.endings import BROKEN
from depthfield.cluster.plan import Node, reduces
from depthfield.cluster.processes import STOPPING, Child, Signals

AWAY_SECONDS = 45  # for a worker to return
END_SECONDS = 60  # for a command to save and end when asked; a broken cluster may prevent both
BROKEN_SECONDS = 12
GRACE_SECONDS = 3  # if the command noticed first, time for the reason to arrive
LOOK_SECONDS = 0.2
TOLD_SECONDS = 2  # between two writes of the state, and two checks for the stop file

AWAITED, STARTING, SERVING, GONE, LOST, FAILED = "awaited", "starting", "serving", "gone", "lost", "failed"


class Watch:
    """The current state of the nodes of an attempt, by role and index; threads keep it up to date."""

    def __init__(self, plan: Sequence[Node], folder: Path, host: str, token: str):
        self.nodes = {
            (node.role, node.index): {"role": node.role, "index": node.index, "host": node.host, "state": AWAITED}
            for node in plan
            if node.role != "chief"
        }
        self.reduces = reduces(plan)
        self.away: dict[tuple[str, int], float] = {}  # when nodes went away, time.monotonic()
        self.token, self.over = token, threading.Event()
        listener = lifeline.listen(host)
        me = psutil.Process()
        self.mine = Announcement(host, listener.getsockname()[1], me.pid, me.create_time(), token)
        self.folder = folder
        if self.reduces:  # the command is a node too: it uses the port that is held for it
            self.held, port = lifeline.held(0)
            announcements.announce(folder, "chief", 0, self.mine._replace(port=port))
        announcements.announce(folder, announcements.WATCHER, 0, self.mine)
        threading.Thread(target=self._receive, args=(listener,), daemon=True).start()

    def _receive(self, listener: socket.socket) -> None:
        while True:
            try:
                reached, _ = listener.accept()
                threading.Thread(target=self._attend, args=(reached,), daemon=True).start()
            except (OSError, RuntimeError):  # too many files or threads, held by strangers for a short time
                time.sleep(LOOK_SECONDS)

    def _attend(self, reached: socket.socket) -> None:
        """Serve one lifeline, from its first message to its end."""
        try:
            connection, who = lifeline.accept(reached, self.token)
            node = self.nodes[who["role"], who["index"]]
        except (*lifeline.REFUSED, KeyError, TypeError):
            return
        name = f"{who['role']} {who['index']} on {who['host']}"
        if node["state"] == GONE:
            _say(f"{name} has restarted")
        node.update(host=who["host"], pid=who["pid"], state=STARTING)

        def told(news: dict) -> None:
            state = SERVING if news.get("port") else STARTING
            if state != node["state"]:
                _say(f"{name} is {state}", tool.detail)
            node.update(news, state=state)

        lost = lifeline.ask(connection, told, self.over)
        if node["pid"] == who["pid"] and not self.over.is_set():  # unless another process replaced it
            self.away[who["role"], who["index"]] = time.monotonic()
            node.update(state=LOST if lost else GONE)
            if who["role"] == "worker" and not lost and not self.reduces:
                _say(f"{name} has ended; waiting {AWAY_SECONDS} s for it to restart")

    def broken(self, ended: bool = False) -> str | None:
        """Return why the cluster is broken, or None. With `ended`, the command ended by itself: any reason counts."""
        now = time.monotonic()
        for key, node in self.nodes.items():
            who = f"{node['role']} {node['index']} on {node['host']}"
            if node["state"] == LOST:
                return f"{who}: its host does not answer"
            if node["state"] == GONE:
                if ended or node["role"] == "ps" or self.reduces:
                    return f"{who} has ended"
                if now - self.away[key] > AWAY_SECONDS:
                    return f"{who} has not restarted for {AWAY_SECONDS} s"
            if node["state"] == FAILED:
                return f"{who} has failed; see its log"
            if ended and node["state"] == AWAITED:
                return f"{who} never connected"
        return None

    def look(self) -> None:
        """Find nodes that keep-node has given up or that could not start, so that they are not awaited for long."""
        for path in self.folder.glob("*.failed"):
            role, _, index = path.stem.partition("-")
            node = self.nodes[role, int(index)]
            if node["state"] in (AWAITED, GONE):
                node.update(state=FAILED)

    def write(self) -> None:
        """Write the state of the nodes into the attempt's folder; a full disk must not end the training."""
        nodes = [dict(node) for node in self.nodes.values()]  # copies, because threads change the originals
        with contextlib.suppress(OSError):
            if self.folder.is_dir():  # do not recreate a run that was removed
                files.write_json(self.folder / "state.json", {"nodes": nodes})

    def write_lost(self) -> None:
        """Write the hosts that the next attempt should avoid: lost, or never heard from."""
        hosts: dict[str, set[str]] = {}
        for node in self.nodes.values():
            hosts.setdefault(node["host"], set()).add(node["state"])
        bad = sorted(host for host, states in hosts.items() if LOST in states or states == {AWAITED})
        files.write_text(self.folder / "lost", "".join(f"{host}\n" for host in bad))

    def close(self) -> None:
        """End all lifelines, and with them the nodes."""
        self.over.set()
        announcements.withdraw(self.folder, announcements.WATCHER, 0, self.mine)
        if self.reduces:
            announcements.withdraw(self.folder, "chief", 0, self.mine._replace(port=self.held.getsockname()[1]))


def attend(watch: Watch, command: Sequence[str]) -> int:
    """Run `command` while watching; returns its exit status, 128 + N if signal N ended it, BROKEN if the cluster broke.

    SIGTERM, SIGINT, SIGHUP and SIGUSR2 reach the command as SIGTERM, SIGUSR1 as itself. It ends with our starter. If
    the nodes could not be started, or they or the command lack memory, the status is tool.FAILED: another attempt would
    end in the same way.
    """
    signals = Signals(*STOPPING, signal.SIGUSR1)
    starter = os.getppid()
    child = Child(command)
    due = 0.0
    deadline = reason = unstarted = None
    while child.status is None:
        now = time.monotonic()
        asked = signals.take()
        if os.getppid() != starter:
            asked.append(signal.SIGTERM)
            starter = os.getppid()
        if reason is None and (reason := watch.broken()):
            _say(f"{reason}; ending this attempt")
            asked.append(signal.SIGTERM)
            deadline = now + BROKEN_SECONDS
        if now >= due:
            due = now + TOLD_SECONDS
            with contextlib.suppress(OSError):  # a disk that does not answer for a while must not either
                watch.look()
                if unstarted is None and (unstarted := attempts.text(watch.folder / attempts.UNSTARTED)):
                    _say(f"the nodes could not be started: {unstarted}")
                    asked.append(signal.SIGTERM)
                if deadline is None and announcements.stop_asked(watch.folder):
                    _say("asked to stop")
                    asked.append(signal.SIGTERM)
            watch.write()
        for number in asked:
            child.send(signal.SIGUSR1 if number == signal.SIGUSR1 else signal.SIGTERM)
            if number != signal.SIGUSR1:
                deadline = deadline or now + END_SECONDS
        if deadline is not None and now > deadline:
            _say(f"{command[0]} does not end; killed it")
            child.send(signal.SIGKILL)
        child.wait(LOOK_SECONDS, signals)
    status = child.status
    if status == tool.NO_MEMORY and not unstarted:
        short = tool.needs_memory(tool.memory_limit() or 0)
        files.write_text(watch.folder / attempts.UNSTARTED, f"{Path(command[0]).name} on {watch.mine.host}: {short}\n")
    if unstarted or status == tool.NO_MEMORY:
        return tool.FAILED
    patience = time.monotonic() + GRACE_SECONDS
    while reason is None and status == tool.FAILED and time.monotonic() < patience:
        if reason := watch.broken(ended=True):
            _say(reason)
        time.sleep(LOOK_SECONDS)
    watch.write()
    if not reason or status in (tool.DONE, tool.USAGE):
        return status
    watch.write_lost()
    return BROKEN


def _say(message: str, how: Callable[[str], None] = tool.say) -> None:
    """Write one line to stderr; if its reader is gone, the command must still be watched."""
    with contextlib.suppress(OSError):
        how(message)
