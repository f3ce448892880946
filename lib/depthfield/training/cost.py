"""Predict training with parameter servers from a few measured times: rounds, photos per second, busy links.

Alone, an exchange takes the time of its bytes over the worker's link, a few delays, and CPU time on both sides. With
others it takes alone / (1 - u^c), as in a queue with c servers: u is the share of a round in which the busiest link or
server is busy, c the number of hosts that serve, 1 for a link that workers share. It never takes longer than waiting
for all others. The number of steps per round comes from Pace, which gets predicted times until it is stable.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from depthfield.cluster import hosts, plan
from depthfield.training.exchange import BESIDE, shares
from depthfield.training.pace import LONGEST, Pace
from depthfield.training.rounds import Report

PULLED, PUSHED = 4, {"bfloat16": 2, "float32": 4}  # bytes per parameter
BUSY = 0.5  # share of a round: if servers are busy for longer, there are too few
WORTH = 0.5  # share of a worker's own rate: a worker that adds less is not worth it
STRETCHED = 2  # factor by which workers may make each other's rounds longer than Pace wants
COPIES = 2  # of its share in a server's memory: the parameters and a message
DELAYS = 6  # one-way messages: a push, a pull, their responses, and gRPC's requests for the tensors
LONG = 10**6  # steps: long enough for rounds of any length
REST = 60  # rounds after which Pace is stable
LINKS = {"1 Gbit/s": (125e6, "#d95f02"), "10 Gbit/s": (1.25e9, "#1b9e77"), "100 Gbit/s": (12.5e9, "#7570b3")}


class Costs(NamedTuple):
    """CPU times in seconds, independent of the network.

    Measured on loopback while others used the cores: CPU time of a worker and a server in rounds without steps, with
    and without the exchange, for 0.8 M and 13.9 M parameters; of a chief in rounds of one step.
    """

    server_byte: float = 0.55e-9  # server, per byte pulled or pushed
    worker_byte: float = 0.5e-9  # worker, per byte pulled or pushed
    parameter: float = 4.5e-9  # worker, before and after its steps, per parameter
    round: float = 0.008  # worker, per round
    chief: float = 0.011  # chief, per round


class Network(NamedTuple):
    rate: float  # bytes per second of each host's link, each way
    delay: float = 0.0  # seconds, one way
    costs: Costs = Costs()


class Training(NamedTuple):
    parameters: int
    step: float  # seconds per step of one worker
    batch: int  # photos per step
    wire: str = "bfloat16"
    round_steps: int = 0  # as in a recipe


class Host(NamedTuple):
    """A host: nodes that share a link."""

    workers: int
    servers: int
    memory: int = 0  # bytes; 0 if unknown


class Prediction(NamedTuple):
    """The prediction for the highest learning rate, where rounds are shortest."""

    workers: int
    servers: int
    steps: int  # per round of a worker
    beside: bool  # whether exchanges run while computing
    seconds: float  # per round
    exchange_seconds: float
    computing: float  # share of a worker's time
    bytes: int  # pulled and pushed by a worker per round
    server_rate: float  # bytes per second that a server sends and receives
    busy: float  # share of the time that the busiest server, its link or core, is busy
    photos_per_second: float
    speed_up: float  # relative to one process with steps of the same length


class Queue(NamedTuple):
    """A resource that exchanges may wait for; seconds in a round of all workers."""

    busy: float  # the busier direction, or the core
    both: float  # everything that workers do here, in sequence
    workers: int  # number that share it
    channels: int

    def exchange(self, alone: float, seconds: float) -> float:
        """Return the time of an exchange if rounds last `seconds`."""
        longest = alone + self.both * (self.workers - 1) / self.workers
        free = 1 - (self.busy / seconds) ** self.channels
        return min(alone / free, longest) if free > 0 else longest


def apart(servers: int, workers: int) -> list[Host]:
    """Place each node on a host of its own."""
    return [Host(0, 1)] * servers + [Host(1, 0)] * workers


def predict(training: Training, placed: Sequence[Host], network: Network) -> Prediction:
    """Predict a training on the hosts of its servers and workers; nodes on one host need no network."""
    size, costs = training.parameters, network.costs
    pull, push = PULLED * size, PUSHED[training.wire] * size
    workers, servers = sum(host.workers for host in placed), sum(host.servers for host in placed)
    core = workers * (pull + push) * costs.server_byte / servers  # seconds of a server in a round of all workers
    serving, queues = sum(host.servers > 0 for host in placed), {}
    for host in set(placed):
        share = host.servers / servers
        own, served = host.workers * (1 - share), (workers - host.workers) * share  # workers whose bytes use its link
        into, out = (own * pull + served * push) / network.rate, (own * push + served * pull) / network.rate
        if host.servers:
            channels = 1 if host.workers else serving
            queues[host] = Queue(max(into, out, core), into + out + core, workers, channels)
        elif host.workers:
            queues[host] = Queue(max(into, out), into + out, host.workers, 1)
    remote = max(1 - host.servers / servers for host in placed if host.workers)
    # The servers' links together are never slower than the worker's: all links are alike.
    handling, around = (pull + push) * costs.worker_byte, costs.round + size * costs.parameter
    alone = remote * (pull + push) / network.rate + DELAYS * network.delay + core / workers + handling

    @cache
    def lasts(steps: int, beside: bool) -> tuple[float, float]:
        """Return the seconds of a round, and of an exchange in rounds of that length."""
        computing = steps * training.step + (handling if beside else 0)
        shortest = workers * costs.chief
        low, high = 0.0, computing + alone + sum(queue.both for queue in queues.values()) + around + shortest
        for _ in range(50):
            middle = (low + high) / 2
            exchange = max(queue.exchange(alone, middle) for queue in queues.values())
            whole = (max(computing, exchange) if beside else computing + exchange) + around
            low, high = (middle, high) if max(whole, shortest) > middle else (low, middle)
        return high, exchange

    pace = Pace(1, training.round_steps, LONG)
    for _ in range(REST):
        (steps,), when = pace.plan(rate=1.0)
        beside, computing = when == BESIDE, steps * training.step
        seconds, exchange = lasts(steps, beside)
        idle = seconds - (max(computing, exchange) if beside else computing + exchange)
        pace.note(Report(0.0, steps, 0, seconds - idle, computing, 0.0, exchange, idle))
    rate = workers * steps * training.batch / seconds
    return Prediction(
        workers, servers, steps, beside, seconds, exchange, computing / seconds, pull + push,
        (pull + push) * workers / servers / seconds,
        max(queue.busy for host, queue in queues.items() if host.servers) / seconds,
        rate, rate * training.step / training.batch,
    )  # fmt: skip


class Room(NamedTuple):
    """The space for nodes."""

    slots: int  # including the chief's
    links: int  # of hosts: more servers than these would share links
    place: Callable[[int, int], list[Host]]  # places this number of servers and workers


def room(machines: Sequence[hosts.Host]) -> Room:
    """Return the room on a list of hosts, as split-resources uses it."""

    def place(servers: int, workers: int) -> list[Host]:
        count = Counter((node.role, node.host) for node in plan.split(list(machines), servers, workers))
        return [Host(count["worker", host.name], count["ps", host.name], host.memory) for host in machines]

    return Room(sum(host.slots for host in machines), len(machines), place)


def suffice(placed: Sequence[Host], training: Training, network: Network) -> bool:
    """Whether servers are busy for at most BUSY of the time and have enough memory."""
    share = COPIES * PULLED * training.parameters / sum(host.servers for host in placed)
    fits = all(share * host.servers <= host.memory for host in placed if host.memory)
    return fits and predict(training, placed, network).busy <= BUSY


def enough_servers(room: Room, workers: int, training: Training, network: Network) -> list[Host]:
    """Return hosts with the fewest servers that suffice, or with as many as possible if none do."""
    most = max(1, min(room.links, room.slots - 1 - workers))
    fewer = bisect_left(range(1, most), True, key=lambda n: suffice(room.place(n, workers), training, network))
    return room.place(1 + fewer, workers)


def recommend(room: Room, training: Training, network: Network) -> Prediction:
    """Recommend as many workers as fit beside the servers that they need, and are worth it."""

    @cache
    def best(workers: int) -> Prediction:
        return predict(training, enough_servers(room, workers, training, network), network)

    def too_many(workers: int) -> bool:
        """Whether the last ones are too many; a sixteenth at a time, because rounds change by whole steps."""
        some, now = max(1, workers // 16), best(workers)
        gain = now.speed_up - (best(workers - some).speed_up if workers > some else 0)
        stretched = now.steps > LONGEST and now.seconds > STRETCHED * best(1).seconds
        more = now.servers < room.links  # if there were slots
        in_want = more and not suffice(room.place(now.servers, workers), training, network)
        return gain < WORTH * some or stretched or in_want

    return best(max(1, bisect_left(range(1, room.slots - 1), True, key=too_many)))


def balance(size: int, servers: int) -> tuple[int, float]:
    """Return the bytes of the largest share of `size` parameters, and its ratio to the mean."""
    greatest = max(shares(size, servers))
    return PULLED * greatest, greatest * servers / size


def plot(training: Training, delay: float) -> str:
    """Draw photos per second of 1 to 1000 workers on LINKS, with the servers that they need, and the ideal, as SVG."""
    ideal, counts = training.batch / training.step, sorted({round(10 ** (n / 8)) for n in range(25)})
    lowest = math.floor(math.log10(ideal))
    across, up = (1, 10, 100, 1000), [10.0**n for n in range(lowest, lowest + 5)]

    def at(workers: float, rate: float) -> tuple[float, float]:
        return round(60 + 130 * math.log10(workers), 1), round(450 - 100 * (math.log10(rate) - lowest), 1)

    def text(x: float, y: float, words: str, anchor: str = "middle", colour: str = "black") -> str:
        return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}">{words}</text>'

    def line(points: Sequence[tuple[float, float]], colour: str, width: int = 1) -> str:
        along = " ".join(f"{x},{y}" for x, y in points)
        return f'<polyline points="{along}" fill="none" stroke="{colour}" stroke-width="{width}"/>'

    drawn = [line([at(1, rate), at(1000, rate)], "#dddddd") for rate in up]
    drawn += [line([at(workers, up[0]), at(workers, up[-1])], "#dddddd") for workers in across]
    drawn += [text(52, at(1, rate)[1] + 4, f"{rate:g}", "end") for rate in up]
    drawn += [text(at(workers, 1)[0], 470, str(workers)) for workers in across]
    drawn += [text(255, 492, "workers"), text(255, 24, "photos per second"), text(430, 380, "ideal", "end", "#888888")]
    drawn.append(line([at(1, ideal), at(1000, 1000 * ideal)], "#888888"))
    for number, (name, (rate, colour)) in enumerate(LINKS.items()):
        network = Network(rate, delay)
        placed = [enough_servers(Room(2 * n + 1, n, apart), n, training, network) for n in counts]
        found = [predict(training, nodes, network) for nodes in placed]
        drawn.append(line([at(one.workers, one.photos_per_second) for one in found], colour, 2))
        drawn.append(text(430, 398 + 18 * number, f"{name}, {found[-1].servers} ps for 1000", "end", colour))
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="480" height="500" font-family="sans-serif" font-size="13">'
    return "\n".join([head, '<rect width="480" height="500" fill="white"/>', *drawn, "</svg>\n"])
