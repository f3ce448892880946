"""The plan of a cluster: which node runs on which host, in which of its slots, with which GPUs.

As text (`plan.tsv`), one node a line: role, index, host, slot, gpus, parted by tabs.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from depthfield.cluster.hosts import Host
from depthfield.tool import Failure

ROLES = ("chief", "ps", "worker")


class Node(NamedTuple):
    """One task of the cluster and its place."""

    role: str
    index: int
    host: str
    slot: int  # which of its host's slots, from 0
    gpus: tuple[str, ...] = ()  # as CUDA_VISIBLE_DEVICES names them; none for a node that computes on cores


def split(hosts: list[Host], ps: int, workers: int, oversubscribe: bool = False) -> list[Node]:
    """Place a chief, `ps` parameter servers and `workers` workers on the hosts, each in a slot of its own.

    The chief goes to the first host. Workers go to hosts with a GPU to spare, one GPU each; those left over to
    where most slots are free. Parameter servers go to where most memory is. Each role is dealt out in rounds: a host
    gets its second only when every host that has room has its first. With `oversubscribe` nodes share slots.

    Raises Failure where the slots do not suffice.
    """
    wanted, given = 1 + ps + workers, sum(host.slots for host in hosts)
    if not hosts:
        raise Failure("no hosts given")
    if wanted > given and not oversubscribe:
        nodes = f"1 chief, {ps} ps, {workers} workers"
        raise Failure(
            f"not enough hosts: {wanted} slots wanted ({nodes}), {given} given, {wanted - given} missing; "
            "--oversubscribe lets nodes share slots"
        )

    free = [host.slots for host in hosts]  # falls below zero where slots are shared
    spare = [list(host.gpus) for host in hosts]

    def has_room(host: int) -> bool:
        return oversubscribe or free[host] > 0

    def deal(count: int, dealt: Counter, may: Callable[[int], bool], rank: Callable[[int], tuple]) -> list[int]:
        """Up to `count` times the host that has been dealt fewest, then the one of the lowest rank; takes its slot."""
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
    with_workers = Counter()
    # Workers that take a GPU come first: a parameter server in the last slot of a host would leave its GPU idle.
    on_gpus = deal(
        workers,
        with_workers,
        lambda host: has_room(host) and with_workers[host] < len(spare[host]),
        lambda host: (with_workers[host] - len(spare[host]), -free[host]),
    )
    of_ps = deal(ps, Counter(), has_room, lambda host: (-hosts[host].memory, -free[host]))
    on_cores = deal(workers - len(on_gpus), with_workers, has_room, lambda host: (-free[host],))

    used = Counter()
    nodes = []
    for role, places in (("chief", [0]), ("ps", of_ps), ("worker", on_gpus + on_cores)):
        for index, host in enumerate(places):
            gpus = (spare[host].pop(0),) if role == "worker" and index < len(on_gpus) else ()
            nodes.append(Node(role, index, hosts[host].name, used[host] % hosts[host].slots, gpus))
            used[host] += 1
    return nodes


def write(nodes: Iterable[Node]) -> str:
    """The plan as text."""
    return "".join(
        f"{node.role}\t{node.index}\t{node.host}\t{node.slot}\t{','.join(node.gpus) or '-'}\n" for node in nodes
    )


def read(lines: Iterable[str], name: str) -> list[Node]:
    """The nodes of a plan, by role and index; raises Failure, with `name` and the line, for what is no plan."""
    nodes: dict[tuple[int, int], Node] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            role, index, host, slot, gpus = line.split()
            key = ROLES.index(role), int(index)
            node = Node(role, key[1], host, int(slot), () if gpus == "-" else tuple(gpus.split(",")))
        except ValueError:
            raise Failure(f"{name}: line {number} is no `role index host slot gpus`: {line.strip()!r}") from None
        if key in nodes:
            raise Failure(f"{name}: line {number} names {role} {index} a second time")
        nodes[key] = node
    if not nodes:
        raise Failure(f"{name}: the plan is empty")
    return [nodes[key] for key in sorted(nodes)]
