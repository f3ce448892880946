"""Hosts, plans and announcements of a cluster, without a single node."""

import json
import os
import socket
import stat
import threading
import time
from collections import Counter

import psutil
import pytest

from depthfield.cluster import announcements, hosts, lifeline, node, plan
from depthfield.cluster.announcements import Announcement
from depthfield.cluster.hosts import Host
from depthfield.cluster.plan import Node
from depthfield.tool import Failure, UsageError

GB = 2**30


def failure(call, kind=Failure) -> str:
    """The one line that `call()` fails with."""
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def places(nodes: list[Node], role: str) -> list[str]:
    return [node.host for node in nodes if node.role == role]


# ----------------------------------------------------------------------------------------------------------- hosts


def test_hosts_are_read_with_their_resources():
    lines = ["# name slots gpus memory", "", "anna 8", "bert 4 2 64G # the new one", "carl 2 0 512M", "dora 1 1 4096"]
    assert hosts.read([line + "\n" for line in lines]) == [
        Host("anna", 8),
        Host("bert", 4, ("0", "1"), 64 * GB),
        Host("carl", 2, (), 512 * 2**20),
        Host("dora", 1, ("0",), 4096),
    ]


def test_a_host_on_several_lines_adds_up():
    assert hosts.read(["a 2 1 1G", "b 1", "a 3 1 2g"]) == [Host("a", 5, ("0", "1"), 3 * GB), Host("b", 1)]


@pytest.mark.parametrize(
    "line", ["anna", "anna many", "anna 0", "anna -2", "a 1 -1", "a 1 0 64Q", "a 1 0 1G more", "a 1.5"]
)
def test_a_line_that_is_no_host_is_named_by_its_number(line):
    told = failure(lambda: hosts.read(["# hosts", "bert 2", line]))
    assert "line 3" in told and repr(line) in told and "host slots" in told


def test_this_machine_offers_the_cores_this_process_may_use(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert hosts.this_machine() == Host("127.0.0.1", 1, (), psutil.virtual_memory().total)
    finally:
        os.sched_setaffinity(0, before)
    assert hosts.this_machine().slots == len(before)


def test_gpus_are_those_the_driver_lists_or_fewer_where_the_user_says_so(monkeypatch, tmp_path):
    listed = "GPU 0: NVIDIA H200 (UUID: GPU-1)\n  MIG 1g.18gb Device 0: (UUID: MIG-1)\nGPU 1: NVIDIA H200 (UUID: GPU-2)"
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n[ $1 = -L ] && printf '%s' '{listed}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert hosts.visible_gpus() == ("0", "1")
    for allowed, names in [("3, 1", ("3", "1")), ("", ()), ("-1", ())]:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
        assert hosts.visible_gpus() == names


# ------------------------------------------------------------------------------------------------------------ plan


def test_each_role_goes_where_it_belongs():
    given = [Host("desk", 4), Host("memory", 4, (), 512 * GB), Host("cards", 4, ("0", "1"), 64 * GB), Host("cores", 16)]
    nodes = plan.split(given, ps=1, workers=3)
    assert places(nodes, "chief") == ["desk"]  # the first: the job script runs there
    assert places(nodes, "ps") == ["memory"]
    assert places(nodes, "worker") == ["cards", "cards", "cores"]
    assert [node.gpus for node in nodes if node.role == "worker"] == [("0",), ("1",), ()]


def test_each_role_is_spread_over_the_hosts():
    given = [Host(name, 8, (), memory * GB) for name, memory in [("a", 1), ("b", 9), ("c", 4)]]
    nodes = plan.split(given, ps=4, workers=6)
    assert places(nodes, "ps") == ["b", "c", "a", "b"]  # in rounds, most memory first
    assert Counter(places(nodes, "worker")) == {"a": 2, "b": 2, "c": 2}
    with_cards = plan.split([Host("a", 4, ("0", "1"), 0), Host("b", 4, ("0", "1"), 0)], ps=1, workers=2)
    assert sorted(places(with_cards, "worker")) == ["a", "b"]


def test_a_parameter_server_leaves_the_slots_of_gpus_to_workers():
    nodes = plan.split([Host("desk", 2), Host("cards", 2, ("0", "1"), 999 * GB)], ps=1, workers=2)
    assert places(nodes, "worker") == ["cards", "cards"] and places(nodes, "ps") == ["desk"]


def test_every_slot_and_every_gpu_is_given_once():
    given = [Host(f"h{number}", 1 + number % 4, hosts.numbered(number % 3), number * GB) for number in range(20)]
    slots = sum(host.slots for host in given)
    nodes = plan.split(given, ps=10, workers=slots - 11)
    assert len({(node.host, node.slot) for node in nodes}) == len(nodes) == slots
    by_name = {host.name: host for host in given}
    assert all(node.slot < by_name[node.host].slots for node in nodes)
    cards = [(node.host, card) for node in nodes for card in node.gpus]
    assert len(set(cards)) == len(cards) and all(card in by_name[host].gpus for host, card in cards)
    assert [(node.role, node.index) for node in nodes] == [
        ("chief", 0), *(("ps", index) for index in range(10)), *(("worker", index) for index in range(slots - 11))
    ]  # fmt: skip


def test_thirteen_slots_are_a_chief_eight_ps_and_four_workers_and_twelve_are_not():
    assert len(plan.split([Host("a", 7), Host("b", 6)], ps=8, workers=4)) == 13
    told = failure(lambda: plan.split([Host("a", 7), Host("b", 5)], ps=8, workers=4))
    assert "13 slots wanted (1 chief, 8 ps, 4 workers), 12 given, 1 missing" in told
    assert "no hosts" in failure(lambda: plan.split([], ps=1, workers=1, oversubscribe=True))


def test_nodes_share_slots_only_where_they_may():
    nodes = plan.split([Host("here", 2, ("5",))], ps=1, workers=3, oversubscribe=True)
    assert [node.slot for node in nodes] == [0, 1, 0, 1, 0]
    assert [node.gpus for node in nodes[2:]] == [("5",), (), ()]  # a GPU is never shared


def test_without_parameter_servers_the_chief_is_one_of_the_workers():
    given = [Host("desk", 2, ("0", "1")), Host("cards", 2, ("5",)), Host("cores", 2)]
    nodes = plan.split(given, ps=0, workers=4)
    assert [(node.role, node.index) for node in nodes] == [("chief", 0), ("worker", 0), ("worker", 1), ("worker", 2)]
    assert [(node.host, node.gpus) for node in nodes] == [
        ("desk", ("0",)), ("cards", ("5",)), ("desk", ("1",)), ("cores", ())
    ]  # fmt: skip
    assert plan.reduces(nodes) and not plan.reduces(plan.split(given, ps=1, workers=2))
    assert plan.anywhere("desk", 0, 2) == [Node("chief", 0, "desk", 0), Node("worker", 0, "*", 0)]
    assert (plan.size(0, 4), plan.size(2, 4)) == (4, 7)
    told = failure(lambda: plan.split([Host("a", 2)], ps=0, workers=3))
    assert "3 slots wanted (1 chief, 0 ps, 2 workers), 2 given, 1 missing" in told


def test_the_same_hosts_give_the_same_plan():
    lines = [f"host{number} 16 2 64G" for number in range(1_000)]
    text = plan.write(plan.split(hosts.read(lines), ps=200, workers=3_000))
    assert text == plan.write(plan.split(hosts.read(lines), ps=200, workers=3_000))


def test_a_plan_as_text_reads_back_the_same():
    nodes = plan.split([Host("a", 4, ("0", "1")), Host("b", 4)], ps=2, workers=3)
    text = plan.write(nodes)
    assert text.splitlines()[0] == "chief\t0\ta\t0\t-"
    assert plan.read(reversed(text.splitlines(keepends=True)), "plan.tsv") == nodes


@pytest.mark.parametrize(
    ("line", "told"),
    [("boss 0 a 0 -", "line 2"), ("ps x a 0 -", "line 2"), ("ps 0 a", "line 2"), ("chief 0 b 1 -", "second time")],
)
def test_an_invalid_plan_is_refused_with_its_line(line, told):
    message = failure(lambda: plan.read(["chief\t0\ta\t0\t-", line], "plan.tsv"))
    assert told in message and message.startswith("plan.tsv: ")
    assert "empty" in failure(lambda: plan.read(["\n"], "stdin"))


# --------------------------------------------------------------------------------------------------- announcements

NODES = [Node("chief", 0, "a", 0), Node("ps", 0, "a", 1), Node("worker", 0, "b", 0), Node("worker", 1, "c", 0)]


def announce(run, role, index, attempt=1, **changed):
    told = Announcement("there", 4000 + index, 77, 1.5, announcements.token(run))._replace(**changed)
    announcements.announce(announcements.folder(run, attempt), role, index, told)
    return told


def test_the_first_to_ask_makes_the_token_and_all_get_the_same(tmp_path):
    run, found = tmp_path / "runs" / "one", []
    asking = [threading.Thread(target=lambda: found.append(announcements.token(run))) for _ in range(20)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(found) == 20 and len(set(found)) == 1 and len(found[0]) == 64
    assert announcements.token(tmp_path / "another") != found[0]
    assert [path.name for path in run.iterdir()] == ["token"]
    assert stat.S_IMODE((run / "token").stat().st_mode) == 0o600 and stat.S_IMODE(run.stat().st_mode) == 0o700
    (run / "token").write_text("")
    assert "token is empty" in failure(lambda: announcements.token(run))


def test_the_cluster_is_gathered_in_tensorflows_shape(tmp_path):
    announce(tmp_path, "worker", 1, port=9)
    announce(tmp_path, "worker", 0)
    announce(tmp_path, "ps", 0, host="elsewhere")
    assert announcements.gather(NODES, tmp_path, 1, 0) == {
        "chief": ["a:0"], "ps": ["elsewhere:4000"], "worker": ["there:4000", "there:9"]
    }  # fmt: skip


def spoiled(run, how: str) -> None:
    """Leave a file for worker 1 that is no announcement of this attempt of this run."""
    path = announcements.folder(run, 1) / "worker-1.json"
    announce(run, "worker", 1, attempt=2 if how == "another attempt" else 1)
    if how == "forged":
        announce(run, "worker", 1, token="0" * 64)
    elif how == "of no port":
        announce(run, "worker", 1, port=0)
    elif how == "empty":
        path.write_text("")
    elif how == "half":
        path.write_bytes(path.read_bytes()[:40])
    elif how == "no object":
        path.write_text('["worker", 1]')
    elif how == "without a field":
        path.write_text(json.dumps({"host": "there", "port": 1, "token": announcements.token(run)}))
    elif how == "text for a port":
        announce(run, "worker", 1, port="80")


SPOILED = [
    "forged", "of no port", "empty", "half", "no object", "without a field", "text for a port", "another attempt"
]  # fmt: skip


@pytest.mark.parametrize("how", SPOILED)
def test_announcements_of_other_attempts_are_never_joined(tmp_path, how):
    announce(tmp_path, "ps", 0)
    announce(tmp_path, "worker", 0)
    spoiled(tmp_path, how)
    told = failure(lambda: announcements.gather(NODES, tmp_path, 1, 0))
    assert told == "1 of 3 nodes have not announced themselves within 0 s: worker 1 on c"


def test_a_spoiled_announcement_repaired_later_is_read_again(tmp_path):
    announce(tmp_path, "ps", 0)
    announce(tmp_path, "worker", 0)
    spoiled(tmp_path, "empty")
    later = threading.Timer(0.5, announce, (tmp_path, "worker", 1))
    later.start()
    assert announcements.gather(NODES, tmp_path, 1, 30)["worker"] == ["there:4000", "there:4001"]
    later.join()


def test_a_node_that_came_and_went_while_others_were_awaited_is_awaited_again(tmp_path):
    announce(tmp_path, "ps", 0)
    gone = announce(tmp_path, "worker", 0)

    def later():
        time.sleep(0.5)
        announcements.withdraw(announcements.folder(tmp_path, 1), "worker", 0, gone)
        announce(tmp_path, "worker", 1)
        time.sleep(0.5)
        announce(tmp_path, "worker", 0, port=5)

    thread = threading.Thread(target=later)
    thread.start()
    assert announcements.gather(NODES, tmp_path, 1, 30)["worker"] == ["there:5", "there:4001"]
    thread.join()


def test_a_thousand_nodes_are_gathered_in_their_order(tmp_path):
    nodes = [Node("chief", 0, "a", 0), *(Node("worker", index, "b", index) for index in range(1_000))]
    for index in range(1_000):
        announce(tmp_path, "worker", index)
    announce(tmp_path, "chief", 0, port=9)
    cluster = announcements.gather(nodes, tmp_path, 1, 60)
    assert cluster == {"chief": ["there:9"], "worker": [f"there:{4000 + index}" for index in range(1_000)]}


def test_without_parameter_servers_the_chief_is_awaited_too(tmp_path):
    nodes = [Node("chief", 0, "a", 0), Node("worker", 0, "b", 0)]
    mine = announce(tmp_path, "worker", 0)
    told = failure(lambda: announcements.gather(nodes, tmp_path, 1, 0))
    assert told == "1 of 2 nodes have not announced themselves within 0 s: chief 0 on a"
    announce(tmp_path, "chief", 0, port=9)
    cluster = announcements.gather(nodes, tmp_path, 1, 0)
    folder = announcements.folder(tmp_path, 1)
    for text in (None, "", json.dumps(cluster)[:-9]):
        if text is not None:
            (folder / "cluster.json").write_text(text)
        assert announcements.gathered(folder, "worker", 0, mine) is None
    (folder / "cluster.json").write_text(json.dumps(cluster))
    assert announcements.gathered(folder, "worker", 0, mine) == cluster
    assert announcements.gathered(folder, "worker", 0, mine._replace(port=4001)) is None  # of an earlier cluster


def test_a_held_port_is_free_only_for_a_server_that_shares_it():
    holder, port = lifeline.held(0)
    with holder, socket.socket() as other:
        with pytest.raises(OSError, match="in use"):
            other.bind(("", port))
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("", port))
        shared = socket.create_server(("", port), reuse_port=True)
        with shared, socket.create_connection(("127.0.0.1", port)):
            assert shared.accept()


def test_an_announcement_is_withdrawn_by_its_own_node_alone(tmp_path):
    folder = announcements.folder(tmp_path, 1)
    before = announce(tmp_path, "ps", 0)
    now = announce(tmp_path, "ps", 0, pid=78)
    announcements.withdraw(folder, "ps", 0, before)
    assert announcements.read(folder, "ps", 0, now.token) == now
    announcements.withdraw(folder, "ps", 0, now)
    assert not list(folder.iterdir())


def test_an_attempt_ends_when_the_stop_file_is_there_or_the_attempt_is_gone(tmp_path):
    assert announcements.stop_asked(tmp_path / "gone")
    assert not announcements.stop_asked(tmp_path)
    (tmp_path / "stop").touch()
    assert announcements.stop_asked(tmp_path)


# ------------------------------------------------------------------------------------------------------------ node

ARGUMENTS = {
    "--run": "r", "--index": "3", "--attempt": "1", "--host": None, "--port": None, "--threads": None, "--parent": None,
    "--watcher": None,
}  # fmt: skip


def test_a_node_is_named_as_grid_engine_names_its_host_and_ends_with_its_starter(monkeypatch):
    monkeypatch.setenv("HOSTNAME", "node7.cluster")
    asked = node.asked("ps", ARGUMENTS)
    assert (asked.role, asked.index, asked.host, asked.port) == ("ps", 3, "node7.cluster", None)
    assert asked.starter == os.getppid()
    given = node.asked("worker", ARGUMENTS | {"--host": "a", "--port": "70", "--threads": "2", "--parent": "9"})
    assert (given.host, given.port, given.threads, given.starter) == ("a", 70, 2, 9)
    assert node.asked("ps", ARGUMENTS | {"--watcher": "b:80"}).watcher == ("b", 80)
    for wrong in ({"--watcher": address} for address in ("b", "b:", ":80", "b:x", "b:65536")):
        assert "HOST:PORT" in failure(lambda wrong=wrong: node.asked("ps", ARGUMENTS | wrong), UsageError)
    assert "--port" in failure(lambda: node.asked("ps", ARGUMENTS | {"--port": "65536"}), UsageError)


def test_grpc_never_looks_for_nodes_behind_a_proxy(monkeypatch):
    for proxy in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    node.without_proxies()
    assert not {"http_proxy", "https_proxy", "grpc_proxy"} & set(os.environ)
