"""What follows the end of an attempt: a table, by how it ended and how its nodes were started."""

import enum
import signal
from typing import NamedTuple

from depthfield import tool

BROKEN = 75  # exit status of watch-nodes when the cluster breaks: EX_TEMPFAIL of sysexits.h
GOES_ON = 75  # exit status of a job that continues in a copy of itself
HELD = 100  # exit status that puts a job into Grid Engine's error state and holds the jobs that wait for it
SAVED = (tool.RUN_ME_AGAIN, 128 + signal.SIGTERM, tool.INTERRUPTED)  # of train-depth if asked to end, or not yet begun
SHORT_SECONDS = 20  # before the time limit: too short for another attempt

MACHINE, PE, ARRAY = "machine", "pe", "array"  # how nodes are started, see ways.py


class End(enum.Enum):
    """How an attempt ended."""

    DONE = "trained to the last step"
    FAILED = "train-depth failed, and another attempt would too"
    WRONG = "wrong usage"
    STOPPED = "stopped as asked, with everything saved"
    TIME = "stopped before the time limit, with everything saved"
    BROKE = "the cluster broke, but no host is lost"
    LOST = "hosts are lost"
    NO_SLOTS = "the grid gave no slots for some nodes in time"
    CUT_OFF = "other hosts and the qmaster do not answer: this host is cut off"
    KILLED = "train-depth was killed"


class Then(enum.Enum):
    """What follows."""

    EXIT = "end with the status of the attempt"
    GIVE_UP = "end, because another attempt would not help"
    AGAIN = "another attempt"
    WITHOUT = "another attempt without the lost hosts"
    LATER = "end, and continue later: see Way.go_on"
    STAND_DOWN = "leave it to hosts that reach the qmaster; if none does, continue when it answers again"


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
    """What is known about an attempt that has ended."""

    status: int  # exit status of watch-nodes
    asked: bool = False  # asked to end by a signal or the stop file
    lost: tuple[str, ...] = ()  # hosts that the watcher names; * for a node that never got a host
    reachable: bool = True  # whether the qmaster answers


def end(facts: Facts) -> End:
    """Return how an attempt ended."""
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
    """Return what follows; `seconds_left` is the time until the limit, None for no limit."""
    follows = FOLLOWS[ended][way]
    if follows in (Then.AGAIN, Then.WITHOUT) and seconds_left is not None and seconds_left <= SHORT_SECONDS:
        return Then.LATER
    return follows


def status(ended: End, way: str, status: int) -> int:
    """Return the exit status of a job or command that ends after such an attempt and does not continue."""
    if ended is End.STOPPED:
        done = tool.RUN_ME_AGAIN if way == MACHINE else tool.DONE  # by 99 Grid Engine would run the job again
        return done if status in SAVED else tool.FAILED
    return status if ended in (End.DONE, End.FAILED, End.WRONG) else gave_up(way)


def gave_up(way: str) -> int:
    """Return the exit status for giving up: jobs that wait for this one must not start."""
    return tool.FAILED if way == MACHINE else HELD
