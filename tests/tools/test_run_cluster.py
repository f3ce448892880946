"""run-cluster from the shell: what follows each ending of an attempt, in each way into a cluster.

An attempt here is a script that ends as its test wants; Grid Engine's clients are stand-ins, which say what real ones
did.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from clients import RECORDED, Clients, says
from shell import PROJECT, wait_for

from depthfield.cluster import attempts

NO_NEWS = "none"  # an attempt that brings no new checkpoint
HOSTS = ["node1", "node2", "node3", "node4"]
CUT_OFF = says("error: commlib error: got select error (No route to host)\nunable to contact qmaster", 1, 2)

# Ends as the first line of `endings` says: its status, whether it saves a checkpoint, and the hosts it lost.
ATTEMPT = """#!/bin/bash -f
here=$RUN/nodes/$ATTEMPT
read -r status saves lost < endings
sed -i 1d endings
[[ $saves == none ]] || { mkdir -p "$RUN/checkpoints"; touch "$RUN/checkpoints/$(printf %09d "$ATTEMPT").npz"; }
[[ -z $lost ]] || printf '%s\\n' $lost > "$here/lost"
echo "$WAY ps=$PS_NODES workers=$WORKERS $*" >> attempts
[[ ! -e also ]] || . ./also
[[ $status != wait ]] || { trap 'exit 99' TERM; touch waits; while :; do sleep 0.1; done; }
exit "$status"
"""


class Cluster:
    """A run whose attempts end as told, in one of the ways: machine, pe (four hosts with a slot each) or array."""

    def __init__(self, folder: Path, clients: Clients, way: str):
        self.folder, self.clients, self.run = folder, clients, folder / "runs/trial"
        (folder / "data/rooms/records").mkdir(parents=True)
        (folder / "data/rooms/records/train-00000-of-00001.tfrecord").touch()
        (folder / "script").write_text(ATTEMPT)
        (folder / "script").chmod(0o755)
        (folder / "hosts").write_text("".join(f"{host} 1 all.q@{host} UNDEFINED\n" for host in HOSTS))
        self.environment = {"RUNID": "trial", "HOSTNAME": "node1"} | {
            "machine": {"GRID": "no"}, "array": {"JOB_ID": "2"},
            "pe": {"JOB_ID": "2", "PE_HOSTFILE": str(folder / "hosts")},
        }[way]  # fmt: skip
        for name, script in {
            "qsub": "exit 1", "qconf": "echo head", "qhost": "exit 1", "qalter": "", "qrls": "", "qdel": "",
            "qstat": f"case $* in *-j*) cat {RECORDED}/job-waiting.xml;; *) cat {RECORDED}/qstat-g-c.xml;; esac",
            "qresub": "echo 'Your job 77 (\"trial\") has been submitted'",
        }.items():  # fmt: skip
            clients(name, script)

    def start(self, *endings: str, **environment: str) -> subprocess.Popen:
        (self.folder / "endings").write_text("".join(f"{ending}\n" for ending in endings))
        given = {name: value for name, value in os.environ.items() if name not in ("JOB_ID", "PE_HOSTFILE")}
        return subprocess.Popen(
            [PROJECT / "bin/run-cluster", "script", "--set", "seed=1"], cwd=self.folder, stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, env=given | self.environment | environment, start_new_session=True,
        )  # fmt: skip

    def ends(self, *endings: str, **environment: str) -> tuple[int, str]:
        """The status of run-cluster and what it said, when the attempts end so."""
        process = self.start(*endings, **environment)
        try:
            _, told = process.communicate(timeout=100)
        finally:
            process.kill()
        assert not (self.folder / "endings").read_text(), told
        return process.returncode, told

    def attempts(self) -> list[str]:
        return (self.folder / "attempts").read_text().splitlines()

    def text(self, name: str) -> str:
        return (self.run / "nodes" / name).read_text()

    def orders(self) -> list[str]:
        """What was asked of Grid Engine that changes something."""
        changing = ("qresub", "qalter", "qrls", "qdel", "qsub")
        return [call for call in self.clients.calls() if call.split()[0] in changing]


@pytest.fixture
def cluster(tmp_path, clients):
    return lambda way: Cluster(tmp_path, clients, way)


# Way, how its attempts end, the status of run-cluster, what is said at the end.
ROWS = [
    ("machine", ["0 saves"], 0, "ended with status 0"),
    ("machine", ["1 saves"], 1, "ended with status 1"),
    ("machine", ["2 saves"], 2, "ended with status 2"),
    ("machine", ["99 saves"], 99, "run the same command to continue"),
    ("machine", ["75 saves", "137 saves", "0 saves"], 0, "ended with status 0"),
    ("machine", ["75 none", "75 none", "75 none"], 1, "gave up after 3 attempts without a new checkpoint"),
    ("machine", ["75 none", "75 none", "75 saves", "75 none", "75 none", "0 none"], 0, "ended with status 0"),
    ("pe", ["0 saves"], 0, "ended with status 0"),
    ("pe", ["1 saves"], 1, "ended with status 1"),
    ("pe", ["75 saves", "137 saves", "0 saves"], 0, "ended with status 0"),
    ("pe", ["75 saves node3", "0 saves"], 0, "ended with status 0"),
    ("pe", ["99 saves"], 75, "job 77 continues"),
    ("pe", ["75 saves node3", "75 saves node4"], 75, "job 77 continues"),
    ("pe", ["75 none", "75 none", "75 none"], 100, "gave up after 3 attempts without a new checkpoint"),
    ("array", ["0 saves"], 0, "ended with status 0"),
    ("array", ["1 saves"], 1, "ended with status 1"),
    ("array", ["75 saves node3", "137 saves", "0 saves"], 0, "ended with status 0"),
    ("array", ["99 saves"], 99, "job 2 continues by itself"),
    ("array", ["75 saves * node1"], 1, "gave up: no slots for all nodes within 3600 s; free slots by queue, besid"),
    ("array", ["75 none", "75 none", "75 none"], 100, "gave up after 3 attempts without a new checkpoint"),
]


@pytest.mark.parametrize(("way", "endings", "status", "said"), ROWS)
def test_what_follows_each_ending(cluster, way, endings, status, said):
    one = cluster(way)
    ended, told = one.ends(*endings)
    assert ended == status and said in told.splitlines()[-1], told
    assert [line.split()[0] for line in one.attempts()] == [way] * len(endings)
    command = json.loads(one.text("1/command.json"))
    assert command["settings"]["RUNID"] == "trial" and command["command"].endswith("/script --set seed=1")
    assert one.attempts()[0].endswith(" --set seed=1") and (one.run / f"nodes/{len(endings)}/state").exists()
    assert ("qresub -h u 2" in one.orders()) == (status == 75)


def test_a_parallel_job_does_without_its_lost_hosts(cluster):
    one = cluster("pe")
    assert one.ends("75 saves node3", "0 saves", PS_NODES="1", WORKERS="2")[0] == 0
    assert [line.split()[0] for line in one.text("1/hosts").splitlines()] == HOSTS
    assert [line.split()[0] for line in one.text("2/hosts").splitlines()] == ["node1", "node2", "node4"]
    assert [line.split()[1:3] for line in one.attempts()] == [["ps=1", "workers=2"], ["ps=1", "workers=1"]]


def test_array_jobs_avoid_the_lost_hosts(cluster):
    one = cluster("array")
    assert one.ends("75 saves node3", "75 saves node4 node1", "99 saves")[0] == 99
    assert attempts.avoided(one.run, "2") == ["node3", "node4"]  # node1 is where run-cluster is


def test_the_copy_of_a_job_avoids_lost_hosts_and_takes_over_what_waits_for_the_job(cluster):
    one = cluster("pe")
    one.clients("qstat", f"case $2 in 1) cat {RECORDED}/job-waited-for.xml;; *) cat {RECORDED}/job-waiting.xml;; esac")
    status, told = one.ends("75 saves node2", "75 saves node3", JOB_ID="1")
    assert status == 75, told
    orders = one.orders()
    assert orders[0] == "qresub -h u 1" and orders[-1] == "qrls 77"
    assert any(order.startswith("qalter -l hostname=!(node2|node3)") and order.endswith(" 77") for order in orders)
    assert "qalter -hold_jid 9,77 10" in orders  # it waited for jobs 9 and 1
    assert (one.run / "job").read_text() == "77\n" and one.text("origin-77") == "1\n"


def test_where_no_copy_can_be_made_the_job_is_held_and_all_is_saved(cluster):
    one = cluster("pe")
    one.clients("qresub", says('denied: host "node1" is no submit host', 1, 2))
    status, told = one.ends("99 saves")
    refused = 'host "node1" is no submit host; everything is saved: run the same command to continue'
    assert status == 100 and refused in told


def loses_the_qmaster(one: Cluster) -> None:
    """Its clients do not reach the qmaster while there is a file `cut`, which the first attempt makes."""
    for name, otherwise in (("qconf", "echo head"), ("qresub", "exit 1"), ("qstat", f"cat {RECORDED}/job-waiting.xml")):
        one.clients(name, f"[ ! -e {one.folder}/cut ] || {{ {CUT_OFF}; }}; {otherwise}")
    (one.folder / "also").write_text('[ "$ATTEMPT" != 1 ] || touch cut\n')


@pytest.mark.parametrize("way", ["pe", "array"])
def test_a_host_that_is_cut_off_leaves_the_run_to_others(cluster, way):
    """Other hosts are lost, and the qmaster does not answer: they see the disk too, and one of them has gone on."""
    one = cluster(way)
    loses_the_qmaster(one)
    with (one.folder / "also").open("a") as also:
        also.write('echo "job 78, submitted by node2" > "$here/claim"\n')
    status, told = one.ends("75 saves node2 node3")
    assert status == 75 and told.splitlines()[-1].endswith("continues without node1: job 78, submitted by node2")
    assert one.orders() == []


@pytest.mark.parametrize("way", ["pe", "array"])
def test_a_host_that_was_cut_off_continues_when_the_qmaster_answers_and_no_other_has(cluster, way):
    one = cluster(way)
    loses_the_qmaster(one)
    process = one.start("75 saves node3", "0 saves")
    try:
        waits = one.run / "nodes/1/state"
        wait_for(lambda: waits.exists() and "cut off from the grid" in waits.read_text(), 60)
        (one.folder / "cut").unlink()
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "the qmaster answers again" in told, told
    assert one.text("1/claim").startswith("node1, process ")


@pytest.mark.parametrize("way", ["machine", "pe", "array"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
def test_a_request_to_end_is_honoured(cluster, way, number):
    """By 99 Grid Engine would run the job again."""
    one = cluster(way)
    process = one.start("wait saves")
    try:
        wait_for((one.folder / "waits").exists, 60)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == (99 if way == "machine" else 0) and "stopped as asked" in told, told
    state = "ended: stopped as asked at step 1, everything saved; the same command continues it\n"
    assert one.text("1/state") == state and one.orders() == []


def test_what_an_attempt_leaves_behind_ends_with_run_cluster_and_not_before(cluster):
    """As qrsh to a host that was lost."""
    one = cluster("machine")
    leaves = "import subprocess; print(subprocess.Popen(['sleep', '987'], start_new_session=True).pid)"
    (one.folder / "also").write_text(
        f'[ "$ATTEMPT" = 1 ] && python3 -c "{leaves}" > left || kill -0 "$(cat left)" && touch still-there\n'
    )
    assert one.ends("75 saves", "0 saves")[0] == 0
    assert (one.folder / "still-there").exists()
    assert not psutil.pid_exists(int((one.folder / "left").read_text()))


def test_a_job_stops_before_its_time_limit(cluster):
    """The recorded job has h_rt=300; a tenth of it is for saving."""
    one = cluster("pe")
    one.clients("qstat", f"cat {RECORDED}/job-parallel.xml")
    (one.folder / "also").write_text('echo "$TIMEOUT" > timeout\n')
    status, told = one.ends("0 saves")
    assert status == 0 and "for at most 270 s" in told
    assert 200 < int((one.folder / "timeout").read_text()) <= 270


@pytest.mark.parametrize("way", ["pe", "array"])
def test_the_signal_of_a_time_limit_is_no_request_to_end(cluster, way):
    """At h_rt, here of 6 s, `notify` sends SIGUSR2, as for qdel. By 99 the job would not run again then."""
    one = cluster(way)
    short = (RECORDED / "job-parallel.xml").read_text().replace(">300<", ">6<")
    (one.folder / "job.xml").write_text(short)
    one.clients("qstat", f"cat {one.folder}/job.xml")
    (one.folder / "also").write_text("( sleep 6; kill -USR2 $PPID ) &\n")
    status, told = one.ends("wait saves")
    assert status == 75 and "for at most 1 s" in told and told.splitlines()[-1].endswith("job 77 continues"), told
