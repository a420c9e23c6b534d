"""Fleets without faults, in simulated time: who gets how much of them, and when runs end."""

from itertools import pairwise
from statistics import mean

import pytest

from ops.simulation.consumer import Habits, SimulatedConsumer
from ops.simulation.scenario import RunPlan, Scenario, undisturbed_digest
from ops.simulation.world import World
from protocol.definition import Lane
from protocol.topology import work_queue

SEEDS = range(5)
START = 3.0
"""When runs come: all consumers are known by then."""

FLEET_KNOWN = 10.0
"""By then the aggregator has listened for long enough to know who is not there."""

CHUNK = 0.5
"""Seconds that schedulers aim at."""


def fleet(
    seed: int, consumers: tuple[float, ...], slots: int, block: float, *runs: RunPlan
) -> World:
    """Run it to its end; chunks take within about 15 % of their time."""
    world = World(seed, Scenario(consumers, Habits(slots, block, regularity=50.0), runs))
    world.run()
    return world


def seconds(world: World, run: str = "run-0", start: float = START) -> float:
    return world.logs[run].ended - start


def starts(world: World, run: str) -> list[float]:
    """Return when chunks of a run began to be computed, in order."""
    consumers = [party for party in world.parties if isinstance(party, SimulatedConsumer)]
    return sorted(at for one in consumers for at, whose in one.starts if whose == run)


@pytest.mark.parametrize(
    ("speeds", "slots", "block", "cells"),
    [
        ((1.0, 10.0), 1, 0.02, 1),
        ((1.0, 1.0, 1.0, 10.0), 1, 0.02, 1),
        ((1.0, 1.0, 10.0, 10.0), 2, 0.02, 1),
        ((1.0, 10.0), 1, 0.3, 1),
        ((1.0, 10.0), 1, 0.02, 20),
    ],
)
def test_a_mixed_fleet_ends_a_run_within_15_percent_of_the_ideal_time(
    speeds: tuple[float, ...], slots: int, block: float, cells: int
) -> None:
    capacity = slots * sum(1 / slowness for slowness in speeds)
    blocks = round(20.0 * capacity / block / cells)
    for seed in SEEDS:
        plan = RunPlan(blocks, cells, start=START)
        world = fleet(seed, speeds, slots, block, plan)
        ideal = blocks * cells * block / capacity
        assert seconds(world) <= 1.15 * ideal, f"seed {seed}"
        assert world.logs["run-0"].blocks <= 1.15 * blocks * cells, f"seed {seed}: copies"


def test_a_slow_consumer_may_as_well_be_one_that_gets_a_tenth_of_a_core() -> None:
    for seed in SEEDS:
        plan = RunPlan(1_100, 1, start=START)
        habits = Habits(1, 0.02, regularity=50.0)
        world = World(seed, Scenario((1.0, 10.0), habits, (plan,), busy=True))
        world.run()
        assert seconds(world) <= 1.15 * 20.0, f"seed {seed}"
        assert world.logs["run-0"].blocks <= 1.15 * 1_100, f"seed {seed}: copies"


@pytest.mark.parametrize("slots", [1, 4])
def test_an_even_fleet_computes_nothing_twice_and_ends_together(slots: int) -> None:
    times = []
    for seed in SEEDS:
        blocks = 500 * slots * 2
        world = fleet(seed, (1.0, 1.0), slots, 0.02, RunPlan(blocks, 1, start=START))
        times.append(seconds(world))
        assert world.logs["run-0"].blocks <= 1.01 * blocks, f"seed {seed}"
    assert mean(times) <= 1.05 * 10.0
    assert max(times) <= 1.15 * 10.0


def test_thousands_of_tiny_blocks_go_in_one_chunk() -> None:
    world = fleet(0, (1.0, 1.0), 1, 0.0001, RunPlan(100_000, 1, start=START))
    assert len(world.logs["run-0"].attempts) <= 80
    assert seconds(world) <= 1.2 * 5.0


def test_many_cells_of_a_few_tiny_blocks_take_a_chunk_each() -> None:
    times = []
    for seed in SEEDS:
        world = fleet(seed, (1.0, 1.0), 1, 0.0001, RunPlan(4, 500, start=START))
        times.append(seconds(world))
        assert len(world.logs["run-0"].attempts) <= 550, f"seed {seed}"
    assert mean(times) <= 5.0


def test_two_equal_runs_submitted_together_end_within_20_percent() -> None:
    for seed in SEEDS:
        plans = (RunPlan(1_000, 1, start=START), RunPlan(1_000, 1, start=START))
        world = fleet(seed, (1.0, 1.0), 1, 0.02, *plans)
        first, second = sorted(seconds(world, run) for run in world.logs)
        assert second <= 1.2 * first, f"seed {seed}"
        assert second <= 1.2 * 20.0, f"seed {seed}"


@pytest.mark.parametrize("slots", [1, 4])
def test_a_small_run_behind_a_large_one_starts_within_two_chunk_times(slots: int) -> None:
    for seed in SEEDS:
        plans = (RunPlan(2_000 * slots, 1, start=START), RunPlan(33, 1, start=START + 10.0))
        world = fleet(seed, (1.0, 1.0), slots, 0.02, *plans)
        wait = starts(world, "run-1")[0] - (START + 10.0)
        assert wait <= 2.2 * CHUNK, f"seed {seed}"  # chunks differ by about 15 %


@pytest.mark.parametrize("slots", [1, 4])
def test_the_high_lane_overtakes_within_one_chunk_time_on_every_slot(slots: int) -> None:
    for seed in SEEDS:
        normal = RunPlan(1_500 * slots, 1, start=START)
        high = RunPlan(500 * slots, 1, lane=Lane.HIGH, start=START + 10.0)
        world = fleet(seed, (1.0, 1.0), slots, 0.02, normal, high)
        ended = world.logs["run-1"].ended
        urgent = [at for at in starts(world, "run-1") if at < ended - 2 * CHUNK]
        # Its first chunks have one block each; from then on a slot takes another run's chunk only
        # where the news of a merged one has not yet brought the next.
        others = [at for at in starts(world, "run-0") if urgent[0] + 2 * CHUNK < at < urgent[-1]]
        assert urgent[0] - (START + 10.0) <= 1.2 * CHUNK, f"seed {seed}"
        assert len(others) <= 0.15 * len(urgent), f"seed {seed}"


def test_the_low_lane_is_not_starved_by_the_high_one() -> None:
    for seed in SEEDS:
        high = RunPlan(6_000, 1, lane=Lane.HIGH, start=START)
        low = RunPlan(33, 1, lane=Lane.LOW, start=START + 5.0)
        world = fleet(seed, (1.0, 1.0), 1, 0.02, high, low)
        began = starts(world, "run-1")
        assert world.logs["run-0"].ended > START + 55.0
        assert began[0] <= START + 5.0 + 10.0, f"seed {seed}"
        assert all(after - before <= 10.0 for before, after in pairwise(began)), f"seed {seed}"


def test_the_queue_stays_as_short_as_the_fleet_is_small_whatever_the_run() -> None:
    habits = Habits(2, 0.02, regularity=50.0)
    world = World(0, Scenario((1.0, 1.0), habits, (RunPlan(8_000, 1, start=START),)))
    depths: list[int] = []
    channel = world.broker.connect("observer").channel()

    def observe() -> None:
        depths.append(channel.inspect_queue(work_queue("default", Lane.NORMAL)).messages)
        world.after(0.1, observe)

    observe()
    world.run()
    assert max(depths) <= 4 + 1


@pytest.mark.parametrize(("slots", "block", "blocks"), [(1, 0.02, 500), (2, 0.3, 100)])
def test_one_broken_host_cannot_fail_a_run_that_another_can_compute(
    slots: int, block: float, blocks: int
) -> None:
    for seed in SEEDS:
        habits, plan = Habits(slots, block), RunPlan(blocks, 1, start=START)
        world = World(seed, Scenario((1.0,), habits, (plan,), broken=1))
        world.run()
        result = world.store.result("run-0")
        assert result is not None
        assert (result.state, result.digest) == ("finished", undisturbed_digest(plan))


@pytest.mark.parametrize("broken", [1, 2, 4])
def test_a_run_that_fails_on_every_host_ends_within_seconds(broken: int) -> None:
    for seed in SEEDS:
        plan = RunPlan(500, 1, start=FLEET_KNOWN)
        world = World(seed, Scenario((), Habits(1, 0.02), (plan,), broken=broken))
        world.run()
        result = world.store.result("run-0")
        assert result is not None
        assert result.state == "failed"
        assert seconds(world, start=FLEET_KNOWN) <= 20.0, f"seed {seed}"
