"""make bench-grid: how fast starting, ending and noticing are on the sandbox, beside their bars."""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench import report
from bench.report import Row
from grid_formats import large
from shell import PROJECT, records, wait_for

from depthfield.cluster import announcements
from depthfield.cluster.announcements import Announcement

from .conftest import Grid, held
from .runs import Run

TIMES = 3
IMPORT = [sys.executable, "-c", "import tensorflow"]
CUT = {"PE": "orte", "PS_NODES": 1, "WORKERS": 3, "SLOTS_PER_NODE": 1}


def imports(processes: int) -> float:
    """Seconds that so many processes at once take to import TensorFlow."""
    begun = time.monotonic()
    started = [subprocess.Popen(IMPORT, stderr=subprocess.DEVNULL) for _ in range(processes)]
    for process in started:
        process.wait(120)
    return time.monotonic() - begun


def whole_run(grid: Grid, way: dict) -> tuple[float, float]:
    """Seconds from the job's start to the first step told, and from the last checkpoint to a free grid: six nodes."""
    run = Run(grid, f"bench-{'pe' if way else 'array'}")
    subprocess.run(["rm", "-rf", run.path], check=True)
    run.start(steps=64, PS_NODES=2, WORKERS=3, **way)
    wait_for((run.path / "logs/cluster.log").exists, 30)  # Grid Engine makes it as it starts the job
    begun = time.time()
    wait_for(lambda: run.saved() == 64, 120, "the end")
    saved = next(run.path.glob("checkpoints/*64.npz")).stat().st_mtime
    wait_for(lambda: run.gone() and not run.processes(), 30, "a free grid")
    return run.lines()[0]["time"] - begun, time.time() - saved


def gathering(folder: Path, nodes: int = 1000) -> float:
    """Seconds of gather-spec while so many nodes announce themselves; from its start, theirs are spread over two."""
    run = folder / f"gather-{time.time_ns()}"
    here, token = announcements.folder(run, 1), announcements.token(run)
    plan = "".join(f"worker\t{index}\thost{index}\t0\t-\n" for index in range(nodes))

    def announce() -> None:
        for index in range(nodes):
            told = Announcement(f"host{index}", 4000 + index, 7, 1.0, token)
            announcements.announce(here, "worker", index, told)
            time.sleep(2 / nodes)

    threading.Thread(target=announce, daemon=True).start()
    begun = time.monotonic()
    command = [PROJECT / "bin/gather-spec", "--run", run]
    done = subprocess.run(command, input=plan, capture_output=True, text=True, timeout=60)
    assert len(json.loads(done.stdout)["worker"]) == nodes
    return time.monotonic() - begun


def planning(folder: Path) -> float:
    """Seconds of split-resources for 10,000 hosts of qhost."""
    xml, _ = large(10_000)
    (folder / "qhost.xml").write_text(xml)
    command = [PROJECT / "bin/split-resources", "--qhost", folder / "qhost.xml", "--ps", "200", "--workers", "1000"]
    begun = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60)
    return time.monotonic() - begun


def accidents(grid: Grid) -> dict[str, float]:
    """Seconds until a killed worker is back, a killed ps is made good, a cut host is noticed, a deleted job is gone."""
    run, took = Run(grid, "bench-accidents"), {}
    run.start(**CUT)
    run.trains()
    before = run.node("worker-1")
    begun = time.monotonic()
    run.kill("worker-1")
    wait_for(lambda: run.node("worker-1") not in ({}, before), 60)
    took["back"] = time.monotonic() - begun
    wait_for(run.saved, 30)
    begun = time.monotonic()
    run.kill("ps-0")
    wait_for(lambda: run.attempt() == 2, 60)
    run.trains()
    took["attempt"] = time.monotonic() - begun
    chief = run.host("watcher-0")
    host = next(name for name in (run.host(f"worker-{index}") for index in range(3)) if name != chief)
    begun = time.monotonic()
    grid.cut(host)
    wait_for(lambda: "its host does not answer" in run.log(), 120)
    took["noticed"] = time.monotonic() - begun
    grid.heal(host)
    wait_for(lambda: run.attempt() == 3, 120)
    run.trains()
    begun = time.monotonic()
    grid.run("ada", "qdel", run.job)
    wait_for(lambda: not run.processes() and run.gone(), 60)
    took["deleted"] = time.monotonic() - begun
    return took


def main() -> int:
    together, alone = imports(6), imports(1)
    with tempfile.TemporaryDirectory(prefix="grid-bench-", dir="/var/tmp") as place, held(Path(place, "grid")) as grid:
        gathered, planned = ([what(Path(place)) for _ in range(TIMES)] for what in (gathering, planning))
        rows = [
            Row("gather-spec with 1,000 nodes that announce themselves within 2 s, s", statistics.median(gathered), 5),
            Row("split-resources, 10,000 hosts, s", statistics.median(planned), 1),
            Row("Grid Engine with 4 nodes boots, s", grid.seconds, 15),
        ]
        data = grid.folder / "shared/data"
        data.mkdir()
        records(data, count="24,6", size="72x96", superpixels="grid:12")
        for name, way in (("parallel environment", {"PE": "orte"}), ("array jobs", {})):
            starts, ends = zip(*(whole_run(grid, way) for _ in range(TIMES)), strict=True)
            rows.append(Row(f"job's start to first step, 6 nodes, {name}, s", statistics.median(starts), together + 5))
            rows.append(Row(f"last checkpoint to free grid, {name}, s", statistics.median(ends), 5))
        took = accidents(grid)
        rows.append(Row("killed worker to its announcement, s", took["back"], 20))
        rows.append(Row("killed ps to steps of the next attempt, s", took["attempt"], 60))
        rows.append(Row("cut host to notice, s", took["noticed"], 60))
        rows.append(Row("qdel while training to no process, s", took["deleted"], 15))
    imported = {"six at once": round(together, 2), "one alone": round(alone, 2)}
    print(f"(importing TensorFlow took {together:.1f} s for six processes at once, {alone:.1f} s for one)")
    return report.tell("grid", rows, {"import seconds": imported})


if __name__ == "__main__":
    sys.exit(main())
