"""Submission to a real Grid Engine: what a job asks for, and what is said when it cannot be had."""

import os
import subprocess

import pytest
from shell import PROJECT, wait_for

from depthfield.cluster import gridengine

SCRIPT = PROJECT / "sge/cluster.sh"


def test_qdel_of_a_job_that_waits(run, grid):
    full = grid.run("ada", "qsub", "-terse", "-pe", "orte", "16", "-b", "y", "sleep", "300").stdout.strip()
    wait_for(lambda: " r " in grid.run("ada", "qstat").stdout, 30)
    one = run().start(PE="orte", PS_NODES=1, WORKERS=2)
    assert one.status()["state"].startswith(f"waiting for slots (job {one.job})")
    grid.run("ada", "qdel", one.job)
    one.leaves_nothing()
    two = run("two").start(PE="orte", PS_NODES=1, WORKERS=2)
    again = two.submit(PE="orte", PS_NODES=1, WORKERS=2)
    assert again.returncode == 1 and f"job {two.job} of this run waits or runs already" in again.stderr
    assert two.stop().returncode == 0  # make stop does the same
    assert two.status()["state"] == "not started" and two.status()["why"] == []
    two.leaves_nothing()
    grid.run("ada", "qdel", full)


def test_fewer_slots_than_asked_for(run, grid):
    never = run("never").submit(PE="orte", PS_NODES=1, WORKERS=98)
    assert never.returncode == 1
    assert "; the queues with orte that it may use have 16: all.q, by the defaults" in never.stderr
    full = grid.run("ada", "qsub", "-terse", "-pe", "orte", "12", "-b", "y", "sleep", "300").stdout.strip()
    wait_for(lambda: " r " in grid.run("ada", "qstat").stdout, 30)  # it leaves four slots
    # Array jobs: what is there is held until WAIT is over, and given back.
    one = run().start("--wait", "8", PS_NODES=1, WORKERS=4)
    one.ends(90)
    told = "no slots for all nodes within 8 s; free slots by queue, besides the chief's: all.q 3 of 16"
    assert f"gave up: {told}" in one.log() and one.status()["why"] == [told]
    one.leaves_nothing()
    # A parallel environment: nothing is held; the job that waited too long is deleted.
    two = run("two")
    done = two.submit(PE="orte", PS_NODES=1, WORKERS=4, WAIT=3)
    assert done.returncode == 1 and "got no slots within 3 s and was deleted; free slots by queue" in done.stderr
    assert two.status()["state"] == "not started"
    grid.run("ada", "qdel", full)


def refused(grid, on: str = "head", **settings: object) -> str:
    """The one line with which a submission is refused."""
    words = {"DATA_DIR": grid.folder / "shared/data", "RUNID": "refused", "PS_NODES": 1, "WORKERS": 2} | settings
    done = grid.run("ada", SCRIPT, on=on, **{name: str(value) for name, value in words.items()})
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "-refused" not in grid.run("ada", "qstat", "-r").stdout
    return done.stderr


def test_submission_says_what_is_missing(grid, data):
    offer = refused(grid, PE="nope")
    assert "no parallel environment nope; use PE=" in offer and "PE=orte" in offer and "PE=smp" not in offer
    assert "smp gives slots on one host only" in refused(grid, PE="smp")
    assert "no suitable queues" in refused(grid, PE="orte", REQUEST="-q short.q -l h_rt=3600")
    assert "no queue among those that this run may use: nope.q, as REQUEST says" in refused(grid, REQUEST="-q nope.q")
    grid.run("root", "qconf", "-ds", "node4.grid.test")
    try:
        assert "is not a submit host" in refused(grid, on="node4")
        held = grid.run("ada", SCRIPT, DATA_DIR=str(data), RUNID="held", REQUEST="-h")
        assert "a job on node4.grid.test cannot submit jobs" in held.stderr
        grid.run("ada", "qdel", "-u", "ada")
    finally:
        grid.run("root", "qconf", "-as", "node4.grid.test")


@pytest.mark.parametrize("name", ["a:b", "a $b", "a&b", "a(b)", "it's", "a,b"])
def test_paths_that_grid_engine_reads_otherwise_are_refused_before_anything_is_submitted(grid, data, name):
    told = refused(grid, PE="orte", RUN_DIR=grid.home("ada") / name)
    assert f"{name}/refused: on a grid, paths may have only letters" in told
    assert not (grid.home("ada") / name).exists()


def test_a_job_asks_for_what_was_said_patterns_and_all(run, grid):
    one = run()

    def asked(**settings) -> gridengine.Job:
        done = one.submit(**settings)
        assert done.returncode == 0, done.stderr
        assert ("MEMORY is requested as " in done.stderr) == ("MEMORY" in settings)
        told = grid.run("ada", "qstat", "-j", one.job, "-xml").stdout
        grid.run("ada", "qdel", one.job)
        return gridengine.read_job(told)

    job = asked(PE="orte", REQUEST="-h -q *.q@node[1-3]* -l hostname=node[1-4]*,h_rt=300", MEMORY="1G")
    assert job.queues == ["*.q@node[1-3]*"] and job.request["hostname"] == "node[1-4]*"
    assert job.request["h_rt"] == "300" and job.request["mem_free"] == "1024M" and job.pe == "orte"
    job = asked(REQUEST="-h", GRID_QUEUES="all.q, short.*@node1*")
    assert job.queues == ["all.q", "short.*@node1*"] and not job.pe
    # Where memory is a consumable, as at many sites, it is one of each slot.
    table = grid.run("root", "qconf", "-sc").stdout
    changed = [line.replace("NO         0", "YES        0") if line.startswith("h_vmem ") else line
               for line in table.splitlines()]  # fmt: skip
    assert "\n".join(changed) != table
    file = grid.folder / "shared/complexes"
    file.write_text("\n".join(changed) + "\n")
    assert grid.run("root", "qconf", "-Mc", file).returncode == 0
    try:
        job = asked(PE="orte", REQUEST="-h", MEMORY="8G", SLOTS_PER_NODE=4)
        assert job.request == {"h_vmem": "2048M"} and job.slots == "16"
    finally:
        file.write_text(table)
        assert grid.run("root", "qconf", "-Mc", file).returncode == 0


def test_where_no_grid_is_reachable_nothing_is_trained_in_its_place(data, tmp_path):
    """On a login node without it, or with a cell whose qmaster is gone, PE=orte must not train right there."""
    given = {"DATA_DIR": str(data), "RUN_DIR": str(tmp_path / "runs"), "RUNID": "never", "PE": "orte"}
    environment = os.environ | given | {"SGE_ROOT": str(tmp_path), "SGE_CELL": "none"}
    done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 1 and "PE needs a grid, but there is none here" in done.stderr
    assert not (tmp_path / "runs").exists()
