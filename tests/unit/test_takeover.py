"""Who goes on with a run when its chief's host is lost: by the disk and by who reaches the qmaster."""

import os
import threading
import time

import pytest

from depthfield.cluster import attempts, gridengine, takeover
from depthfield.tool import Failure


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """The folder of an attempt whose chief is silent, on a grid that answers; `copies` are the jobs copied."""
    run = tmp_path / "run"
    folder = attempts.begin(run, "5", "5")
    (folder / "state.json").touch()
    os.utime(folder / "state.json", (time.time() - 60,) * 2)
    monkeypatch.setattr(takeover, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(gridengine, "reachable", lambda: True)
    copies, deleted = [], []
    monkeypatch.setattr(gridengine, "copy", lambda job, avoid: copies.append((job, avoid)) or "6")
    monkeypatch.setattr(gridengine, "delete", deleted.extend)
    attempt = type("Attempt", (), {"run": run, "folder": folder, "copies": copies, "deleted": deleted})
    attempt.loses = lambda who="ps 0 on b": takeover.after_loss(run, folder, "5", "a.grid", who)
    return attempt


COPIED = [("5", ["a.grid"])]


def test_a_silent_chief_is_followed_by_a_copy_that_avoids_its_host(attempt):
    attempt.loses()
    assert attempt.copies == COPIED and attempt.deleted == ["5"]
    assert attempts.claimed(attempt.folder).startswith("job 6, submitted by ")
    assert attempts.text(attempt.folder / "state") == "ended: its host a.grid does not answer; job 6 continues"


def test_the_copy_avoids_the_hosts_that_attempts_before_lost(attempt):
    attempts.avoid(attempt.folder, ["w.grid"])
    second = attempts.begin(attempt.run, "5", "5")
    (second / "lost").write_text("b.grid\n")  # as a chief that is cut off sees it
    takeover.after_loss(attempt.run, second, "5", "a.grid", "ps 0 on b")
    assert attempt.copies == [("5", ["w.grid", "a.grid"])]
    assert attempts.avoided(attempt.run, "6") == ["w.grid", "a.grid"]


def test_a_missing_state_is_that_of_a_silent_chief(attempt):
    (attempt.folder / "state.json").unlink()
    attempt.loses()
    assert attempt.copies == COPIED


def test_of_many_nodes_just_one_submits_the_copy(attempt):
    together = threading.Barrier(8)

    def node(number: int) -> None:
        together.wait()
        attempt.loses(f"worker {number} on b")

    nodes = [threading.Thread(target=node, args=(number,)) for number in range(8)]
    for thread in nodes:
        thread.start()
    for thread in nodes:
        thread.join()
    assert attempt.copies == COPIED


@pytest.mark.parametrize("how", ["claimed", "ended", "removed"])
def test_what_others_decided_is_left_alone(attempt, how):
    if how == "claimed":
        assert attempts.claim(attempt.folder, "the chief")
    elif how == "ended":
        attempts.write_state(attempt.folder, "ended with status 0 after 5 s")
    else:
        attempt.folder.rename(attempt.run / "gone")
    attempt.loses()
    assert attempt.copies == []


def test_a_host_without_the_qmaster_leaves_the_run_to_others(attempt, monkeypatch):
    looks = []

    def reachable() -> bool:
        looks.append(1)
        if len(looks) == 5:
            assert attempts.claim(attempt.folder, "another node")
        return False

    monkeypatch.setattr(gridengine, "reachable", reachable)
    attempt.loses()
    assert attempt.copies == [] and len(looks) == 5


def test_a_chief_that_still_writes_gets_time_to_continue_itself(attempt, monkeypatch):
    """It may see the grid, and not this node."""
    monkeypatch.setattr(takeover, "GRACE_SECONDS", 0.5)
    os.utime(attempt.folder / "state.json")
    threading.Timer(0.1, attempts.claim, (attempt.folder, "the chief")).start()
    attempt.loses()
    assert attempt.copies == [] and attempts.claimed(attempt.folder) == "the chief"


def test_after_that_while_the_nodes_continue(attempt, monkeypatch):
    monkeypatch.setattr(takeover, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(takeover, "SILENT_SECONDS", 10**6)
    os.utime(attempt.folder / "state.json")
    attempt.loses()
    assert attempt.copies == COPIED


def test_a_node_that_may_not_submit_leaves_it_to_the_next(attempt, monkeypatch, capsys):
    submits = gridengine.copy

    def denied(*_):
        raise Failure('denied: host "b" is no submit host')

    monkeypatch.setattr(gridengine, "copy", denied)
    attempt.loses()
    assert attempts.claimed(attempt.folder) is None and "is no submit host" in capsys.readouterr().err
    assert attempts.avoided(attempt.run, "5") == []
    monkeypatch.setattr(gridengine, "copy", submits)
    attempt.loses()
    assert attempt.copies == COPIED


def test_patience_has_an_end(attempt, monkeypatch, capsys):
    monkeypatch.setattr(takeover, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(gridengine, "reachable", lambda: False)
    attempt.loses()
    assert attempt.copies == [] and "the qmaster has not answered" in capsys.readouterr().err
    with pytest.raises(Failure, match="the qmaster has not answered"):
        takeover.reached_first(attempt.folder, "the chief")
