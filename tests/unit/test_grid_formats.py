"""Grid Engine's host file of a job and its qhost, read as hosts."""

from pathlib import Path

import grid_formats
import pytest
from grid_formats import host, qhost

from depthfield.cluster import grid
from depthfield.cluster.hosts import Host

GB = 2**30
OPEN = {"all.q": (4, 0, 0, "")}


def shown(*hosts: str, gpu_complex: str | None = None) -> list[grid.Shown]:
    return grid.read_qhost(qhost(hosts).encode(), "qhost.xml", gpu_complex)


def free(queues: dict, allowed: str = "", least: int = 1, **resources) -> int | str:
    """The slots that are free on a host with these queues, or why it was left out."""
    hosts, left_out = grid.free(shown(host("n1", resources, queues)), allowed, least)
    return hosts[0].slots if hosts else left_out["n1"]


# ----------------------------------------------------------------------------------------------- slots and queues


def test_slots_are_free_if_neither_used_nor_reserved():
    assert free({"all.q": (8, 3, 1, "")}) == 4
    assert free({"all.q": (8, 3, 0, ""), "long.q": (2, 0, 0, "")}) == 7
    assert free({"all.q": (8, 7, 1, "")}) == "all.q full"
    assert free({"all.q": (8, 3, 0, ""), "long.q": (2, 2, 0, "")}, least=6) == "5 of 6 slots free"
    assert free({}) == "no queue"


@pytest.mark.parametrize(
    ("letters", "word"),
    [
        ("a", "alarm"), ("A", "alarm"), ("au", "unknown"), ("E", "error"), ("d", "disabled"), ("D", "disabled"),
        ("s", "suspended"), ("S", "suspended"), ("C", "suspended"), ("o", "orphaned"), ("c", "ambiguous"),
        ("P", "preempted"), ("adE", "error"),
    ],
)  # fmt: skip
def test_a_queue_that_takes_no_job_has_no_slots(letters, word):
    assert free({"all.q": (8, 0, 0, letters)}) == f"all.q {word}"
    assert free({"all.q": (8, 0, 0, letters), "long.q": (2, 0, 0, "")}) == 2


def test_only_the_queues_allowed_count():
    queues = {"all.q": (4, 0, 0, ""), "long.q": (2, 0, 0, ""), "gpu.q": (1, 0, 0, "")}
    for allowed, slots in [
        ("", 7), (" ", 7), ("all.q", 4), ("all.q,gpu.q", 5), ("long.q gpu.q", 3), (" all.q ,, long.q\n", 6),
        ("*g.q", 2), ("[!a]*.q", 3), ("*@n1", 7), ("all.q@n2 gpu.q@n?", 1),
    ]:  # fmt: skip
        assert free(queues, allowed) == slots, allowed
    assert free(OPEN, "all") == free(OPEN, "xall.q") == free(OPEN, "all.q@n") == "all.q not in GRID_QUEUES"


def test_a_limit_on_the_slots_of_all_queues_of_a_host_holds():
    queues = {"all.q": (4, 1, 0, ""), "long.q": (4, 0, 0, "")}
    assert free(queues, slots="4.000000") == 4 and free(queues, slots="16") == 7
    assert free(queues, slots="0.000000") == "full"


# ------------------------------------------------------------------------------------------------ GPUs and memory


@pytest.mark.parametrize(
    ("resources", "gpu_complex", "gpus"),
    [
        ({"gpu": "2.000000"}, None, 2), ({"ngpus": "3"}, None, 3), ({"cuda": "1", "gpus": "4"}, None, 4),
        ({"cuda": "1", "gpu": "0.000000"}, None, 0), ({"gpu": "-1.000000"}, None, 0), ({"gpu": "INFINITY"}, None, 0),
        ({"gpu": "NONE", "gpus": "1"}, None, 1), ({"gpu": "2", "a100+": "1"}, "a100+", 1), ({}, None, 0),
    ],
)  # fmt: skip
def test_gpus_are_counted_by_the_complex_that_the_site_gave_them(resources, gpu_complex, gpus):
    [found] = shown(host("n1", resources | {"gpus_of_old": "9"}, OPEN), gpu_complex=gpu_complex)
    assert found.gpus == gpus


@pytest.mark.parametrize(
    ("resources", "total", "memory"),
    [
        ({"mem_free": "23.5G", "mem_total": "30.000G"}, "30.0G", 23.5 * GB), ({"mem_total": "1.5T"}, "-", 1536 * GB),
        ({"mem_free": "512.000M"}, "30.0G", GB / 2), ({}, "30.0G", 30 * GB), ({"mem_free": "-"}, "2.0G", 2 * GB),
        ({}, "-", 0), ({"mem_free": "1048576.000000"}, "-", 2**20),
    ],
)  # fmt: skip
def test_memory_is_the_free_or_else_the_total_memory(resources, total, memory):
    [found] = shown(host("n1", resources, OPEN, {"mem_total": total}))
    assert found.memory == memory


def test_a_job_s_hosts_are_found_under_their_short_or_their_full_names():
    gpus = {"a.x": 1, "b": 2, "c.x": 3, "c.y": 4}
    told = [host(name, {"gpu": count, "mem_free": "1G"}, OPEN) for name, count in gpus.items()]
    names = ["a", "b.x", "c", "c.y", "a.y", "d"]
    equipped = grid.equip([Host(name, 2) for name in names], shown(*told))
    assert [host.name for host in equipped] == names  # as the grid calls them in the job
    assert [len(host.gpus) for host in equipped] == [1, 2, 0, 4, 0, 0]  # c is in two domains, a.y another machine
    assert [host.memory for host in equipped] == [GB, GB, 0, GB, 0, 0]
    assert [host.gpus for host in grid.equip([Host("b", 2)], shown(*told), 2)] == [("0", "1", "2", "3")]
    assert grid.equip([Host("b", 2)], shown(*told), 0) == [Host("b", 2, (), GB)]


# ---------------------------------------------------------------------------------------- as Grid Engine wrote it


def test_the_output_of_a_real_grid_is_understood():
    # Of Grid Engine 8.1.9, most of the resources cut out: a job on node1 and node3, a reservation of two slots of all.q
    # on node2 and an alarm in its short.q, node3's queues suspended and disabled, node4 dead.
    seen = grid.read_qhost((Path(__file__).parent / "qhost.xml").read_bytes(), "qhost.xml")
    hosts, left_out = grid.free(seen)
    free_memory = int(22.558 * GB)
    assert hosts == [
        Host("node1.grid.test", 3, ("0", "1"), free_memory), Host("node2.grid.test", 2, tuple("0123"), free_memory)
    ]  # fmt: skip
    assert left_out == {
        "node3.grid.test": "all.q suspended, short.q disabled", "node4.grid.test": "all.q unknown, short.q unknown"
    }  # fmt: skip
    assert seen[3].memory == int(23.541 * GB)  # of a dead host, only that is known
    job = "node3.grid.test 4 all.q@node3.grid.test UNDEFINED\nnode1.grid.test 4 all.q@node1.grid.test UNDEFINED\n"
    granted = grid.read_pe((job + "node1.grid.test 1 short.q@node1.grid.test UNDEFINED\n").encode(), "pe_hostfile")
    assert granted == [Host("node3.grid.test", 4), Host("node1.grid.test", 5)]


# --------------------------------------------------------------------------------------------------- a large grid


def test_a_large_grid_is_read_whole():
    output, host_file = grid_formats.large(300)
    hosts, left_out = grid.free(grid.read_qhost(output.encode(), "-"))
    assert len(hosts) == 300 and not left_out
    assert hosts[299] == Host("node299.grid.test", 12, ("0", "1"), int(121.9 * GB))
    assert grid.equip(grid.read_pe(host_file.encode(), "-"), grid.read_qhost(output.encode(), "-")) == hosts
