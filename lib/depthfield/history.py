"""The folder of a run as plain data: recipe, commands, metrics, attempts, nodes and scores.

Any part may be missing: the run may have just started, may be training, or may come from an older version. A missing
part is empty or None. A damaged part is listed in `notes`.
"""

import datetime
import json
import math
import re
import shlex
import statistics
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from depthfield.cluster import attempts, logs, plan
from depthfield.cluster.hosts import HERE
from depthfield.tool import Failure
from depthfield.training import recipe as recipes

SCORES = "scores.json"  # in a run: what score-depth --save gives for test photos
SPENT = ("computing", "waiting", "moving")  # shares of the workers' time in a line of metrics
LOST, CLUSTER = "lost", "cluster.json"


class Start(NamedTuple):
    """One start of train-depth: its command, and the metrics until the next start."""

    command: dict  # its line of commands.jsonl; {} if the run has no such file
    time: float | None  # seconds since the epoch
    step: int  # that it continued from
    training: list[dict]
    validation: list[dict]

    def seconds(self, until: dict | None = None) -> float:
        """Return the seconds from this start to a line of metrics, by default its last; 0 if a time is missing."""
        lines = (*self.training, *self.validation) if until is None else (until,)
        end = max((line["time"] for line in lines if number(line, "time") is not None), default=None)
        return max(end - self.time, 0.0) if end is not None and self.time is not None else 0.0


class Attempt(NamedTuple):
    """One start of the run's cluster: the folder nodes/NUMBER."""

    number: int
    job: str | None
    begun: float | None  # seconds since the epoch
    step: int | None  # of the checkpoint that it started from, None if there was none
    state: str | None  # one line for people
    nodes: list[dict]  # role, index, restarts, and if known host, gpus, state, memory (bytes), load (cores)
    lost: list[str]  # hosts that stopped answering
    command: str | None  # of run-cluster with its settings, as a shell takes it
    gathered: bool  # whether all nodes announced themselves, as far as known


@dataclass(frozen=True)
class Run:
    path: Path
    recipe: str | None  # its name
    settings: dict  # of recipe.toml; a setting in a table has a key such as network.kind
    survey: dict  # of survey.json
    begun_with: str | None  # source of its first weights, None if they were random
    commands: list[dict]  # of commands.jsonl
    starts: list[Start]
    attempts: list[Attempt]
    scores: dict  # on test photos, by method, as score-depth saves them
    protocols: dict[str, dict]  # the same for each protocol
    checkpoints: list[str]  # file names
    notes: list[str]

    @cached_property
    def training(self) -> list[dict]:
        return [line for start in self.starts for line in start.training]

    @cached_property
    def validation(self) -> list[dict]:
        return [line for start in self.starts for line in start.validation]

    @cached_property
    def step(self) -> int | None:
        """The last step in the metrics or of a checkpoint."""
        saved = [int(name.removesuffix(".npz")) for name in self.checkpoints if name[0].isdigit()]
        last = self.starts[-1] if self.starts else None
        told = [line["step"] for line in (*last.training, *last.validation)] if last else []
        return max([*saved, *told], default=None)

    @cached_property
    def steps(self) -> int | None:
        """The number of steps that the last command asked for, otherwise that of the recipe."""
        asked = [start.command["steps"] for start in self.starts if number(start.command, "steps")]
        return asked[-1] if asked else self.settings.get("steps")

    @cached_property
    def seconds(self) -> float | None:
        """The training time: the sum over all starts, each up to its last line of metrics. None if it is unknown."""
        return sum(start.seconds() for start in self.starts) or None

    @cached_property
    def photos_per_second(self) -> float | None:
        """The median over the lines of metrics."""
        rates = [line["photos_per_second"] for line in self.training if number(line, "photos_per_second")]
        return statistics.median(rates) if rates else None

    @cached_property
    def best(self) -> dict:
        """The best scores on held-out photos; {} if there are none."""
        if self.survey.get("held_out") == 0:  # the scores are those of photos it was trained on
            return {}
        return min((line for line in self.validation if number(line, "rel")), key=lambda line: line["rel"], default={})

    @cached_property
    def spent(self) -> dict[str, float]:
        """The shares of the workers' time over the whole training; {} if they are unknown."""
        weights, sums = 0.0, dict.fromkeys(SPENT, 0.0)
        for start in self.starts:
            before = start.step
            for line in start.training:
                taken, before = max(line["step"] - before, 0), line["step"]
                rate = number(line, "photos_per_second")
                if rate and all(number(line, name) is not None for name in SPENT):
                    weights += taken / rate
                    sums = {name: value + line[name] * taken / rate for name, value in sums.items()}
        return {name: value / weights for name, value in sums.items()} if weights else {}

    @cached_property
    def cluster(self) -> Attempt | None:
        """The attempt that trained last; None if the last start of train-depth was a single process."""
        given = words(self.starts[-1].command) if self.starts else []
        alone = given and not any(word.startswith("--cluster") for word in given)
        return self.attempts[-1] if self.attempts and not alone else None

    def count(self, role: str) -> int:
        """The number of workers or parameter servers that trained last, see counted."""
        return counted(self.cluster.nodes if self.cluster else [], role)

    def counts(self, role: str) -> list[int]:
        """The number of workers or parameter servers in each attempt whose nodes were all there."""
        attempts = [attempt for attempt in self.attempts if attempt.gathered and attempt.nodes] if self.cluster else []
        return [counted(attempt.nodes, role) for attempt in attempts] or [self.count(role)]

    @cached_property
    def hosts(self) -> list[str]:
        """The hosts of train-depth and of all nodes by their short names, without duplicates."""
        chiefs = [start.command.get("host") for start in self.starts]
        nodes = [node["host"] for attempt in self.attempts for node in attempt.nodes]
        named = [host for host in (*chiefs, *nodes) if host and host not in (HERE, "*")]
        return list(dict.fromkeys(map(short, named)))


def counted(nodes: Sequence[dict], role: str) -> int:
    """Count workers or parameter servers. The chief of an all-reduce is a worker, and so is a single process."""
    roles = Counter(node["role"] for node in nodes)
    alone = role == "worker" and not roles["ps"]
    return roles[role] + (1 if alone else 0)


def short(host: str) -> str:
    """Return the name of a host without its domain; an address stays whole."""
    return host if host.replace(".", "").isdigit() else host.partition(".")[0]


def number(line: dict, name: str) -> float | None:
    """Return the finite number of this name in a line, None if there is none."""
    value = line.get(name)
    finite = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if finite else None


def read(path: Path) -> Run:
    """Read the run in a folder. Raises Failure if the folder does not hold a run."""
    if not path.is_dir():
        raise Failure(f"{path}: {'not a folder' if path.exists() else 'no such folder'}")
    if not (path / "recipe.toml").exists() and not (path / "nodes").is_dir():
        raise Failure(f"{path}: not a run: it has neither recipe.toml nor nodes/")
    notes: list[str] = []
    commands = lines(path / "commands.jsonl", notes)
    scores = scored(path / SCORES, notes)
    others = {file.stem: table(file, []) for file in sorted(path.glob("*.json")) if file.name != SCORES}
    protocols = {name: found for name, found in others.items() if protocol_of(found) == name}
    started = [command for command in commands if "steps" in command or words(command)[:1] == ["train-depth"]]
    return Run(
        path,
        recipe_of(started),
        recipes.flat(table(path / "recipe.toml", notes, tomllib.loads)),
        table(path / "survey.json", notes),
        table(path / "init.json", notes).get("from"),
        commands,
        starts(started, lines(path / "metrics.jsonl", notes)),
        read_attempts(path, started[-1].get("host") if started else None, notes),
        scores,
        protocols,
        sorted(file.name for file in path.glob("checkpoints/[!.]*.npz")),
        notes,
    )


def read_all(paths: Sequence[Path]) -> tuple[list[Run], list[Failure]]:
    """Read the runs in folders; also return why folders were refused."""
    runs, refused = [], []
    for path in paths:
        try:
            runs.append(read(path))
        except Failure as failure:
            refused.append(failure)
    return runs, refused


def names(runs: Sequence[Run]) -> list[str]:
    """Return a name for each run: that of its folder, or its path if two folders have the same name."""
    short = [run.path.resolve().name for run in runs]
    return [name if short.count(name) == 1 else str(run.path) for name, run in zip(short, runs, strict=True)]


def lines(path: Path, notes: list[str]) -> list[dict]:
    """Read the objects in a file of JSON lines; a last line without a newline is incomplete and left out."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    found, damaged = [], []
    whole, _, torn = content.rpartition(b"\n")
    for at, line in enumerate(whole.splitlines(), start=1):
        try:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError
            found.append(value)
        except ValueError:
            damaged.append(at)
    if damaged:
        notes.append(f"{path.name}: {len(damaged)} damaged lines were left out, the first is line {damaged[0]}")
    if torn:
        notes.append(f"{path.name}: its last line is not complete and was left out")
    return found


def table(path: Path, notes: list[str], parse: Callable[[str], object] = json.loads) -> dict:
    """Read the object in a JSON file, or the table in a file that `parse` reads; {} if it is missing or damaged."""
    try:
        value = parse(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError
        return value
    except FileNotFoundError:
        return {}
    except ValueError:
        notes.append(f"{path.name}: damaged")
        return {}


def scored(path: Path, notes: list[str]) -> dict:
    """Read the scores of a run on test photos, by method."""
    found = table(path, notes)
    if found and not isinstance(found.get("field"), dict):
        notes.append(f"{path.name}: not the scores of a run; score-depth --run RUN --save FILE writes them")
        return {}
    return {method: summary for method, summary in found.items() if isinstance(summary, dict)}


def protocol_of(found: dict) -> str | None:
    field = found.get("field")
    return field.get("protocol") if isinstance(field, dict) else None


def words(command: dict) -> list[str]:
    """Return the words of the command in a line of commands.jsonl."""
    try:
        return shlex.split(command["command"])
    except (KeyError, ValueError, AttributeError):
        return []


def recipe_of(started: Sequence[dict]) -> str | None:
    """Return the name of the recipe in the last command that names one."""
    for command in reversed(started):
        given = words(command)
        for word, following in zip(given, [*given[1:], ""], strict=True):
            name = following if word == "--recipe" else word.partition("--recipe=")[2]
            if name:
                return Path(name).stem if name.endswith(".toml") else name
    return None


def starts(started: Sequence[dict], metrics: Sequence[dict]) -> list[Start]:
    """Assign the lines of metrics to the starts of train-depth."""
    found = [Start(command, time_of(command), step_of(command.get("begins")), [], []) for command in started]
    metrics = [line for line in metrics if isinstance(line.get("step"), int)]
    if not found and metrics:
        found = [Start({}, number(metrics[0], "time"), 0, [], [])]
    at = 0
    for line in metrics:
        time = number(line, "time")
        while at + 1 < len(found) and None not in (time, found[at + 1].time) and time >= found[at + 1].time:
            at += 1
        if (kind := line.get("kind", "training")) in ("training", "validation"):
            getattr(found[at], kind).append(line)
    return found


def time_of(command: dict) -> float | None:
    try:
        return datetime.datetime.fromisoformat(command["time"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return None


def step_of(begins: object) -> int:
    """Return the step of the checkpoint that a training continued from; 0 for other weights, or none."""
    match = re.fullmatch(r"(\d+)\.npz", Path(begins).name) if isinstance(begins, str) else None
    return int(match[1]) if match else 0


def read_attempts(run: Path, chief: str | None, notes: list[str]) -> list[Attempt]:
    """Read the attempts of a run in order. `chief` is the host of train-depth, for plans on this machine."""
    numbers = sorted(int(folder.name) for folder in (run / "nodes").glob("[0-9]*") if folder.name.isdigit())
    kept, found = kept_nodes(run), []
    for attempt in numbers:
        folder = run / "nodes" / str(attempt)
        begun, step = folder / "from", attempts.text(folder / "from")
        found.append(
            Attempt(
                attempt,
                attempts.text(folder / "job"),
                begun.stat().st_mtime if begun.exists() else None,
                int(step) if step and step.isdigit() else None,
                attempts.in_words(folder),
                nodes(folder, {("chief", 0): [chief]} | kept.get(attempt, {}), notes),
                (attempts.text(folder / LOST) or "").split(),
                command_of(folder, notes),
                not (folder / CLUSTER).exists() or attempts.text(folder / CLUSTER) is not None,
            )
        )
    return found


def command_of(folder: Path, notes: list[str]) -> str | None:
    """Return the command that submitted or began an attempt with its settings before it; None if it is not known."""
    submitted = table(folder.parent / f"command-{attempts.text(folder / 'origin')}.json", notes)
    told = submitted or table(folder / "command.json", notes)
    settings, command = told.get("settings"), told.get("command")
    if not isinstance(settings, dict) or not isinstance(command, str):
        return None
    return " ".join([*(f"{name}={shlex.quote(str(value))}" for name, value in settings.items()), command])


def nodes(folder: Path, kept: dict[tuple[str, int], list], notes: list[str]) -> list[dict]:
    """Read the nodes of an attempt from its plan, its last state, and `kept`, the hosts of their starts."""
    try:
        planned = plan.read((folder / "plan.tsv").read_text().splitlines(), f"nodes/{folder.name}/plan.tsv")
    except FileNotFoundError:
        planned = []
    except Failure as failure:
        notes.append(str(failure))
        planned = []
    found = {(node.role, node.index): {"gpus": ",".join(node.gpus), "host": node.host} for node in planned}
    for node in table(folder / "state.json", notes).get("nodes", []):
        if isinstance(node, dict) and isinstance(node.get("role"), str) and isinstance(node.get("index"), int):
            found.setdefault((node["role"], node["index"]), {}).update(node)
    ended = attempts.ended(folder)
    for key, node in found.items():
        node["role"], node["index"] = key
        if ended and node.get("state") in ("starting", "serving"):
            node["state"] = "ended"
        hosts = kept.get(key, [])
        node["restarts"] = max(len(hosts) - 1, 0)
        if node.get("host") in (None, HERE, "*") and any(hosts):
            node["host"] = hosts[-1]
    order = {role: at for at, role in enumerate(plan.ROLES)}
    return [found[key] for key in sorted(found, key=lambda key: (order.get(key[0], len(order)), key[1]))]


def kept_nodes(run: Path) -> dict[int, dict[tuple[str, int], list[str]]]:
    """Return the host of each start of a node, by attempt, role and index, from the lines that keep-node logs."""
    found: dict[int, dict[tuple[str, int], list[str]]] = {}
    for path in sorted(run.glob("logs/*-*.log")):
        role, _, index = path.stem.rpartition("-")
        with path.open("rb") as file:
            for line in file:
                if line.startswith(b"keep-node: ") and index.isdigit():
                    head, _, rest = line.decode(errors="replace").partition(logs.ATTEMPT)
                    fields = rest.strip().split(", ")  # attempt, date, host, and perhaps the job
                    if head == "keep-node: " and len(fields) > 2 and fields[0].isdigit():
                        starts = found.setdefault(int(fields[0]), {}).setdefault((role, int(index)), [])
                        starts.append(fields[2])
    return found
