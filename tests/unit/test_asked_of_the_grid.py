"""What is asked of a grid for a job and its nodes: settings, memory by the site's name, slots, queues, GPUs."""

import os
from pathlib import Path

import pytest
from clients import recorded

from depthfield import tool
from depthfield.cluster import attempts, gridengine, keeper, settings, submission, ways
from depthfield.cluster.gridengine import Complex
from depthfield.cluster.plan import Node
from depthfield.tool import Failure, UsageError

GB = 2**30


def given(**environment: str) -> settings.Settings:
    return settings.read(Path("/house"), {"RUNID": "first", "RUN_DIR": "/runs", "DATA_DIR": "/data"} | environment)


def site(**consumables: str) -> dict[str, Complex]:
    """A site's complexes for memory: whether each is a consumable."""
    return {name: Complex(name, "MEMORY", "<=", "YES", consumable) for name, consumable in consumables.items()}


# ---- settings


def test_settings_are_read_with_their_defaults():
    one = given(DATASET="nyu", WORKERS="4", REQUEST="-q gpu.* -l 'hostname=node[1-4]'", GRID_QUEUES="all.q, b.*@c d.q")
    assert (one.run, one.records) == (Path("/runs/first"), Path("/data/nyu/records"))
    assert (one.ps, one.workers, one.slots_per_node, one.memory, one.wait) == (None, 4, 1, None, None)
    assert one.request == ("-q", "gpu.*", "-l", "hostname=node[1-4]")
    assert one.queues == ("all.q", "b.*@c", "d.q") and one.grid and not given(GRID="no").grid
    assert "WORKERS=4" in one.passed_on and not [word for word in one.passed_on if word.startswith(("REQUEST", "PE="))]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WORKERS", "0", "WORKERS takes a whole number of at least 1, not '0'"),
        ("TIMEOUT", "1.5", "TIMEOUT takes"), ("RUNID", "", "RUNID takes"), ("RUNID", "../x", "RUNID takes"),
        ("MEMORY", "8 cows", "MEMORY takes an amount such as 8G"),
        ("REQUEST", "-l 'x", "REQUEST: No closing quotation"),
    ],
)  # fmt: skip
def test_invalid_values_are_named(name, value, said):
    with pytest.raises(UsageError) as told:
        given(**{name: value})
    assert said in str(told.value)


def test_paths_that_grid_engine_reads_otherwise_are_refused():
    settings.check_for_grid(given(RUN_DIR="/a-b_c.d/e@f+1=2%~"))
    for odd in ":$&('; *,é":
        with pytest.raises(Failure, match="paths may have only letters"):
            settings.check_for_grid(given(DATA_DIR=f"/x{odd}y"))


# ---- memory


@pytest.mark.parametrize(
    ("complexes", "slots", "asked"),
    [
        (site(h_vmem="YES", mem_free="NO"), 1, "h_vmem=8192M"),
        (site(h_vmem="YES"), 3, "h_vmem=2731M"),  # rounded up: what is short is killed
        (site(h_vmem="NO", m_mem_free="YES"), 2, "m_mem_free=4096M"),
        (site(h_vmem="NO", virtual_free="YES", mem_free="NO"), 2, "virtual_free=4096M"),
        (site(mem_free="NO", h_vmem="NO"), 4, "mem_free=8192M"),  # of a host, whatever the slots
        (site(h_vmem="NO"), 4, "h_vmem=2048M"),  # a limit, which Grid Engine multiplies by the slots
        (site(h_vmem="JOB", mem_free="NO"), 2, "mem_free=8192M"),
        (site(m_mem_free="HOST", virtual_free="YES"), 2, "virtual_free=4096M"),
    ],
)
def test_memory_of_a_node_is_asked_for_as_the_site_counts_it(complexes, slots, asked):
    assert submission.memory(8 * GB, slots, complexes) == ["-l", asked]


@pytest.mark.parametrize(
    ("complexes", "told"),
    [
        (site(h_vmem="YES"), "h_vmem=1024M for each slot: a node that uses more is ended"),
        (site(h_vmem="NO"), "h_vmem=1024M for each slot: a node that uses more is ended"),
        (site(mem_req="YES"), "mem_req=1024M for each slot: it is reserved, but need not be a limit"),
        (site(mem_free="NO"), "mem_free=1024M of a host: it only chooses hosts with as much free, and limits nothing"),
    ],
)
def test_what_a_request_for_memory_does_is_told(complexes, told):
    assert submission.in_words(submission.memory(GB, 1, complexes), complexes) == f"MEMORY is requested as {told}"


def test_a_site_without_memory_is_reported():
    no_memory = {"mem_free": Complex("mf", "INT", "<=", "YES", "NO")}
    not_asked_for = {"h_vmem": Complex("h_vmem", "MEMORY", "<=", "NO", "YES")}
    for complexes in ({}, no_memory, not_asked_for, site(h_vmem="JOB")):
        with pytest.raises(Failure, match="own request in REQUEST"):
            submission.memory(GB, 1, complexes)


def test_the_site_as_debian_sets_it_up_looks_for_free_memory():
    assert submission.memory(GB, 2, gridengine.read_complexes(recorded("qconf-sc.txt"))) == ["-l", "mem_free=1024M"]


# ---- jobs


def test_a_job_asks_for_all_slots_and_its_user_s_words_come_last():
    nodes = {"PS_NODES": "2", "WORKERS": "3", "SLOTS_PER_NODE": "4"}
    one = given(PE="orte", GRID_QUEUES="a.q b.q", REQUEST="-q *.q -pe x 9", **nodes)
    assert submission.of_job(one) == ["-pe", "orte", "24", "-q", "a.q,b.q", "-q", "*.q", "-pe", "x", "9"]
    assert submission.of_job(given(GRID_QUEUES="a.q")) == ["-q", "a.q"]


def test_nodes_of_array_jobs_ask_for_their_own():
    assert submission.of_nodes(given()) == []
    one = given(SLOTS_PER_NODE="4", NODE_PE="threads", GRID_QUEUES="a.q")
    assert submission.of_nodes(one) == ["-pe", "threads", "4", "-q", "a.q"]


def test_what_hosts_report_is_not_looked_for_on_an_empty_grid():
    assert submission.verify(["-l", "h_rt=300,gpu=1"]) == ["-w", "e"]
    assert submission.verify(["-l", "h_rt=300,mem_free=8G"]) == ["-w", "w"]


def test_nodes_of_array_jobs_avoid_the_hosts_that_any_job_of_this_origin_lost(tmp_path, monkeypatch):
    submitted = []
    monkeypatch.setattr(gridengine, "submit", lambda arguments, avoid: submitted.append(avoid) or "9")
    monkeypatch.setattr(ways, "check_for_grid", lambda one: None)
    run = tmp_path / "first"

    def avoids(job: str) -> list[str]:
        """What an attempt of this job avoids."""
        folder = attempts.begin(run, job, attempts.origin(run, job))
        way = ways.ArrayJobs(given(RUN_DIR=str(tmp_path)), job, {})
        way.start([Node("ps", 0, "*", 0)], ways.Attempt(run, int(folder.name), "a:1", 1))
        attempts.avoid(folder, [f"host-{folder.name}"])
        return submitted[-1]

    assert [avoids("5"), avoids("5")] == [[], ["host-1"]]
    attempts.tell_job(run, "6", copy_of="5")
    assert avoids("6") == ["host-1", "host-2"]
    assert avoids("7") == []  # submitted by a person, who may know that the hosts are back
    assert avoids("7") == ["host-4"]
    old = run / "nodes/4/avoid"
    os.utime(old, (old.stat().st_mtime - attempts.AVOID_SECONDS - 60,) * 2)
    assert avoids("7") == ["host-5"]


@pytest.mark.parametrize(
    ("nodes", "ps", "workers", "expected"),
    [
        (12, None, None, (8, 4)), (12, 2, None, (2, 10)), (12, None, 9, (3, 9)), (12, 2, 3, (2, 3)),
        (2, None, None, (1, 1)), (3, None, None, (2, 1)), (3, 5, None, (5, 1)),
        (12, 0, None, (0, 13)), (12, 0, 4, (0, 4)),
    ],
)  # fmt: skip
def test_the_nodes_of_a_job_are_shared_out(nodes, ps, workers, expected):
    assert ways.shares(nodes, ps, workers) == expected


# ---- GPUs


@pytest.mark.parametrize(
    ("environment", "allotted"),
    [
        ({}, None), ({"CUDA_VISIBLE_DEVICES": "2,3"}, ["2", "3"]), ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []), ({"SGE_HGR_gpu": "0 2"}, ["0", "2"]), ({"SGE_HGR_cuda": "1"}, ["1"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8f2", "SGE_HGR_gpu": "0 2"}, ["GPU-8f2"]),
    ],
)  # fmt: skip
def test_the_site_tells_which_gpus_a_job_has(environment, allotted):
    assert keeper.allotted(environment) == allotted


@pytest.mark.parametrize(
    ("planned", "allotted", "shown"),
    [
        (None, None, None), (None, ["2", "3"], ["2", "3"]), (None, [], []),
        ("-", None, []), ("-", ["2"], []),
        ("1", None, ["1"]), ("1", ["2", "3"], ["3"]), ("0,1", ["2", "3"], ["2", "3"]), ("GPU-8f2", ["2"], ["GPU-8f2"]),
        ("0/2", None, []), ("0/1", ["2", "3"], ["2", "3"]), ("0/2", ["2", "3", "5"], ["2", "5"]),
        ("1/2", ["2", "3", "5"], ["3"]), ("2/3", ["2", "3"], ["2"]), ("1/2", [], []),
    ],
)  # fmt: skip
def test_a_worker_sees_its_own_gpus(planned, allotted, shown):
    assert keeper.shown_gpus(planned, allotted) == shown


def test_workers_of_a_host_share_what_the_plan_does_not_know_of():
    nodes = [Node("ps", 0, "a", 0), Node("worker", 0, "a", 1), Node("worker", 1, "b", 0), Node("worker", 2, "a", 2)]
    assert [ways.gpus(node, nodes) for node in nodes] == ["-", "0/2", "0/1", "1/2"]
    nodes[1] = nodes[1]._replace(gpus=("0",))
    assert [ways.gpus(node, nodes) for node in nodes] == ["-", "0", "0/1", "-"]


def test_a_chief_that_trains_has_the_first_gpu_of_its_host():
    nodes = [Node("chief", 0, "a", 0), Node("worker", 0, "a", 1), Node("worker", 1, "b", 0)]
    assert [ways.gpus(node, nodes) for node in nodes] == ["0/2", "1/2", "0/1"]
    assert [keeper.gpus_of_chief(nodes, allotted) for allotted in (None, ["2", "3"])] == [[], ["2"]]
    nodes[0] = nodes[0]._replace(gpus=("1",))
    assert [keeper.gpus_of_chief(nodes, allotted) for allotted in (None, ["2", "3"])] == [["1"], ["2"]]
    nodes[2] = nodes[2]._replace(host="*")  # the grid gives each job of its own what it asks for
    assert [keeper.gpus_of_chief(nodes, allotted) for allotted in (None, ["2", "3"])] == [None, ["2", "3"]]


@pytest.mark.parametrize(
    ("status", "announced", "limit", "told"),
    [
        (tool.NO_MEMORY, False, 700 * 2**20, "(700M on this host, by h_vmem): ask for 4G or more per slot"),
        (134, False, 2500 * 2**20, "(2500M on this host, by h_vmem): ask for 5G or more per slot"),
        (134, True, 2500 * 2**20, None),
        (134, False, None, None),
        (1, False, 700 * 2**20, None),
    ],
)
def test_a_node_that_its_limit_of_memory_ends_is_told_from_others(monkeypatch, status, announced, limit, told):
    monkeypatch.setenv("JOB_ID", "7")
    monkeypatch.setattr(tool, "memory_limit", lambda: limit)
    line = told and f"TensorFlow needs more memory than this job may map {told}"
    assert keeper.too_little_memory(status, announced) == line
