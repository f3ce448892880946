"""What every command shares: its arguments, its messages, its exit status, its signals and its progress."""

import atexit
import contextlib
import errno
import math
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TextIO, TypeVar

from docopt import DocoptExit, docopt

DONE, FAILED, USAGE, RUN_ME_AGAIN, INTERRUPTED = 0, 1, 2, 99, 128 + signal.SIGINT
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOG_SECONDS = 20  # between two lines of progress where stderr is no terminal

Item = TypeVar("Item")


class Failure(Exception):
    """What went wrong, in one line a user can act on: the file, the reason, the way out."""


class UsageError(Failure):
    """The command was called wrongly."""


def run(main: Callable[[dict], int | None], usage: str, options_first: bool = False) -> NoReturn:
    """Parse the command line by its help text `usage`, call `main(arguments)` and exit with its status.

    With `options_first` what follows the first other word is left as it is: the command line of another command.
    Failures end in one line on stderr and status 1 (2 for wrong usage). A closed pipe ends the command quietly with
    status 0. Signals unwind, so that whatever is half-written is removed: SIGTERM ends in status 143; SIGHUP, when the
    terminal is closed, in 129 (nohup keeps it ignored); after Ctrl-C the command dies by SIGINT, as shells expect.
    """
    signals: list[int] = []  # those that came

    def end(number: int, frame: object) -> NoReturn:
        signals.append(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
    fatal: list[int] = []  # the signal to die by
    atexit.register(_die, fatal)  # the first to be registered runs last, when everything has been cleaned up
    try:
        status = main(docopt(usage, version=_Version(), options_first=options_first)) or DONE
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
        signals.insert(0, signal.SIGINT)
        status = INTERRUPTED
    except BrokenPipeError:
        status = DONE
    except Exception as error:
        if signals:
            status = 128 + signals[0]  # the import of a large package may turn a SystemExit into any other error
        elif isinstance(error, OSError):
            say(reason(error))
            status = FAILED
        else:
            raise
    if status == INTERRUPTED and signal.SIGINT in signals:
        say("interrupted")
        fatal.append(signal.SIGINT)
    _flush_stdout()
    sys.exit(status)


class _Version:
    """What --version prints; looked up only then, as it takes a while."""

    def __str__(self) -> str:
        from importlib.metadata import version

        return f"{name()} (depthfield) {version('depthfield')}"


def _die(fatal: list[int]) -> None:
    """End this process by the signal in `fatal`, if any: a shell ends its loop only when a command died of Ctrl-C."""
    for number in fatal:
        _flush_stdout()
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])  # `parallel` may have been interrupted while it blocked it
        os.kill(os.getpid(), number)


def _flush_stdout() -> None:
    """Write what is left to write. Where nobody can read it, leave nothing over that Python would complain about."""
    try:
        sys.stdout.flush()
    except OSError:
        _silence(sys.stdout)


def _silence(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def name() -> str:
    """The name this command was called by; that of the project in a program without one."""
    called = Path(sys.argv[0]).name
    return "depthfield" if called in ("", "-c", "ipykernel_launcher.py") else called


def say(message: object) -> None:
    """One line to the person, on stderr, under the command's name."""
    _line(f"{name()}: {message}", sys.stderr)


def reason(error: OSError) -> str:
    """An operating system error in the words of a Unix tool: `FILE: No space left on device`."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def some(items: Sequence[object], most: int) -> str:
    """The first `most` of items, and how many more there are, for a person: `a, b and 3 more`."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more


def emit(path: object) -> None:
    """One path to whoever reads our stdout, at once: the next command of a pipe may start on it."""
    _line(path, sys.stdout)


def _line(text: object, stream: TextIO) -> None:
    """Write one line at once. Nobody reads a terminal that was closed, and what is to be saved then matters more."""
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        if error.errno != errno.EIO or not stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
            raise
        _silence(stream)


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
    begun = logged = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - logged >= LOG_SECONDS:
            logged, rate = now, count / (now - begun)
            left = f" of {total} {unit}, {rate:.3g}/s, {(total - count) / rate:.0f} s left" if total else f" {unit}"
            say(f"{count}{left}")


def parallel(function: Callable[[Item], object], items: Iterable[Item], jobs: int) -> Iterator:
    """`function` of each item, in order, computed by `jobs` processes (this one alone where it is 1).

    Whatever ends the caller, an exception or a signal, ends the processes at once.
    """
    if jobs == 1:
        yield from map(function, items)
        return
    import multiprocessing

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # no process must run our handlers until it is deaf
    pool = multiprocessing.get_context("fork").Pool(jobs, initializer=deaf)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield from pool.imap(function, items)
    finally:
        pool.terminate()
        pool.join()


def deaf() -> None:
    """Leave Ctrl-C and a closed terminal to the parent of this process, which ends it, and SIGTERM to the system."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


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
