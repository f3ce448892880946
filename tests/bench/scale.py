"""make bench-scale: whether more machines are faster, on the network people have, beside the bars.

Each process is held to its cores. Rates are in photos a second, medians over what training tells of itself after it has
warmed up; ratios are of rates measured in one call. Hosts with slow links are the sandbox's (root, Debian).
"""

import contextlib
import itertools
import json
import os
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from grid.conftest import Grid, held
from shell import PROJECT, options, wait_for

from bench import report
from bench.report import Row
from depthfield.training import cost
from depthfield.training.pace import Pace

BIG = "network.widths=[24,48,64,96,840]"  # of demo: 13.9 M parameters, 55.7 MB
PARAMETERS = 13_929_804
LINKS = {"1 Gbit/s": cost.Network(125e6, 2e-4), "100 Mbit/s": cost.Network(12.5e6, 2e-4)}
WARM = 8  # seconds of training that do not count,
WARM_ROUNDS = 3  # and rounds of each worker: two that nothing is known of, and one
SECONDS = 15  # that do
LINES = 4  # of training, at least
NO_END = "steps=1000000"
ROUNDS = 4  # that bytes are counted over
QUIET = 10**6  # bytes a second
LOCAL_STEPS = 32  # between two averages of PyTorch's local SGD
WORKERS, SEEDS = (1, 2, 4, 8), (0, 1, 2)
STEPS = 1200  # of demo, where scores are compared
TURN_STEPS = 12  # of a round of each worker there, at most: what rounds adapt to on loopback
CORES = "0", "1"  # two trainings at a time where nothing is timed
ROOMS = {"rooms": "240x320", "small-rooms": "120x160"}
HALF = 1800  # steps of demo, half of what it is trained
REL = 0.27
NEAR = 3  # validations whose mean counts
MANY_ROUNDS = 15  # of 16 workers
DEMO_PARAMETERS = 812_628
OURS, THEIRS = "#31688e", "#bbbbbb"
PEERS = PROJECT / "build/peers"
OLD = "e4b4094"  # the last commit whose rounds read and wrote parameters and slots, whole


class Place(NamedTuple):
    """Where a process runs: a host of the sandbox, or none for this machine, and its cores."""

    host: str | None = None
    cores: str = "0,1"


def where(place: Place) -> list[object]:
    """The options of a node there. On a host of the sandbox it lives with the host: whoever starts it is outside."""
    parent = ["--parent", 1] if place.host else []
    return ["--host", place.host or "127.0.0.1", "--threads", len(place.cores.split(",")), *parent]


class Bench:
    def __init__(self, folder: Path, grid: Grid | None):
        self.folder, self.grid, self.runs = folder, grid, 0
        self.data = folder / "data"

    def command(self, place: Place, words: Sequence[object], home: Path = PROJECT) -> list[str]:
        held_to = ["taskset", "-c", place.cores, "env", f"PYTHONPATH={home / 'lib'}", *words]
        if place.host:
            held_to = ["env", f"GRID_DIR={self.grid.folder}", PROJECT / "tests/grid/sandbox", "as", "root", "--on",
                       place.host, *held_to]  # fmt: skip
        return [str(word) for word in held_to]

    def start(self, place: Place, *words: object, log: Path, home: Path = PROJECT, **options) -> subprocess.Popen:
        with log.open("a") as file:
            return subprocess.Popen(
                self.command(place, words, home), stdin=subprocess.DEVNULL, stderr=file,
                stdout=options.pop("stdout", file), text=True, **options,
            )  # fmt: skip

    def shape(self, link: cost.Network) -> None:
        """Put each host behind such a link."""
        for host in ("node1", "node2", "node3"):
            self.grid.shape(host, f"{link.rate * 8 / 1e6:g}mbit", f"{link.delay * 1000:g}ms")

    def new_run(self) -> Path:
        self.runs += 1
        run = self.folder / f"run{self.runs}"
        (run / "logs").mkdir(parents=True)
        return run

    def shards(self, name: str = "rooms") -> list[Path]:
        return sorted((self.data / name / "records").glob("train-*"))

    def alone(self, place: Place, changes: Sequence[str] = ()) -> "Rate":
        """One process."""
        run = self.new_run()
        train = self.train(place, run, changes, ())
        with ended([train]):
            return self.measured(run, train, SECONDS)

    def train(
        self,
        place: Place,
        run: Path,
        changes: Sequence[str],
        more: Sequence[object],
        home: Path = PROJECT,
        recipe: str = "demo",
        before: Sequence[object] = (),
    ) -> subprocess.Popen:
        settings = [NO_END, "summary_seconds=1", "checkpoint_seconds=100000", "validation_steps=1000000", *changes]
        command = [
            *before,
            home / "bin/train-depth",
            "--recipe",
            recipe,
            "--run",
            run,
            *options(settings),
            *more,
            *self.shards(),
        ]
        one = {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"} if len(place.cores) == 1 else {}
        words = ["env", *(f"{name}={value}" for name, value in one.items()), *command]
        return self.start(place, *words, log=run / "logs/chief.log", home=home, stdout=subprocess.DEVNULL)

    @contextlib.contextmanager
    def replicas(self, places: Sequence[Place], recipe: str) -> Iterator[tuple[Path, subprocess.Popen]]:
        """Training by all-reduce at these places; yields the run and the chief, the first of them."""
        run, names = self.new_run(), [place.host or "127.0.0.1" for place in places]
        nodes = run / "nodes/1"
        plan, spec = nodes / "plan.tsv", nodes / "cluster.json"
        nodes.mkdir(parents=True)
        roles = ["chief\t0", *(f"worker\t{index}" for index in range(len(places) - 1))]
        plan.write_text("".join(f"{role}\t{name}\t0\t-\n" for role, name in zip(roles, names, strict=True)))
        watch = [PROJECT / "bin/watch-nodes", "--run", run, "--host", names[0], "--plan", plan]
        gather = f"{PROJECT}/bin/gather-spec --run {run} {plan} > {spec}.part && mv {spec}.part {spec}"
        wait = ["bash", "-c", f'while [[ ! -e {spec} ]]; do sleep 0.2; done; exec "$@"', "wait"]
        more = ["--cluster", spec]
        with contextlib.ExitStack() as stack:
            chief = self.train(places[0], run, (), more, recipe=recipe, before=[*watch, *wait])
            stack.enter_context(ended([chief]))
            wait_for((nodes / "watcher-0.json").exists, 60)
            for index, place in enumerate(places[1:]):
                node = [PROJECT / "bin/worker-node", "--run", run, "--index", index, "--reduce"]
                started = self.start(place, *node, *where(place), log=run / f"logs/worker-{index}.log")
                stack.enter_context(ended([started]))
            subprocess.run(["bash", "-c", gather], check=True, timeout=180)
            yield run, chief

    @contextlib.contextmanager
    def cluster(
        self,
        workers: Sequence[Place],
        servers: Sequence[Place],
        changes: Sequence[str] = (),
        home: Path = PROJECT,
        recipe: str = "demo",
    ) -> Iterator[tuple[Path, subprocess.Popen]]:
        """Nodes at these places, and a chief beside the first server; yields the run and the chief."""
        run, plan = self.new_run(), [("chief", 0, servers[0])]
        plan += [(role, index, place) for role, places in (("ps", servers), ("worker", workers))
                 for index, place in enumerate(places)]  # fmt: skip
        with contextlib.ExitStack() as stack:
            for role, index, place in plan[1:]:
                node = [home / f"bin/{role}-node", "--run", run, "--index", index]
                started = self.start(place, *node, *where(place), log=run / f"logs/{role}-{index}.log", home=home)
                stack.enter_context(ended([started]))
            text = "".join(f"{role}\t{i}\t{place.host or '127.0.0.1'}\t0\t-\n" for role, i, place in plan)
            gathered = subprocess.run(
                [home / "bin/gather-spec", "--run", run], input=text, capture_output=True, text=True, timeout=180
            )
            assert gathered.returncode == 0, gathered.stderr
            (run / "cluster.json").write_text(gathered.stdout)
            more = ["--cluster", run / "cluster.json"]
            chief = self.train(Place(servers[0].host), run, changes, more, home, recipe)
            with ended([chief]):
                yield run, chief

    def measured(self, run: Path, process: subprocess.Popen, seconds: float) -> "Rate":
        """The rate of a training after WARM seconds and WARM_ROUNDS, over at least `seconds` and some rounds."""
        workers = len(list((run / "logs").glob("worker-*"))) or 1

        def known() -> list[dict]:
            """The lines that count, the first of them as the beginning."""
            lines = training(run)
            return [line for line, rounds in zip(lines, itertools.accumulate(rounds_of(lines)), strict=True)
                    if line["time"] > lines[0]["time"] + WARM and rounds >= WARM_ROUNDS * workers]  # fmt: skip

        def enough() -> bool:
            lines = known()
            return len(lines) > LINES and lines[-1]["time"] - lines[0]["time"] > seconds

        wait_for(lambda: enough() or process.poll() is not None, seconds * 6 + 300)
        assert process.poll() is None, (run / "logs/chief.log").read_text()[-3000:]
        lines = known()
        steps, took = lines[-1]["step"] - lines[0]["step"], lines[-1]["time"] - lines[0]["time"]
        shares = {name: statistics.median(line.get(name, 0) for line in lines)
                  for name in ("computing", "waiting", "moving", "round_steps", "exchange_seconds")}  # fmt: skip
        return Rate(2 * steps / took, **shares)


class Rate(NamedTuple):
    photos_per_second: float
    computing: float
    waiting: float
    moving: float
    round_steps: float
    exchange_seconds: float


@contextlib.contextmanager
def ended(processes: Sequence[subprocess.Popen]) -> Iterator[None]:
    """End processes of ours by their ids, whatever happens."""
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(15)


def training(run: Path) -> list[dict]:
    """The lines of training that a run has told so far."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [told for line in lines if line.endswith("}") and (told := json.loads(line))["kind"] == "training"]


CORE, OTHER, BOTH = (Place(cores=cores) for cores in ("0", "1", "0,1"))
FAR, OTHER_FAR, SERVER = Place("node1", "0"), Place("node2", "1"), Place("node3", "0,1")


def loopback(bench: Bench) -> tuple[list[Row], dict]:
    """One and two workers on this machine, against one process on one core, measured before, between and after."""
    alone = [bench.alone(CORE)]
    with bench.cluster([CORE], [OTHER]) as started:
        one = bench.measured(*started, SECONDS)
    alone.append(bench.alone(CORE))
    with bench.cluster([CORE, OTHER], [BOTH]) as started:
        two = bench.measured(*started, SECONDS)
    alone.append(bench.alone(CORE))
    before, after = mean(*alone[:2]), mean(*alone[1:])
    rows = [
        ratio("1 worker + 1 ps, loopback, to the process alone, a core each", one, before, 0.93),
        ratio("2 workers, a core each, + 1 ps, loopback, to one process on one core, demo", two, after, 1.80),
    ]
    found = {"alone before": before, "alone": after, "one worker": one, "two workers": two}
    return rows, {name: rate._asdict() for name, rate in found.items()}


def links(bench: Bench) -> tuple[list[Row], dict]:
    """The same with 55.7 MB of parameters and every host behind a slow link; PyTorch's ways on the same hosts.

    This machine is not equally fast at all times: one process is measured first and last, PyTorch's in the middle.
    """
    found, bytes_rows = {}, []
    fast, slow = LINKS
    before = bench.alone(CORE, [BIG])
    bench.shape(LINKS[fast])
    for way, changes in {"adaptive": [BIG, "summary_seconds=0"], "H = 1": [BIG, "round_steps=1"]}.items():
        with bench.cluster([FAR, OTHER_FAR], [SERVER], changes) as started:  # a line for each adaptive round
            found[f"{fast}, {way}"] = bench.measured(*started, SECONDS)._asdict()
            if way == "adaptive":
                bytes_rows = bytes_a_round(bench, started[0])
    old = bench.folder / "old"
    subprocess.run(["git", "worktree", "add", "--detach", old, OLD], cwd=PROJECT, check=True, capture_output=True)
    try:
        (old / ".venv").symlink_to(PROJECT / ".venv")
        with bench.cluster([FAR, OTHER_FAR], [SERVER], [BIG], old) as started:
            found[f"{fast}, rounds as before, H = 8"] = bench.measured(*started, SECONDS)._asdict()
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", old], cwd=PROJECT, check=True, capture_output=True)
    theirs = {fast: torch(bench)}
    single = torch_rate(bench, [CORE], "single")
    bench.shape(LINKS[slow])
    theirs[slow] = torch(bench)
    with bench.cluster([FAR, OTHER_FAR], [SERVER], [BIG, "summary_seconds=0"]) as started:
        found[f"{slow}, adaptive"] = bench.measured(*started, SECONDS)._asdict()
    alone = mean(before, bench.alone(CORE, [BIG]))

    rows = []
    for name, rate in list(found.items()):
        bar = {f"{fast}, adaptive": 1.7, f"{slow}, adaptive": 1.3}.get(name)
        rows.append(ratio(f"2 workers + 1 ps, {name}, 55.7 MB, to one process", Rate(**rate), alone, bar))
    for name, steps in {f"{fast}, adaptive": 0, f"{fast}, H = 1": 1, f"{slow}, adaptive": 0}.items():
        rows.append(as_predicted(name, found, alone, steps))
    for link, ways in theirs.items():
        mine = found[f"{link}, adaptive"]["photos_per_second"] / alone.photos_per_second
        for way, rate in ways.items():
            found[f"torch, {way}, {link}"] = rate
            told = f"the same to PyTorch's {way}, each relative to its own process, {link}"
            rows.append(Row(told, mine / (rate / single), 1.0, least=True))
    return rows + bytes_rows, found | {"alone": alone._asdict(), "torch, alone": single}


def mean(*rates: Rate) -> Rate:
    return Rate(*(statistics.mean(values) for values in zip(*rates, strict=True)))


def ratio(row: str, rate: Rate, base: Rate, bar: float | None) -> Row:
    return Row(row, rate.photos_per_second / base.photos_per_second, bar, least=True)


def as_predicted(name: str, found: dict, alone: Rate, round_steps: int) -> Row:
    """How far the rate is off what plan-cluster predicts for that link from the step of one process."""
    asked = cost.Training(PARAMETERS, 2 / alone.photos_per_second, 2, round_steps=round_steps)
    link = LINKS[name.partition(",")[0]]
    predicted = cost.predict(asked, cost.apart(1, 2), link).photos_per_second
    found[f"{name}, predicted"] = predicted
    off = abs(found[name]["photos_per_second"] / predicted - 1)
    return Row(f"photos/s of 2 workers + 1 ps, {name}, off what plan-cluster predicts, share of it", off, 0.2)


def bytes_a_round(bench: Bench, run: Path) -> list[Row]:
    """What crosses the server's link a round and worker, counted there over some rounds, in float32 parameters.

    It is counted from one moment to another in which all workers compute, so that rounds are whole.
    """

    def counted() -> tuple[int, int]:
        shown = bench.grid.run("root", "cat", "/proc/net/dev", on=SERVER.host).stdout
        (numbers,) = (line.split()[1:] for line in shown.splitlines() if line.split()[0] == "eth0:")
        return int(numbers[8]), int(numbers[0])

    def quiet() -> tuple[int, int, float]:
        """Bytes sent and received, and rounds told, when nothing but questions crosses the link."""
        before, deadline = counted(), time.monotonic() + 120
        while time.monotonic() < deadline:
            time.sleep(1)
            now = counted()
            if sum(now) - sum(before) < QUIET:
                return *now, sum(rounds_of(training(run)))
            before = now
        raise TimeoutError("the server's link is never quiet")

    sent, received, rounds = quiet()
    wait_for(lambda: sum(rounds_of(training(run))) - rounds >= ROUNDS, 400, "rounds")
    *after, last = quiet()
    whole = 4 * PARAMETERS * (last - rounds)
    return [
        Row("bytes pulled a round, counted on the wire, to the parameters in float32", (after[0] - sent) / whole, 1.1),
        Row("bytes pushed, the same", (after[1] - received) / whole, 0.6),
    ]


def rounds_of(lines: list[dict]) -> list[float]:
    """How many rounds each line of training tells of; the old commit tells none, and a line is at least one."""
    return [line.get("rounds", 1) for line in lines]


def torch(bench: Bench) -> dict[str, float]:
    """Photos a second of PyTorch's ways with two processes on the hosts of the workers."""
    every = ("--every", LOCAL_STEPS)
    ways = {"DistributedDataParallel": ("ddp",), f"local SGD, H = {LOCAL_STEPS}": ("local-sgd", *every)}
    ways[f"DiLoCo, H = {LOCAL_STEPS}"] = ("diloco", *every)
    return {name: torch_rate(bench, [FAR, OTHER_FAR], *way) for name, way in ways.items()}


def torch_rate(bench: Bench, places: Sequence[Place], way: str, *more: object) -> float:
    """Photos a second of PyTorch at these places."""
    options = ["--patches", bench.data / "rooms/patches", "--widths", "24,48,64,96,840", "--batch", 2]
    options += ["--warmup", WARM, "--seconds", SECONDS]
    processes = []
    for rank, place in enumerate(places):
        ranks = ["--rank", rank, "--world", 2, "--master", "node1:29500"] if len(places) > 1 else []
        script = [PEERS / "bin/python", PROJECT / "tests/bench/peers/train.py", "--way", way]
        log = bench.folder / f"peer-{rank}.log"
        processes.append(bench.start(place, *script, *options, *ranks, *more, log=log, stdout=subprocess.PIPE))
    with ended(processes):
        told, _ = processes[0].communicate(timeout=900)
    return json.loads(told.splitlines()[-1])["photos_per_second"]


def scores(bench: Bench) -> tuple[list[Row], dict]:
    """The held-out rel after the same number of photos, by 1, 2, 4 and 8 workers that take turns in one process."""
    with ThreadPoolExecutor(len(CORES)) as pool:
        free = queue.SimpleQueue()
        for core in CORES:
            free.put(core)
        asked = {workers: [pool.submit(scored, bench, free, workers, seed) for seed in SEEDS] for workers in WORKERS}
        found = {workers: [future.result() for future in futures] for workers, futures in asked.items()}
    base = statistics.mean(found[1])
    rows = [
        Row(f"held-out rel of {workers} workers to that of one, {STEPS} steps of demo, means of seeds 0 to 2",
            statistics.mean(found[workers]) / base, 1.03)
        for workers in WORKERS[1:]
    ]  # fmt: skip
    return rows, {f"{workers} workers": rels for workers, rels in found.items()}


def scored(bench: Bench, free: queue.SimpleQueue, workers: int, seed: int) -> float:
    """The held-out rel of a training in a process of its own, on one of the `free` cores."""
    core = free.get()
    turn = min(TURN_STEPS, Pace(workers, 0, STEPS).longest)
    command = ["taskset", "-c", core, sys.executable, "-m", "bench.turns", workers, turn, seed, STEPS,
               *bench.shards("small-rooms")]  # fmt: skip
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=1800)
    free.put(core)
    assert done.returncode == 0, done.stderr[-3000:]
    return float(done.stdout.split()[-1])


def to_a_score(bench: Bench) -> tuple[list[Row], dict]:
    """Seconds of training until the held-out rel reaches one, on one core and by two workers of a core each.

    At high learning rates it goes up and down by a tenth from one validation to the next, so the mean of NEAR counts.
    """
    changes = [f"steps={HALF}", "validation_steps=200"]
    found = {}

    def ends(name: str, run: Path, process: subprocess.Popen) -> None:
        assert process.wait(900) == 0, (run / "logs/chief.log").read_text()[-3000:]
        told = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        rels = [(line["time"] - told[0]["time"], line["rel"]) for line in told if "rel" in line]
        means = [(since, statistics.mean(rel for _, rel in rels[max(end - NEAR, 0) : end]))
                 for end, (since, _) in enumerate(rels, start=1)]  # fmt: skip
        found[name] = {
            "until": next(since for since, rel in means if rel <= REL), "whole": told[-1]["time"] - told[0]["time"],
            "last rel": means[-1][1], "rels": {f"{since:.1f} s": rel for since, rel in rels},
        }  # fmt: skip

    run = bench.new_run()
    train = bench.train(CORE, run, changes, ())
    with ended([train]):
        ends("one process", run, train)
    with bench.cluster([CORE, OTHER], [BOTH], changes) as started:
        ends("two workers", *started)
    one, two = found["one process"], found["two workers"]
    rows = [
        Row(f"seconds until held-out rel is {REL} on rooms, 2 workers to 1 process, a core each",
            two["until"] / one["until"], 0.62),
        Row(f"seconds of the whole training, {HALF} steps, the same", two["whole"] / one["whole"], None),
        Row("held-out rel at its end, the same", two["last rel"] / one["last rel"], None),
    ]  # fmt: skip
    return rows, found


def reduce(bench: Bench) -> tuple[list[Row], dict]:
    """`small` with two workers by parameter servers and by all-reduce, on this machine and over 1 Gbit/s."""
    rows, found = [], {}
    bench.shape(LINKS["1 Gbit/s"])
    for where, places in {"loopback": (CORE, OTHER, BOTH), "1 Gbit/s": (FAR, OTHER_FAR, SERVER)}.items():
        with bench.cluster(places[:2], places[2:], recipe="small") as started:
            servers = bench.measured(*started, SECONDS)
        with bench.replicas(places[:2], recipe="small") as started:
            without = bench.measured(*started, SECONDS)
        found |= {f"{where}, 1 ps": servers._asdict(), f"{where}, all-reduce": without._asdict()}
        rows.append(ratio(f"small, 2 workers, {where}: all-reduce to 1 ps", without, servers, None))
    return rows, found


def many(bench: Bench) -> tuple[list[Row], dict]:
    """16 workers and 4 parameter servers on this machine: that they train, end, and take what is predicted."""
    alone = bench.alone(CORE)
    workers, servers, steps = 16, 4, 4
    run = bench.folder / "many"
    settings = {"DATA_DIR": bench.data, "RUN_DIR": bench.folder, "RUNID": "many", "RECIPE": "demo", "GRID": "no"}
    settings |= {"WORKERS": workers, "PS_NODES": servers, "STEPS": MANY_ROUNDS * workers * steps, "WAIT": 600}
    changes = [f"round_steps={steps}", "summary_seconds=1", "validation_steps=1000000", "checkpoint_seconds=100000"]
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    with (bench.folder / "many.log").open("w") as log:
        command = [PROJECT / "sge/cluster.sh", *options(changes)]
        done = subprocess.run(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, timeout=1500)
    text = (bench.folder / "many.log").read_text()
    assert done.returncode == 0, text[-3000:]
    lines = training(run)
    lines = lines[len(lines) // 3 :]
    rounds = sum(rounds_of(lines[1:])) / workers
    measured = (lines[-1]["time"] - lines[0]["time"]) / rounds
    # Sixteen workers share two cores: a step takes longer there, and so does all that takes CPU time.
    step = measured * statistics.median(line["computing"] for line in lines) / steps
    longer = step * alone.photos_per_second / 2
    asked = cost.Training(DEMO_PARAMETERS, step, 2, round_steps=steps)
    network = cost.Network(1e12, costs=cost.Costs(*(longer * each for each in cost.Costs())))
    predicted = cost.predict(asked, [cost.Host(workers, servers)], network).seconds
    row = Row("16 workers + 4 ps on this machine: seconds a round, off what plan-cluster predicts, share of it",
              abs(measured / predicted - 1), 0.2)  # fmt: skip
    told = {
        "step": step,
        "longer": longer,
        "seconds a round": measured,
        "predicted": predicted,
        "ended": text.splitlines()[-1],
    }
    return [row], told


PARTS = {
    "loopback": loopback, "links": links, "reduce": reduce, "many": many, "time": to_a_score, "scores": scores,
}  # fmt: skip


def draw(found: dict) -> str:
    """SVG: photos a second of two workers relative to one process, by network and by way."""
    bars = []
    if "loopback" in found:
        two, alone = (found["loopback"][name]["photos_per_second"] for name in ("two workers", "alone"))
        bars.append(("loopback, 3.3 MB, depthfield", two / alone, OURS))
    rates = found.get("links", {})
    for name, rate in rates.items():
        if isinstance(rate, dict) and name != "alone":
            times = rate["photos_per_second"] / rates["alone"]["photos_per_second"]
            bars.append((name.replace(", ", ", 55.7 MB, depthfield ", 1), times, OURS))
        elif name.startswith("torch, ") and name != "torch, alone":
            way, link = name.removeprefix("torch, ").rsplit(", ", 1)
            bars.append((f"{link}, 55.7 MB, PyTorch {way}", rate / rates["torch, alone"], THEIRS))
    height = 30 + 22 * len(bars)
    drawn = [f'<rect width="760" height="{height + 20}" fill="white"/>']
    for times in (0, 1, 2):
        x = 400 + 160 * times
        drawn.append(f'<line x1="{x}" y1="20" x2="{x}" y2="{height}" stroke="#bbbbbb"/>')
        drawn.append(f'<text x="{x}" y="14" text-anchor="middle">{times}</text>')
    for number, (name, value, colour) in enumerate(bars):
        y = 28 + 22 * number
        drawn.append(f'<text x="392" y="{y + 12}" text-anchor="end">{name}</text>')
        drawn.append(f'<rect x="400" y="{y}" width="{160 * value:.1f}" height="15" fill="{colour}"/>')
        drawn.append(f'<text x="{406 + 160 * value:.1f}" y="{y + 12}">{value:.2f}</text>')
    told = "photos a second of two workers with a core each, relative to one process on one core"
    drawn.append(f'<text x="380" y="{height + 14}" text-anchor="middle">{told}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height + 20}" font-family="sans-serif"'
    return "\n".join([head + ' font-size="12">', *drawn, "</svg>\n"])


def main(names: Sequence[str]) -> int:
    rows, more = [], {}
    kept = report.results("scale")
    needs_hosts = bool({"links", "reduce"} & set(names or PARTS))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-bench-", dir="/var/tmp")))
        grid = stack.enter_context(held(folder / "grid")) if needs_hosts else None
        bench = Bench(grid.folder / "shared" if grid else folder, grid)  # which all hosts see
        bench.data.mkdir()
        records(bench.data)
        for name in names or PARTS:
            begun = time.monotonic()
            part, found = PARTS[name](bench)
            rows += part
            more[name] = found | {"seconds": round(time.monotonic() - begun)}
            (kept / f"{name}.json").write_text(json.dumps(more[name], indent=1) + "\n")
            print(f"({name} took {time.monotonic() - begun:.0f} s)", file=sys.stderr, flush=True)
    shown = {name: json.loads(path.read_text()) for name in PARTS if (path := kept / f"{name}.json").exists()}
    (kept / "scale.svg").write_text(draw(shown))
    return report.tell("scale", rows, more)


def records(data: Path) -> None:
    """Rooms of 240×320 and of 120×160 with their records, 400 each to train on; kept for the next call."""
    kept = report.results("scale") / "data"
    for name, size in ROOMS.items():
        if not (kept / name / "records").exists():
            shutil.rmtree(kept / name, ignore_errors=True)
            kept.mkdir(parents=True, exist_ok=True)
            pipe = f"fetch-dataset --as {name} --size {size} rooms | make-patches | to-tfrecord > /dev/null"
            environment = os.environ | {"DATA_DIR": str(kept), "PATH": f"{PROJECT / 'bin'}:{os.environ['PATH']}"}
            subprocess.run(["bash", "-euo", "pipefail", "-c", pipe], check=True, env=environment)
        (data / name).symlink_to(kept / name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
