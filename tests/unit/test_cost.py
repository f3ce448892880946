"""What plan-cluster predicts: against limits that hold by themselves, and against a small simulation."""

import math
import random
import statistics
from itertools import pairwise

import pytest

from depthfield.cluster.hosts import Host as Machine
from depthfield.network import model as models
from depthfield.training import cost
from depthfield.training import recipe as recipes
from depthfield.training.cost import BUSY, Costs, Host, Network, Room, Training, apart, predict, recommend
from depthfield.training.pace import HIDDEN, LONGEST, TOLERATED

NO_COSTS = Costs(*[0.0] * 5)
BIG = Training(parameters=14_000_000, step=0.07, batch=2)
GBIT = 125e6
RATES = [0.1 * GBIT, GBIT, 10 * GBIT, 100 * GBIT]
SIZES = [(1, 1), (1, 2), (1, 8), (2, 8), (4, 8), (2, 32), (8, 32), (3, 100)]  # servers and workers


def simulated(training: Training, servers: int, workers: int, network: Network, steps: int, beside: bool) -> float:
    """Seconds of a round where workers share the servers' links in each direction as they come, each way alike."""
    rng, pull, push = random.Random(0), 4 * training.parameters, 2 * training.parameters
    now, ends = 0.0, [[] for _ in range(workers)]
    left = [[rng.random() * steps * training.step, 0.0, 0.0] for _ in range(workers)]  # to compute, to push, to pull
    busy = [beside] * workers  # whether the exchange of this round is begun
    while min(map(len, ends)) < 15:
        pushing = [worker for worker in range(workers) if busy[worker] and left[worker][1] > 0]
        pulling = [w for w in range(workers) if busy[w] and left[w][1] <= 0 and left[w][2] > 0]
        rates = {(worker, 0): 1.0 for worker in range(workers) if left[worker][0] > 0}
        for kind, members in ((1, pushing), (2, pulling)):
            rates |= {(worker, kind): network.rate * min(1, servers / len(members)) for worker in members}
        wait = min((left[worker][kind] / rate for (worker, kind), rate in rates.items()), default=0.0)
        now += wait
        for (worker, kind), rate in rates.items():
            left[worker][kind] = (
                left[worker][kind] - wait * rate if left[worker][kind] > wait * rate * (1 + 1e-9) else 0
            )
        for worker, rest in enumerate(left):
            if rest[0] <= 0:
                busy[worker] = True
            if not any(rest) and busy[worker]:
                ends[worker].append(now)
                left[worker] = [steps * training.step * rng.uniform(0.9, 1.1), float(push), float(pull)]
                busy[worker] = beside
    return statistics.mean((times[-1] - times[4]) / (len(times) - 5) for times in ends)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("round_steps", [0, 4])
@pytest.mark.parametrize(("servers", "workers"), SIZES)
def test_rounds_last_as_long_as_in_a_simulation(servers, workers, round_steps, rate):
    found = predict(BIG._replace(round_steps=round_steps), apart(servers, workers), Network(rate, costs=NO_COSTS))
    seconds = simulated(BIG, servers, workers, Network(rate), found.steps, found.beside)
    assert found.seconds == pytest.approx(seconds, rel=0.2)


@pytest.mark.parametrize(("servers", "workers"), SIZES)
def test_a_faster_link_makes_no_exchange_and_no_round_longer(servers, workers):
    rates = [0.05 * GBIT * 2**n for n in range(14)]
    found = [predict(BIG, apart(servers, workers), Network(rate)) for rate in rates]
    exchanges = [one.exchange_seconds for one in found]
    assert all(later <= sooner * 1.0001 for sooner, later in pairwise(exchanges)) and exchanges[-1] < exchanges[0] / 10
    # An exchange of a fast link is after computing, and no longer hidden beside it: that may cost its share of a round.
    assert all(later <= sooner * (1 + HIDDEN) for sooner, later in pairwise(one.seconds for one in found))
    alike = [one for one in found if not one.beside]
    assert all(more >= less * 0.99 for less, more in pairwise(one.photos_per_second for one in alike))


@pytest.mark.parametrize(("servers", "workers"), SIZES)
def test_where_exchanges_cost_nothing_workers_are_as_fast_as_so_many_processes(servers, workers):
    found = predict(BIG, apart(servers, workers), Network(math.inf, costs=NO_COSTS))
    assert found.steps == 1 and found.exchange_seconds == 0
    assert found.speed_up == pytest.approx(workers)
    assert found.photos_per_second == pytest.approx(workers * BIG.batch / BIG.step)


@pytest.mark.parametrize("rate", [0.001 * GBIT, *RATES])
@pytest.mark.parametrize("round_steps", [0, 1, 100])
@pytest.mark.parametrize(("servers", "workers"), SIZES)
def test_servers_are_never_busier_than_they_can_be(servers, workers, round_steps, rate):
    training = BIG._replace(round_steps=round_steps)
    for costs in (NO_COSTS, Costs(server_byte=1e-7)):
        found = predict(training, apart(servers, workers), Network(rate, costs=costs))
        assert found.busy <= 1
        assert found.server_rate <= 2 * rate and found.server_rate * costs.server_byte <= 1 + 1e-9
        assert found.steps == (round_steps or found.steps)


def test_nodes_of_one_host_need_no_network_and_share_its_link():
    slow, fast = Network(GBIT / 1000), Network(math.inf)
    assert predict(BIG, [Host(4, 1)], slow).exchange_seconds == predict(BIG, [Host(4, 1)], fast).exchange_seconds
    alone, crowded = (predict(BIG, [Host(0, 1)] * 16 + hosts, Network(GBIT, costs=NO_COSTS))
                      for hosts in ([Host(1, 0)] * 16, [Host(16, 0)]))  # fmt: skip
    assert crowded.exchange_seconds > 5 * alone.exchange_seconds
    assert crowded.seconds >= 16 * 4 * BIG.parameters / GBIT


def test_rounds_are_those_of_pace():
    slow, fast = (predict(BIG, apart(1, 1), Network(rate)) for rate in (0.1 * GBIT, math.inf))
    assert slow.beside and slow.exchange_seconds > HIDDEN * LONGEST * BIG.step
    assert slow.steps * BIG.step >= 1.1 * slow.exchange_seconds
    assert not fast.beside and fast.steps <= LONGEST
    small = predict(BIG._replace(parameters=100_000), apart(1, 1), Network(math.inf))
    assert small.computing == pytest.approx(1 - TOLERATED, abs=0.02) and small.steps < LONGEST


def test_what_is_recommended_keeps_servers_half_idle_with_as_few_as_that_takes():
    for rate in RATES:
        network = Network(rate)
        found = recommend(Room(60, 59, apart), BIG, network)
        assert found.busy <= BUSY and 1 + found.servers + found.workers <= 60
        if found.servers > 1:
            assert predict(BIG, apart(found.servers - 1, found.workers), network).busy > BUSY
        more = recommend(Room(90, 89, apart), BIG, network)
        assert more.workers > found.workers


def test_no_worker_is_recommended_that_only_waits_for_the_chief():
    slow_chief = Network(GBIT * 10, costs=Costs(chief=0.2))
    found = recommend(Room(500, 499, apart), BIG, slow_chief)
    assert found.workers < 40 and found.speed_up > 0.6 * found.workers
    for workers in (50, 500):
        assert predict(BIG, apart(100, workers), slow_chief).seconds == pytest.approx(workers * 0.2)


def test_where_all_hosts_serve_workers_are_as_many_as_have_slots():
    found = recommend(cost.room([Machine("a", 8), Machine("b", 8)]), BIG, Network(GBIT / 2))
    assert (found.servers, found.workers) == (2, 13) and found.busy > BUSY
    assert found.beside


def test_workers_that_all_would_wait_for_are_not_recommended():
    crowded = cost.room([Machine(str(number), 100) for number in range(4)])
    slow = Network(GBIT / 10)
    found, alone = recommend(crowded, BIG, slow), predict(BIG, apart(4, 1), slow)
    assert found.servers == 4 and 4 < found.workers < 20
    assert alone.seconds < found.seconds < 2.1 * alone.seconds


def test_hosts_are_used_as_split_resources_does_and_have_the_memory():
    machines = [Machine("a", 4, (), 10**9), Machine("b", 4, (), 10**9), Machine("c", 4, (), 10**9)]
    place = cost.room(machines).place
    assert place(2, 3) == [Host(1, 0, 10**9), Host(1, 1, 10**9), Host(1, 1, 10**9)]  # the chief is on the first
    tiny = [machine._replace(memory=60_000_000) for machine in machines]
    network = Network(math.inf)
    assert recommend(cost.room(machines), BIG, network).servers == 1
    assert recommend(cost.room(tiny), BIG, network).servers == 2  # of 56 MB, twice


@pytest.mark.parametrize("name", recipes.names())
def test_servers_carry_as_much_as_each_other(name):
    recipe = recipes.load(name)
    size = sum(v.shape.num_elements() for v in models.build(recipe, recipe.similarities, 0.0).trainable_variables)
    for servers in (2, 4, 8):
        held, of_mean = cost.balance(size, servers)
        assert 1 <= of_mean <= 1.15 and size * 4 <= held * servers <= size * 4 * of_mean + 1
