"""The lease of a run: RUN/lease, a file that its holder renews, so that the run of a vanished host can be taken over.

The lock RUN/lock is not enough: NFS keeps the lock of a vanished host until it boots again, and some file systems have
no locks. Ages use the file server's clock, which stamps both the lease and the file it is compared with.
"""

import contextlib
import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

from depthfield import files
from depthfield.tool import Failure, say

RENEW_SECONDS = 5
LAPSE_SECONDS = 30  # after which a lease that was not renewed is free
LOOK_SECONDS = 0.5

FREE, LAPSED, HELD, UNCERTAIN = "free", "lapsed", "held", "uncertain"


class Holder(NamedTuple):
    """The process that holds a lease."""

    host: str
    machine: str  # the system to which the process id belongs; see _machine
    pid: int
    start: int  # in clock ticks since boot, because process ids are reused
    id: str  # id of this lease, 16 hexadecimal digits

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


NOBODY = Holder("an unknown host", "", 0, 0, "unreadable")  # of a damaged or unfinished lease


class Sight(NamedTuple):
    """A lease as it was read: its holder, when it was renewed (the file server's time) and its age, both in seconds."""

    holder: Holder
    renewed: float
    age: float


class Lease:
    """The lease of a run, held by this process. Leaving the context releases it."""

    def __init__(self, run: Path, holder: Holder, lock: contextlib.ExitStack):
        self.run, self.path, self.holder, self._lock = run, run / "lease", holder, lock
        self._over = threading.Event()
        self._renewal = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._renewal.start()

    def held(self) -> bool:
        """Whether the run is still ours according to the file; if so, renew it. Raises OSError if the disk fails."""
        files.server_time(self.run)  # writing to the folder also makes NFS look up the name again
        return self._renew()

    def check(self) -> None:
        """Raise Failure, naming the new holder, if the run is no longer ours."""
        if not self.held():
            sight = look(self.path)
            raise Failure(
                f"{self.run}: {sight.holder if sight else 'another train-depth'} took over this run while this process "
                "was suspended or cut off; this process ends without writing more"
            )

    def _renew(self) -> bool:
        found = _read(self.path, renew=self.holder.id)
        return found is not None and found[0].id == self.holder.id

    def _keep(self) -> None:
        ours = True
        while ours and not self._over.wait(RENEW_SECONDS):
            with contextlib.suppress(OSError):  # the disk may not answer for a while
                ours = self._renew()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._lock, contextlib.suppress(OSError):
            if self.held():
                self.path.unlink()


def take(run: Path, give_up: Callable[[], object] = lambda: None) -> Lease | None:
    """Take the lease of the folder `run`; returns None if `give_up()` becomes true while the holder is uncertain.

    Takes over, with a line on stderr, a lease that another host has not renewed for LAPSE_SECONDS. Raises Failure
    naming the holder if the run is in use. Also takes the lock RUN/lock if possible, but does not depend on it.
    """
    watch = _Watch(run / "lease")
    mine = Holder(socket.gethostname(), _machine(), os.getpid(), _start(os.getpid()), secrets.token_hex(8))
    with contextlib.ExitStack() as lock:
        with contextlib.suppress(OSError):  # a vanished host holds it, or the file system has no locks
            lock.enter_context(files.lock(run / "lock", wait=False))
        while not give_up():
            state, sight = watch.look()
            if state == HELD:
                raise _taken(run, sight)
            if state == FREE and _create(mine, watch.path):
                break
            if state == LAPSED and _succeed(sight.holder, mine, watch.path):
                if sight.holder.machine != mine.machine:
                    say(f"{run}: taken over from {sight.holder}, silent for {max(sight.age, LAPSE_SECONDS):.0f} s")
                break
            time.sleep(LOOK_SECONDS if state == UNCERTAIN else LOOK_SECONDS / 10)
        else:
            return None
        _sweep(run)
        return Lease(run, mine, lock.pop_all())


def wait(run: Path, seconds: float) -> None:
    """Wait until no living process holds the run; after `seconds`, raises Failure naming the holder."""
    end, watch = time.monotonic() + seconds, _Watch(run / "lease")
    while run.exists():
        state, sight = watch.look()
        if state in (FREE, LAPSED):
            return
        if time.monotonic() >= end:
            raise _taken(run, sight)
        time.sleep(LOOK_SECONDS)


def look(path: Path) -> Sight | None:
    """Return the lease in the file `path` as it is now; None if there is none."""
    now = files.server_time(path.parent)
    found = _read(path)
    return found and Sight(*found, now - found[1])


def _read(path: Path, renew: str = "") -> tuple[Holder, float] | None:
    """Return the holder of the lease `path` and its time, which becomes now if the lease's id is `renew`."""
    while True:
        try:
            with path.open("rb") as file:  # on NFS only opening asks the server for the current file
                holder = _holder(file.read())
                if holder.id == renew:
                    os.utime(file.fileno())  # of this file, not of another lease that now has the name
                return holder, os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.ESTALE:  # replaced between opening and reading
                raise


class _Watch:
    """Repeated checks of a lease, to learn whether its holder lives."""

    def __init__(self, path: Path):
        self.path = path
        self._last: Sight | None = None
        self._since = 0.0  # when it was first seen like this, time.monotonic

    def look(self) -> tuple[str, Sight | None]:
        """Return FREE, LAPSED (the holder is gone), HELD, or UNCERTAIN until renewal or lapse; and the lease."""
        sight, last = look(self.path), self._last
        if sight is None:
            return FREE, None
        if sight.holder.machine == _machine():  # a suspended process does not renew, but it exists
            alive = _start(sight.holder.pid) == sight.holder.start
            return HELD if alive else LAPSED, sight
        now = time.monotonic()
        known = last is not None and last.holder.id == sight.holder.id
        renewed = known and last.renewed != sight.renewed
        if renewed or not known:
            self._last, self._since = sight, now
        if renewed:
            return HELD, sight
        return LAPSED if max(sight.age, now - self._since) >= LAPSE_SECONDS else UNCERTAIN, sight


def _taken(run: Path, sight: Sight) -> Failure:
    return Failure(
        f"{run}: another train-depth is already training this run: {sight.holder}, which renewed its lease "
        f"{max(sight.age, 0):.0f} s ago; stop it, or wait"
    )


def _create(holder: Holder, path: Path) -> bool:
    """Create `path` with `holder` in it, atomically; False if it exists."""
    temporary = _beside(path.parent, secrets.token_hex(8))
    try:
        files.create(temporary, 0o600)
        temporary.write_text(json.dumps(holder._asdict()) + "\n", encoding="utf-8")
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):  # no hard links, as on exFAT
            raise
        with contextlib.suppress(FileExistsError):
            files.create(path, 0o600)
            path.write_text(json.dumps(holder._asdict()) + "\n", encoding="utf-8")
    finally:
        temporary.unlink(missing_ok=True)
    return _holds(holder, path)  # after a repeated request, an NFS server reports FileExistsError for its own success


def _succeed(old: Holder, new: Holder, path: Path) -> bool:
    """Replace the lapsed lease `path` of `old` by one of `new`; False if another process was faster.

    Only the process that holds the claim replaces the lease. A claim whose process does not continue is removed; if it
    continues later, two processes believe that they hold the claim, so each finally reads who holds the lease.
    """
    claim = _beside(path.parent, f"after-{old.id}")
    if not _create(new, claim):
        sight = look(claim)
        if sight is not None and sight.age >= LAPSE_SECONDS:
            claim.unlink(missing_ok=True)
        return False
    if not _holds(old, path):
        claim.unlink(missing_ok=True)
        return False
    with contextlib.suppress(FileNotFoundError):
        claim.replace(path)
    return _holds(new, path)


def _holds(holder: Holder, path: Path) -> bool:
    sight = look(path)
    return sight is not None and sight.holder.id == holder.id


def _holder(content: bytes) -> Holder:
    """Return the holder that a lease names; NOBODY if it cannot be read."""
    try:
        holder = Holder(**json.loads(content))
        if all(map(isinstance, holder, Holder.__annotations__.values())) and holder.id.isalnum():
            return holder
    except (ValueError, TypeError):
        pass
    return NOBODY


def _beside(folder: Path, name: str) -> Path:
    return folder / f".lease-{name}"  # a single dot: files.sweep skips it


def _sweep(run: Path) -> None:
    """Remove the files that killed processes left beside the lease."""
    now = files.server_time(run)
    for rest in (*run.glob(".lease-*"), *run.glob(".time-*")):
        with contextlib.suppress(FileNotFoundError):
            if now - rest.stat().st_mtime > 2 * LAPSE_SECONDS:
                rest.unlink()


def _machine() -> str:
    """Identify the system of our process ids: the boot of the machine, and the process id namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _start(pid: int) -> int | None:
    """Return when a process of this machine started, in clock ticks since boot; None if it is gone or a zombie."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(fields[18])
