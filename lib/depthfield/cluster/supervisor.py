"""The supervisor of a run: runs one attempt after another, each a shell script, and decides what follows.

The decisions are a table in `endings.py`; `ways.py` carries them out.
"""

import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from depthfield import files, lease, tool
from depthfield.cluster import attempts, endings, gridengine, submission, takeover, ways
from depthfield.cluster.endings import End, Facts, Then
from depthfield.cluster.processes import STOPPING, Child, Signals, adopt_orphans, end_orphans
from depthfield.cluster.settings import TOLD, Settings
from depthfield.tool import Failure, inform, say, showing

LEASE_SECONDS = 90  # for the process that held the run before to release it
REST_SECONDS = 120  # for start-nodes to end all nodes
LOOK_SECONDS = 5  # between two checks of a process that has no pidfd


class Supervisor:
    """The work of one process on a run; `script` runs one attempt, which its environment names."""

    def __init__(self, settings: Settings, script: Path, arguments: Sequence[str], environment: Mapping[str, str]):
        self.begun = time.monotonic()
        self.settings, self.script, self.arguments, self.environment = settings, script, arguments, environment
        self.run = settings.run
        self.way = ways.here(settings, environment)
        self.origin = attempts.origin(self.run, self.way.job)
        self.limits = self._limits() if self.way.name != endings.MACHINE else []
        self.leave = self._time_to_leave()
        self.signals = Signals(*STOPPING, signal.SIGUSR1)
        self.asked: int | None = None  # the signal that asked to end
        self.late = False  # whether Grid Engine has begun to end the job at its time limit
        self.first = True  # whether the next attempt is the first of this process

    def go(self) -> int:
        """Train until the run is done, or until nothing more can be done here; returns the exit status."""
        with showing("waiting for the process that trains this run to end"):
            lease.wait(self.run, LEASE_SECONDS)
        while True:
            if attempts.fruitless(self.run, self.origin) >= attempts.ALLOWED:
                gives_up = f"gave up after {attempts.ALLOWED} attempts without a new checkpoint"
                attempts.write_state(self.run / "nodes" / str(attempts.last(self.run)), f"ended: {gives_up}")
                say(f"{gives_up}; see {self.run / 'logs'}")
                return endings.gave_up(self.way.name)
            folder = attempts.begin(self.run, self.way.job, self.origin)
            tell_command(folder / "command.json", self.environment, self.script, self.arguments)
            if self.environment.get("JOB_ID"):
                attempts.tell_job(self.run, self.way.job)
            self._tell(folder)
            status = self._chain(folder)
            found = self._what_happened(folder, status)
            follows = self._decide(folder, found)  # before the nodes end: a node of a lost host waits for the decision
            if self._rest(folder) and follows not in (Then.EXIT, Then.STAND_DOWN):
                found, follows = End.STOPPED, Then.EXIT
            if (exit_status := self._follow(folder, found, follows, status)) is not None:
                return exit_status

    def _tell(self, folder: Path) -> None:
        way, job = self.way, self.environment.get("JOB_ID")
        of_job, until = f", job {job}" if job else "", f", for at most {self.leave:.0f} s" if self.leave else ""
        inform(f"run {self.run}, attempt {folder.name}{of_job}: {way.ps} ps, {way.workers} workers{until}")
        if not job and self.first:  # of a job, its submission has said it
            submission.tell_how_to_watch(self.settings)
        self.first = False
        attempts.write_state(folder, "waiting for nodes")

    def _time_to_leave(self) -> float | None:
        """Return when to save and stop, in seconds after our start, before a limit ends the job; None for never."""
        limits = [float(self.settings.timeout)] if self.settings.timeout else []
        return min(limits + [leave_before(limit) for limit in self.limits], default=None)

    def _limits(self) -> list[int]:
        """Return the time limits of this job and of its queues, in seconds."""
        queues = {self.environment.get("QUEUE", ""), *getattr(self.way, "queues", ())} - {""}
        job = gridengine.job(self.way.job)
        return gridengine.limits(job.request, sorted(queues)) if job else []

    def _left(self) -> float | None:
        return None if self.leave is None else self.leave - (time.monotonic() - self.begun)

    def _chain(self, folder: Path) -> int:
        """Run the script of an attempt, which becomes watch-nodes, until it ends; returns its exit status."""
        self.way.plan(folder)
        left = self._left()
        wait = self.way.wait if left is None else max(min(self.way.wait, int(left)), 1)
        cores = {name: str(self.way.threads) for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")}
        variables = {
            "RUN": self.run, "ATTEMPT": folder.name, "WAY": self.way.name, "HOST": self.way.host, "WAIT": wait,
            "PS_NODES": self.way.ps, "WORKERS": self.way.workers, "THREADS": self.way.threads,
            "TIMEOUT": "" if left is None else max(int(left), 1),
        } | (cores if self.way.name != endings.MACHINE or not self.way.ps else {})  # fmt: skip
        environment = {**self.environment, **{name: str(value) for name, value in variables.items()}}
        self.nodes_end, held = os.pipe()  # `held` goes to all processes of the script but the nodes and train-depth
        chain = Child([self.script, *self.arguments], env=environment, pass_fds=[held])
        os.close(held)
        while not chain.wait(LOOK_SECONDS, self.signals):
            for number in self.signals.take():
                self._note(number)
                chain.send(signal.SIGUSR1 if number == signal.SIGUSR1 else signal.SIGTERM)
        self.ended = f"ended with status {chain.status} after {time.monotonic() - self.begun:.0f} s"
        return chain.status

    def _rest(self, folder: Path) -> bool:
        """Wait until no process of the script is left; returns whether a signal asked to end meanwhile."""
        if not closed(self.nodes_end, REST_SECONDS):
            say(f"attempt {folder.name}: its nodes do not end; see {self.run / 'logs'}")
        return self._asked()

    def _asked(self) -> bool:
        """Whether a signal asked to end."""
        for number in self.signals.take():
            self._note(number)
        return self.asked is not None

    def _note(self, number: int) -> None:
        """Note a signal that asks to end.

        At a time limit, `notify` sends what it sends for qdel, some time before the kill: a job that is still saving
        then was not asked to end. Our start is a little later than that of the job.
        """
        limit = min(self.limits, default=None)
        due = limit is not None and time.monotonic() - self.begun > (leave_before(limit) + limit) / 2
        if due and number == signal.SIGUSR2:
            self.late = True
        elif number in STOPPING:
            self.asked = number

    def _what_happened(self, folder: Path, status: int) -> End:
        """Return how the attempt ended. If the qmaster is out of reach too, the lost host may be this one."""
        asked = self._asked() or (folder / "stop").exists()
        on_grid = self.way.name != endings.MACHINE
        facts = Facts(status, asked, self._lost(folder))
        if endings.end(facts) is End.LOST and on_grid:
            facts = facts._replace(reachable=gridengine.reachable())
        return endings.end(facts)

    def _lost(self, folder: Path) -> tuple[str, ...]:
        """Return the hosts that the watcher of this attempt has lost, without our own, which still works."""
        return tuple(host for host in (attempts.text(folder / "lost") or "").split() if host != self.way.host)

    def _decide(self, folder: Path, found: End) -> Then:
        """Decide what follows, once we hold the claim: a node that lost this host may try to claim it too."""
        follows = endings.then(found, self.way.name, self._left())
        who = f"{self.way.host}, process {os.getpid()}"
        if follows is not Then.STAND_DOWN:
            return follows if attempts.claim(folder, who) else Then.STAND_DOWN
        say("other hosts and the qmaster do not answer: this host may be cut off")
        attempts.write_state(folder, "cut off from the grid, waiting")
        if takeover.reached_first(folder, who):
            inform("the qmaster answers again")
            return endings.then(End.BROKE, self.way.name, self._left())  # the other hosts may be back
        return Then.STAND_DOWN

    def _follow(self, folder: Path, found: End, follows: Then, status: int) -> int | None:
        """Do what follows; returns the exit status, None for another attempt."""
        if follows is not Then.STAND_DOWN:  # otherwise another process writes the state of this attempt
            attempts.write_state(folder, self._state(found, follows, status))
            inform(self.ended)
            if found is End.LOST:
                attempts.avoid(folder, self._lost(folder))
        match follows:
            case Then.EXIT:
                if found is End.STOPPED:
                    inform("stopped as asked; run the same command to continue")
                return endings.status(found, self.way.name, status)
            case Then.GIVE_UP:
                gives_up = self.way.no_slots()
                files.write_text(folder / "why", f"{gives_up}\n")
                say(f"gave up: {gives_up}")
                return tool.FAILED
            case Then.STAND_DOWN:
                say(f"this run continues without {self.way.host}: {attempts.claimed(folder) or 'not known where'}")
                return endings.GOES_ON
            case Then.LATER:
                say(found.value)
                return self._go_on()
            case Then.WITHOUT:
                return None if self.way.lose(self._lost(folder)) else self._go_on()
        say(found.value)
        return None

    def _go_on(self) -> int:
        """Let the run continue after this process; returns its exit status.

        Grid Engine does not run a job again that it has begun to end, whatever its status is.
        """
        return ways.go_on_in_a_copy(self.run, self.way.job) if self.late else self.way.go_on()

    def _state(self, found: End, follows: Then, status: int) -> str:
        """Return the state of an attempt that has ended, for people."""
        if found is End.DONE or (found is End.STOPPED and status in endings.SAVED):
            return attempts.end_in_words(self.run, found is End.STOPPED)
        return f"ended: gave up, {found.value}" if follows is Then.GIVE_UP else self.ended


def tell_command(path: Path, environment: Mapping[str, str], script: Path, arguments: Sequence[str]) -> None:
    """Write this call of run-cluster, with the settings in its environment, for report-run."""
    given = {name: environment[name] for name in TOLD if environment.get(name)}
    attempts.tell_command(path, given, ["run-cluster", script, *arguments])


def leave_before(limit: int) -> float:
    """Return when to stop before a time limit, both in seconds: a tenth earlier, at least 15 and at most 300 s."""
    return max(limit - min(max(limit // 10, 15), 300), 1)


def closed(pipe: int, seconds: float) -> bool:
    """Whether all processes that hold the other end of this pipe end within `seconds`; closes our end."""
    try:
        return bool(select.select([pipe], [], [], seconds)[0])  # nothing is written: readable means end of file
    finally:
        os.close(pipe)


def train(
    settings: Settings, script: Path, arguments: Sequence[str], environment: Mapping[str, str] = os.environ
) -> int:
    """Train a run: submit a job if there is a grid; in a job, or without a grid, run attempt after attempt."""
    if not any(settings.records.glob("train-*.tfrecord")):
        folder, name = settings.records.parent.parent, settings.records.parent.name
        there = sorted({path.parent.parent.name for path in folder.glob("*/records/train-*.tfrecord")})
        others = f"; there is {tool.some(there, 5)}" if there else ""
        make = f"make download preprocess convert {name}"
        raise Failure(f"no train-*.tfrecord in {settings.records}: {make} makes them{others}")
    if not environment.get("JOB_ID"):
        if settings.grid and gridengine.present():
            job = submission.submit(settings, script, arguments)
            tell_command(settings.run / f"nodes/command-{job}.json", environment, script, arguments)
            return tool.DONE
        submission.without_grid(settings)
    for name in ("nodes", "logs"):
        (settings.run / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    supervisor = Supervisor(settings, script, arguments, environment)
    adopt_orphans()
    try:
        status = supervisor.go()
    finally:
        end_orphans()  # of an earlier attempt, such as qrsh to a lost host
    if supervisor.asked == signal.SIGINT:
        raise KeyboardInterrupt  # everything is saved; a shell loop around this ends too
    return status
