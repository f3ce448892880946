"""Shared by all commands: arguments, messages, exit status, signals and progress."""

import atexit
import contextlib
import errno
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, Self, TextIO, TypeVar

from docopt import DocoptExit, docopt

from depthfield import terminal

DONE, FAILED, USAGE, RUN_ME_AGAIN, INTERRUPTED = 0, 1, 2, 99, 128 + signal.SIGINT
NO_MEMORY = 71  # of a node or a chief that its own limit of memory ends: EX_OSERR of sysexits.h
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOG_SECONDS = 20  # between two lines of progress where stderr is no terminal
SHOW_SECONDS = 0.1  # between two rewritings of the line on a terminal
ENOUGH = 4  # GiB of addresses for a node of a small recipe: TensorFlow maps 3.5, most of it never used
UNMAPPED = ("failed to map segment", "cannot allocate memory", "can't start new thread")  # in errors without memory
LEVEL = "DEPTHFIELD_MESSAGES"  # of the environment, so that commands started by this one show as much

line = terminal.Line()
aloud: list[TextIO] = []  # where messages go while stderr is hushed
Item = TypeVar("Item")


class Failure(Exception):
    """An error for the user, in one line: where, what is wrong, and what to do."""


class UsageError(Failure):
    """An error in how the command was called."""


def run(
    main: Callable[[dict], int | None], usage: str, options_first: bool = False, no_memory: int = FAILED
) -> NoReturn:
    """Parse the command line by its help text `usage`, call `main(arguments)` and exit with its status.

    With `options_first`, the words after the first argument are not parsed: they are the command line of another
    command. A Failure ends in one line on stderr and status 1 (2 for wrong usage), too little memory for the limit of
    this process in one line and the status `no_memory`. A closed pipe ends the command
    quietly with status 0. Signals unwind, so that partly written files are removed: SIGTERM ends with status 143,
    SIGHUP from a closed terminal with 129 (nohup keeps it ignored), and Ctrl-C by SIGINT, as shells expect.
    """
    signals: list[int] = []  # the received ones

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
    atexit.register(_die, fatal)  # registered first, so that it runs last, after all cleanup
    try:
        arguments = docopt(usage, version=_Version(), options_first=options_first)
        _heed(arguments)
        status = main(arguments) or DONE
        sys.stdout.flush()
    except DocoptExit as wrong:
        say(f"{_wrong(wrong)}; see --help")
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
            status = 128 + signals[0]  # importing a large package may turn a SystemExit into any other error
        elif (limit := memory_limit()) and lacks_memory(error):
            say(needs_memory(limit))
            status = no_memory
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


def _wrong(wrong: DocoptExit) -> str:
    """What is wrong with a command line, in words: docopt tells it in the line before its usage."""
    option, _, what = str(wrong).partition("\n")[0].partition(" ")
    if what == "requires argument":
        return f"{option} needs a value"
    if what == "must not have an argument":
        return f"{option} takes no value"
    left = " ".join(str(pattern.name or pattern.value) for pattern in wrong.left)
    return f"unexpected {left}" if left else "arguments are missing or cannot be combined"


def memory_limit() -> int | None:
    """Return how many bytes of addresses this process may map, None for no limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def lacks_memory(error: BaseException) -> bool:
    """Whether this is an error of a process that may not map more memory."""
    refused = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    return refused or any(sign in str(error) for sign in UNMAPPED)


def needs_memory(limit: int) -> str:
    """Say that `limit` bytes of addresses are too few, and how many to ask for."""
    given, enough = f"{limit // 2**20}M", f"{max(ENOUGH, math.ceil(2 * limit / 2**30))}G"
    if os.environ.get("JOB_ID"):
        return (
            "TensorFlow needs more memory than this job may map "
            f"({given} on this host, by h_vmem): ask for {enough} or more per slot"
        )
    return f"TensorFlow needs more memory than this process may map ({given}, by ulimit -v): allow {enough} or more"


def _heed(arguments: dict) -> None:
    """Take --quiet or --verbose, for this command and those it starts."""
    given = [level for level in ("quiet", "verbose") if arguments.get(f"--{level}")]
    if len(given) > 1:
        raise UsageError("--quiet and --verbose do not go together")
    for level in given:
        os.environ[LEVEL] = level


class _Version:
    """The output of --version, computed only when needed, because it takes time."""

    def __str__(self) -> str:
        from importlib.metadata import version

        return f"{name()} (depthfield) {version('depthfield')}"


def _die(fatal: list[int]) -> None:
    """End this process by the signal in `fatal`, if any: a shell ends its loop only if a command dies by SIGINT."""
    for number in fatal:
        _flush_stdout()
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])  # `parallel` may have blocked it
        os.kill(os.getpid(), number)


def _flush_stdout() -> None:
    """Flush stdout; if it has no reader, discard the rest, so that Python does not complain at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        terminal.silence(sys.stdout)


def name() -> str:
    """Return the name by which this command was called, or the project's in a program without one."""
    called = Path(sys.argv[0]).name
    return "depthfield" if called in ("", "-c", "ipykernel_launcher.py") else called


def say(message: object) -> None:
    """Write one line for people to stderr, after the command's name: an error, or a warning that matters."""
    line.erase(always=True)
    terminal.write(f"{name()}: {message}\n", aloud[-1] if aloud else sys.stderr)


def inform(message: object) -> None:
    """The same for information; not with --quiet."""
    if not quiet():
        say(message)


def detail(message: object) -> None:
    """The same for details; only with --verbose."""
    if os.environ.get(LEVEL) == "verbose":
        say(message)


def quiet() -> bool:
    return os.environ.get(LEVEL) == "quiet"


def reason(error: OSError) -> str:
    """Format an operating system error like a Unix tool: `FILE: No space left on device`."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def some(items: Sequence[object], most: int) -> str:
    """List the first `most` items and the number of others: `a, b and 3 more`."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more


def emit(path: object) -> None:
    """Write one path to stdout at once, so that the next command of a pipe can start on it."""
    if sys.stdout.isatty():
        line.erase()
    terminal.write(f"{path}\n", sys.stdout)


def paths(arguments: list[str]) -> Iterator[Path]:
    """Yield the paths given as arguments or, if there are none, one per line on stdin."""
    if not arguments and sys.stdin.isatty():
        raise UsageError("no files given; name them, or send their paths on stdin, one per line (see --help)")
    for line in arguments or sys.stdin:
        if line.strip():
            yield Path(line.rstrip("\n"))


def number(arguments: dict, option: str, kind: Callable[[str], Item] = int, least: float | None = None) -> Item | None:
    """Return the value of a numeric option, None if not given; raises UsageError if it is not such a number."""
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
    """Return the value of an option with a fixed set of values; raises UsageError for any other."""
    if arguments[option] not in known:
        raise UsageError(f"{option} is one of {', '.join(known)}, not {arguments[option]!r}")
    return arguments[option]


def show(*parts: str) -> None:
    """Show what this command is at, in place on a terminal, until the next message; the last parts where they fit.

    Only the main thread does: there is one line, for what it does.
    """
    if not quiet() and threading.current_thread() is threading.main_thread() and line.there():
        line.show([f"{name()}: {parts[0]}", *parts[1:]])


@contextlib.contextmanager
def showing(what: str) -> Iterator[None]:
    """Show what this command is at while the block runs."""
    show(what)
    try:
        yield
    finally:
        line.erase()


class Meter:
    """How far a command is, with rate and time left: in place on a terminal, a line now and then in a log.

    It counts `unit` up to `total`, where that is known, from `done`; `words` puts an amount into words.
    """

    def __init__(
        self,
        unit: str,
        total: float | None,
        done: float = 0,
        words: Callable[[float], str] | None = None,
        what: str = "",
    ):
        self.unit, self.total, self.done, self.words, self.what = unit, total, done, words, what
        self.rate = terminal.Rate(done)
        self.silent = quiet() or threading.current_thread() is not threading.main_thread()
        self.shown, self.logged = -SHOW_SECONDS, time.monotonic()
        self.tell()

    def advance(self, amount: float = 1) -> None:
        """So much more is done."""
        self.done += amount
        self.rate.note(self.done)
        self.tell()

    def tell(self) -> None:
        """Say how far it is, where it is time to."""
        now = time.monotonic()
        if self.silent or now - (self.shown if line.shown else -SHOW_SECONDS) < SHOW_SECONDS:
            return
        if line.there():
            self.shown = now
            show(*self.parts())
        elif now - self.logged >= LOG_SECONDS:
            self.logged = now
            say(", ".join(self.parts()))

    def parts(self) -> list[str]:
        """How far it is, in words: how much, how fast, and how much longer."""
        rate, count = self.rate.per_second(), self.words or str
        whole = ("of", count(self.total), self.unit, f"({self.done / self.total:.0%})") if self.total else (self.unit,)
        parts = [" ".join(filter(None, (self.what, count(self.done), *whole)))]
        if rate:
            parts.append(f"{self.words(rate) if self.words else format(rate, '.3g' if rate < 1000 else '.0f')}/s")
        if rate and self.total:
            parts.append(f"{terminal.duration(max(self.total - self.done, 0) / rate)} left")
        return parts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        line.erase()


def progress(items: Iterable[Item], total: int | None, unit: str) -> Iterator[Item]:
    """Pass `items` on while telling how far we are (see Meter)."""
    with Meter(unit, total) as meter:
        for item in items:
            yield item
            meter.advance()


def parallel(function: Callable[[Item], object], items: Iterable[Item], jobs: int) -> Iterator:
    """Yield `function` of each item, in order, computed by `jobs` processes (only this one if 1).

    If an exception or a signal ends the caller, the processes end at once.
    """
    if jobs == 1:
        yield from map(function, items)
        return
    import multiprocessing

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # no process may run our handlers before `deaf`
    pool = multiprocessing.get_context("fork").Pool(jobs, initializer=deaf)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield from pool.imap(function, items)
    finally:
        pool.terminate()
        pool.join()


def deaf() -> None:
    """Ignore Ctrl-C and a closed terminal, which the parent handles, and restore the default of SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def cores() -> int:
    """Return the number of cores that this process may use."""
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return os.cpu_count() or 1
    return len(os.sched_getaffinity(0))


def need_linux(why: str) -> None:
    """Raise Failure on any other system; `why` completes "this needs Linux: ..."."""
    if sys.platform != "linux":
        raise Failure(f"this needs Linux: {why}")


@contextlib.contextmanager
def hushed(what: str = "loading TensorFlow") -> Iterator[None]:
    """Discard stderr in this context, but for messages of `say`; meanwhile show `what`.

    TensorFlow logs at import, whatever its settings.
    """
    show(what)
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    aloud.append(os.fdopen(os.dup(kept), "w"))
    try:
        yield
    finally:
        aloud.pop().close()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        line.erase()
