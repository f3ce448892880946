"""How a run is, by the files of its folder; and why it does not go on, by Grid Engine's clients."""

import json
import os
import time

import pytest
from clients import RECORDED, recorded, says

from depthfield.cluster import attempts, status
from depthfield.tool import Failure

NODES = [
    {"role": "ps", "index": 0, "host": "anna", "port": 7, "state": "serving", "memory": 2**28, "load": 0.5},
    {"role": "worker", "index": 0, "host": "bert", "port": 8, "state": "serving", "memory": 2**29, "load": 1.5},
    {"role": "worker", "index": 1, "host": "carl", "state": "lost"},
]


@pytest.fixture
def run(tmp_path):
    """A run that trains, in its second attempt, as job 41."""
    run = tmp_path / "run"
    (run / "nodes/1").mkdir(parents=True)
    (run / "checkpoints").mkdir()
    for name, text in {
        "job": "41\n", "recipe.toml": "steps = 900\n", "checkpoints/000000400.npz": "",
        "nodes/2/job": "41\n", "nodes/2/from": "400\n", "nodes/2/state.json": json.dumps({"nodes": NODES}),
        "metrics.jsonl": '{"step": 450, "kind": "training", "time": 5, "photos_per_second": 31.4}\n{"step": 46',
    }.items():  # fmt: skip
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(text)
    age(run / "nodes/2/from", 600)
    return run


def age(path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def shown(run) -> str:
    return status.table(status.of(run))


def test_the_last_step_is_that_of_the_last_training_command(run):
    lines = [{"steps": 900}, {"steps": 1200}, {"command": "export-model"}]
    (run / "commands.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert status.of(run)["steps"] == 1200


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_ages_are_by_the_clock_of_the_disk(run, monkeypatch, skew):
    age(run / "metrics.jsonl", 90)
    age(run / "checkpoints/000000400.npz", 600)
    here = time.time
    monkeypatch.setattr(time, "time", lambda: here() + skew)
    found = status.of(run)
    assert found["state"] == "training step 450 of 900, 31 photos/s"
    assert (round(found["step_age"], -1), round(found["checkpoint_age"], -1)) == (90, 600)
    assert found["heard"] < 15 and found["why"] == []


def test_where_nothing_may_be_written_ages_are_by_this_machine_s_clock(run, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device", "file")

    monkeypatch.setattr(status.files, "server_time", full)
    assert status.of(run)["state"].startswith("training step 450")
    assert "file: No space left on device; ages are measured by this machine's clock" in capsys.readouterr().err


def test_people_see_the_nodes_and_what_is_going_on(run):
    age(run / "checkpoints/000000400.npz", 600)
    table = shown(run).splitlines()
    assert table[1:5] == [
        "job             41",
        "attempt         2, from step 400",
        "state           training step 450 of 900, 31 photos/s",
        "last step       450, 0 s ago",
    ]
    assert table[5].endswith("000000400.npz, 10 min ago")
    assert [line.split() for line in table[-3:]] == [
        ["ps", "0", "anna", "7", "serving", "256", "MB", "0.5"],
        ["worker", "0", "bert", "8", "serving", "512", "MB", "1.5"],
        ["worker", "1", "carl", "-", "lost", "-", "-"],
    ]


def test_a_run_that_starts_tells_who_is_there(run):
    age(run / "metrics.jsonl", 700)  # of the attempt before
    assert status.of(run)["state"] == "starting (2 of 3 are ready)"
    (run / "nodes/2/state").write_text("waiting for nodes\n")
    assert status.of(run)["state"] == "waiting for nodes (2 of 3 are ready)"
    (run / "nodes/2/state.json").write_text(json.dumps({"nodes": NODES[:2]}))
    assert status.of(run)["state"] == "starting to train"
    (run / "nodes/2/state.json").write_text("{}")  # of a new attempt: no node is planned yet
    assert status.of(run)["state"] == "waiting for nodes"


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"time": 3}'])
def test_a_damaged_state_is_ignored(run, damaged):
    (run / "nodes/2/state.json").write_text(damaged)
    assert status.of(run)["nodes"] == []


def test_silence_is_reported(run):
    age(run / "nodes/2/state.json", 50)
    assert status.of(run)["state"] == "no news for 50 s: suspended or lost"
    (run / "nodes/2/state.json").unlink()
    assert status.of(run)["state"] == "no news for 600 s: suspended or lost"


def test_an_attempt_that_ended_has_no_nodes_at_work(run):
    (run / "nodes/2/state").write_text("ended with status 1 after 9 s\n")
    found = status.of(run)
    assert found["state"] == "ended with status 1 after 9 s"
    assert [node["state"] for node in found["nodes"]] == ["ended", "ended", "lost"]


def test_nodes_that_no_attempt_could_start_are_the_reason(run):
    (run / "nodes/2/state").write_text("ended with status 1 after 9 s\n")
    (run / "nodes/2/failed").write_text("worker 0 on bert: too little\n")
    assert status.of(run)["why"] == ["worker 0 on bert: too little"]


def test_a_job_that_has_not_begun_waits(run):
    (run / "nodes/2/state").write_text("ended with status 99 after 9 s\n")
    (run / "job").write_text("42\n")
    assert status.of(run)["state"] == "waiting for slots (job 42)"
    age(run / "job", 900)  # of an attempt before: this one went on without the grid
    assert status.of(run)["state"] == "ended with status 99 after 9 s"


def test_a_folder_that_is_not_a_run_is_named(tmp_path):
    with pytest.raises(Failure, match="none: no such run$"):
        status.of(tmp_path / "none")


def test_the_last_step_is_that_of_the_checkpoint_where_no_metrics_followed(run):
    age(run / "metrics.jsonl", 40)
    (run / "checkpoints/000000460.npz").touch()
    assert "last step       460, 0 s ago" in shown(run).splitlines()


# ------------------------------------------------------------------------------------------------------ Grid Engine


@pytest.fixture
def grid(clients, tmp_path, monkeypatch):
    """Grid Engine knows no job, and has the accounting of one that was killed for memory."""
    monkeypatch.setenv("SGE_ROOT", str(tmp_path))
    monkeypatch.setenv("SGE_CELL", "cell")
    (tmp_path / "cell/common").mkdir(parents=True)
    (tmp_path / "cell/common/act_qmaster").write_text("head\n")
    clients("qsub", "exit 1")
    clients("qstat", says(recorded("job-unknown.xml")))
    clients("qconf", f"cat {RECORDED}/qconf-sq.txt")
    clients("qacct", f"cat {RECORDED}/accounting/mem_slots.txt")
    return clients


def test_a_run_that_trains_or_ended_well_is_not_asked_about(run, grid):
    assert status.of(run)["why"] == []
    for stopped in (True, False):
        attempts.write_state(run / "nodes/2", attempts.end_in_words(run, stopped))
        assert status.of(run)["why"] == [] and grid.calls() == []
    assert status.of(run)["state"] == "trained to step 400, done"


@pytest.mark.parametrize("how", ["ended", "silent"])
def test_the_accounting_tells_why_a_run_died(run, grid, how):
    if how == "ended":
        (run / "nodes/2/state").write_text("ended with status 1 after 9 s\n")
    else:
        age(run / "nodes/2/state.json", 50)
    (line,) = status.of(run)["why"]
    assert line.startswith("job 41: ") and "it requested h_vmem=100M per slot, 400 MB for its 4 slots" in line
    assert grid.calls() == ["qstat -j 41 -xml", "qacct -j 41", "qconf -sq all.q"]
    assert f"why             {line}" in shown(run).splitlines()


def test_the_log_of_a_run_that_failed_tells_why(run, grid):
    grid("qacct", f"cat {RECORDED}/accounting/exit_1.txt")
    (run / "nodes/2/state").write_text("ended with status 1 after 9 s\n")
    (run / "logs").mkdir()
    (run / "logs/cluster.log").write_text("run-cluster: run x, attempt 2, job 41: 1 ps\ntrain-depth: the error\n")
    assert status.of(run)["why"] == ["train-depth: the error"]
    (run / "job").write_text("42\n")  # it did not come to an attempt
    os.utime(run / "job", (time.time() - 1, time.time() - 1))
    (run / "logs/cluster.log").write_text("run-cluster: RUNID takes letters\n")
    assert status.of(run)["why"] == ["run-cluster: RUNID takes letters"]


def test_an_attempt_that_gave_up_tells_why_itself(run, grid):
    (run / "nodes/2/state").write_text("ended: gave up, the grid gave no slots for some nodes in time\n")
    (run / "nodes/2/why").write_text("no slots within 9 s\n")
    assert "state           gave up, the grid gave no slots for some nodes in time" in shown(run).splitlines()
    assert status.of(run)["why"] == ["no slots within 9 s"] and grid.calls() == []


def test_a_site_without_any_record_yet_has_none_of_this_job(run, grid):
    (run / "job").write_text("42\n")
    grid("qacct", "echo '/sge/default/common/accounting: No such file or directory' >&2; exit 1")
    assert status.of(run)["why"] == ["job 42 is no longer in the grid"]


def test_the_array_jobs_of_nodes_are_asked_about_too(run, grid):
    (run / "nodes/2/state").write_text("ended: gave up after 3 attempts without a new checkpoint\n")
    (run / "nodes/2/array-jobs").write_text("42\n43\n")
    cases = f"case $2 in 41) set exit_1;; 42) set qdel_owner;; 43) set mem;; esac; cat {RECORDED}/accounting/$1.txt"
    grid("qacct", cases)
    job, worker = (line for line in status.of(run)["why"] if "deleted with qdel" not in line)
    assert job.startswith("job 41: failed (exit status 1)") and worker.startswith("job 43: killed for memory")
    assert " WORKER_REQUEST='-l h_vmem=400M'" in worker


def test_a_job_in_the_error_state_is_explained(run, grid):
    (run / "nodes/2/state").write_text("ended with status 75 after 9 s\n")
    grid("qstat", f"cat {RECORDED}/job-error-output.xml")
    assert status.of(run)["why"] == [
        "job 41: cannot write its log /nonexistent/x (No such file or directory); name a folder that exists on every "
        "host, with -o, or create it; then clear the error: qmod -cj 41"
    ]


def test_the_scheduler_tells_why_a_job_waits(run, grid):
    (run / "job").write_text("42\n")
    grid("qstat", f"cat {RECORDED}/job-without-slots.xml")
    (line,) = status.of(run)["why"]
    assert line.startswith('job 42: cannot run in PE "tf" because it only offers 0 slots; queue instance')


def test_a_job_that_waited_and_is_gone_is_reported(run, grid):
    (run / "job").write_text("42\n")
    grid("qacct", "echo 'error: job id 42 not found' >&2; exit 1")
    assert status.of(run)["why"] == ["job 42 is no longer in the grid"]


def test_a_qmaster_that_does_not_answer_is_reported(run, grid):
    age(run / "nodes/2/state.json", 50)
    grid("qstat", says("error: commlib error: got select error (No route to host)", 1, 2))
    (line,) = status.of(run)["why"]
    assert line.startswith("the qmaster does not answer: error: commlib error")
