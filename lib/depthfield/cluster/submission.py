"""The requests of a job and its nodes to Grid Engine, and the submission of a job with all its checks."""

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from depthfield import home
from depthfield.cluster import attempts, gridengine, plan
from depthfield.cluster.settings import Settings, check_for_grid
from depthfield.tool import Failure, UsageError, inform, line, say, show

# Names that sites use for memory; limits on a job's own use come first.
MEMORY_COMPLEXES = ("h_vmem", "m_mem_free", "mem_req", "virtual_free", "mem_free", "h_rss")
LIMITING = ("h_vmem", "h_rss")  # those by which Grid Engine ends a job that uses more
LOAD_VALUES = ("mem_", "virtual_", "swap_", "load_", "np_load", "cpu=", "num_proc")  # reported by the hosts themselves
POLL_SECONDS = 1


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
    """Submit `script` as a job with these settings and arguments, and say how to watch and stop it; returns its id."""
    check_for_grid(settings)
    if settings.pe:
        _check_pe(settings.pe)
    request = of_job(settings)
    command = ["-cwd", "-N", f"train-{settings.run.name}", "-o", settings.run / "logs/cluster.log"]
    command += ["-v", f"DEPTHFIELD={settings.home}", *verify(request), *request]
    command += [script, *settings.passed_on, *arguments]
    for folder in ("nodes", "logs"):
        (settings.run / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        job = gridengine.submit([str(word) for word in command])
    except gridengine.Refused as refused:
        raise Failure(f"qsub refused the job: {refused} (GRID=no trains on this machine instead)") from None
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
        _wait_for_slots(job, settings.wait)
    return job


def _warn_of_hosts() -> None:
    """Name the hosts that cannot submit jobs: a job there cannot continue after a time limit or a lost host."""
    if never := sorted(gridengine.execution_hosts() - gridengine.submit_hosts()):
        few = ", ".join(never[:3]) + (f" and {len(never) - 3} more" if never[3:] else "")
        say(f"a job on {few} cannot submit jobs; ask your administrator for qconf -as, or exclude them")


def tell_how_to_watch(settings: Settings) -> None:
    """Say how to watch and how to stop a run."""
    status, logs, stop = (
        shlex.join([str(home.launchers() / command), "--run", str(settings.run)])
        for command in ("cluster-status", "follow-logs", "stop-cluster")
    )
    inform(f"to watch it: {status}; {logs}")
    inform(f"to stop it, with everything saved: {stop}; run the same command to continue")


def usable_environments() -> list[str]:
    """Return the parallel environments with control_slaves that belong to at least one queue."""
    found = gridengine.environments()
    slaves = [name for name, settings in found.items() if settings.get("control_slaves", "").upper() == "TRUE"]
    one_host = {name for name in slaves if found[name].get("allocation_rule") == "$pe_slots"}
    return [name for name in slaves if name not in one_host and gridengine.queues_with(name)]


def _check_pe(pe: str) -> None:
    """Raise Failure if nodes cannot be started in this parallel environment; names those where they can."""
    found = gridengine.environments()
    offered = usable_environments()
    offer = f"use PE={' or PE='.join(offered)}" if offered else "without PE the nodes are array jobs"
    if pe not in found:
        raise Failure(f"no parallel environment {pe}; {offer}")
    if found[pe].get("control_slaves", "").upper() != "TRUE":
        raise Failure(f"parallel environment {pe} lacks control_slaves TRUE, which qrsh -inherit needs; {offer}")
    if not gridengine.queues_with(pe):
        raise Failure(f"no queue has the parallel environment {pe} in its pe_list; {offer}")


def _wait_for_slots(job: str, seconds: int) -> None:
    """Wait until a job no longer waits for slots; after `seconds`, delete it and raise Failure."""
    deadline = time.monotonic() + seconds
    while any(task.id == job and "q" in task.state for task in gridengine.tasks()):
        if time.monotonic() > deadline:
            gridengine.delete([job])
            free = gridengine.free_slots()
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
