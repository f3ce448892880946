"""Hosts from Grid Engine: the host file of a parallel environment, and the output of `qhost -q -F -xml`."""

import contextlib
import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple
from xml.parsers import expat

from depthfield.cluster.hosts import Host, numbered, size
from depthfield.tool import Failure

PE_LINE = "host slots queue@host processors"
QHOST = "qhost -q -F -xml"
OTHER_VALUE = "<(?:host|resource)value name='(?!(?:%s)')[^<\n]*</(?:host|resource)value>"  # other names
VALUES = {"hostvalue", "resourcevalue", "queuevalue"}
GPU_NAMES = ("gpu", "gpus", "ngpus", "cuda")  # names that sites use for GPUs
CLOSED = {  # states in which a queue takes no job, causes first: a host that is off is also in alarm
    "u": "unknown", "E": "error", "d": "disabled", "D": "disabled", "o": "orphaned", "s": "suspended", "S": "suspended",
    "C": "suspended", "c": "ambiguous", "P": "preempted", "a": "alarm", "A": "alarm",
}  # fmt: skip


class Shown(NamedTuple):
    """A host as qhost shows it."""

    name: str
    gpus: int
    memory: int  # bytes; 0 if unknown
    limit: int | None  # slots of all its queues together, if the site has set a limit
    queues: dict[str, dict[str, str | int]]  # by name: slots, slots_used, slots_resv, state_string


def read_pe(content: bytes, source: str) -> list[Host]:
    """Read the host file of a parallel environment: hosts with the job's slots, the job's own host first.

    Raises Failure, naming `source` and the line, if this is not such a file.
    """
    slots: dict[str, int] = {}
    for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            name, count, queue, *_ = line.split()
            if int(count) < 1 or "@" not in queue:
                raise ValueError
        except ValueError:
            raise Failure(f"{source}: line {number} is {line.strip()!r}; expected `{PE_LINE}`, slots >= 1") from None
        slots[name] = slots.get(name, 0) + int(count)  # a host has one line per queue
    if not slots:
        raise Failure(f"{source}: no hosts; expected the host file of a parallel environment, lines of `{PE_LINE}`")
    return [Host(name, count) for name, count in slots.items()]


def read_qhost(output: bytes, source: str, gpu_complex: str | None = None) -> list[Shown]:
    """Read the hosts that qhost shows, in its order.

    `gpu_complex` is the complex that counts GPUs; without it, the first of GPU_NAMES that a host has. Raises Failure,
    naming `source` and the line, if this is not the output of qhost.
    """
    gpu_names = (gpu_complex,) if gpu_complex else GPU_NAMES
    of_hosts = ("mem_free", "mem_total", "slots", *gpu_names)
    wanted = {*of_hosts, "slots_used", "slots_resv", "state_string"}
    hosts: list[tuple[str, dict, dict]] = []  # name, resources, queues
    values: dict[str, str | int] = {}  # of the host or of the queue being read
    attribute, text = "", []
    parser = expat.ParserCreate()

    def wrong(why: str) -> Failure:
        return Failure(f"{source}: line {parser.CurrentLineNumber}: {why}; expected the output of `{QHOST}`")

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal attribute, values
        name = attributes.get("name")
        if name in wanted and tag in VALUES:
            attribute = name
            parser.CharacterDataHandler, parser.EndElementHandler = text.append, end
        elif tag == "host":
            values = {}
            hosts.append((name, values, {}))
        elif tag == "queue" and hosts:
            values = hosts[-1][2][name] = {}
        elif not hosts and tag != "qhost":
            raise wrong(f"<{tag}>")

    def end(tag: str) -> None:
        parser.CharacterDataHandler = parser.EndElementHandler = None
        value = "".join(text)
        text.clear()
        try:
            values[attribute] = int(value) if tag == "queuevalue" and attribute != "state_string" else value
        except ValueError:
            raise wrong(f"{attribute} is {value!r}") from None

    # A host has about fifty values, of which four matter: without the others, parsing a large grid takes half the time.
    unwanted = OTHER_VALUE % "|".join(map(re.escape, of_hosts))
    parser.StartElementHandler = begin
    try:
        parser.Parse(re.sub(unwanted.encode(), b"", output), True)
    except expat.ExpatError as error:
        raise wrong(expat.ErrorString(error.code)) from None
    if gpu_complex and not any(gpu_complex in resources for _, resources, _ in hosts):
        raise Failure(f"{source}: no host has the complex {gpu_complex}; name one that counts GPUs with --gpu-complex")
    return [
        Shown(
            name,
            gpus=first(resources, gpu_names, lambda value: max(int(float(value)), 0)) or 0,
            memory=first(resources, ("mem_free", "mem_total"), size) or 0,
            limit=first(resources, ("slots",), lambda value: int(float(value))),
            queues=queues,
        )
        for name, resources, queues in hosts
        if name != "global"  # stands for the whole cluster
    ]


def first(values: dict[str, str], names: Iterable[str], number: Callable[[str], int]) -> int | None:
    """Return the first of these values that is a number: qhost writes `-` for unknown ones."""
    for name in names:
        with contextlib.suppress(KeyError, ValueError, OverflowError):
            return number(values[name])
    return None


def free(shown: Iterable[Shown], queues: str = "", least: int = 1) -> tuple[list[Host], dict[str, str]]:
    """Return the hosts with at least `least` free slots in open queues, and why other hosts are left out, by name.

    `queues` are names or patterns as in qsub -q, separated by commas or blanks (`all.q short.*@node?`); if empty, all
    queues count.
    """
    patterns = [word if "@" in word else f"{word}@*" for word in queues.replace(",", " ").split()] or ["*"]
    allowed = re.compile("|".join(map(fnmatch.translate, patterns))).match
    hosts, left_out = [], {}
    for host in shown:
        slots, why = 0, []
        for name, queue in host.queues.items():
            letters = queue.get("state_string", "")
            left = queue.get("slots", 0) - queue.get("slots_used", 0) - queue.get("slots_resv", 0)
            if not allowed(f"{name}@{host.name}"):
                why.append(f"{name} not in GRID_QUEUES")
            elif letters and (closed := [word for letter, word in CLOSED.items() if letter in letters]):
                why.append(f"{name} {closed[0]}")
            elif left < 1:
                why.append(f"{name} full")
            else:
                slots += left
        if host.limit is not None and host.limit < slots:
            slots, why = max(host.limit, 0), ["full"]
        if slots >= least:
            hosts.append(Host(host.name, slots, numbered(host.gpus), host.memory))
        else:
            left_out[host.name] = f"{slots} of {least} slots free" if slots else ", ".join(why) or "no queue"
    return hosts, left_out


def equip(hosts: Iterable[Host], shown: Iterable[Shown], gpus_per_slot: int | None = None) -> list[Host]:
    """Add to hosts the memory and GPUs that qhost shows, also if one name is short and the other is full.

    With `gpus_per_slot` the GPUs are the job's own instead: qhost shows only free ones.
    """
    by_name, by_short = {}, {}
    for found in shown:
        by_name[found.name] = found
        # A short name that stands for hosts in two domains matches neither.
        by_short[short(found.name)] = None if short(found.name) in by_short else found
    equipped = []
    for host in hosts:
        also = by_name.get(short(host.name)) if "." in host.name else by_short.get(host.name)
        found = by_name.get(host.name, also)
        gpus = host.slots * gpus_per_slot if gpus_per_slot is not None else found.gpus if found else 0
        equipped.append(host._replace(gpus=numbered(gpus), memory=found.memory if found else 0))
    return equipped


def short(name: str) -> str:
    """Return a host's name without its domain."""
    return name.partition(".")[0]
