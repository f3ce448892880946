"""The requests of a job and its nodes to Grid Engine, and the submission of a job with all its checks."""

import contextlib
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from depthfield import home
from depthfield.cluster import attempts, gridengine, logs, plan
from depthfield.cluster.settings import Settings, check_for_grid
from depthfield.tool import Failure, UsageError, inform, line, say, show, showing

# Names that sites use for memory; limits on a job's own use come first.
MEMORY_COMPLEXES = ("h_vmem", "m_mem_free", "mem_req", "virtual_free", "mem_free", "h_rss")
LIMITING = ("h_vmem", "h_rss")  # those by which Grid Engine ends a job that uses more
LOAD_VALUES = ("mem_", "virtual_", "swap_", "load_", "np_load", "cpu=", "num_proc")  # reported by the hosts themselves
MAKES_RUN = "rooms-small"  # the run of make's targets where nothing names another
POLL_SECONDS = 1
SOON_SECONDS = 5  # in which a job starts where slots are free


def of_job(settings: Settings) -> list[str]:
    """Return qsub's arguments for the chief's job: the user's own come last and take precedence."""
    slots = nodes(settings) * settings.slots_per_node
    parallel = ["-pe", settings.pe, str(slots)] if settings.pe else []
    return [*parallel, *_queues(settings), *_memory(settings), *settings.request]


def of_nodes(settings: Settings) -> list[str]:
    """Return qsub's arguments that the array jobs of all nodes share."""
    slots = ["-pe", settings.node_pe, str(settings.slots_per_node)] if settings.slots_per_node > 1 else []
    return [*slots, *_queues(settings), *_memory(settings)]


def verify(request: Sequence[str]) -> list[str]:
    """Return qsub's arguments that refuse a request at once if no queue can ever satisfy it.

    The check assumes an empty grid, whose hosts report no load: a request for a load value would never pass.
    """
    names = [name for words in request for name in words.split(",")]
    return ["-w", "w" if any(name.startswith(LOAD_VALUES) for name in names) else "e"]


def nodes(settings: Settings) -> int:
    return plan.size(*settings.counts())


def _queues(settings: Settings) -> list[str]:
    return ["-q", ",".join(settings.queues)] if settings.queues else []


def _memory(settings: Settings) -> list[str]:
    """Return the request for a node's MEMORY as this site counts it; Grid Engine counts per slot."""
    if not settings.memory:
        return []
    return memory(settings.memory, settings.slots_per_node, gridengine.complexes())


def memory(size: int, slots: int, complexes: Mapping[str, gridengine.Complex]) -> list[str]:
    """Return qsub's arguments for `size` bytes of a node with `slots` slots; for `complexes` see gridengine.complexes.

    A consumable is requested per slot; one that is counted once per job or host does not suit nodes and is skipped. If
    memory is not a consumable, a host with enough free memory is requested. Raises Failure if the site has no complex
    for memory.
    """
    known = {name: complexes[name] for name in MEMORY_COMPLEXES if name in complexes}
    may = {
        name: found
        for name, found in known.items()
        if found.type == "MEMORY" and found.requestable != "NO" and found.consumable in ("YES", "NO")
    }
    counted = [name for name, found in may.items() if found.consumable == "YES"]
    if counted:
        return ["-l", f"{counted[0]}={-(-size // slots // 2**20)}M"]
    for name in ("m_mem_free", "mem_free", "virtual_free", "h_vmem"):
        if name in may:
            return ["-l", f"{name}={-(-size // (slots if name == 'h_vmem' else 1) // 2**20)}M"]
    raise Failure("MEMORY: this grid has no complex for memory; use the site's own request in REQUEST (see qconf -sc)")


def in_words(request: Sequence[str], complexes: Mapping[str, gridengine.Complex]) -> str:
    """Say what a request that `memory` returned does on a site with these complexes."""
    asked = request[-1]
    name = asked.partition("=")[0]
    if name in LIMITING:
        does = "for each slot: a node that uses more is ended"
    elif complexes[name].consumable == "YES":
        does = "for each slot: it is reserved, but need not be a limit"
    else:
        does = "of a host: it only chooses hosts with as much free, and limits nothing"
    return f"MEMORY is requested as {asked} {does}"


def submit(settings: Settings, script: Path, arguments: Sequence[str]) -> str:
    """Submit `script` as a job with these settings and arguments, and say how to watch and stop it; returns its id.

    Raises Failure if it cannot be had: a job of this run is there already, or the grid has too few slots.
    """
    check_for_grid(settings)
    if there := jobs_of(settings.run):
        raise Failure(
            f"{settings.run}: job {', '.join(there)} of this run waits or runs already; stop it first "
            f"({_call(settings.run, 'stop-cluster', 'stop')}), or name another run with RUNID"
        )
    if settings.pe:
        _check_pe(settings.pe)
    request = of_job(settings)
    _check_slots(settings)
    command = ["-cwd", "-N", job_name(settings.run), "-o", logs.of_jobs(settings.run)]
    command += ["-v", f"DEPTHFIELD={settings.home}", *verify(request), *request]
    command += [script, *settings.passed_on, *arguments]
    folders = [settings.run / "nodes", settings.run / "logs"]
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        job = gridengine.submit([str(word) for word in command])
    except gridengine.Refused as refused:
        for folder in (*folders, settings.run):
            with contextlib.suppress(OSError):  # of a run that was there before
                folder.rmdir()
        raise Failure(f"qsub refused the job: {refused}") from None
    attempts.tell_job(settings.run, job)
    ps, workers = settings.counts()
    if settings.pe:
        slots = nodes(settings) * settings.slots_per_node
        what = f"{ps} ps and {workers} workers in {slots} slots of {settings.pe}; waiting for slots"
    else:
        what = f"it submits {ps} ps and {nodes(settings) - 1 - ps} workers when it starts; waiting for a slot"
    inform(f"run {settings.run}, job {job}: {what}")
    if settings.memory:
        inform(in_words(_memory(settings), gridengine.complexes()))
    if not settings.pe and (offered := usable_environments()):
        inform(f"in a parallel environment all nodes start together; to use one, set PE={' or PE='.join(offered)}")
    _warn_of_hosts()
    tell_how_to_watch(settings)
    if settings.pe and settings.wait:
        _wait_for_slots(settings.run, job, settings.wait)
    _tell_where(job)
    return job


def _check_slots(settings: Settings) -> None:
    """Raise Failure if the queues that a job and its nodes may use have too few slots, taken ones too.

    Jobs that may use the same queues share them.
    """
    ps, each = settings.counts()[0], settings.slots_per_node
    others = nodes(settings) - 1 - ps  # workers without the chief
    parts = [
        ("the chief", each if settings.pe else 1, "REQUEST", settings.request),
        (f"{ps} ps", ps * each, "PS_REQUEST", settings.ps_request),
        (plan.several(others, "worker"), others * each, "WORKER_REQUEST", settings.worker_request),
    ]
    if settings.pe:  # one job for all
        parts = [(what, slots, "REQUEST", settings.request) for what, slots, _, _ in parts]
    asked: dict[tuple[str, ...], list[tuple[str, int, str]]] = {}
    queues: dict[tuple[str, ...], tuple[str, ...]] = {}  # by request
    for what, slots, name, request in parts:
        if slots and "-pe" not in request:
            if request not in queues:
                queues[request] = tuple(_asked_queues(settings, request))
            asked.setdefault(queues[request], []).append((what, slots, name if "-q" in request else ""))
    for may, alike in asked.items():
        needed, pe = sum(slots for _, slots, _ in alike), settings.pe or (settings.node_pe if each > 1 else "")
        if not settings.pe and alike[0][0] == "the chief":
            pe = ""  # it needs none
        have = gridengine.all_slots(may, pe)
        if needed > have:
            *first, last = [what for what, _, _ in alike]
            who = f"{', '.join(first)} and {last}" if first else last
            of, which = f" with {settings.pe}" if settings.pe else "", _which(settings, may, alike[0][2])
            if not have:
                raise Failure(f"no queue{of} among those that this run may use: {which}")
            slots = plan.several(needed, "slot")
            raise Failure(f"this run needs {slots} for {who}; the queues{of} that it may use have {have}: {which}")


def _asked_queues(settings: Settings, request: Sequence[str]) -> list[str]:
    try:
        return gridengine.asked_queues([*_queues(settings), *request, "-b", "y", "true"])
    except gridengine.Refused as refused:
        raise Failure(f"qsub refused the job: {refused}") from None


def _which(settings: Settings, queues: Sequence[str], by: str) -> str:
    """Name the queues that a job may use, and what says so; `by` is the request that names queues, or empty."""
    if not queues:
        return "all queues"
    if by or settings.queues:
        return f"{', '.join(queues)}, as {by or 'GRID_QUEUES'} says"
    return f"{', '.join(queues)}, by the defaults of qsub (sge_request); GRID_QUEUES names others"


def jobs_of(run: Path) -> list[str]:
    """Return the jobs of a run that wait or run in the grid, oldest first. Raises Unreachable, Refused.

    Besides the run's own word for its job, name and log count: a run may have been submitted more than once.
    """
    told = attempts.text(run / "job")
    named = {task.id for task in gridengine.tasks() if task.name == job_name(run)}
    found = {id: gridengine.job(id) for id in named | ({told} if told else set())}
    log = str(logs.of_jobs(run))
    return sorted((id for id, job in found.items() if job and (id == told or job.log == log)), key=int)


def job_name(run: Path) -> str:
    return f"train-{run.name}"


def _warn_of_hosts() -> None:
    """Name the hosts that cannot submit jobs: a job there cannot continue after a time limit or a lost host."""
    if never := sorted(gridengine.execution_hosts() - gridengine.submit_hosts()):
        few = ", ".join(never[:3]) + (f" and {len(never) - 3} more" if never[3:] else "")
        say(f"a job on {few} cannot submit jobs; ask your administrator for qconf -as, or exclude them")


def tell_how_to_watch(settings: Settings) -> None:
    """Say how to watch and how to stop a run, in the user's own way to call commands: make, or one by one."""
    run = settings.run
    inform(f"to watch it: {_call(run, 'cluster-status', 'status')}; {_call(run, 'follow-logs', 'logs')}")
    stop = _call(run, "stop-cluster", "stop")
    inform(f"to stop it, with everything saved: {stop}; the same command continues it")


def _call(run: Path, command: str, target: str) -> str:
    """Return a command for a run: the target of make if this was called by make, with what make does not know."""
    if "MAKELEVEL" not in os.environ:
        return shlex.join([_short(home.launchers() / command), "--run", _short(run)])
    named = [] if run.name == MAKES_RUN else [f"RUNID={run.name}"]
    where = [] if run.parent == Path.cwd() / "runs" else [f"RUN_DIR={run.parent}"]
    return shlex.join(["make", target, *named, *where])


def _short(path: Path) -> str:
    """Return a path relative to the current folder if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def usable_environments(found: Mapping[str, Mapping[str, str]] | None = None) -> list[str]:
    """Return the parallel environments where nodes can be started; `found` are all, see gridengine.environments."""
    found = gridengine.environments() if found is None else found
    return [name for name, settings in found.items() if not _unfit(settings) and gridengine.queues_with(name)]


def _unfit(environment: Mapping[str, str]) -> str:
    """Return why nodes cannot be started in a parallel environment, whatever its queues; empty if they can."""
    if environment.get("control_slaves", "").upper() != "TRUE":
        return "lacks control_slaves TRUE, which qrsh -inherit needs"
    return "gives slots on one host only ($pe_slots)" if environment.get("allocation_rule") == "$pe_slots" else ""


def _check_pe(pe: str) -> None:
    """Raise Failure if nodes cannot be started in this parallel environment; names those where they can."""
    found = gridengine.environments()
    offered = usable_environments(found)
    offer = f"use PE={' or PE='.join(offered)}" if offered else "without PE the nodes are array jobs"
    if pe not in found:
        raise Failure(f"no parallel environment {pe}; {offer}")
    if why := _unfit(found[pe]):
        raise Failure(f"parallel environment {pe} {why}; {offer}")
    if not gridengine.queues_with(pe):
        raise Failure(f"no queue has the parallel environment {pe} in its pe_list; {offer}")


def _tell_where(job: str) -> None:
    """Say on which host a job runs, if it starts soon."""
    deadline = time.monotonic() + SOON_SECONDS
    with showing(f"waiting for job {job} to start"):
        while task := next((task for task in gridengine.tasks() if task.id == job), None):
            if task.queue:
                inform(f"job {job} runs on {task.queue.partition('@')[2]}")
            if task.queue or "h" in task.state or "E" in task.state or time.monotonic() > deadline:
                return
            time.sleep(POLL_SECONDS)


def _wait_for_slots(run: Path, job: str, seconds: int) -> None:
    """Wait until a job no longer waits for slots; after `seconds`, delete it and raise Failure."""
    deadline = time.monotonic() + seconds
    while any(task.id == job and "q" in task.state for task in gridengine.tasks()):
        if time.monotonic() > deadline:
            asked = gridengine.job(job)
            gridengine.delete([job])
            attempts.forget_job(run)
            free = gridengine.free_slots(asked.queues if asked else [])
            raise Failure(f"job {job} got no slots within {seconds} s and was deleted; free slots by queue: {free}")
        show(f"job {job} waits for slots", f"giving up in {deadline - time.monotonic():.0f} s")
        time.sleep(POLL_SECONDS)
    line.erase()


def without_grid(settings: Settings) -> None:
    """Raise Failure if a setting needs a grid, but there is none or GRID=no."""
    given = {"PE": settings.pe, "REQUEST": settings.request, "WORKER_REQUEST": settings.worker_request,
             "PS_REQUEST": settings.ps_request, "MEMORY": settings.memory, "GRID_QUEUES": settings.queues}  # fmt: skip
    asked = " and ".join(name for name, value in given.items() if value)
    if asked and not settings.grid:
        raise UsageError(f"GRID=no does not use the grid, but {asked} needs it; leave out one of them")
    if asked:
        raise Failure(
            f"{asked} needs a grid, but there is none here: no qsub, or its cell names no qmaster "
            "(SGE_ROOT, SGE_CELL); GRID=no, without that setting, trains on this machine"
        )
