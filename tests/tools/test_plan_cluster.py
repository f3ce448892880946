"""plan-cluster from the shell."""

import json
import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
from conftest import run
from shell import PROJECT, QUICK, TINY, options

STEP = ["--step", "0.07"]
HOSTS = "anna 4\nbert 4 # the new one\nanna 4 0 64G\n"


def told(done) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_says_what_to_call_on_hosts_of_stdin(tmp_path):
    done = run("plan-cluster", *STEP, QUICK, cwd=tmp_path, stdin=HOSTS)
    assert done.returncode == 0 and done.stderr == ""
    *lines, call = done.stdout.splitlines()
    assert call == "PS_NODES=1 WORKERS=10 make distributed RECIPE=dcnf-small"
    assert [line for line in lines if line.startswith("with ")] == [
        f"with {servers} parameter servers, the largest share is 0.{megabytes} MB, 1.00 of the mean"
        for servers, megabytes in ((2, 2), (4, 1), (8, 0))
    ]
    rows = dict(re.findall(r"^  (\S.*?)  +(.*)$", done.stdout, re.MULTILINE))
    assert list(rows) == ["nodes", "round", "exchange", "server", "photos per second"]
    assert rows["nodes"] == "1 ps, 10 workers, 1 chief"


def test_predicts_what_is_asked_for_beside_what_is_recommended(tmp_path):
    asked = ["--workers", 20, "--ps", 1, *STEP, "--json", "fcsp"]
    found = told(run("plan-cluster", *asked, "--set", "batch_size=2", cwd=tmp_path))
    assert found["parameters"] == 19502052 and found["step_seconds"] == 0.07
    prediction, best = found["asked"], found["recommended"]
    assert (prediction["workers"], prediction["servers"], prediction["bytes"]) == (20, 1, 6 * 19502052)
    assert prediction["busy"] > 0.5 >= best["busy"] and best["workers"] + best["servers"] <= 21
    ideal = prediction["workers"] * 2 / 0.07
    assert prediction["photos_per_second"] == pytest.approx(ideal * prediction["computing"])
    assert (
        found["call"]
        == f"PS_NODES={best['servers']} WORKERS={best['workers']} make distributed RECIPE=fcsp SET=batch_size=2"
    )
    wide, fast = (
        told(run("plan-cluster", *asked, *more, cwd=tmp_path))["asked"]
        for more in (["--set", "wire=float32"], ["--link", "10gbit", "--delay", "10us"])
    )
    assert wide["bytes"] == 8 * 19502052
    assert fast["exchange_seconds"] < prediction["exchange_seconds"] / 5


def test_measures_a_step_here_where_none_is_given(tmp_path):
    done = run("plan-cluster", "--local", "--json", "--photo", "48x64", *options(TINY), QUICK, cwd=tmp_path)
    found = told(done)
    assert re.fullmatch(r"plan-cluster: measured here: \S+ s per step of \d photos of 48x64 pixels\n", done.stderr)
    assert 0 < found["step_seconds"] < 1 and found["asked"] is None and found["call"].startswith("GRID=no PS_NODES=1 ")
    assert (found["recommended"]["servers"], found["recommended"]["workers"]) == (1, len(os.sched_getaffinity(0)))


def test_draws_photos_per_second_against_workers(tmp_path):
    plot = tmp_path / "plots/speed.svg"
    run("plan-cluster", *STEP, "--plot", plot, QUICK, cwd=tmp_path, stdin=HOSTS)
    texts = [element.text for element in ElementTree.parse(plot).iter() if element.text and element.text.strip()]
    assert {"workers", "photos per second", "ideal", "1", "1000"} <= set(texts)
    assert sum("Gbit/s" in text for text in texts) == 3
    assert plot.stat().st_size < 10_000


@pytest.mark.parametrize(
    ("arguments", "hosts", "status", "says"),
    [
        ([*STEP, QUICK], "", 1, "3 slots"),
        ([*STEP, QUICK], "anna 2\n", 1, "3 slots"),
        ([*STEP, QUICK], "anna many\n", 1, "line 1"),
        ([*STEP, "--link", "1furlong", QUICK], HOSTS, 2, "--link"),
        ([*STEP, "--link", "0gbit", QUICK], HOSTS, 2, "--link"),
        ([*STEP, "--delay", "soon", QUICK], HOSTS, 2, "--delay"),
        (["--step", "0", QUICK], HOSTS, 2, "--step"),
        (["--photo", "big", QUICK], HOSTS, 2, "--photo"),
        ([*STEP, "--ps", "1", "--workers", "0", QUICK], HOSTS, 2, "--workers"),
        ([*STEP, "nothing"], HOSTS, 2, "nothing"),
        ([*STEP, "--plot", "/dev/null/x", QUICK], HOSTS, 1, "/dev/null"),
    ],
)
def test_invalid_values_are_reported_in_one_line(tmp_path, arguments, hosts, status, says):
    done = run("plan-cluster", *arguments, cwd=tmp_path, stdin=hosts)
    assert done.returncode == status and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and says in done.stderr


def test_on_a_terminal_it_says_what_is_missing(tmp_path):
    ours, theirs = os.openpty()
    words = [PROJECT / "bin/plan-cluster", *STEP, QUICK]
    done = subprocess.run(words, stdin=theirs, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    os.close(ours), os.close(theirs)
    assert done.returncode == 2 and done.stderr.startswith("plan-cluster: no hosts given; send them on stdin")
