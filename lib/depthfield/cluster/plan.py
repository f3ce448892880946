"""The plan of a cluster: which node runs on which host, in which of its slots, with which GPUs.

As text (`plan.tsv`), one node per line: role, index, host, slot, gpus, separated by tabs.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

from depthfield.cluster.hosts import Host
from depthfield.tool import Failure

FEW = 3  # hosts named in a message
ROLES = ("chief", "ps", "worker")


class Node(NamedTuple):
    """A node of the cluster and where it runs."""

    role: str
    index: int
    host: str
    slot: int  # index among the nodes on its host, from 0
    gpus: tuple[str, ...] = ()  # as in CUDA_VISIBLE_DEVICES; empty for a node that computes on cores


def split(
    hosts: list[Host],
    ps: int,
    workers: int,
    oversubscribe: bool = False,
    slots_per_node: int = 1,
    left_out: dict[str, str] | None = None,
) -> list[Node]:
    """Place a chief, `ps` parameter servers and `workers` workers on hosts, each in its own slots.

    The chief gets the first host; without parameter servers it is one of the workers. Workers get hosts with a free
    GPU, one GPU each; the rest get the hosts with the most free slots. Parameter servers get those with most memory.
    Each role is dealt out in rounds: a host gets its second node only when every host with room has its first. A node
    takes `slots_per_node` slots of its host; with `oversubscribe`, nodes share slots.

    Raises Failure if there are too few slots; it also names the hosts `left_out` before, with the reasons.
    """
    left_out = left_out or {}
    if not hosts:
        raise Failure(f"no hosts to plan with{left(left_out)}")
    rooms = [host.slots // slots_per_node or int(oversubscribe) for host in hosts]  # nodes that fit on each
    small = {host.name: several(host.slots, "slot") for host, room in zip(hosts, rooms, strict=True) if not room}
    if not rooms[0]:
        raise Failure(
            f"the chief needs {slots_per_node} slots on the first host, but {hosts[0].name} has "
            f"{small[hosts[0].name]}; --oversubscribe lets nodes share slots"
        )
    wanted, given = size(ps, workers), sum(rooms)
    others = wanted - 1 - ps  # workers without the chief
    if wanted > given and not oversubscribe:
        unit, room = "slots", f"{given} given"
        if slots_per_node > 1:
            unit, room = f"nodes of {slots_per_node} slots", f"room for {given}"
        raise Failure(
            f"not enough hosts: {wanted} {unit} wanted (1 chief, {ps} ps, {others} workers), {room}, "
            f"{wanted - given} missing; --oversubscribe lets nodes share slots{left(left_out | small)}"
        )

    free = list(rooms)  # below zero if slots are shared
    spare = [list(host.gpus) for host in hosts]

    def has_room(host: int) -> bool:
        return oversubscribe or free[host] > 0

    def deal(count: int, dealt: Counter, may: Callable[[int], bool], rank: Callable[[int], tuple]) -> list[int]:
        """Deal up to `count` slots, each from the host that was dealt fewest, then the one with the lowest rank."""
        heap = [(dealt[host], rank(host), host) for host in range(len(hosts)) if may(host)]
        heapq.heapify(heap)
        chosen = []
        while heap and len(chosen) < count:
            host = heapq.heappop(heap)[-1]
            chosen.append(host)
            free[host] -= 1
            dealt[host] += 1
            if may(host):
                heapq.heappush(heap, (dealt[host], rank(host), host))
        return chosen

    free[0] -= 1
    with_workers = Counter() if ps else Counter([0])
    # Workers with a GPU come first: a parameter server in the last slot of a host would leave its GPU idle.
    on_gpus = deal(
        others,
        with_workers,
        lambda host: has_room(host) and with_workers[host] < len(spare[host]),
        lambda host: (with_workers[host] - len(spare[host]), -free[host]),
    )
    of_ps = deal(ps, Counter(), has_room, lambda host: (-hosts[host].memory, -free[host]))
    on_cores = deal(others - len(on_gpus), with_workers, has_room, lambda host: (-free[host],))

    used = Counter()
    nodes = []
    of_chief = 0 if ps else len(hosts[0].gpus[:1])
    for role, places in (("chief", [0]), ("ps", of_ps), ("worker", on_gpus + on_cores)):
        for index, host in enumerate(places):
            computes = index < {"chief": of_chief, "ps": 0, "worker": len(on_gpus)}[role]
            gpus = (spare[host].pop(0),) if computes else ()
            nodes.append(Node(role, index, hosts[host].name, used[host] % rooms[host], gpus))
            used[host] += 1
    return nodes


def size(ps: int, workers: int) -> int:
    """Return the number of nodes of a cluster: without parameter servers the chief is one of the workers."""
    return ps + workers + bool(ps)


def reduces(nodes: Iterable[Node]) -> bool:
    """Whether the nodes of a plan train by all-reduce: a chief and workers without parameter servers."""
    roles = {node.role for node in nodes}
    return "chief" in roles and "ps" not in roles


def anywhere(chief: str, ps: int, workers: int) -> list[Node]:
    """Return a plan in which the grid chooses the hosts (`*`) of all nodes but the chief."""
    counts = (("ps", ps), ("worker", size(ps, workers) - 1 - ps))
    return [Node("chief", 0, chief, 0), *(Node(role, index, "*", 0) for role, n in counts for index in range(n))]


def left(left_out: dict[str, str]) -> str:
    """Return the end of a message that names some of the hosts left out, with reasons, and the number of others."""
    few = [f"{host} ({why})" for host, why in islice(left_out.items(), FEW)]
    if len(left_out) > FEW:
        few.append(f"{len(left_out) - FEW} more")
    return f"; {several(len(left_out), 'host')} left out: {', '.join(few)}" if few else ""


def several(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def write(nodes: Iterable[Node]) -> str:
    """Return the plan as text."""
    return "".join(
        f"{node.role}\t{node.index}\t{node.host}\t{node.slot}\t{','.join(node.gpus) or '-'}\n" for node in nodes
    )


def read(lines: Iterable[str], name: str) -> list[Node]:
    """Read a plan; raises Failure, with `name` and the line, if it is not valid."""
    nodes: dict[tuple[int, int], Node] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            role, index, host, slot, gpus = line.split()
            key = ROLES.index(role), int(index)
            node = Node(role, key[1], host, int(slot), () if gpus == "-" else tuple(gpus.split(",")))
        except ValueError:
            raise Failure(f"{name}: line {number} is {line.strip()!r}; expected `role index host slot gpus`") from None
        if key in nodes:
            raise Failure(f"{name}: line {number} names {role} {index} a second time")
        nodes[key] = node
    if not nodes:
        raise Failure(f"{name}: the plan is empty; make it with split-resources")
    return [nodes[key] for key in sorted(nodes)]
