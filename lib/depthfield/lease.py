"""Who trains a run: RUN/lease, a file that its holder renews, so that the run of a vanished host can be taken over.

The lock RUN/lock alone cannot tell: NFS keeps the lock of a vanished host until it boots again, and not every file
system has locks. Ages are by the file server's clock, which stamps the lease and the file it is compared with.
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
LAPSE_SECONDS = 30  # a lease that was not renewed for so long is nobody's
LOOK_SECONDS = 0.5

FREE, LAPSED, HELD, UNCERTAIN = "free", "lapsed", "held", "uncertain"


class Holder(NamedTuple):
    """What a lease says of the process that holds it."""

    host: str
    machine: str  # which system's process ids these are, see _machine
    pid: int
    start: int  # in clock ticks since boot: process ids are used again
    id: str  # of this lease, 16 hexadecimal digits

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


NOBODY = Holder("an unknown host", "", 0, 0, "unreadable")  # in a damaged lease, and in one that is just being written


class Sight(NamedTuple):
    """A lease as it is found: its holder, when it was renewed (the file server's time) and its age, both in seconds."""

    holder: Holder
    renewed: float
    age: float


class Lease:
    """The lease of a run that this process holds. Leaving the context gives it back."""

    def __init__(self, run: Path, holder: Holder, lock: contextlib.ExitStack):
        self.run, self.path, self.holder, self._lock = run, run / "lease", holder, lock
        self._over = threading.Event()
        self._renewal = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._renewal.start()

    def held(self) -> bool:
        """Whether the run is still ours, by the file itself; if so, renew it. Raises OSError where the disk fails."""
        files.server_time(self.run)  # writing to the folder also makes NFS forget which file had the name
        return self._renew()

    def check(self) -> None:
        """Raise Failure, naming the new holder, unless the run is still ours."""
        if not self.held():
            sight = look(self.path)
            raise Failure(
                f"{self.run}: {sight.holder if sight else 'another train-depth'} took over this run while this process "
                "was suspended or cut off; it ends and writes nothing more"
            )

    def _renew(self) -> bool:
        found = _read(self.path, renew=self.holder.id)
        return found is not None and found[0].id == self.holder.id

    def _keep(self) -> None:
        ours = True
        while ours and not self._over.wait(RENEW_SECONDS):
            with contextlib.suppress(OSError):  # a disk that does not answer for a while
                ours = self._renew()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._lock, contextlib.suppress(OSError):
            if self.held():
                self.path.unlink()


def take(run: Path, give_up: Callable[[], object] = lambda: None) -> Lease | None:
    """Take the lease of the folder `run`; None if `give_up()` became true while it was uncertain whose it is.

    Takes over, with a line on stderr, what another host has not renewed for LAPSE_SECONDS. Raises Failure naming the
    holder if the run is another's. The lock RUN/lock is taken, too, where that can be done; it decides nothing.
    """
    watch = _Watch(run / "lease")
    mine = Holder(socket.gethostname(), _machine(), os.getpid(), _start(os.getpid()), secrets.token_hex(8))
    with contextlib.ExitStack() as lock:
        with contextlib.suppress(OSError):  # a vanished host has it; or this file system has no locks
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
    """Return when no living process holds the run; raises Failure naming the holder after `seconds`."""
    end, watch = time.monotonic() + seconds, _Watch(run / "lease")
    while run.exists():
        state, sight = watch.look()
        if state in (FREE, LAPSED):
            return
        if time.monotonic() >= end:
            raise _taken(run, sight)
        time.sleep(LOOK_SECONDS)


def look(path: Path) -> Sight | None:
    """The lease in the file `path` as it is now; None if there is none."""
    now = files.server_time(path.parent)
    found = _read(path)
    return found and Sight(*found, now - found[1])


def _read(path: Path, renew: str = "") -> tuple[Holder, float] | None:
    """The holder of the lease `path` and its time, which becomes the present if the lease's id is `renew`."""
    while True:
        try:
            with path.open("rb") as file:  # on NFS only opening asks the server for the file's present state
                holder = _holder(file.read())
                if holder.id == renew:
                    os.utime(file.fileno())  # of this file, not of another lease that took the name meanwhile
                return holder, os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.ESTALE:  # replaced between opening and reading
                raise


class _Watch:
    """What repeated looks at a lease tell about its holder."""

    def __init__(self, path: Path):
        self.path = path
        self._last: Sight | None = None
        self._since = 0.0  # when it was first seen so, by time.monotonic

    def look(self) -> tuple[str, Sight | None]:
        """FREE, LAPSED (the holder has gone), HELD, or UNCERTAIN until it is renewed or lapses; and what was seen."""
        sight, last = look(self.path), self._last
        if sight is None:
            return FREE, None
        if sight.holder.machine == _machine():  # a suspended process renews nothing, but is there
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
        f"{run}: another train-depth is at work on this run: {sight.holder}, which renewed its lease "
        f"{max(sight.age, 0):.0f} s ago"
    )


def _create(holder: Holder, path: Path) -> bool:
    """Create `path` with `holder` in it, whole and exclusively; False if it is there already."""
    temporary = _beside(path.parent, secrets.token_hex(8))
    try:
        files.create(temporary, 0o600)
        temporary.write_text(json.dumps(holder._asdict()) + "\n", encoding="utf-8")
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):  # no hard links here, as on exFAT
            raise
        with contextlib.suppress(FileExistsError):
            files.create(path, 0o600)
            path.write_text(json.dumps(holder._asdict()) + "\n", encoding="utf-8")
    finally:
        temporary.unlink(missing_ok=True)
    return _holds(holder, path)  # an NFS server that is asked twice says FileExistsError of its own first answer


def _succeed(old: Holder, new: Holder, path: Path) -> bool:
    """Replace the lapsed lease `path` of `old` by that of `new`; False if another process was faster.

    Only the process whose claim it is replaces the lease. A claim whose process does not go on is removed; should it go
    on later, two processes believe that the claim is theirs, so that each one reads last of all whose the lease is.
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
    """The holder that a lease names, NOBODY if it cannot be read."""
    try:
        holder = Holder(**json.loads(content))
        if all(map(isinstance, holder, Holder.__annotations__.values())) and holder.id.isalnum():
            return holder
    except (ValueError, TypeError):
        pass
    return NOBODY


def _beside(folder: Path, name: str) -> Path:
    return folder / f".lease-{name}"  # with one dot only: files.sweep leaves it alone


def _sweep(run: Path) -> None:
    """Remove what killed processes left beside the lease."""
    now = files.server_time(run)
    for rest in (*run.glob(".lease-*"), *run.glob(".time-*")):
        with contextlib.suppress(FileNotFoundError):
            if now - rest.stat().st_mtime > 2 * LAPSE_SECONDS:
                rest.unlink()


def _machine() -> str:
    """What names the processes that this one can see: the boot of the machine, and the namespace of process ids."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _start(pid: int) -> int | None:
    """When a process of this machine started, in clock ticks since boot; None if there is none, or only its corpse."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(fields[18])
