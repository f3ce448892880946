"""Why a job ended, by what Grid Engine 8.1.9 printed of real ones, and by Open Cluster Scheduler's accounting.jsonl."""

import json
import time
from pathlib import Path

import pytest

from depthfield.cluster import accounting
from depthfield.cluster.accounting import Record, deleted_by, explain, explain_errors, read_jsonl, read_qacct
from depthfield.tool import Failure

RECORDED = Path(__file__).with_name("recorded") / "accounting"
STARTED = 1_795_487_192  # Tue Nov 24 02:26:32 2026, UTC
SOON = Record("7", None, None, "n1", "ada", 1000.0, 1010.0, 0, "", 0, 1.0, 2**20, 1, None, "")


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    """Grid Engine prints local times; those recorded are of a machine in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def recorded(name: str) -> list[Record]:
    return read_qacct((RECORDED / f"{name}.txt").read_text())


def lines(name: str) -> list[str]:
    return (RECORDED / f"{name}.txt").read_text().splitlines()


def why(name: str, *limits: int, **asked: str) -> str | None:
    return explain(recorded(name), asked, limits)


def ended(**changed) -> str | None:
    """The explanation of a job that ran for ten seconds, with some of its record changed."""
    asked = changed.pop("asked", {})
    limits = changed.pop("limits", ())
    return explain([SOON._replace(**changed)], asked, limits)


# ---------------------------------------------------------------------------------------------------------- reading


def test_a_record_of_qacct_is_read_whole():
    assert recorded("mem") == [
        Record(
            job="3", task=None, pe_task=None, host="node1.grid.test", owner="ada", start=STARTED, end=STARTED + 1,
            failed=37, failed_text="qmaster enforced h_rt, h_cpu, or h_vmem limit", exit_status=137, cpu=0.89,
            maxvmem=int(203.566 * 2**20), slots=1, pe=None, category="-q all.q -l h_vmem=200M", deleted_by=None,
            queue="all.q",
        )
    ]  # fmt: skip


def test_a_job_that_never_started_has_no_times():
    [record] = recorded("output")
    assert (record.start, record.end, record.wallclock) == (None, None, 0)
    assert (record.failed, record.failed_text) == (26, "opening input/output file")


def test_each_task_and_each_attempt_has_a_record():
    assert [(record.task, record.exit_status) for record in recorded("array")] == [(1, 0), (3, 0), (2, 1)]
    assert [(record.failed, record.exit_status) for record in recorded("rerun")] == [(25, 99), (0, 0)]
    assert [(record.host, record.pe, record.slots) for record in recorded("pe")] == [
        ("node2.grid.test", "orte", 4), ("node1.grid.test", "orte", 4), ("node2.grid.test", "orte", 4),
    ]  # fmt: skip


def test_the_text_of_newer_versions_is_read_too():
    text = """==============================================================
hostname                           master
owner                              ada
jobnumber                          8
taskid                             97
pe_taskid                          1.master
start_time                         2024-09-27 07:42:07.272221
end_time                           2024-09-27 07:42:08.801865
slots                              1
failed                             100 : assumedly after job
exit_status                        137
cpu                                0.726
maxvmem                            21045248
deleted_by                         root@head
Total System Usage
    WALLCLOCK         UTIME         STIME           CPU             MEMORY                 IO                IOW
================================================================================================================
           72        25.861        12.399        38.259              0.284              0.000              0.000
"""
    [record] = read_qacct(text)
    assert (record.task, record.pe_task, record.failed, record.exit_status) == (97, "1.master", 100, 137)
    assert record.start == pytest.approx(1727422927.272221) and record.maxvmem == 21045248
    assert record.deleted_by == "root@head"


def test_lines_that_are_not_records_are_skipped():
    assert read_qacct("") == read_qacct("error: job id 12 not found\n") == []


def jsonl(**changed) -> str:
    """A line as Open Cluster Scheduler 9 writes it."""
    values = {
        "job_number": 10, "task_number": 1, "start_time": 1730532913429415, "end_time": 1730532923979016,
        "owner": "ada", "group": "ada", "qname": "all.q", "hostname": "n1", "slots": 4, "granted_pe": "orte",
        "job_name": "x", "category": "-l h_vmem=1G -pe orte 4", "failed": 0, "exit_status": 0,
        "usage": {"rusage": {"ru_wallclock": 10}, "usage": {"wallclock": 10.5, "cpu": 0.5, "maxvmem": 21049344.0}},
    }  # fmt: skip
    return json.dumps(values | changed, separators=(",", ":"))


def test_accounting_jsonl_has_microseconds_and_nested_usage():
    [record] = read_jsonl([jsonl(failed=100, exit_status=137)], "10")
    assert record == Record(
        job="10", task=1, pe_task=None, host="n1", owner="ada", start=1730532913.429415, end=1730532923.979016,
        failed=100, failed_text="assumedly after job", exit_status=137, cpu=0.5, maxvmem=21049344, slots=4, pe="orte",
        category="-l h_vmem=1G -pe orte 4", deleted_by=None, queue="all.q",
    )  # fmt: skip


def test_the_other_names_of_accounting_jsonl_are_known():
    usage = {"rusage": {}, "eusage": {"cpu": 2.0, "maxvmem": 5.0}}
    [record] = read_jsonl([jsonl(usage=None, pe_task_id="1.n2", start_time=0, **usage)], "10")
    assert (record.pe_task, record.cpu, record.maxvmem, record.start) == ("1.n2", 2.0, 5, None)
    [record] = read_jsonl([jsonl(pe_taskid="2.n2", deleted_by="root")], "10")
    assert (record.pe_task, record.deleted_by) == ("2.n2", "root")


def test_only_whole_lines_of_the_job_itself_count():
    others = [
        jsonl(job_number=110),
        jsonl(job_number=4, slots=10),
        jsonl()[:-10],
        "",
        "10",
        '{"job_number":10,"failed":{}',
    ]
    assert [record.exit_status for record in read_jsonl([*others, jsonl(exit_status=3)], "10")] == [3]


# ---------------------------------------------------------------------------------------------------------- of a job


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """An empty Grid Engine of our own; `qacct` prints what is in the file `printed`, or fails with `error`."""
    common = tmp_path / "cell" / "common"
    common.mkdir(parents=True)
    (tmp_path / "spool").mkdir()
    (common / "bootstrap").write_text(f"binary_path /x\nqmaster_spool_dir       {tmp_path}/spool\n")
    qacct = tmp_path / "qacct"
    qacct.write_text(
        f'#!/bin/sh\ntest "$1" = -j || exit 9\ncat {tmp_path}/printed && exit\ncat {tmp_path}/error >&2\nexit 1\n'
    )
    qacct.chmod(0o755)
    (tmp_path / "error").write_text("error: job id 12 not found\n")
    monkeypatch.setenv("SGE_ROOT", str(tmp_path))
    monkeypatch.setenv("SGE_CELL", "cell")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def test_a_job_that_qacct_does_not_know_yet_has_no_records(cell, monkeypatch):
    assert accounting.of("12") == []
    (cell / "error").write_text("x/accounting: No such file or directory\nno jobs running since startup\n")
    assert accounting.of("12") == []
    (cell / "qacct").unlink()
    monkeypatch.setenv("PATH", str(cell))
    assert accounting.of("12") == []


def test_any_other_trouble_of_qacct_is_an_error(cell):
    (cell / "error").write_text('error: SGE_ROOT directory "/nowhere" doesn\'t exist\n')
    with pytest.raises(Failure, match="qacct -j 12: error: SGE_ROOT directory"):
        accounting.of("12")


def test_accounting_jsonl_is_read_where_qacct_says_nothing_oldest_first(cell, monkeypatch):
    monkeypatch.setattr(accounting, "BLOCK", 100)  # less than a line
    older = [jsonl(job_number=number) for number in range(100, 200)]
    text = "\n".join([" " + jsonl(exit_status=99), *older, jsonl(exit_status=1), jsonl(job_number=11)]) + "\n"
    (cell / "cell/common/accounting.jsonl").write_text(text)
    assert [record.exit_status for record in accounting.of("10")] == [99, 1]
    monkeypatch.setattr(accounting, "JSON_TAIL", len(text) - 1)  # the first line may be cut
    assert [record.exit_status for record in accounting.of("10")] == [1]


def test_who_deleted_a_job_is_looked_up_in_the_logs(cell):
    (cell / "printed").write_text((RECORDED / "qdel_array.txt").read_text())
    assert [record.deleted_by for record in accounting.of("31")] == [None, None]
    for log in ("reporting", "messages"):
        path = cell / ("cell/common" if log == "reporting" else "spool") / log
        path.write_text((RECORDED / f"{log}.txt").read_text())
        assert {record.task: record.deleted_by for record in accounting.of("31")} == {1: "ada", 2: "root"}, log
        path.unlink()
    assert accounting.logged_deletion("31") is None


def test_a_deletion_at_another_time_is_of_an_older_job_of_that_number(cell):
    (cell / "printed").write_text((RECORDED / "qdel_array.txt").read_text().replace("2026", "2027"))
    (cell / "spool/messages").write_text((RECORDED / "messages.txt").read_text())
    assert {record.deleted_by for record in accounting.of("31")} == {None}
    assert accounting.logged_deletion("31.2") == "root"


@pytest.mark.parametrize(
    ("job", "user"),
    [
        ("28", "ada"), ("29", "root"), ("30", "ada"), ("32", "root"), ("34", "root"), ("31.1", "ada"), ("31.2", "root"),
        ("39.2", "ada"), ("39.5", "root"), ("39.6", "ada"), ("3", None), ("10", None), ("4", None),
    ],
)  # fmt: skip
def test_both_logs_tell_who_deleted_a_job_or_a_task(job, user):
    assert deleted_by(job, lines("messages")) == user
    assert deleted_by(job, lines("reporting")) == user


def test_a_line_that_is_still_being_written_is_left_out():
    line = next(line for line in lines("reporting") if ":deleted:28:" in line)
    found = [deleted_by("28", [line[:length]]) for length in range(len(line) + 1)]
    assert found[0] is None and found[-1] == "ada" and set(found) <= {None, "", "a", "ad", "ada"}


def test_a_deletion_of_a_task_counts_only_for_that_task():
    log = ["11/24/2026 02:28:37|worker|head|I|ada has registered the job-array task 31.1 for deletion"]
    assert deleted_by("31.1", log) == "ada" and deleted_by("31", log) == "ada"
    assert deleted_by("31.2", log) is None


# -------------------------------------------------------------------------------------------------------- explaining


@pytest.mark.parametrize("name", ["rerun", "pe", "pe_task_exit"])
def test_what_ended_well_needs_no_explanation(name):
    assert why(name) is None
    assert explain([], {}) is None


def test_killed_for_memory():
    used = "killed for memory: it used 204 MB on node1.grid.test, and it requested h_vmem=200M for its one slot; "
    hint = "(h_vmem is multiplied by the slots on each host, and counts mapped memory)"
    assert why("mem") == f"{used}request more with REQUEST='-l h_vmem=400M' {hint}"


def test_memory_is_counted_for_each_host_of_a_parallel_job():
    assert why("mem_pe").startswith(
        "killed for memory: it used 458 MB on node1.grid.test, and it requested h_vmem=200M per slot, 800 MB for its "
        "4 slots, about 400 MB on each host; request more with REQUEST='-l h_vmem=400M'"
    )


def test_several_tasks_on_a_host_share_its_memory():
    tasks = [SOON._replace(host=host, maxvmem=2**30, slots=4, pe="orte") for host in ("n1", "n1", "n1", "n2")]
    job = SOON._replace(host="n2", failed=100, exit_status=137, slots=4, pe="orte")
    assert "killed for memory: it used 3.0 GB on n1" in explain([*tasks, job], {"h_vmem": "1.5G"})
    assert "request more with REQUEST='-l h_vmem=2G'" in explain([*tasks, job], {"h_vmem": "300M"})
    assert "qdel" in explain([*tasks, job], {"h_vmem": "4G"})


def test_memory_of_an_earlier_attempt_does_not_count():
    before = SOON._replace(maxvmem=2**30, start=10.0, end=20.0, failed=25, exit_status=99)
    after = SOON._replace(maxvmem=2**20, failed=100, exit_status=137)
    assert "qdel" in explain([before, after], {"h_vmem": "1G"})


def test_a_program_that_is_refused_memory_fails_by_itself():
    assert why("mem_exit").startswith(
        "failed (exit status 1) after 5 s; see its log, perhaps for memory: it used 180 MB"
    )
    assert why("mem_slots").startswith(
        "died by signal SEGV (11) after 1 s, perhaps for memory: it used 297 MB on node2"
    )
    assert why("exit_1") == "failed (exit status 1) after 0 s; see its log"
    assert why("segv") == "died by signal SEGV (11) after 0 s: see its log"


def test_killed_for_time():
    rest = "or set TIMEOUT to stop and save before the limit"
    assert why("h_rt") == (
        f"killed for time: it ran 6 s, and h_rt allows 5 s; request more with REQUEST='-l h_rt=10', {rest}"
    )
    assert why("h_rt_slots").startswith("killed for time: it ran 5 s, and h_rt allows 4 s")  # slots do not multiply it
    limit = "killed for time: it ran 4 s, and s_rt allows 3 s; request more with REQUEST='-l s_rt=6'"
    assert why("s_rt").startswith(limit)


def test_a_queue_limits_the_time_too():
    start = "killed for time: it ran 22 s, and its queue allows 20 s; choose a queue that allows more"
    assert why("qdel_owner", 3600, 20).startswith(start)
    assert "qdel" in why("qdel_owner", 3600)


def test_the_limit_that_was_reached_last_ended_the_job():
    ran = {"end": 1000.0 + 7200, "failed": 37, "exit_status": 137}
    assert "h_rt allows 2 h;" in ended(**ran, asked={"h_rt": "2:00:00", "s_rt": "1:0:0"})
    assert "its queue allows 1 h 30 min;" in ended(**ran, limits=(5400, 60), asked={"h_rt": "INFINITY"})


def test_a_kill_long_after_a_limit_is_not_attributed_to_it():
    killed = {"failed": 100, "exit_status": 137, "asked": {"s_rt": "10"}}
    assert "killed for time" in ended(**killed, end=1010.0 + 60)  # the qmaster warned it first
    assert "qdel" in ended(**killed, end=1010.0 + 600)


@pytest.mark.parametrize(("status", "is_time"), [(137, True), (138, True), (140, True), (152, True), (139, False)])
def test_a_limit_ends_a_job_by_some_signals_only(status, is_time):
    assert ("killed for time" in ended(failed=100, exit_status=status, asked={"h_rt": "10"})) == is_time


def test_killed_for_cpu_time():
    assert why("h_cpu") == (
        "killed for CPU time: it used 3 s, and it requested h_cpu=3 per slot; request more with REQUEST='-l h_cpu=6'"
    )


def test_a_limit_that_was_not_asked_for_is_the_queues():
    assert ended(failed=37, exit_status=137).startswith(
        "killed at a limit on run time, CPU time or memory after 10 s, with 1 MB used: not its own"
    )


@pytest.mark.parametrize("name", ["qdel_owner", "qdel_root", "qdel_notify", "qdel_pe"])
def test_the_accounting_does_not_tell_a_deletion_from_another_kill(name):
    assert ": deleted with qdel, or killed on its host" in why(name)
    assert ("one of its tasks" in why(name)) == (name == "qdel_pe")


def test_who_deleted_it_where_that_is_known():
    def by(user: str, name: str) -> str | None:
        return explain([record._replace(deleted_by=user) for record in recorded(name)], {})

    assert by("ada", "qdel_owner") == "deleted by ada, its owner, after 22 s"
    assert by("root", "qdel_root") == "deleted by root, not by its owner, ada, after 22 s"
    assert by("root", "qdel_forced") == "deleted by root, not by its owner, ada, after 5 s"
    assert by("ada", "qdel_exit_99") == "deleted by ada, its owner, after 3 s"
    assert by("ada@head", "qdel_pe") == "deleted by ada@head, its owner, after 5 s"
    assert by("ada", "pe") is None  # it ended before


def test_trouble_of_a_host():
    assert ended(failed=19, start=None, host="n1") == (
        "did not start on n1 (failed 19, before writing exit_status): the host, or Grid Engine's process on it, died "
        "while the job ran; leave the host out with REQUEST='-l hostname=!(n1)', and tell your administrator"
    )
    assert "failed on n1 after 10 s (failed 20, found unexpected error file): a problem of the host" in ended(failed=20)
    assert "failed 21, in recognizing job): Grid Engine's daemon" in ended(failed=21)
    assert "failed 8, in prolog): the site's own script failed" in ended(failed=8)
    assert "failed 77, unknown to this tool" in ended(failed=77)


def test_a_log_or_a_folder_that_is_not_there():
    assert why("output") == (
        "did not start on node2.grid.test (failed 26, opening input/output file): its log cannot be written there; "
        "name a folder that exists on every host, with -o; then clear the error: qmod -cj 8"
    )
    assert "its working folder does not exist there" in why("folder") and why("folder").endswith("qmod -cj 9")


def test_a_job_that_is_run_again():
    first, _ = recorded("rerun")
    assert explain([first], {}).startswith("asked to be run again (exit status 99) after 0 s; it waits or runs, unless")
    moved, _ = recorded("moved")
    assert explain([moved], {}).startswith("taken off node2.grid.test to be run again, by qmod -rj")


@pytest.mark.parametrize(
    ("status", "start"),
    [
        (1, "failed (exit status 1) after 10 s; see its log"), (2, "wrong settings (exit status 2) after 10 s"),
        (75, "continues in a copy of this job (exit status 75)"), (99, "asked to be run again (exit status 99)"),
        (127, "failed (exit status 127) after 10 s: a command was not found"), (255, "failed (exit status 255)"),
        (143, "failed (exit status 143) after 10 s: a command in it died by signal TERM (15); see its log"),
    ],
)  # fmt: skip
def test_the_exit_status_of_the_script(status, start):
    assert ended(exit_status=status).startswith(start)


def test_exit_status_100_is_the_error_state():
    assert why("exit_100") == (
        "put itself into the error state (exit status 100) after 0 s; see its log, then run it again with qmod -cj 7, "
        "or delete it with qdel 7"
    )


def test_of_an_array_job_the_first_task_that_failed():
    assert why("array") == "task 2: failed (exit status 1) after 0 s; see its log"
    assert why("qdel_array").startswith("task 1: killed by signal KILL (9)")
    assert why("qdel_array").endswith("; 1 more of 2 tasks failed")
    assert ended(task=1, exit_status=2).startswith("wrong settings")  # accounting.jsonl gives any job a task 1
    assert ended(task=3, exit_status=2).startswith("task 3: wrong settings")


def test_the_tasks_of_a_parallel_job_do_not_speak_for_it():
    task, job = SOON._replace(pe_task="1.n2", exit_status=1), SOON._replace(exit_status=0)
    assert explain([task, job], {}) is explain([job, task], {}) is None
    assert "one of its tasks died by a signal" in why("pe_task_killed")


def test_what_was_asked_is_taken_from_the_record_and_from_the_caller():
    assert accounting.requests("-U x -l h_rt=5,h_vmem=1G,gpu -q all.q -l mem=2G") == {
        "h_rt": "5", "h_vmem": "1G", "mem": "2G",
    }  # fmt: skip
    assert accounting.requests("") == {}
    assert "'-l h_vmem=500M'" in why("mem", h_vmem="210M")
    assert "queue" in why("mem", h_vmem="INFINITY")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (119, "119 s"), (150, "2 min 30 s"), (7200, "2 h"), (5460, "1 h 31 min"), (190800, "2 d 5 h")],
)
def test_times_are_for_people(seconds, text):
    assert ended(end=1000.0 + seconds, exit_status=3) == f"failed (exit status 3) after {text}; see its log"


@pytest.mark.parametrize(
    ("count", "text"), [(3000, "3 KB"), (204 * 2**20, "204 MB"), (1.24 * 2**30, "1.2 GB"), (2**41, "2.0 TB")]
)
def test_sizes_are_for_people(count, text):
    assert f"with {text} used" in ended(failed=100, exit_status=139, maxvmem=int(count))


# ------------------------------------------------------------------------------------------------------ error reasons


def test_error_reasons_in_plain_words():
    exit_100, log, folder = lines("error_reasons")
    assert explain_errors([log], "8") == (
        "cannot write its log /nowhere/x (No such file or directory); name a folder that exists on every host, with "
        "-o, or create it; then clear the error: qmod -cj 8"
    )
    assert explain_errors([folder, folder]) == (
        "cannot enter its working folder /nowhere/y (No such file or directory); create it on a shared disk; "
        "then clear the error: qmod -cj ID"
    )
    assert explain_errors([exit_100, log]).startswith(
        "it put itself into the error state, with exit status 100; see its log; cannot"
    )


@pytest.mark.parametrize(
    ("reason", "part"),
    [
        ('can\'t get password entry for user "ada". Either user does not exist or', "does not know the user ada;"),
        ('11/24/2026 02:26:33.123 [0:1]: can\'t stat() "/x/y" as stdout_path: Permission denied KRB5CCNAME=none uid=1',
         "cannot use /x/y (Permission denied"),
        ('11/24/2026 02:26:33 [1:2]: unable to find shell "/bin/zsh"', "the shell /bin/zsh does not exist"),
        ("11/24/2026 02:26:33 [1:2]: exit_status of prolog = 1", "the site's prolog ended with exit status 1"),
        ("11/24/2026 02:26:33 [1:2]: can't open stdin file \"/in\": No such file", "cannot read /in (No such file)"),
    ],
)  # fmt: skip
def test_other_error_reasons(reason, part):
    assert part in explain_errors([reason], "5")


def test_an_error_that_we_do_not_know_is_shown_as_it_is():
    reason = "error reason          1:      11/24/2026 02:26:33 [103:76]: error: something new"
    assert explain_errors([reason], "5") == "something new; then clear the error: qmod -cj 5"


def test_an_error_without_a_reason():
    assert explain_errors([], "5") == "Grid Engine gives no reason; then clear the error: qmod -cj 5"
