"""What every command shares: its arguments, its messages, its exit status, its signals and its progress."""

import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

from docopt import DocoptExit, docopt

DONE, FAILED, USAGE, RUN_ME_AGAIN = 0, 1, 2, 99
LOG_SECONDS = 20  # between two lines of progress where stderr is no terminal

Item = TypeVar("Item")


class Failure(Exception):
    """What went wrong, in one line a user can act on: the file, the reason, the way out."""


class UsageError(Failure):
    """The command was called wrongly."""


def run(main: Callable[[dict], int | None], usage: str, options_first: bool = False) -> NoReturn:
    """Parse the command line by its help text `usage`, call `main(arguments)` and exit with its status.

    With `options_first` what follows the first other word is left as it is: the command line of another command.
    Failures end in one line on stderr and status 1 (2 for wrong usage). SIGTERM unwinds like Ctrl-C, so that
    whatever is half-written is removed; a closed pipe ends the command quietly with status 0.
    """
    told = []  # the signal that ended us

    def end(number: int, frame: object) -> NoReturn:
        told.append(number)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        status = main(docopt(usage, options_first=options_first)) or DONE
        sys.stdout.flush()
    except DocoptExit as wrong:
        left = " ".join(str(pattern.name or pattern.value) for pattern in wrong.left)
        say(
            (f"cannot make sense of {left}; " if left else "arguments are missing or do not go together; ")
            + "see --help"
        )
        print(wrong.usage.strip(), file=sys.stderr)
        status = USAGE
    except UsageError as failure:
        say(failure)
        status = USAGE
    except Failure as failure:
        say(failure)
        status = FAILED
    except KeyboardInterrupt:
        say("interrupted")
        status = 128 + signal.SIGINT
    except BrokenPipeError:
        status = DONE
    except OSError as error:
        say(reason(error))
        status = FAILED
    except Exception:
        if not told:
            raise
        status = 128 + told[0]  # the import of a large package may turn a SystemExit into any other error
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read us has gone; Python would complain about it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def name() -> str:
    """The name this command was called by."""
    return Path(sys.argv[0]).name


def say(message: object) -> None:
    """One line to the person, on stderr, under the command's name."""
    print(f"{name()}: {message}", file=sys.stderr, flush=True)


def reason(error: OSError) -> str:
    """An operating system error in the words of a Unix tool: `FILE: No space left on device`."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def emit(path: object) -> None:
    """One path to whoever reads our stdout, at once: the next command of a pipe may start on it."""
    print(path, flush=True)


def paths(arguments: list[str]) -> Iterator[Path]:
    """The paths given as arguments, or, where there are none, one a line on stdin."""
    if not arguments and sys.stdin.isatty():
        raise UsageError("no files given: name them, or send their paths on stdin, one a line (see --help)")
    for line in arguments or sys.stdin:
        if line.strip():
            yield Path(line.rstrip("\n"))


def number(arguments: dict, option: str, kind: Callable[[str], Item] = int, least: float | None = None) -> Item | None:
    """The value of a numeric option, None where it was not given; a UsageError where it is no such number."""
    text = arguments[option]
    if text is None:
        return None
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not math.isfinite(value) or (least is not None and value < least):
        wanted = "a whole number" if kind is int else "a number"
        bound = "" if least is None else f" of at least {least}"
        raise UsageError(f"{option} takes {wanted}{bound}, not {text!r}")
    return value


def choice(arguments: dict, option: str, known: Iterable[str]) -> str:
    """The value of an option that is one of several words; a UsageError where it is another."""
    if arguments[option] not in known:
        raise UsageError(f"{option} is one of {', '.join(known)}, not {arguments[option]!r}")
    return arguments[option]


def progress(items: Iterable[Item], total: int | None, unit: str) -> Iterator[Item]:
    """Pass `items` on while telling how far we are: a bar on a terminal, a line now and then in a log."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, unit=f" {unit}", desc=name(), dynamic_ncols=True, leave=False)
        return
    begun = told = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - told >= LOG_SECONDS:
            told, rate = now, count / (now - begun)
            left = f" of {total} {unit}, {rate:.3g}/s, {(total - count) / rate:.0f} s left" if total else f" {unit}"
            say(f"{count}{left}")


def spread(function: Callable[[Item], object], items: Iterable[Item], jobs: int) -> Iterator:
    """`function` of each item, in order, computed by `jobs` processes (this one alone where it is 1).

    Whatever ends the caller, an exception or a signal, ends the processes at once.
    """
    if jobs == 1:
        yield from map(function, items)
        return
    import multiprocessing

    pool = multiprocessing.get_context("fork").Pool(jobs, initializer=deaf)
    try:
        yield from pool.imap(function, items)
    finally:
        pool.terminate()
        pool.join()


def deaf() -> None:
    """Leave Ctrl-C to the parent of this process, which ends it, and SIGTERM to the system."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Discard what is written to stderr meanwhile: TensorFlow logs at import whatever it is told."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
