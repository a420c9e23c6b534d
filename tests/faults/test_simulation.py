"""Thousands of seeded schedules: whatever goes wrong, every run ends with the undisturbed digest."""

import multiprocessing
import os
import traceback

import pytest
from ops.simulation.world import World, simulate, undisturbed_digest

SCHEDULES = int(os.environ.get("MONTEMQ_SCHEDULES", "2000"))
FIRST_SEED = int(os.environ.get("MONTEMQ_FIRST_SEED", "0"))
"""Both from the environment, so that a longer run by hand can look elsewhere."""


def _fails(work: tuple[int, str]) -> str | None:
    seed, expected = work
    try:
        simulate(seed, expected)
    except Exception:  # whatever it is, the seed is what repeats it
        return f"seed {seed}:\n{traceback.format_exc()}"
    return None


@pytest.mark.timeout(900)
def test_every_schedule_ends_with_the_digest_of_an_undisturbed_run() -> None:
    expected = undisturbed_digest()
    seeds = [(seed, expected) for seed in range(FIRST_SEED, FIRST_SEED + SCHEDULES)]
    with multiprocessing.get_context("forkserver").Pool() as pool:
        failures = [text for text in pool.imap_unordered(_fails, seeds, chunksize=20) if text]
    assert not failures, f"{len(failures)} of {SCHEDULES} schedules failed; the first: {failures[0]}"


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
