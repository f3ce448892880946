"""The logs of a run's nodes as one stream."""

import itertools

import pytest

from depthfield.cluster import logs
from depthfield.tool import Failure


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "LOOK_SECONDS", 0.01)
    write(tmp_path, "worker-0", "keep-node: ---- attempt 1, now\nold\nkeep-node: ---- attempt 2, now\n1\n2\n3\nhalf")
    write(tmp_path, "cluster", "a\nb\n")
    return tmp_path


def write(run, name: str, text: str, mode: str = "a") -> None:
    (run / "logs").mkdir(exist_ok=True)
    with (run / f"logs/{name}.log").open(mode) as file:
        file.write(text)


def test_the_last_lines_of_each_node_s_current_attempt_come_first(run):
    assert list(logs.follow(run, 2, once=True)) == [
        ("cluster", "a"), ("cluster", "b"), ("worker-0", "2"), ("worker-0", "3"),
    ]  # fmt: skip
    assert [line for node, line in logs.follow(run, 9, once=True) if node == "worker-0"] == [
        "keep-node: ---- attempt 2, now", "1", "2", "3",
    ]  # fmt: skip
    assert list(logs.follow(run, 0, once=True)) == []


def test_new_lines_follow_once_they_are_whole_of_new_nodes_too(run):
    lines = logs.follow(run, 1)
    assert list(itertools.islice(lines, 2)) == [("cluster", "b"), ("worker-0", "3")]
    write(run, "worker-0", " a")
    write(run, "worker-9", "whole\n")
    assert next(lines) == ("worker-9", "whole")
    write(run, "worker-0", " line\n")
    assert next(lines) == ("worker-0", "half a line")
    write(run, "ps-0", "one\ntwo\n")
    assert list(itertools.islice(lines, 2)) == [("ps-0", "one"), ("ps-0", "two")]
    write(run, "cluster", "c\n", mode="w")  # shorter than before: somebody has emptied it
    assert next(lines) == ("cluster", "c")


def test_a_long_log_is_read_from_its_end(run):
    write(run, "ps-1", "x" * 1000 + "\n" + "long\n" * 100_000)
    assert [line for node, line in logs.follow(run, 3, once=True) if node == "ps-1"] == ["long"] * 3


def test_a_folder_that_is_not_a_run_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "nodes").mkdir(parents=True)
    with pytest.raises(Failure, match="c: no such run; runs here: .*/a, .*/b$"):
        next(logs.follow(tmp_path / "c", 1))
    with pytest.raises(Failure, match="a: trained by train-depth alone, so it has no nodes"):
        next(logs.follow(tmp_path / "a", 1))


def test_the_error_of_an_attempt_is_the_last_message_in_the_log_of_its_job(run):
    begins = "run-cluster: run /a/b, attempt {}, job 4: 1 ps, 2 workers\n"
    ends = "some library's words: x\nrun-cluster: ended with status 1 after 9 s\n"
    write(run, "cluster", begins.format(1) + "train-depth: first\n" + begins.format(12) + "train-depth: bad\n" + ends)
    assert logs.last_error(run, 12) == logs.last_error(run) == "train-depth: bad"
    write(run, "cluster", begins.format(13))
    assert logs.last_error(run, 13) is None
    write(run, "cluster", "Traceback:\n  File x\nkeras.src.NameError: no y\n")
    assert logs.last_error(run, 13) == "keras.src.NameError: no y"
