"""What follows the end of an attempt: one table, by how it ended and by the way into the cluster."""

import enum
from typing import NamedTuple

from depthfield import tool

BROKEN = 75  # EX_TEMPFAIL of sysexits.h: what watch-nodes ends with when the cluster broke
GOES_ON = 75  # what a job ends with that goes on in a copy of itself
HELD = 100  # puts a job into Grid Engine's error state, and holds what waits for it
SHORT_SECONDS = 20  # left until the time limit: too few for another attempt

MACHINE, PE, ARRAY = "machine", "pe", "array"  # the ways into a cluster


class End(enum.Enum):
    """How an attempt ended."""

    DONE = "trained to the last step"
    FAILED = "train-depth failed, another attempt would too"
    WRONG = "wrong usage"
    STOPPED = "stopped as asked, with everything saved"
    TIME = "the time limit is near, everything is saved"
    BROKE = "the cluster broke on hosts that are still there"
    LOST = "hosts are lost"
    NO_SLOTS = "the grid gave no slots for some nodes in time"
    CUT_OFF = "other hosts are lost, and so is the qmaster: this host is cut off"
    KILLED = "train-depth was killed"


class Then(enum.Enum):
    """What follows."""

    EXIT = "end with the status of the attempt"
    GIVE_UP = "end: another attempt would not help"
    AGAIN = "another attempt"
    WITHOUT = "another attempt without the lost hosts"
    LATER = "end, and go on later: see Way.go_on"
    STAND_DOWN = "leave it to the hosts that reach the qmaster; if none does, go on when it answers again"


# How it ended      this machine     a parallel environment   array jobs
FOLLOWS = {
    End.DONE:     {MACHINE: Then.EXIT,  PE: Then.EXIT,       ARRAY: Then.EXIT},
    End.FAILED:   {MACHINE: Then.EXIT,  PE: Then.EXIT,       ARRAY: Then.EXIT},
    End.WRONG:    {MACHINE: Then.EXIT,  PE: Then.EXIT,       ARRAY: Then.EXIT},
    End.STOPPED:  {MACHINE: Then.EXIT,  PE: Then.EXIT,       ARRAY: Then.EXIT},
    End.TIME:     {MACHINE: Then.LATER, PE: Then.LATER,      ARRAY: Then.LATER},
    End.BROKE:    {MACHINE: Then.AGAIN, PE: Then.AGAIN,      ARRAY: Then.AGAIN},
    End.LOST:     {MACHINE: Then.AGAIN, PE: Then.WITHOUT,    ARRAY: Then.WITHOUT},
    End.NO_SLOTS: {MACHINE: Then.AGAIN, PE: Then.AGAIN,      ARRAY: Then.GIVE_UP},
    End.CUT_OFF:  {MACHINE: Then.AGAIN, PE: Then.STAND_DOWN, ARRAY: Then.STAND_DOWN},
    End.KILLED:   {MACHINE: Then.AGAIN, PE: Then.AGAIN,      ARRAY: Then.AGAIN},
}  # fmt: skip


class Facts(NamedTuple):
    """What is known of an attempt that has ended."""

    status: int  # of watch-nodes
    asked: bool = False  # by a signal or the stop file to end
    lost: tuple[str, ...] = ()  # hosts that the watcher names; * is a node that never got one
    reachable: bool = True  # the qmaster answers


def end(facts: Facts) -> End:
    """How an attempt ended."""
    match facts.status:
        case tool.DONE:
            return End.DONE
        case _ if facts.asked:
            return End.STOPPED
        case tool.FAILED:
            return End.FAILED
        case tool.USAGE:
            return End.WRONG
        case tool.RUN_ME_AGAIN:
            return End.TIME
        case status if status != BROKEN:
            return End.KILLED
    if "*" in facts.lost:
        return End.NO_SLOTS
    if not facts.lost:
        return End.BROKE
    return End.LOST if facts.reachable else End.CUT_OFF


def then(ended: End, way: str, seconds_left: float | None = None) -> Then:
    """What follows; `seconds_left` until the time limit, None for no limit."""
    follows = FOLLOWS[ended][way]
    if follows in (Then.AGAIN, Then.WITHOUT) and seconds_left is not None and seconds_left <= SHORT_SECONDS:
        return Then.LATER
    return follows


def status(ended: End, way: str, status: int) -> int:
    """The exit status of a job or command that ends after such an attempt, and does not go on."""
    if ended is End.STOPPED:  # 99 would make Grid Engine run the job again
        return tool.RUN_ME_AGAIN if status == tool.RUN_ME_AGAIN and way == MACHINE else tool.FAILED
    return status if ended in (End.DONE, End.FAILED, End.WRONG) else gave_up(way)


def gave_up(way: str) -> int:
    """The exit status when further attempts are of no use: what waits for a job must not begin."""
    return tool.FAILED if way == MACHINE else HELD
