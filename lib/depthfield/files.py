"""Files that appear whole or not at all, locks, checksums, and checks for current outputs."""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from depthfield.tool import Failure, reason, some

CHUNK = 1 << 20  # bytes that are read at once


def check_run(run: Path) -> None:
    """Raise Failure if `run` is not the folder of a run; the message names the runs beside it."""
    if is_run(run):
        return
    beside = sorted(path for path in run.parent.glob("*") if is_run(path))
    here = f"; runs here: {some(beside, 5)}" if beside else ""
    raise Failure(f"{run}: no such run{here}")


def is_run(folder: Path) -> bool:
    """Whether this is the folder of a run, trained or only submitted."""
    return (folder / "recipe.toml").is_file() or (folder / "nodes").is_dir()


def check_writable(path: Path) -> None:
    """Check that `whole` can write `path`, before hours of work go into its content; creates its folder.

    Raises Failure if `path` is a folder or a device, or nothing can be written beside it.
    """
    if path.exists() and not path.is_file():
        raise Failure(f"{path}: {'a folder' if path.is_dir() else 'not a regular file'}; name a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise Failure(f"{path}: cannot be written ({reason(error)})") from None


@contextlib.contextmanager
def whole(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds, remove it when it fails.

    The temporary name begins with a dot and keeps the suffix, so that a listing of the folder does not show it
    as a result. With `mode`, such as 0o600, the file has exactly these permissions from the start, whatever the umask.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{_unique()}{path.suffix}")
    try:
        if mode is not None:
            create(temporary, mode)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same for a folder; an existing one is replaced when the new one is complete.

    If an earlier call was killed at that moment, the old folder is restored first.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in sorted(path.parent.glob(f".{glob.escape(path.name)}.*.old"), key=lambda left: left.stat().st_mtime):
        bring_back(left, path)
    unique = _unique()
    temporary, old = (path.with_name(f".{path.name}.{unique}.{which}") for which in ("new", "old"))
    try:
        yield temporary
        for written in temporary.rglob("*"):
            if written.is_file():
                with written.open("rb") as file:
                    os.fsync(file.fileno())
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    finally:
        bring_back(old, path)
        for rest in (temporary, old):
            shutil.rmtree(rest, ignore_errors=True)


def bring_back(old: Path, path: Path) -> None:
    """Restore `path` from `old`, its only copy, if a replacement was interrupted half-way."""
    if old.exists() and not path.exists():
        old.rename(path)


def _unique() -> str:
    """Return a part of a file name that no other process uses, on any host that shares the disk."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def create(path: Path, mode: int) -> None:
    """Create the empty file `path` with exactly the permissions `mode`; raises FileExistsError if it exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.fchmod(descriptor, mode)  # restore what the umask removed
    finally:
        os.close(descriptor)


def sweep(*folders: Path) -> None:
    """Remove temporary files of killed processes; call it only with the lock of all processes that write there."""
    for folder in folders:
        for temporary in folder.glob(".*.*"):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, mode: int | None = None) -> None:
    """Write `text` to `path`, whole or not at all, with the permissions `mode` where given."""
    with whole(path, mode) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object, mode: int | None = None) -> None:
    """Write `value` as JSON to `path`, whole or not at all, with the permissions `mode` where given."""
    write_text(path, json.dumps(value, indent=1) + "\n", mode)


def is_current(output: Path, inputs: Iterable[Path]) -> bool:
    """Whether `output` exists and is not older than any of `inputs`."""
    try:
        made = output.stat().st_mtime_ns
    except FileNotFoundError:
        return False
    return all(Path(path).stat().st_mtime_ns <= made for path in inputs)


def sha256(path: Path, advance: Callable[[int], object] = lambda count: None) -> str:
    """Return the SHA-256 of a file in hexadecimal; calls `advance` with the number of bytes of each read."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


@contextlib.contextmanager
def lock(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold an advisory lock on the file `path`; if it is taken, wait, or raise BlockingIOError without `wait`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def server_time(folder: Path) -> float:
    """Return the time, in seconds since the epoch, by the clock that stamps the files of `folder`.

    Hosts that share a disk have different clocks, and only times of one clock can be compared. This also makes NFS ask
    the server for the content of the folder.
    """
    probe = folder / f".time-{_unique()}"  # a single dot: `sweep` skips it
    try:
        create(probe, 0o600)
        os.utime(probe)  # a file system may stamp a new file with the host's clock
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def age(path: Path) -> float | None:
    """Return how many seconds ago a file was written, by the clock of its disk; None if it is missing."""
    try:
        written = path.stat().st_mtime
        return max(server_time(path.parent) - written, 0)
    except FileNotFoundError:
        return None
