"""Grid Engine's answers as the module reads them: recorded from a real qmaster, and from stand-ins on PATH."""

import itertools
import shlex
import time

import pytest
from clients import RECORDED, recorded, says

from depthfield.cluster import grid, gridengine
from depthfield.cluster.gridengine import Refused, Task, Unreachable
from depthfield.tool import Failure

CUT_OFF = """error: commlib error: got select error (No route to host)
unable to contact qmaster using port 6444 on host "head\""""


def failure(call, kind=Failure) -> str:
    """The one line that `call()` fails with."""
    with pytest.raises(kind) as caught:
        call()
    assert caught.type is kind and "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------------ jobs


def test_a_parallel_job_is_read_with_its_request_and_its_slots():
    job = gridengine.read_job(recorded("job-parallel.xml"))
    assert (job.id, job.name, job.owner, job.pe, job.slots) == ("2", "parallel", "ada", "orte", "6")
    assert job.request == {"hostname": "node[1-4]*", "h_rt": "300", "h_vmem": "20G"}
    assert job.queues == ["all.q@node[1-2]*"]
    assert job.hold == job.waiting == job.errors == []


def test_soft_requests_and_queues_are_not_read_as_hard_ones():
    job = gridengine.read_job(recorded("job-waiting.xml"))
    assert {"<JB_soft_resource_list>", "<JB_soft_queue_list>"} <= set(recorded("job-waiting.xml").split())
    assert (job.request, job.queues) == ({}, [])


def test_a_job_knows_what_it_waits_for_and_what_waits_for_it():
    assert gridengine.read_job(recorded("job-waiting.xml")).hold == ["9", "1"]
    waited_for = gridengine.read_job(recorded("job-waited-for.xml"))
    assert (waited_for.hold, waited_for.waiting) == ([], ["10", "11"])


def test_a_waiting_job_has_the_scheduler_s_reasons_its_own_first():
    job = gridengine.read_job(recorded("job-without-slots.xml"))
    assert job.messages == [
        'cannot run in PE "tf" because it only offers 0 slots',
        'queue instance "all.q@node1.grid.test" dropped because it is full',
    ]
    assert (job.pe, job.slots) == ("tf", "9000")


def test_a_job_in_the_error_state_has_each_reason_once():
    assert gridengine.read_job(recorded("job-error-array.xml")).errors == ["exit_status of job start = 100"]
    (reason,) = gridengine.read_job(recorded("job-error-output.xml")).errors
    assert reason == 'error: can\'t open output file "/nonexistent/x": No such file or directory'


def test_an_unknown_job_is_not_found():
    assert gridengine.read_job(recorded("job-unknown.xml")) is None


def test_a_job_with_an_escape_character_in_a_variable_is_read():
    text = recorded("job-odd-variable.xml")
    assert "\033" in text
    assert gridengine.read_job(text).id == "30"


def test_output_without_a_job_is_refused():
    assert failure(lambda: gridengine.read_job("<job_info"), Refused).startswith("Grid Engine printed XML that cannot")
    assert failure(lambda: gridengine.read_job(recorded("qstat.xml")), Refused) == "qstat printed no job: <job_info>"


def test_tasks_are_read_with_state_queue_and_slots():
    lines = gridengine.read_tasks(recorded("qstat.xml"))
    assert lines[1:3] == [
        Task("2", "", "r", "all.q@node2.grid.test", 6, "parallel", "ada"),
        Task("3", "1", "r", "all.q@node3.grid.test", 1, "array", "ada"),
    ]
    assert Task("3", "5-9:2", "qw", "", 1, "array", "ada") in lines
    assert [line.state for line in lines] == ["r", "r", "r", "r", "r", "Eqw", "Eqw", "qw", "hqw"]
    assert gridengine.read_tasks(recorded("qstat-empty.xml")) == []


# ---------------------------------------------------------------------------------------------------- the site


def test_free_slots_are_reported_by_queue(clients):
    assert gridengine.read_free(recorded("qstat-g-c.xml")) == {"all.q": (2, 12), "short.q": (12, 12)}
    clients("qstat", f"cat {RECORDED}/qstat-g-c.xml")
    assert gridengine.free_slots() == "all.q 2 of 12, short.q 12 of 12"


def test_settings_that_continue_after_a_backslash_are_read_whole():
    settings = gridengine.read_settings(recorded("qconf-sq.txt"))
    assert settings["h_rt"] == "00:01:30,[node1.grid.test=0:1:0], [node2.grid.test=0:2:0],[node3.grid.test=0:3:0]"
    assert settings["s_cpu"] == "INFINITY"
    assert settings["seq_no"] == "0"
    assert gridengine.read_settings(recorded("qconf-sp.txt"))["control_slaves"] == "TRUE"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("INFINITY", []), ("", []), ("NONE", []), ("300", [300]), ("00:01:30", [90]), ("100:0:0", [360000]),
        ("1:30", [90]), (":2:", [120]), ("0:10:0,[node1=0:5:0],[7up.grid.test=INFINITY]", [600, 300]),
    ],
)  # fmt: skip
def test_times_are_seconds(value, seconds):
    assert gridengine.read_seconds(value) == seconds


def test_limits_are_those_of_the_request_and_of_every_host_of_the_queues(clients):
    clients("qconf", f"cat {RECORDED}/qconf-sq.txt")
    job = gridengine.read_job(recorded("job-parallel.xml"))
    assert sorted(gridengine.limits(job.request, ["short.q", "short.q"])) == [60, 90, 100, 120, 180, 200, 300, 300]
    assert clients.calls() == ["qconf -sq short.q"]
    assert gridengine.limits(job.request, []) == [300]


def test_complexes_are_read_by_name():
    complexes = gridengine.read_complexes(recorded("qconf-sc.txt"))
    assert complexes["mem_free"] == ("mf", "MEMORY", "<=", "YES", "NO")
    assert complexes["slots"].consumable == "YES"
    assert not any(name.startswith("#") for name in complexes)


def test_environments_have_their_settings(clients):
    clients("qconf", f"[ $1 = -sp ] && cat {RECORDED}/qconf-sp.txt || echo orte")
    assert gridengine.environments()["orte"]["allocation_rule"] == "$round_robin"
    clients("qconf", says("no parallel environment defined", 1, 2))
    assert gridengine.environments() == {}


def test_a_parallel_environment_in_no_queue_has_none_and_an_unknown_one_is_refused(clients):
    clients("qselect", says("all.q@node1.grid.test\nall.q@node2.grid.test"))
    assert gridengine.queues_with("orte") == ["all.q@node1.grid.test", "all.q@node2.grid.test"]
    clients("qselect", says("error: no queues remaining after -pe queue selection", 1, 2))
    assert gridengine.queues_with("orte") == []
    clients("qselect", says("error: no such parallel environment", 1, 2))
    assert failure(lambda: gridengine.queues_with("nix"), Refused) == "error: no such parallel environment"


def test_hosts_are_asked_as_read_qhost_reads_them(clients):
    clients("qhost", f"cat {RECORDED.parent}/qhost.xml")
    output = gridengine.hosts_xml(["node1", "node2"])
    assert grid.read_qhost(output, "qhost") == grid.read_qhost((RECORDED.parent / "qhost.xml").read_bytes(), "qhost")
    assert clients.calls() == ["qhost -q -F -xml -h node1,node2"]


def test_a_refusal_is_without_the_usage_before_it(clients):
    usage = "SGE 8.1.9\nusage: qhost [options]\n  [-h hostlist]     display only selected hosts\n"
    clients("qhost", says(f"""{usage}error: can't resolve hostname "nix\"""", 1, 2))
    assert failure(lambda: gridengine.hosts_xml(["nix"]), Refused) == """error: can't resolve hostname "nix\""""


# ------------------------------------------------------------------------------------------------------- patience


@pytest.mark.parametrize(
    ("program", "silence"),
    [
        ("qstat", says(CUT_OFF, 1, 2)),
        ("qdel", says(CUT_OFF, 1)),  # qdel, qalter, qresub and qrls say so on stdout
        ("qstat", f"cat {RECORDED}/job-cut-off.xml"),
        ("qstat", "exit 0"),
        ("qstat", f"head -c 300 {RECORDED}/qstat.xml"),
        ("qconf", f"echo {shlex.quote(CUT_OFF)} >&2"),
        ("qhost", says("error: failed receiving gdi request response for mid=1 (got syncron message receive timeout "
                       "error).", 1, 2)),
        ("qconf", says('error: unable to read qmaster name: qmaster hostname in "act_qmaster" has zero length', 1, 2)),
        ("qsub", says('Unable to run job: unable to send message to qmaster using port 6444 on host "head": got '
                      "message acknowledge error\nExiting.", 1, 2)),
    ],
)  # fmt: skip
def test_silence_is_never_an_answer(clients, capsys, program, silence):
    clients(program, f"[ $calls -gt 2 ] && {{ cat {RECORDED}/qstat-empty.xml; exit; }}\n{silence}")
    arguments = [] if program == "qconf" else ["-xml"]
    assert gridengine.ask(program, *arguments, patience=10) == recorded("qstat-empty.xml")
    assert len(clients.calls()) == 3
    assert capsys.readouterr().err.count("the qmaster does not answer") == 1


def test_without_patience_there_is_one_try(clients, capsys):
    clients("qstat", says(CUT_OFF, 1, 2))
    why = failure(lambda: gridengine.ask("qstat", "-xml", patience=0), Unreachable)
    assert why == f"the qmaster does not answer: {' '.join(CUT_OFF.split())}"
    assert len(clients.calls()) == 1
    assert capsys.readouterr().err == ""


def test_pauses_grow_until_patience_is_over(monkeypatch):
    clock, pauses = [0.0], []

    def silent(*arguments, seconds):
        clock[0] += 1
        raise Unreachable("nobody")

    def sleep(seconds):
        clock[0] += seconds
        pauses.append(seconds)

    monkeypatch.setattr(gridengine, "call", silent)
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    failure(lambda: gridengine.ask("qstat", patience=60), Unreachable)
    assert pauses == [0.5, 1, 2, 4, 8, 15, 15, 6.5]
    assert clock[0] == 61


def test_a_client_that_hangs_is_ended(clients, monkeypatch):
    monkeypatch.setattr(gridengine, "CALL_SECONDS", 0.2)
    clients("qstat", "exec sleep 60")
    assert "qstat took longer than 0.2 s" in failure(lambda: gridengine.ask("qstat", patience=0), Unreachable)


def test_a_refusal_is_not_asked_again_and_has_grid_engine_s_words(clients):
    clients("qsub", says("""Unable to run job: can't resolve hostname "node9"\nExiting.""", 1, 2))
    assert failure(lambda: gridengine.ask("qsub"), Refused) == """Unable to run job: can't resolve hostname "node9\""""
    assert len(clients.calls()) == 1
    clients("qstat", "exit 7")
    assert failure(lambda: gridengine.ask("qstat"), Refused) == "qstat ended with status 7 and no message"


def test_a_client_that_is_missing_is_named(clients, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert failure(lambda: gridengine.ask("qstat")).startswith("qstat: command not found")


def test_a_qmaster_that_refuses_is_reachable_and_a_silent_one_is_not(clients, monkeypatch):
    clients("qconf", says('denied: host "node3" is neither submit nor admin host', 1, 2))
    assert gridengine.reachable()
    clients("qconf", says(CUT_OFF, 1, 2))
    assert not gridengine.reachable()
    monkeypatch.setattr(gridengine, "QUICK_SECONDS", 0.2)
    clients("qconf", "exec sleep 60")
    assert not gridengine.reachable()


def test_a_grid_is_present_where_a_client_knows_a_qmaster(clients, tmp_path, monkeypatch):
    monkeypatch.setenv("SGE_ROOT", str(tmp_path))
    monkeypatch.setenv("SGE_CELL", "cell")
    clients("qsub", "")
    assert not gridengine.present()
    (tmp_path / "cell/common").mkdir(parents=True)
    (tmp_path / "cell/common/act_qmaster").write_text("\n")
    assert not gridengine.present()
    (tmp_path / "cell/common/act_qmaster").write_text("head\n")
    assert gridengine.present()
    monkeypatch.setenv("PATH", "/nonexistent")
    assert not gridengine.present()


# --------------------------------------------------------------------------------------------------------- orders


def test_a_submitted_job_has_its_id(clients):
    clients("qconf", "echo head")
    clients("qsub", says("123"))
    assert gridengine.submit(["-b", "y", "true"]) == "123"
    clients("qsub", says("a line of the site's own\n124.1-4:1"))
    assert gridengine.submit(["-t", "1-4", "true"]) == "124"
    assert clients.calls()[:2] == ["qconf -sss", "qsub -terse -b y true"]
    clients("qsub", says("thank you"))
    assert "no job id" in failure(lambda: gridengine.submit(["true"]), Refused)


def test_a_job_is_not_submitted_before_the_qmaster_answers_and_never_twice(clients):
    clients("qconf", f"[ $calls -gt 2 ] && exit\n{says(CUT_OFF, 1, 2)}")
    clients("qsub", says(CUT_OFF, 1, 2))
    why = failure(lambda: gridengine.submit(["true"]), Unreachable)
    assert why.endswith("; the job may have been submitted anyway; see qstat")
    assert clients.calls() == ["qconf -sss"] * 3 + ["qsub -terse true"]


def test_jobs_that_are_gone_count_as_deleted(clients):
    gone = 'denied: job "999" does not exist'
    clients("qdel", says(f"ada has deleted job 12\n{gone}\nada has registered the job 13 for deletion", 1))
    gridengine.delete(["12", "999", "13"])
    foreign = 'ada - you do not have the necessary privileges to delete the job "25"'
    clients("qdel", says(f"{foreign}\n{gone}", 1))
    assert failure(lambda: gridengine.delete(["25", "999"]), Refused) == foreign
    calls = len(clients.calls())
    gridengine.delete([])
    assert len(clients.calls()) == calls


# ----------------------------------------------------------------------------------------------------------- copies


@pytest.mark.parametrize(
    ("asked", "hosts", "request_"),
    [
        ("", ["a"], "!(a)"),
        ("", ["a", "b", "a"], "!(a|b)"),
        ("node[1-4]*", ["node1.grid.test"], "(node[1-4]*)&!(node1.grid.test)"),
        ("x|y", ["a"], "(x|y)&!(a)"),
        ("!(a)", ["b", "a"], "!(a|b)"),
        ("(node[1-4]*)&!(a)", ["a", "b-1.grid"], "(node[1-4]*)&!(a|b-1.grid)"),
        ("(x)|(y)&!(a)", ["b"], "((x)|(y)&!(a))&!(b)"),
        ("!(gpu*)", ["a"], "(!(gpu*))&!(a)"),
        ("!(a)|x", ["b"], "(!(a)|x)&!(b)"),
    ],
)
def test_a_copy_avoids_hosts_beside_all_that_was_asked(asked, hosts, request_):
    assert gridengine.avoiding(asked, hosts) == request_
    assert gridengine.avoiding(request_, hosts) == request_


class Grid:
    """Answers like Grid Engine for job 2, which 10 (beside 1) and 11 of another user wait for; copies it as 7."""

    def __init__(self):
        self.hold = {"10": ["2", "1"], "11": ["2"]}
        self.orders = []
        self.failing = {}

    def call(self, program: str, *arguments: str, seconds: float) -> gridengine.Answer:
        line = " ".join([program, *arguments])
        if program == "qstat":
            return gridengine.Answer(0, self.qstat(arguments[1]), "")
        if program == "qconf":
            return gridengine.Answer(0, "head", "")
        self.orders.append(line)
        if line in self.failing:
            raise self.failing[line]
        if program == "qalter" and arguments[-1] == "11":
            return gridengine.Answer(1, "", 'denied: "ada" must be at least owner of job 11 to change job attributes')
        if arguments[0] == "-hold_jid":
            self.hold[arguments[2]] = arguments[1].split(",")
        copied = 'modified hold of job 2\nYour job 7 ("parallel") has been submitted\n'
        return gridengine.Answer(0, {"qresub": copied, "qsub": "8.1-4:1\n"}.get(program, ""), "")

    def qstat(self, id: str) -> str:
        if id in self.hold:
            before = "".join(f"<p><JRE_job_number>{other}</JRE_job_number></p>" for other in self.hold[id])
            lists = f"<JB_jid_predecessor_list>{before}</JB_jid_predecessor_list><JB_owner>ben</JB_owner>"
            id_element = f"<JB_job_number>{id}</JB_job_number>"
            return f"<d><djob_info><element>{id_element}{lists}</element></djob_info></d>"
        after = "".join(f"<s><JRE_job_number>{w}</JRE_job_number></s>" for w, held in self.hold.items() if id in held)
        text = recorded("job-parallel.xml").replace("<JB_job_number>2<", f"<JB_job_number>{id}<")
        return text.replace("<JB_deadline>", f"<JB_jid_successor_list>{after}</JB_jid_successor_list><JB_deadline>")


@pytest.fixture
def fake(monkeypatch) -> Grid:
    grid = Grid()
    monkeypatch.setattr(gridengine, "call", grid.call)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(time, "monotonic", itertools.count(step=200).__next__)
    return grid


REQUEST = "hostname=(node[1-4]*)&!(node1|node2),h_rt=300,h_vmem=20G"


def test_a_copy_is_altered_and_waited_for_before_it_is_released(fake, capsys):
    assert gridengine.copy("2", ["node1", "node2"]) == "7"
    assert fake.orders == [
        "qresub -h u 2", f"qalter -l {REQUEST} 7", "qalter -hold_jid 7,1 10", "qalter -hold_jid 7 11", "qrls 7",
    ]  # fmt: skip
    assert fake.hold == {"10": ["7", "1"], "11": ["2"]}
    assert "job 11 of ben still waits for job 2, not for its copy 7: denied:" in capsys.readouterr().err


def test_a_copy_with_nothing_to_avoid_keeps_its_request(fake):
    gridengine.copy("2")
    assert not any(order.startswith("qalter -l") for order in fake.orders)


def test_a_job_that_avoids_hosts_is_altered_before_it_is_released(fake):
    assert gridengine.submit(["-t", "1-4", "true"], ["node1", "node2"]) == "8"
    assert fake.orders == ["qsub -terse -h -t 1-4 true", f"qalter -l {REQUEST} 8", "qrls 8"]
    fake.orders.clear()
    fake.failing["qrls 8"] = Unreachable("nobody")
    failure(lambda: gridengine.submit(["true"], ["node1"]), Unreachable)
    assert fake.orders[-2:] == ["qrls 8", "qdel 8"]


@pytest.mark.parametrize("error", [Refused("no"), Unreachable("nobody"), KeyboardInterrupt()])
def test_a_copy_that_cannot_be_released_is_deleted_and_no_longer_waited_for(fake, error):
    fake.failing["qrls 7"] = error
    with pytest.raises(type(error)):
        gridengine.copy("2", ["node1"])
    assert fake.orders[-2:] == ["qalter -hold_jid 2,1 10", "qdel 7"]
    assert fake.hold["10"] == ["2", "1"]


def test_a_copy_that_cannot_be_deleted_is_named(fake, capsys):
    fake.failing |= {f"qalter -l {REQUEST} 7": Refused("no"), "qdel 7": Unreachable("nobody")}
    failure(lambda: gridengine.copy("2", ["node1", "node2"]), Refused)
    assert "job 7 could not be deleted and may be on hold; qrls or qdel it: nobody" in capsys.readouterr().err


def test_a_copy_whose_answer_got_lost_is_hinted_at(fake):
    fake.failing["qresub -h u 2"] = Unreachable("nobody")
    why = failure(lambda: gridengine.copy("2"), Unreachable)
    assert why == "nobody; a copy of job 2 may exist, on hold; see qstat, and qdel it"
    assert fake.orders == ["qresub -h u 2"]


def test_an_interrupted_order_says_what_it_may_have_left(fake, capsys):
    fake.failing["qsub -terse true"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        gridengine.submit(["true"])
    assert "the job may have been submitted anyway; see qstat" in capsys.readouterr().err
