"""The settings of `sge/cluster.sh`, read from the environment of run-cluster and start-nodes."""

import difflib
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from depthfield.cluster import hosts
from depthfield.tool import Failure, UsageError

# The variables that a job gets; nothing else from the user's environment reaches it.
PASSED_ON = (
    "DATA_DIR", "DATASET", "RECIPE", "RUN_DIR", "RUNID", "PS_NODES", "WORKERS", "SLOTS_PER_NODE", "WORKER_REQUEST",
    "PS_REQUEST", "NODE_PE", "GPUS_PER_SLOT", "MEMORY", "TIMEOUT", "WAIT", "STEPS", "BATCHSIZE", "CKPT_FREQ",
    "SUM_FREQ", "GRID_QUEUES",
)  # fmt: skip
TOLD = (*PASSED_ON, "PE", "REQUEST", "GRID")  # what a run keeps of them; a job that users submit has its PE, too
# What cluster.sh takes besides, as an argument too.
KNOWN = (*TOLD, "DEPTHFIELD", "RUN", "ATTEMPT", "WAY", "HOST", "THREADS")
ALONE = "one worker without parameter servers is a single process; use"
PLAIN = re.compile(r"[A-Za-z0-9_./+@%=~-]*")  # of a path: to Grid Engine's clients most others have a meaning


class Settings(NamedTuple):
    """The settings of a training on a cluster."""

    home: Path  # the project's folder
    run: Path
    records: Path  # the folder with train-*.tfrecord
    recipe: str  # its name, or the path of a .toml file
    ps: int | None
    workers: int | None
    slots_per_node: int
    gpus_per_slot: int | None
    memory: int | None  # bytes for each node
    timeout: int | None  # seconds
    wait: int | None  # seconds for slots and nodes
    pe: str
    node_pe: str
    request: tuple[str, ...]  # qsub's arguments for the job
    worker_request: tuple[str, ...]
    ps_request: tuple[str, ...]
    queues: tuple[str, ...]  # queues for the job and its nodes, patterns as in qsub -q; empty for all
    grid: bool  # whether Grid Engine may be used
    passed_on: tuple[str, ...]  # NAME=VALUE for the job

    def counts(self) -> tuple[int, int]:
        """Return the number of parameter servers and of workers, if only the settings decide."""
        return 1 if self.ps is None else self.ps, self.workers or 2


def read(home: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from an environment; raises UsageError if one is not valid."""

    for name in environment.get("SETTINGS_GIVEN", "").split():
        if name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN, 1, 0)[0]
            raise UsageError(f"no setting {name}; the nearest is {near} (cluster.sh lists all)")

    def number(name: str, least: int = 1) -> int | None:
        text = environment.get(name, "")
        if not re.fullmatch(r"(0|[1-9][0-9]*)?", text) or (text and int(text) < least):
            raise UsageError(f"{name} takes a whole number of at least {least}, not '{text}'")
        return int(text) if text else None

    def seconds(name: str) -> None:
        text = environment.get(name, "")
        if not re.fullmatch(r"([0-9]+(\.[0-9]*)?)?", text):
            raise UsageError(f"{name} takes a number of seconds, not '{text}'")

    def words(name: str) -> tuple[str, ...]:
        try:
            return tuple(shlex.split(environment.get(name, "")))
        except ValueError as error:
            raise UsageError(f"{name}: {error}: {environment[name]}") from None

    def folder(name: str, default: str) -> Path:
        return Path(os.path.normpath(Path(environment.get(name) or default).absolute()))  # symbolic links are kept

    runid = environment.get("RUNID", "")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", runid):
        raise UsageError(f"RUNID takes letters, digits, dots, - and _, not '{runid}'")
    ps, workers = number("PS_NODES", least=0), number("WORKERS")
    if (ps, workers) == (0, 1):
        raise UsageError(f"{ALONE} make train, or train-depth")
    for name in ("STEPS", "BATCHSIZE"):
        number(name)
    for name in ("CKPT_FREQ", "SUM_FREQ"):
        seconds(name)
    memory = environment.get("MEMORY", "")
    try:
        size = hosts.size(memory) if memory else None
    except ValueError:
        raise UsageError(f"MEMORY takes an amount such as 8G or 512M, not '{memory}'") from None
    return Settings(
        home=home,
        run=folder("RUN_DIR", "runs") / runid,
        records=folder("DATA_DIR", "data") / environment.get("DATASET", "rooms") / "records",
        recipe=environment.get("RECIPE") or "small",
        ps=ps,
        workers=workers,
        slots_per_node=number("SLOTS_PER_NODE") or 1,
        gpus_per_slot=number("GPUS_PER_SLOT"),
        memory=size,
        timeout=number("TIMEOUT"),
        wait=number("WAIT"),
        pe=environment.get("PE", ""),
        node_pe=environment.get("NODE_PE") or "smp",
        request=words("REQUEST"),
        worker_request=words("WORKER_REQUEST"),
        ps_request=words("PS_REQUEST"),
        queues=tuple(environment.get("GRID_QUEUES", "").replace(",", " ").split()),
        grid=environment.get("GRID", "") != "no",
        passed_on=tuple(f"{name}={environment[name]}" for name in PASSED_ON if environment.get(name)),
    )


def check_for_grid(settings: Settings) -> None:
    """Raise Failure if a path has characters with a meaning to Grid Engine's clients."""
    for path in (settings.home, settings.run, settings.records):
        if not PLAIN.fullmatch(str(path)):
            wrong = "".join(sorted(set(PLAIN.sub("", str(path)))))
            raise Failure(
                f"{path}: on a grid, paths may have only letters, digits and ./+@%=~_-, not {wrong!r}; "
                "GRID=no trains on this machine"
            )
