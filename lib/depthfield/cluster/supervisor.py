"""The supervisor of a run: one attempt after the other, each a chain of commands in shell, and what follows each.

What follows is a table in `endings.py`; how it is done in each way into a cluster is in `ways.py`.
"""

import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from depthfield import lease, tool
from depthfield.cluster import attempts, endings, gridengine, submission, takeover, ways
from depthfield.cluster.endings import End, Facts, Then
from depthfield.cluster.processes import STOPPING, Child, Signals, adopt_orphans, end_orphans
from depthfield.cluster.settings import Settings
from depthfield.tool import Failure, inform, say, showing

LEASE_SECONDS = 90  # for who had the run before to let go of it
REST_SECONDS = 120  # for start-nodes to see to the end of all nodes
LOOK_SECONDS = 5  # a process that is not waited for by pidfd is looked at so often


class Supervisor:
    """One process's work on a run; `script` runs the chain of one attempt, which its environment names."""

    def __init__(self, settings: Settings, script: Path, arguments: Sequence[str], environment: Mapping[str, str]):
        self.begun = time.monotonic()
        self.settings, self.script, self.arguments, self.environment = settings, script, arguments, environment
        self.run = settings.run
        self.way = ways.here(settings, environment)
        self.origin = attempts.origin(self.run, self.way.job)
        self.leave = self._time_to_leave()
        self.signals = Signals(*STOPPING, signal.SIGUSR1)
        self.asked: int | None = None  # the signal that asks for an end

    def go(self) -> int:
        """Train until the end, or until nothing more can be done here; the exit status."""
        with showing("waiting for the process that trains this run to end"):
            lease.wait(self.run, LEASE_SECONDS)
        while True:
            if attempts.fruitless(self.run, self.origin) >= attempts.ALLOWED:
                gives_up = f"{attempts.ALLOWED} attempts without a new checkpoint, giving up"
                attempts.write_state(self.run / "nodes" / str(attempts.last(self.run)), f"ended: {gives_up}")
                say(f"{gives_up}: see {self.run / 'logs'}")
                return endings.gave_up(self.way.name)
            folder = attempts.begin(self.run, self.way.job, self.origin)
            if self.environment.get("JOB_ID"):
                attempts.tell_job(self.run, self.way.job)
            self._tell(folder)
            status = self._chain(folder)
            found = self._what_happened(folder, status)
            follows = self._decide(folder, found)  # before the nodes end: one on a host that was lost waits for it
            if self._rest(folder) and follows not in (Then.EXIT, Then.STAND_DOWN):
                found, follows = End.STOPPED, Then.EXIT
            if (exit_status := self._follow(folder, found, follows, status)) is not None:
                return exit_status

    def _tell(self, folder: Path) -> None:
        way, job = self.way, self.environment.get("JOB_ID")
        of_job, until = f", job {job}" if job else "", f", until second {self.leave:.0f}" if self.leave else ""
        inform(f"run {self.run}, attempt {folder.name}{of_job}: {way.ps} ps, {way.workers} workers{until}")
        submission.tell_how_to_watch(self.settings)
        attempts.write_state(folder, "waiting for nodes")

    def _time_to_leave(self) -> float | None:
        """When to stop and save, in seconds after we began, before a limit ends the job; None for never."""
        limits = [float(self.settings.timeout)] if self.settings.timeout else []
        if self.way.name != endings.MACHINE:
            limits += [leave_before(limit) for limit in self._limits()]
        return min(limits, default=None)

    def _limits(self) -> list[int]:
        """The time limits of this job and of its queues, in seconds."""
        queues = {self.environment.get("QUEUE", ""), *getattr(self.way, "queues", ())} - {""}
        job = gridengine.job(self.way.job)
        return gridengine.limits(job.request, sorted(queues)) if job else []

    def _left(self) -> float | None:
        return None if self.leave is None else self.leave - (time.monotonic() - self.begun)

    def _chain(self, folder: Path) -> int:
        """Run the chain of an attempt until watch-nodes, which it becomes, has ended; its status."""
        self.way.plan(folder)
        left = self._left()
        wait = self.way.wait if left is None else max(min(self.way.wait, int(left)), 1)
        cores = {name: str(self.way.threads) for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")}
        told = {
            "RUN": self.run, "ATTEMPT": folder.name, "WAY": self.way.name, "HOST": self.way.host, "WAIT": wait,
            "PS_NODES": self.way.ps, "WORKERS": self.way.workers, "THREADS": self.way.threads,
            "TIMEOUT": "" if left is None else max(int(left), 1),
        } | (cores if self.way.name != endings.MACHINE or not self.way.ps else {})  # fmt: skip
        environment = {**self.environment, **{name: str(value) for name, value in told.items()}}
        self.nodes_end, held = os.pipe()  # `held` goes to all of the chain but the nodes and train-depth
        chain = Child([self.script, *self.arguments], env=environment, pass_fds=[held])
        os.close(held)
        while not chain.wait(LOOK_SECONDS, self.signals):
            for number in self.signals.take():
                if number in STOPPING:
                    self.asked = number
                chain.send(signal.SIGUSR1 if number == signal.SIGUSR1 else signal.SIGTERM)
        self.ended = f"ended with status {chain.status} after {time.monotonic() - self.begun:.0f} s"
        return chain.status

    def _rest(self, folder: Path) -> bool:
        """Wait until no process of the chain is left; whether a signal that asks for an end came meanwhile."""
        if not closed(self.nodes_end, REST_SECONDS):
            say(f"attempt {folder.name}: its nodes do not end, see {self.run / 'logs'}")
        return self._asked()

    def _asked(self) -> bool:
        """Whether a signal that asks for an end came."""
        for number in self.signals.take():
            self.asked = number if number in STOPPING else self.asked
        return self.asked is not None

    def _what_happened(self, folder: Path, status: int) -> End:
        """How the attempt ended. Lost hosts are no news to who cannot reach the qmaster: he may be the lost one."""
        asked = self._asked() or (folder / "stop").exists()
        on_grid = self.way.name != endings.MACHINE
        facts = Facts(status, asked, self._lost(folder))
        if endings.end(facts) is End.LOST and on_grid:
            facts = facts._replace(reachable=gridengine.reachable())
        return endings.end(facts)

    def _lost(self, folder: Path) -> tuple[str, ...]:
        """The hosts that the watcher of this attempt has lost, beside our own, which is at work."""
        return tuple(host for host in (attempts.text(folder / "lost") or "").split() if host != self.way.host)

    def _decide(self, folder: Path, found: End) -> Then:
        """What follows, once it is ours to decide: a node that lost sight of this host may be on its way to do it."""
        follows = endings.then(found, self.way.name, self._left())
        who = f"{self.way.host}, process {os.getpid()}"
        if follows is not Then.STAND_DOWN:
            return follows if attempts.claim(folder, who) else Then.STAND_DOWN
        say("other hosts are lost, and the qmaster does not answer: this host may be cut off")
        attempts.write_state(folder, "cut off from the grid, waiting")
        if takeover.reached_first(folder, who):
            inform("the qmaster answers again")
            return endings.then(End.BROKE, self.way.name, self._left())  # the others may be there again
        return Then.STAND_DOWN

    def _follow(self, folder: Path, found: End, follows: Then, status: int) -> int | None:
        """Do what follows; the exit status, None for another attempt."""
        if follows is not Then.STAND_DOWN:  # what is said of the attempt then is for others to say
            attempts.write_state(folder, self.ended)
            inform(self.ended)
            if found is End.LOST:
                attempts.avoid(folder, self._lost(folder))
        match follows:
            case Then.EXIT:
                if found is End.STOPPED:
                    inform("stopped as asked; the same command goes on")
                return endings.status(found, self.way.name, status)
            case Then.GIVE_UP:
                free = gridengine.free_slots()
                say(f"no slots for all nodes within {self.way.wait} s, giving up; free slots by queue: {free}")
                return tool.FAILED
            case Then.STAND_DOWN:
                say(f"this run goes on without {self.way.host}: {attempts.claimed(folder) or 'nobody has said where'}")
                return endings.GOES_ON
            case Then.LATER:
                say(found.value)
                return self.way.go_on()
            case Then.WITHOUT:
                return None if self.way.lose(self._lost(folder)) else self.way.go_on()
        say(found.value)
        return None


def leave_before(limit: int) -> float:
    """When to leave before a time limit, both in seconds: a tenth earlier, at least 15 and at most 300 s."""
    return max(limit - min(max(limit // 10, 15), 300), 1)


def closed(pipe: int, seconds: float) -> bool:
    """Whether all who hold the other end of this pipe end within `seconds`; closes our own."""
    try:
        return bool(select.select([pipe], [], [], seconds)[0])  # nobody writes: readable is at its end
    finally:
        os.close(pipe)


def train(
    settings: Settings, script: Path, arguments: Sequence[str], environment: Mapping[str, str] = os.environ
) -> int:
    """Train a run: submit a job for it where there is a grid, else, and in a job, attempt after attempt."""
    if not any(settings.records.glob("train-*.tfrecord")):
        first = "run fetch-dataset, make-patches and to-tfrecord first"
        raise Failure(f"no train-*.tfrecord in {settings.records}: {first}")
    if not environment.get("JOB_ID"):
        if settings.grid and gridengine.present():
            submission.submit(settings, script, arguments)
            return tool.DONE
        submission.without_grid(settings)
    for name in ("nodes", "logs"):
        (settings.run / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    supervisor = Supervisor(settings, script, arguments, environment)
    adopt_orphans()
    try:
        status = supervisor.go()
    finally:
        end_orphans()  # of an attempt before: qrsh to a host that was lost
    if supervisor.asked == signal.SIGINT:
        raise KeyboardInterrupt  # all is saved; a shell loop around this ends too
    return status
