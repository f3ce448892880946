"""The three ways to start nodes: processes on this machine, tasks of a parallel environment, array jobs.

Each has the same functions. run-cluster calls `plan` before an attempt, `lose` and `go_on` after it; start-nodes calls
`start`, `tend` and `end` in between. The nodes are the same in all three: keep-node on its host.
"""

import os
import shlex
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from depthfield import files
from depthfield.cluster import attempts, endings, grid, gridengine, plan, processes, submission
from depthfield.cluster.hosts import HERE
from depthfield.cluster.plan import Node
from depthfield.cluster.processes import Child
from depthfield.cluster.settings import Settings, check_for_grid
from depthfield.tool import RUN_ME_AGAIN, Failure, cores, inform, say

LIFELINE_SECONDS = 10  # for nodes to end by themselves after their watcher
TASK_SECONDS = 40  # the same for tasks of a parallel job: killing one would end the whole job
TERM_SECONDS, KILL_SECONDS = 5, 5
RETURN_SECONDS = 30  # for slots of nodes that were deleted to become free
TRY_AGAIN_SECONDS = 600  # to submit a copy of a job to a qmaster that does not answer


class Attempt(NamedTuple):
    """What start-nodes knows about the attempt whose nodes it starts."""

    run: Path
    number: int
    watcher: str  # HOST:PORT
    threads: int  # of each node
    reduces: bool = False  # workers train by all-reduce, with the chief

    @property
    def folder(self) -> Path:
        return self.run / "nodes" / str(self.number)

    def keep_node(self, home: Path, role: str, *more: object) -> list[str]:
        """Return the command that runs a node on its host."""
        words = [home / "bin/keep-node", role, "--run", self.run, "--attempt", self.number, "--watcher", self.watcher]
        words += ["--reduce"] if self.reduces else []
        return [str(word) for word in (*words, "--threads", self.threads, *more)]

    def log(self, node: Node) -> Path:
        return self.run / "logs" / f"{node.role}-{node.index}.log"


class ThisMachine:
    """Nodes are processes on this machine, which share its cores."""

    name = endings.MACHINE

    def __init__(self, settings: Settings):
        self.settings, self.children = settings, []
        (self.ps, self.workers), self.wait = settings.counts(), settings.wait or 120
        self.job, self.host = f"{socket.gethostname()}-{os.getpid()}-{int(time.time())}", HERE
        self.threads = max(cores() // self.workers, 1)

    def plan(self, folder: Path) -> None:
        """Nothing to prepare: split-resources looks at this machine."""

    def start(self, nodes: Sequence[Node], attempt: Attempt) -> None:
        """Start these nodes as child processes."""
        environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        for node in nodes:  # the plan was made here and has the names of this machine's GPUs
            place = ["--index", node.index, "--host", node.host, "--gpus", ",".join(node.gpus) or "-"]
            command = attempt.keep_node(self.settings.home, node.role, *place)
            self.children.append(logged(command, attempt.log(node), env=environment))

    def tend(self, attempt: Attempt) -> None:
        """Nothing to do: a node that cannot run says so itself."""

    def end(self) -> None:
        """End all nodes: they end by themselves after their watcher, or else by signals."""
        processes.end(self.children, (None, LIFELINE_SECONDS), (15, TERM_SECONDS), (9, KILL_SECONDS))

    def lose(self, lost: Sequence[str]) -> bool:
        """Continue without these hosts; False if too few are left."""
        return True

    def go_on(self) -> int:
        """A run on one machine does not continue by itself; the exit status says that it can be continued."""
        inform("run the same command to continue")
        return RUN_ME_AGAIN


class ParallelEnvironment:
    """Nodes are tasks of one parallel job, started by `qrsh -inherit` on the hosts of the job."""

    name = endings.PE

    def __init__(self, settings: Settings, job: str, environment: Mapping[str, str] = os.environ):
        self.settings, self.job, self.children = settings, job, {}
        self.folder = Path()  # the attempt whose nodes were started
        self.wait, self.threads = settings.wait or 120, settings.slots_per_node
        self.host = environment.get("HOSTNAME") or socket.gethostname()
        check_for_grid(settings)
        source = environment["PE_HOSTFILE"]
        self.lines = [line for line in Path(source).read_text().splitlines() if line.strip()]
        self.queues = {line.split()[2].partition("@")[0] for line in self.lines if len(line.split()) > 2}
        slots = sum(host.slots for host in self._hosts())
        self.ps, self.workers = shares(slots // settings.slots_per_node - 1, settings.ps, settings.workers)
        least, what = (3, "1 chief, 1 ps and 1 worker") if self.ps else (2, "2 workers")
        if slots // settings.slots_per_node < least:
            needed = least * settings.slots_per_node
            raise Failure(f"the job has {slots} slots, but {what} need {needed}; request more with qsub -pe")

    def _hosts(self) -> list[grid.Host]:
        return grid.read_pe("\n".join(self.lines).encode(), "PE_HOSTFILE")

    def plan(self, folder: Path) -> None:
        """Write the remaining hosts, and what qhost shows of them, for split-resources."""
        files.write_text(folder / "hosts", "".join(f"{line}\n" for line in self.lines))
        with suppress(Failure):  # a plan can do without memory and GPUs
            shown = gridengine.hosts_xml([host.name for host in self._hosts()])
            files.write_text(folder / "qhost.xml", shown.decode())

    def start(self, nodes: Sequence[Node], attempt: Attempt) -> None:
        """Start these nodes as tasks of the job."""
        self.folder = attempt.folder
        for node in nodes:
            place = ["--index", node.index, "--host", node.host, "--gpus", gpus(node, nodes)]
            command = attempt.keep_node(self.settings.home, node.role, *place, "--job", self.job)
            # qrsh joins its arguments with blanks and passes them to the user's shell.
            task = ["qrsh", "-inherit", "-nostdin", node.host, shlex.join(command)]
            self.children[node] = logged(task, attempt.log(node))

    def tend(self, attempt: Attempt) -> None:
        """Find tasks that Grid Engine could not start: keep-node itself always ends with status 0."""
        for node, child in self.children.items():
            if child.status:
                (attempt.folder / f"{node.role}-{node.index}.failed").touch()

    def end(self) -> None:
        """End all nodes as on one machine: qrsh ends with its task.

        Tasks on lost hosts are left to run-cluster. They end by themselves, and their qrsh when the host is back; if
        killed while the job continues, qrsh would kill its task then, and Grid Engine the job.
        """
        lost = (attempts.text(self.folder / "lost") or "").split()
        there = [child for node, child in self.children.items() if node.host not in lost]
        processes.end(there, (None, TASK_SECONDS), (15, TERM_SECONDS), (9, KILL_SECONDS))

    def lose(self, lost: Sequence[str]) -> bool:
        """Continue without these hosts; False if too few are left."""
        self.lines = [line for line in self.lines if line.split()[0] not in lost]
        places = sum(host.slots // self.settings.slots_per_node for host in self._hosts()) - 1
        if places < (2 if self.ps else 1):
            say(f"too few hosts are left without {' '.join(lost)}")
            return False
        say(f"continuing without {' '.join(lost)}")
        if not self.ps:
            self.workers = min(self.workers, places + 1)
            return True
        self.workers = min(self.workers, max(places - self.ps, 1))
        self.ps = min(self.ps, places - self.workers)
        return True

    def go_on(self) -> int:
        """Replace the job by a copy: run again after status 99, a parallel job would wait forever for other hosts."""
        return go_on_in_a_copy(self.settings.run, self.job)


class ArrayJobs:
    """Nodes are tasks of two array jobs, wherever the grid has slots; the chief is a plain job that submits them."""

    name = endings.ARRAY

    def __init__(self, settings: Settings, job: str, environment: Mapping[str, str] = os.environ):
        self.settings, self.job, self.submitted = settings, job, []
        (self.ps, self.workers), self.wait = settings.counts(), settings.wait or 3600
        self.host = environment.get("HOSTNAME") or socket.gethostname()
        self.threads = settings.slots_per_node
        self.folder = Path()  # the attempt
        check_for_grid(settings)

    def plan(self, folder: Path) -> None:
        """Nothing to prepare: the grid chooses the hosts."""
        self.folder = folder

    def start(self, nodes: Sequence[Node], attempt: Attempt) -> None:
        """Submit an array job for each role."""
        avoid = attempts.avoided(attempt.run, self.job)
        for role, request in (("ps", self.settings.ps_request), ("worker", self.settings.worker_request)):
            count = sum(node.role == role for node in nodes)
            if not count:
                continue
            command = attempt.keep_node(self.settings.home, role, "--job", self.job)
            asked = [*submission.of_nodes(self.settings), *request]
            options = ["-b", "y", "-cwd", "-j", "y", "-r", "n", "-o", "/dev/null", "-t", f"1-{count}"]
            options += ["-N", f"{role}-{self.settings.run.name}", *submission.verify(asked), *asked]
            try:
                self.submitted.append(gridengine.submit([*options, *command], avoid))
            except gridengine.Refused as refused:
                raise Failure(f"qsub refused the array job of {count} {role}: {refused}") from None
        files.write_text(attempt.folder / attempts.ARRAY_JOBS, "".join(f"{job}\n" for job in self.submitted))
        attempts.write_state(attempt.folder, f"waiting for slots: array jobs {' '.join(self.submitted)}")
        inform(f"waiting for slots: array jobs {' '.join(self.submitted)}")

    def tend(self, attempt: Attempt) -> None:
        """Nothing to do: gather-spec waits for the nodes and names missing ones."""

    def end(self) -> None:
        """Delete tasks that still wait for slots or do not end by themselves."""
        deadline = time.monotonic() + LIFELINE_SECONDS / 2
        with suppress(gridengine.Unreachable):
            while time.monotonic() < deadline and self._there():
                time.sleep(0.3)
            gridengine.delete(self.submitted)

    def _there(self) -> bool:
        return any(task.id in self.submitted for task in gridengine.tasks(os.environ.get("USER") or None))

    def no_slots(self) -> str:
        """Say which slots are free once the nodes have returned theirs."""
        asked = gridengine.job(self.job)
        may = asked.queues if asked else []
        deadline = time.monotonic() + RETURN_SECONDS
        submitted = (attempts.text(self.folder / attempts.ARRAY_JOBS) or "").split()
        while time.monotonic() < deadline and any(task.id in submitted for task in gridengine.tasks()):
            time.sleep(1)
        free = gridengine.free_slots(may)
        return f"no slots for all nodes within {self.wait} s; free slots by queue, besides the chief's: {free}"

    def lose(self, lost: Sequence[str]) -> bool:
        """Continue without these hosts: `start` avoids all hosts that attempts wrote."""
        say(f"continuing without {' '.join(lost)}")
        return True

    def go_on(self) -> int:
        """Status 99 makes Grid Engine run the same job again: it is not parallel, so any host will do."""
        inform(f"job {self.job} continues by itself")
        return RUN_ME_AGAIN


Way = ThisMachine | ParallelEnvironment | ArrayJobs


def here(settings: Settings, environment: Mapping[str, str] = os.environ) -> Way:
    """Return the way for the job of this process; ThisMachine outside a job."""
    job = environment.get("JOB_ID")
    if not job:
        return ThisMachine(settings)
    return (ParallelEnvironment if environment.get("PE_HOSTFILE") else ArrayJobs)(settings, job, environment)


def shares(nodes: int, ps: int | None, workers: int | None) -> tuple[int, int]:
    """Return the numbers of parameter servers and workers for `nodes` nodes without the chief.

    A third are workers, unless `ps` or `workers` is given. Without parameter servers all are, and the chief too.
    """
    if ps == 0:
        return 0, workers or nodes + 1
    if workers is None:
        workers = max(nodes - ps if ps else nodes // 3, 1)
    return ps or max(nodes - workers, 1), workers


def gpus(node: Node, nodes: Sequence[Node]) -> str:
    """Return keep-node's --gpus for a node: if the plan has none, a share of those that the site gives."""
    computing = ("chief", "worker") if plan.reduces(nodes) else ("worker",)
    beside = [other for other in nodes if other.role in computing and other.host == node.host]
    if node.role not in computing or any(other.gpus for other in beside):
        return ",".join(node.gpus) or "-"
    return f"{beside.index(node)}/{len(beside)}"


def go_on_in_a_copy(run: Path, job: str) -> int:
    """Replace a job by a copy of itself; returns its exit status."""
    try:
        copy = copied(run, job)
    except Failure as failure:
        say(f"{failure}; everything is saved: run the same command to continue")
        return endings.HELD
    inform(f"job {copy} continues")
    return endings.GOES_ON


def copied(run: Path, job: str) -> str:
    """Submit a copy of a job that has ended or is lost, and record it in the run; returns its id.

    It avoids the lost hosts that the attempts' folders name. Retries for TRY_AGAIN_SECONDS if the qmaster does not
    answer. Raises Failure if it cannot be submitted.
    """
    deadline = time.monotonic() + TRY_AGAIN_SECONDS
    while True:
        try:
            copy = gridengine.copy(job, attempts.avoided(run, job))
            break
        except gridengine.Unreachable as unreachable:
            if time.monotonic() > deadline:
                raise
            say(f"{unreachable}; retrying")
    attempts.tell_job(run, copy, copy_of=job)
    return copy


def logged(command: Sequence[object], log: Path, **options) -> Child:
    """Start a command with all output going to the file `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        return Child(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, **options)
