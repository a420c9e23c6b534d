"""Thousands of seeded schedules: whatever goes wrong, a run ends with the undisturbed digest."""

import multiprocessing
import os
import traceback
from concurrent.futures import ProcessPoolExecutor

import pytest

from ops.simulation.world import World, simulate, undisturbed_digest

SCHEDULES = int(os.environ.get("MONTEMQ_SCHEDULES", "2000"))
FIRST_SEED = int(os.environ.get("MONTEMQ_FIRST_SEED", "0"))
"""Both from the environment, so that a longer run by hand can look elsewhere."""


def _failure(seed: int, expected: str) -> str | None:
    try:
        simulate(seed, expected)
    except Exception:  # noqa: BLE001 - whatever it is, the seed is what repeats it
        return f"seed {seed}:\n{traceback.format_exc()}"
    return None


@pytest.mark.timeout(900)
def test_every_schedule_ends_with_the_digest_of_an_undisturbed_run() -> None:
    expected = undisturbed_digest()
    seeds = range(FIRST_SEED, FIRST_SEED + SCHEDULES)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(_failure, seeds, [expected] * len(seeds), chunksize=20))
    failures = [text for text in found if text]
    assert not failures, f"{len(failures)} of {SCHEDULES} failed; the first: {failures[0]}"


def test_the_schedules_differ_and_a_seed_repeats_its_own() -> None:
    expected = undisturbed_digest()
    worlds = [simulate(seed, expected) for seed in (1, 2, 1)]
    ends = [(world.now, len(world.attempts)) for world in worlds]
    assert ends[0] == ends[2]
    assert ends[0] != ends[1]


def test_the_scenarios_cover_every_kind_of_disturbance() -> None:
    scenarios = [World(seed).scenario for seed in range(200)]
    assert any(s.crash for s in scenarios)
    assert any(s.faults.drop and s.faults.close_channel and s.faults.duplicate for s in scenarios)
    assert {s.chunk_blocks for s in scenarios} == {1, 3, 7, 20}
    assert any(s.producers > 1 and s.aggregators > 1 and s.accidents > 3 for s in scenarios)
