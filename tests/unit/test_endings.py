"""What follows the end of an attempt, row by row, without a grid."""

import itertools

import pytest

from depthfield.cluster.endings import ARRAY, FOLLOWS, MACHINE, PE, SHORT_SECONDS, End, Facts, Then, end, status, then

WAYS = (MACHINE, PE, ARRAY)
ASKED, LOST, AWAY = {"asked": True}, {"lost": ("node1", "node2")}, {"reachable": False}
NO_SLOTS = {"lost": ("*", "node1")}

# The status of the attempt, what else is known, how it ended; what follows on this machine, in a parallel environment
# and for array jobs: the exit status, or what is done.
ROWS = [
    (0, {}, End.DONE, 0, 0, 0),
    (0, ASKED, End.DONE, 0, 0, 0),  # it was done just then
    (0, LOST | AWAY, End.DONE, 0, 0, 0),
    (1, {}, End.FAILED, 1, 1, 1),
    (1, LOST, End.FAILED, 1, 1, 1),
    (1, ASKED, End.STOPPED, 1, 1, 1),
    (2, {}, End.WRONG, 2, 2, 2),
    (2, ASKED, End.STOPPED, 1, 1, 1),
    (99, {}, End.TIME, Then.LATER, Then.LATER, Then.LATER),
    (99, LOST, End.TIME, Then.LATER, Then.LATER, Then.LATER),
    (99, ASKED, End.STOPPED, 99, 0, 0),  # by 99 Grid Engine would run the job again
    (75, {}, End.BROKE, Then.AGAIN, Then.AGAIN, Then.AGAIN),
    (75, AWAY, End.BROKE, Then.AGAIN, Then.AGAIN, Then.AGAIN),
    (75, LOST, End.LOST, Then.AGAIN, Then.WITHOUT, Then.WITHOUT),
    (75, LOST | AWAY, End.CUT_OFF, Then.AGAIN, Then.STAND_DOWN, Then.STAND_DOWN),
    (75, NO_SLOTS, End.NO_SLOTS, Then.AGAIN, Then.AGAIN, Then.GIVE_UP),
    (75, NO_SLOTS | AWAY, End.NO_SLOTS, Then.AGAIN, Then.AGAIN, Then.GIVE_UP),
    (75, LOST | AWAY | ASKED, End.STOPPED, 1, 1, 1),
    (137, {}, End.KILLED, Then.AGAIN, Then.AGAIN, Then.AGAIN),
    (137, LOST, End.KILLED, Then.AGAIN, Then.AGAIN, Then.AGAIN),
    (137, ASKED, End.STOPPED, 1, 1, 1),
    (143, {}, End.KILLED, Then.AGAIN, Then.AGAIN, Then.AGAIN),
    (100, {}, End.KILLED, Then.AGAIN, Then.AGAIN, Then.AGAIN),
    (130, ASKED, End.STOPPED, 99, 0, 0),
    (143, ASKED, End.STOPPED, 99, 0, 0),  # it had not begun to train
]


@pytest.mark.parametrize(("ended_with", "known", "ended", "machine", "pe", "array"), ROWS)
def test_what_follows(ended_with, known, ended, machine, pe, array):
    assert end(Facts(ended_with, **known)) is ended
    for way, follows in zip(WAYS, (machine, pe, array), strict=True):
        if isinstance(follows, Then):
            assert then(ended, way) is then(ended, way, SHORT_SECONDS + 1) is follows, way
        else:
            for left in (None, 1000, 0):
                assert then(ended, way, left) is Then.EXIT, way
            assert status(ended, way, ended_with) == follows, way


def test_every_end_and_every_way_has_a_row():
    assert {row[2] for row in ROWS} == set(End) == set(FOLLOWS)
    assert all(set(follows) == set(WAYS) for follows in FOLLOWS.values())


@pytest.mark.parametrize("way", WAYS)
def test_too_little_time_for_another_attempt_is_left_to_later(way):
    for ended, left in itertools.product(End, (SHORT_SECONDS, 0.5, -3)):
        follows = then(ended, way)
        expected = Then.LATER if follows in (Then.AGAIN, Then.WITHOUT) else follows
        assert then(ended, way, left) is expected, (ended, left)


def test_a_run_that_was_stopped_never_continues_by_itself():
    for ended_with, lost, reachable in itertools.product((1, 2, 75, 99, 130, 137, 143), ((), ("a",), ("*",)), (0, 1)):
        ended = end(Facts(ended_with, True, lost, bool(reachable)))
        assert ended is End.STOPPED
        for way in (PE, ARRAY):
            assert then(ended, way, 0) is Then.EXIT and status(ended, way, ended_with) in (0, 1)


def test_giving_up_in_a_job_holds_the_jobs_that_wait_for_it():
    assert [status(End.BROKE, way, 75) for way in WAYS] == [1, 100, 100]
