"""Submission of a job and the stop of a run, with stand-ins for Grid Engine's clients: what is refused, and said."""

import json
import shlex
from pathlib import Path

import pytest
from clients import recorded

from depthfield.cluster import attempts, settings, stopping, submission, supervisor
from depthfield.tool import Failure

PES = {"orte": ("TRUE", "$round_robin"), "smp": ("TRUE", "$pe_slots"), "make": ("FALSE", "$round_robin")}
JOB = "<detailed_job_info><djob_info><element><JB_job_number>{}</JB_job_number><JB_stdout_path_list><path_list>" \
    "<PN_path>{}</PN_path></path_list></JB_stdout_path_list></element></djob_info></detailed_job_info>"  # fmt: skip
TASK = "<job_list><JB_job_number>{}</JB_job_number><JB_name>{}</JB_name><state>{}</state>{}</job_list>"


class Site:
    """A grid with one queue of 12 slots, which qsub asks for by default, and the jobs that `there` names."""

    def __init__(self, folder: Path, clients, monkeypatch):
        self.folder, self.clients, self.run = folder, clients, folder / "runs/first"
        (folder / "sge/default/common").mkdir(parents=True)
        (folder / "sge/default/common/act_qmaster").write_text("head\n")
        monkeypatch.setenv("SGE_ROOT", str(folder / "sge"))
        monkeypatch.setenv("SGE_CELL", "default")
        monkeypatch.delenv("MAKELEVEL", raising=False)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(submission, "SOON_SECONDS", 0)
        monkeypatch.setattr(stopping, "LEAVE_SECONDS", 0)
        self.jobs = folder / "jobs"
        self.jobs.mkdir()
        names = "\n".join(PES)
        details = "".join(
            f"{pe}) printf 'pe_name {pe}\\ncontrol_slaves {slaves}\\nallocation_rule {rule}\\n';;"
            for pe, (slaves, rule) in PES.items()
        )
        clients("qconf", f"case $1 in -spl) echo '{names}';; -sp) case $2 in {details} esac;; *) echo head;; esac")
        clients("qselect", "echo all.q@node1")
        clients("qdel", f'rm -f {self.jobs}/"$1"; echo "ada has deleted job $1"')
        queues = "<job_info><Queue-List><slots_total>12</slots_total></Queue-List></job_info>"
        unknown = shlex.quote(recorded("job-unknown.xml"))
        clients("qstat", f"""case $* in
            -j*) cat {self.jobs}/$2 2> /dev/null || echo {unknown};;
            -f*) printf "<?xml version='1.0'?>\\n%s\\n" '{queues}';;
            *) printf "<?xml version='1.0'?>\\n<job_info>%s</job_info>\\n" "$(cat {folder}/listed)";; esac""")
        clients("qsub", """case $* in
            *-verify*) case $* in *"-q "*) set -- $*; while [ "$1" != -q ]; do shift; done; q=$2;; *) q=all.q;; esac
                echo "hard_queue_list:            $q";;
            *) echo 7;; esac""")
        self.lists()

    def lists(self, *jobs: tuple[str, str, str, str], log: str | None = None) -> None:
        """Let qstat list these jobs: id, name, state, queue."""
        lines = "".join(
            TASK.format(id, name, state, f"<queue_name>{queue}</queue_name>" if queue else "")
            for id, name, state, queue in jobs
        )
        (self.folder / "listed").write_text(lines)
        for id, *_ in jobs:
            text = JOB.format(id, log or self.run / "logs/cluster.log")
            (self.jobs / id).write_text(f"<?xml version='1.0'?>\n{text}\n")

    def submit(self, **given: str) -> str:
        environment = {"RUNID": "first", "RUN_DIR": str(self.folder / "runs"), "PS_NODES": "1", "WORKERS": "2"} | given
        return submission.submit(settings.read(self.folder, environment), Path("cluster.sh"), [])

    def refused(self, **given: str) -> str:
        with pytest.raises(Failure) as told:
            self.submit(**given)
        assert not self.run.exists()
        assert not [call for call in self.clients.calls() if call.startswith("qsub -terse")]
        return str(told.value)


@pytest.fixture
def site(tmp_path, clients, monkeypatch):
    return Site(tmp_path, clients, monkeypatch)


def test_more_nodes_than_there_are_slots_are_refused(site):
    told = site.refused(WORKERS="30")
    assert told == (
        "this run needs 32 slots for the chief, 1 ps and 30 workers; the queues that it may use have 12: all.q, "
        "by the defaults of qsub (sge_request); GRID_QUEUES names others"
    )
    told = site.refused(WORKERS="30", PE="orte", GRID_QUEUES="b.q")
    assert told.endswith("; the queues with orte that it may use have 12: b.q, as GRID_QUEUES says")
    told = site.refused(WORKERS="13", WORKER_REQUEST="-q gpu.q")
    assert told == (
        "this run needs 13 slots for 13 workers; the queues that it may use have 12: gpu.q, as WORKER_REQUEST says"
    )
    assert "needs 25 slots" in site.refused(WORKERS="5", PS_NODES="1", SLOTS_PER_NODE="4")
    assert site.submit(WORKERS="10") == "7"


@pytest.mark.parametrize(("pe", "why"), [("smp", "gives slots on one host only"), ("make", "lacks control_slaves")])
def test_a_parallel_environment_that_does_not_fit_is_refused(site, pe, why):
    told = site.refused(PE=pe)
    assert told.startswith(f"parallel environment {pe} {why}") and told.endswith("; use PE=orte")


def test_a_run_has_one_job_at_a_time(site, monkeypatch):
    site.lists(("41", "train-first", "qw", ""))
    told = site.refused()
    assert ": job 41 of this run waits or runs already; stop it first (" in told
    monkeypatch.setenv("MAKELEVEL", "1")
    assert "stop it first (make stop RUNID=first)" in site.refused()
    site.lists(("41", "train-first", "qw", ""), log="/another/runs/first/logs/cluster.log")
    assert site.submit() == "7"


def test_what_qsub_refuses_leaves_no_run(site):
    site.clients("qsub", "case $* in *-verify*) ;; *) echo 'no suitable queues' >&2; exit 1;; esac")
    with pytest.raises(Failure, match="^qsub refused the job: no suitable queues$"):
        site.submit()
    assert not site.run.exists()


def test_a_job_that_waits_too_long_for_slots_is_deleted_and_forgotten(site, monkeypatch):
    monkeypatch.setattr(submission, "POLL_SECONDS", 0.1)
    site.lists(("7", "another", "qw", ""))
    with pytest.raises(Failure, match="job 7 got no slots within 1 s and was deleted; free slots by queue: "):
        site.submit(PE="orte", WAIT="1")
    assert not (site.run / "job").exists() and "qdel 7" in site.clients.calls()


def test_a_submission_says_how_to_watch_in_the_way_it_was_called(site, monkeypatch, capsys):
    site.submit()
    assert "-cluster --run runs/first" in capsys.readouterr().err
    monkeypatch.setenv("MAKELEVEL", "1")
    site.lists(("7", "train-second", "r", "all.q@node1"))
    site.submit(RUNID="second")
    told = capsys.readouterr().err
    assert "to watch it: make status RUNID=second; make logs RUNID=second\n" in told
    assert told.splitlines()[-1].endswith("job 7 runs on node1")
    site.submit(RUNID="rooms-small", RUN_DIR=str(site.folder / "others"))
    stop = f"make stop RUN_DIR={site.folder}/others; the same command continues it"
    assert f"to stop it, with everything saved: {stop}" in capsys.readouterr().err


def test_a_stop_deletes_every_job_of_a_run(site):
    folder = attempts.begin(site.run, "41", "41")
    attempts.write_state(folder, attempts.end_in_words(site.run, stopped=True))
    attempts.tell_job(site.run, "43")
    site.lists(("41", "train-first", "r", "all.q@a"), ("42", "train-first", "qw", ""), ("43", "train-first", "qw", ""))
    site.clients("qdel", f'for job; do rm -f {site.jobs}/"$job"; done')
    told = stopping.stop(site.run, 1)
    assert told.endswith("first: stopped as asked at step 0, everything saved; the same command continues it")
    deleted = [call for call in site.clients.calls() if call.startswith("qdel")]
    assert deleted == ["qdel 42 43", "qdel 41"] and (site.run / "job").read_text() == "41\n"


@pytest.mark.parametrize(("state", "said"), [("dr", None), ("r", "job 41 is still in the grid; see qstat")])
def test_a_job_on_a_host_that_died_is_deleted_though_it_is_still_listed(site, capsys, state, said):
    folder = attempts.begin(site.run, "41", "41")
    attempts.write_state(folder, attempts.end_in_words(site.run, stopped=True))
    attempts.tell_job(site.run, "41")
    site.lists(("41", "train-first", state, "all.q@a"))
    site.clients("qdel", "true")
    if said:
        with pytest.raises(Failure, match=said):
            stopping.stop(site.run, 1)
    else:
        assert "stopped as asked" in stopping.stop(site.run, 1)
        assert "job 41 is deleted, and leaves the grid when its host answers again" in capsys.readouterr().err


def test_an_attempt_that_does_not_end_is_stopped_when_its_job_is_gone(site):
    attempts.begin(site.run, "41", "41")
    attempts.tell_job(site.run, "41")
    site.lists(("41", "train-first", "r", "all.q@a"))
    assert stopping.stop(site.run, 0).endswith("the same command continues it")


def test_a_stop_says_what_is_left_to_do(site):
    folder = attempts.begin(site.run, "41", "41")
    attempts.write_state(folder, attempts.end_in_words(site.run, stopped=False))
    assert stopping.stop(site.run, 1).endswith("first: trained to step 0, done")
    attempts.write_state(folder, "ended with status 1 after 5 s")
    assert stopping.stop(site.run, 1).endswith("first: ended with status 1 after 5 s; the same command continues it")


def test_a_run_that_was_stopped_before_it_began_waits_for_nothing(site):
    (site.run / "nodes").mkdir(parents=True)
    attempts.tell_job(site.run, "42")
    site.lists(("42", "train-first", "qw", ""))
    assert "ended before its first attempt" in stopping.stop(site.run, 1)
    assert not (site.run / "job").exists()


def test_a_run_keeps_the_command_that_submitted_it_with_the_settings_that_do_not_reach_the_job(site):
    (site.folder / "data/rooms/records").mkdir(parents=True)
    (site.folder / "data/rooms/records/train-00000-of-00001.tfrecord").touch()
    given = {"RUNID": "first", "RUN_DIR": "runs", "DATA_DIR": "data", "PS_NODES": "1", "WORKERS": "2", "PE": "orte"}
    given |= {"REQUEST": "-l 'x=a b'"}
    one = settings.read(site.folder, given)
    assert supervisor.train(one, Path("sge/cluster.sh"), ["--set", "seed=1"], given | {"HOME": "/"}) == 0
    told = json.loads((site.run / "nodes/command-7.json").read_text())
    assert told == {"settings": given, "command": "run-cluster sge/cluster.sh --set seed=1"}
