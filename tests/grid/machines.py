"""Hosts on one machine: each is a set of namespaces with a wire to a switch, and all end with one process.

The first process of the outer namespaces is the switch: its network holds the bridge, and whatever is inside dies with
it. In it each host has processes, mounts, a network and a name of its own; the first process of a host is its power.
"""

import collections
import contextlib
import ctypes
import hashlib
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from depthfield import tool

PROJECT = Path(__file__).resolve().parents[2]
GRID = Path(os.environ.get("GRID_DIR") or f"/var/tmp/grid-{hashlib.sha256(bytes(PROJECT)).hexdigest()[:8]}").resolve()
SHARED, ETC, INIT, LOG = GRID / "shared", GRID / "etc", GRID / "init", GRID / "log"
WIRE = Path(__file__).with_name("wire")
DOMAIN = "grid.test"
USERS = {"root": 0, "ada": 61001, "ben": 61002}
PRIVATE = ("/tmp", "/dev/shm", "/run")  # each host has its own
RATES, DELAYS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}, {"us": 1e-6, "ms": 1e-3, "s": 1.0}
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "SHELL": "/bin/bash",
}  # fmt: skip
libc = ctypes.CDLL(None, use_errno=True)


def lay_out(hosts: list[str]) -> None:
    """Make the folder: the shared disk with its users' homes, and files that lie over those of /etc."""
    GRID.mkdir(mode=0o755, parents=True, exist_ok=True)
    INIT.touch()  # by which the folder is known
    for folder in (ETC, LOG, SHARED):
        folder.mkdir()
    passwd, group = (Path("/etc", name).read_text().rstrip("\n").splitlines() for name in ("passwd", "group"))
    for user, number in USERS.items():
        home = SHARED / "home" / user
        home.mkdir(parents=True, mode=0o755)
        os.chown(home, number, number)
        if number:
            passwd.append(f"{user}:x:{number}:{number}::{home}:/bin/bash")
            group.append(f"{user}:x:{number}:")
    # The name in full comes first and `hostname` is the short one, as at many sites: what mixes them up fails here too.
    table = [f"10.61.0.{number} {host}.{DOMAIN} {host}" for number, host in enumerate(hosts, start=1)]
    names = [f"{kind}: files" for kind in ("passwd", "group", "shadow", "hosts", "services")]
    for file, lines in {
        "passwd": passwd, "group": group, "hosts": ["127.0.0.1 localhost", *table], "nsswitch.conf": names,
    }.items():  # fmt: skip
        (ETC / file).write_text("\n".join(lines) + "\n")
    INIT.write_text(init_script())


def addresses() -> dict[str, str]:
    """The addresses of all hosts, killed ones too, by their short names."""
    return {host: address for address, host in re.findall(rf"(\S+) \S+\.{DOMAIN} (\S+)", (ETC / "hosts").read_text())}


def start_switch(bound: bool) -> subprocess.Popen:
    """Start the process with which all others end; where it is `bound`, it ends with us, even if we are killed."""
    binding = ["setpriv", "--pdeathsig", "KILL"] if bound else []
    with (LOG / "switch").open("w") as log:
        first = subprocess.Popen(
            [*binding, "unshare", "--pid", "--mount", "--net", "--fork", "--kill-child", "bash", INIT, "switch"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    wait("the switch", lambda: (GRID / "up.switch").exists())
    return first


def end_all() -> None:
    """End the switch, and with it every process, mount and device."""
    doomed = [process for process in psutil.process_iter() if command_line(process)[-2:] == [str(INIT), "switch"]]
    for process in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()

    def ended() -> bool:
        with contextlib.suppress(ChildProcessError):  # a namespace ends when also our own children in it are reaped
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        return not any(map(lives, doomed))

    wait("the end of all processes", ended)


def init_script() -> str:
    """What the first process of the switch and of each host does: see to its own view of the machine, then reap.

    Ordinary users must reach the project, its Python and this folder at their own paths. What hides these (a folder
    closed to others, or a private one) is covered by an empty one, in which they are put back.
    """
    private = {Path(path) for path in PRIVATE}
    covered, opened, put_back = set(), [], []

    def closed(folder: Path) -> bool:
        return folder in private or not folder.stat().st_mode & stat.S_IXOTH

    for path in sorted({PROJECT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), GRID}):
        hides = [folder for folder in (*reversed(path.parents), path) if closed(folder)]
        if not hides:
            continue
        covered.add(hides[0])
        for part in path.iterdir() if hides[-1] == path else [path]:
            file, name = 20 + len(opened), shlex.quote(str(part))
            opened.append(f"exec {file}< {name}")
            make = f"mkdir -p {name}" if part.is_dir() else f"mkdir -p {shlex.quote(str(path))}; : > {name}"
            put_back.append(f"{make}; mount --no-canonicalize --rbind /proc/self/fd/{file} {name}; exec {file}<&-")
    covers = [f"mount -t tmpfs -o mode=0755 sandbox {shlex.quote(str(path))}" for path in sorted(covered - private)]
    lines = [
        "set -e; umask 022",
        'if [ "$1" = switch ]; then ip link add switch type bridge; ip link set switch up; else',
        'hostname "$1"; ip link set lo up',
        *(f"mount --bind {shlex.quote(str(file))} /etc/{file.name}" for file in sorted(ETC.iterdir())),
        *opened,
        *covers,
        *(f"mount -t tmpfs -o mode=1777 sandbox {path}" for path in PRIVATE),
        *put_back,
        "fi",
        f': > {shlex.quote(str(GRID))}/up."$1"',
        "sleep infinity &",
        "while :; do wait; done",
    ]
    return "\n".join(lines) + "\n"


def start_hosts(hosts: list[str]) -> None:
    """Give each host its namespaces, with a wire to the switch."""
    for host in hosts:
        (GRID / f"up.{host}").unlink(missing_ok=True)
    unshare = "unshare --pid --mount --net --uts --ipc --fork --kill-child --mount-proc"
    script = f'for host; do {unshare} bash "$0" "$host" < /dev/null > {shlex.quote(str(LOG))}/"$host" 2>&1 & done'
    run(init_of("switch"), "bash", "-c", script, INIT, *hosts)
    wait("the hosts", lambda: all((GRID / f"up.{host}").exists() for host in hosts))
    pids, wired = inits(), []
    for host in hosts:
        wired += [f"link add {host} type veth peer name eth0 netns {pids[host]}", f"link set {host} master switch up"]
    ip(pids["switch"], *wired)
    for host in hosts:
        ip(pids[host], f"addr add {addresses()[host]}/24 dev eth0", "link set eth0 up")


def cut(host: str) -> None:
    """Take a host off the switch: its own device and everybody's connections stay, but no packet arrives."""
    init_of(host)
    ip(init_of("switch"), f"link set {port_of(host)} nomaster")


def kill(host: str) -> None:
    """End all of a host at once; it is cut first, so that its dying connections tell nobody."""
    process = psutil.Process(init_of(host))
    cut(host)
    process.kill()
    wait(f"the end of {host}", lambda: not lives(process))


def heal(host: str) -> None:
    """Undo `cut`, and boot a killed host again, with nothing running on it."""
    switch = init_of("switch")
    if host in inits():
        ip(switch, f"link set {port_of(host)} master switch")
    elif host in addresses():
        # Its old wire: dead connections would keep it for minutes.
        ip(switch, *(f"link del {port}" for port in ports() if port in (host, f"{host}-far")))
        start_hosts([host])
    else:
        init_of(host)  # which says what is wrong


def shape(host: str, limits: tuple[str, str] | None) -> None:
    """Put a slower wire between a host and its port of the switch, or take it out."""
    init_of(host)
    numbers = [amount(text, units) for text, units in zip(limits or (), (RATES, DELAYS), strict=False)]
    switch, near, far = init_of("switch"), f"{host}-near", f"{host}-far"
    if far in ports():
        ip(switch, f"link del {far}", f"link set {host} master switch")  # its `wire` ends with it
    if numbers:
        ip(switch, f"link add {far} type veth peer name {near}", f"link set {near} up",
           f"link set {far} master switch up", f"link set {host} nomaster")  # fmt: skip
        background = f'"$@" < /dev/null > {shlex.quote(str(LOG))}/wire 2>&1 &'
        run(switch, "sh", "-c", background, "sh", WIRE, host, near, *numbers)


def start(pid: int, command: list[str], user: str = "root", env: dict[str, str] | None = None, **options):
    """Start a command in the namespaces of the process `pid`, as `user` at home, with a clean environment and `env`.

    Returns a subprocess.Popen with these options.
    """
    home = SHARED / "home" / user

    def settle() -> None:
        enter(pid, "ipc", "uts", "net", "mnt")
        os.chdir(home)
        os.initgroups(user, USERS[user])
        os.setgid(USERS[user])
        os.setuid(USERS[user])
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing is left behind where we are killed

    own = {"USER": user, "LOGNAME": user, "HOME": str(home)}
    enter(pid, "pid")  # of the children to come
    try:
        return subprocess.Popen(command, env=ENVIRONMENT | own | (env or {}), preexec_fn=settle, **options)
    finally:
        enter("self", "pid")


def run(pid: int, *command: object, **environment: str) -> str:
    """Run a command of ours as root in the namespaces of `pid`; returns what it prints."""
    words = list(map(str, command))
    process = start(pid, words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, text=True)  # fmt: skip
    output, _ = process.communicate()
    if process.returncode:
        reason = (output.strip() or f"status {process.returncode}").splitlines()[0]
        raise tool.Failure(f"{' '.join(words)}: {reason}")
    return output


def enter(pid: int | str, *kinds: str) -> None:
    """Move this process into namespaces of the process `pid`; into `pid`, only its children to come."""
    opened = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in kinds]
    for namespace in opened:
        if libc.setns(namespace, 0):
            raise OSError(ctypes.get_errno(), "cannot enter a namespace")
        os.close(namespace)


def ip(pid: int, *lines: str) -> None:
    """Network settings in the network of `pid`, but with the process ids of this machine."""
    command = ["nsenter", "--net", "--target", str(pid), "ip", "-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True)
    if done.returncode:
        raise tool.Failure(f"ip: {done.stderr.strip()}")


def ports() -> dict[str, bool]:
    """The ports of the switch by host, and whether each is connected."""
    shown = json.loads(run(init_of("switch"), "ip", "-json", "link", "show", "type", "veth"))
    return {link["ifname"]: "master" in link for link in shown}


def port_of(host: str) -> str:
    """The port of the switch at which a host is: at the far end of its wire, where it has got a slower one."""
    return far if (far := f"{host}-far") in ports() else host


def amount(text: str, units: dict[str, float]) -> float:
    found = re.fullmatch(rf"([\d.]+)({'|'.join(units)})", text)
    if not found:
        raise tool.UsageError(f"{text} is no number with one of the units {', '.join(units)}")
    return float(found[1]) * units[found[2]]


def init_of(host: str) -> int:
    found = inits()
    if host not in found:
        there = ", ".join(sorted(found.keys() - {"switch"}))
        raise tool.Failure(f"{host}: no such host; there are {there}" if there else f"{GRID}: there is no sandbox")
    return found[host]


def inits() -> dict[str, int]:
    """The first process of the switch and of each living host, told by its command line: no file can be stale."""
    found = {}
    for process in psutil.process_iter():
        match command_line(process):
            case ["bash", path, host] if path == str(INIT):
                with contextlib.suppress(OSError):  # a child on its way to another program looks the same, but is no 1
                    if re.search(r"(?m)^NSpid:.*\t1$", Path(f"/proc/{process.pid}/status").read_text()):
                        found[host] = process.pid
    return found


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def processes() -> dict[str, int]:
    """How many processes each living host has."""
    counts = collections.Counter()
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            counts[Path(f"/proc/{pid}/ns/pid").readlink()] += 1
    return {host: counts[Path(f"/proc/{pid}/ns/pid").readlink()] for host, pid in inits().items()}


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended: the first process of a namespace ends after all others in it."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait(what: str, done: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise tool.Failure(f"waited {seconds:.0f} s for {what}; see {LOG}")
        time.sleep(0.02)
