"""What a run will take, by numbers that can be followed by hand."""

import math
from dataclasses import replace

import pytest

from producer.plan import Overhead, Timing, guided_chunks, plan
from producer.plan_cell import CellPilot, Range, Rule, Spread, blocks_needed, plan_cell
from producer.sizing import Sizing

CHECKPOINTS = (32, 48, 72, 108, 162, 200)


def spread(mean: float = 10.0, variance: float = 4.0, error: float = 0.0) -> Spread:
    return Spread(mean=mean, mean_error=0.0, variance=variance, variance_error=error, replicates=8)


def pilot(*outputs: Spread, seconds: float = 0.25, samples: int = 8_000) -> CellPilot:
    return CellPilot(samples, seconds, outputs)


def rule(
    standard_error: float | None = None, relative_error: float | None = None, least: int = 1
) -> Rule:
    return Rule(100, CHECKPOINTS, standard_error, relative_error, least)


# Samples


def test_a_target_needs_variance_divided_by_its_square() -> None:
    # 4 / 0.02² = 10,000 samples = 100 blocks of 100.
    assert blocks_needed(pilot(), spread(), rule(0.02)).expected == pytest.approx(100)


def test_a_relative_target_is_one_of_the_mean() -> None:
    # 4 / (0.002·10)² = 10,000 samples.
    assert blocks_needed(pilot(), spread(), rule(None, 0.002)).expected == pytest.approx(100)
    assert blocks_needed(pilot(), spread(-10.0), rule(None, 0.002)).expected == pytest.approx(100)
    assert blocks_needed(pilot(), spread(0.0), rule(None, 0.002)).expected == math.inf


@pytest.mark.parametrize(("standard", "relative"), [(0.02, 0.5), (1.0, 0.002)])
def test_of_two_targets_the_harder_one_counts(standard: float, relative: float) -> None:
    found = blocks_needed(pilot(), spread(), rule(standard, relative))
    assert found.expected == pytest.approx(100)


def test_an_error_is_not_believed_before_its_variance_is_known_to_a_tenth() -> None:
    # 8,000 samples know it to 0.2; to know it to 0.1, four times as many are needed.
    found = blocks_needed(pilot(), spread(error=0.2), rule(1.0))
    assert found.expected == pytest.approx(320)


def test_an_output_that_does_not_vary_is_never_believed() -> None:
    assert blocks_needed(pilot(), spread(variance=0.0), rule(1.0)).low == math.inf
    cell = plan_cell(pilot(spread(variance=0.0)), rule(1.0))
    assert (cell.samples.low, cell.reaches) == (20_000, False)


def test_low_and_high_are_two_standard_errors_of_the_logarithm() -> None:
    # From 8,000 samples the variance is known to 3 %, from the run's own 8,000 as well:
    # exp(±2·0.03·√2) = 1.0885.
    found = blocks_needed(pilot(), spread(error=0.03), rule(math.sqrt(4 / 8_000)))
    assert found.expected == pytest.approx(80)
    assert (found.low, found.high) == (
        pytest.approx(80 / 1.08854, 1e-4), pytest.approx(80 * 1.08854, 1e-4),
    )  # fmt: skip


def test_the_mean_makes_a_relative_target_uncertain_as_well() -> None:
    unsure = Spread(mean=10.0, mean_error=0.2, variance=4.0, variance_error=0.03, replicates=8)
    found = blocks_needed(pilot(), unsure, rule(None, math.sqrt(4 / 8_000) / 10))
    # √(0.03² + (2·0.02)²) = 0.05; exp(2·0.05·√2) = 1.1519.
    assert found.high / found.expected == pytest.approx(1.15191, 1e-4)


@pytest.mark.parametrize(
    ("target", "samples", "reaches"),
    [
        (0.02, 10_800, True),  # 100 blocks: the checkpoint at 108
        (math.sqrt(4 / 10_800) * (1 + 1e-12), 10_800, True),
        (1.0, 3_200, True),  # the first checkpoint
        (0.001, 20_000, False),  # the sample limit
    ],
)
def test_a_cell_ends_at_the_first_checkpoint_from_there_on(
    target: float, samples: int, reaches: bool
) -> None:
    cell = plan_cell(pilot(spread()), rule(target))
    assert (cell.samples.expected, cell.reaches) == (samples, reaches)


def test_without_a_target_a_cell_ends_at_its_limit_for_certain() -> None:
    cell = plan_cell(pilot(), rule())
    assert cell.samples == Range(expected=20_000, low=20_000, high=20_000)
    assert cell.reaches


def test_the_output_that_takes_longest_decides() -> None:
    cell = plan_cell(pilot(spread(variance=1.0), spread(), spread(variance=2.0)), rule(0.02))
    assert cell.samples.expected == 10_800


def test_a_rule_may_need_more_blocks_before_it_believes_any_error() -> None:
    assert plan_cell(pilot(spread()), rule(1.0, least=150)).samples.expected == 16_200


# Replicates


def test_replicates_tell_the_variance_and_how_well_it_is_known() -> None:
    found = Spread.of([1.0, 3.0], [3.0, 5.0], samples=400)
    assert (found.mean, found.variance, found.replicates) == (2.0, 4.0, 2)
    assert found.mean_error == pytest.approx(0.1)  # √(4 / 400)
    assert found.variance_error == pytest.approx(0.25)  # √2 / √2 / 4


# Time


def test_core_seconds_are_blocks_times_what_one_takes_in_its_cell() -> None:
    both = plan([pilot(seconds=0.25), pilot(seconds=0.5)], rule(), Overhead(0.0, 0.0), 0)
    assert both.core_seconds.expected == 200 * 0.25 + 200 * 0.5
    assert both.samples.expected == 40_000


def test_chunks_are_half_a_second_and_end_at_checkpoints() -> None:
    assert plan_cell(pilot(seconds=0.25), rule()).chunks == 100
    assert plan_cell(pilot(seconds=1e-6), rule()).chunks == len(CHECKPOINTS)
    assert plan_cell(pilot(spread(), seconds=1e-6), rule(0.02)).chunks == 4  # 32, 48, 72, 108
    assert plan_cell(pilot(seconds=0.3), rule()).chunks == 200  # two blocks would be too much
    assert plan_cell(pilot(seconds=3.0), rule()).chunks == 200


def made(core_seconds: float, block_seconds: float, slots: int) -> int:
    """Return how many chunks the scheduler's own rule makes."""
    sizing, count = Sizing(), 0
    sizing.learn(0, block_seconds)
    sizing.came_back(1 << 20, 1e-3)
    blocks = round(core_seconds / block_seconds)
    while blocks > 0:
        blocks -= sizing.blocks(0, blocks * block_seconds, slots)
        count += 1
    return count


@pytest.mark.parametrize("slots", [1, 4, 32, 256])
@pytest.mark.parametrize(
    ("core_seconds", "block_seconds"), [(2.0, 1e-4), (60.0, 1e-4), (2_000.0, 1e-3), (50.0, 0.7)]
)
def test_chunks_are_as_many_as_the_scheduler_makes(
    core_seconds: float, block_seconds: float, slots: int
) -> None:
    found = guided_chunks(core_seconds, block_seconds, slots)
    assert found == pytest.approx(made(core_seconds, block_seconds, slots), rel=0.05, abs=2)


def test_more_slots_make_more_chunks_and_each_has_its_overhead() -> None:
    # 2 s: on 256 slots each chunk has the least size, 0.01 s.
    found = plan([pilot(seconds=0.01)], rule(), Overhead(0.1, 0.002), 0)
    chunks = [row.chunks for row in found.slots]
    assert chunks == sorted(chunks)
    assert (found.chunks, chunks[-1]) == (chunks[0], 200)
    assert found.slots[-1].seconds.expected == pytest.approx(0.1 + 200 * 0.002 + 2 / 200)
    assert found.best.slots < 256


def test_no_time_is_less_than_that_of_the_longest_chunk() -> None:
    cells = [pilot(seconds=1e-4), pilot(seconds=5.0)]
    one_block = Rule(100, (1,))
    found = plan(cells, one_block, Overhead(0.1, 0.0, stretch=2.0), 0)
    assert found.slots[-1].seconds.expected == pytest.approx(0.1 + 2 * 5.0)


def test_cells_share_the_chunks_by_their_work() -> None:
    # A block of 10 s is one chunk, whatever a thousand short ones beside it are.
    cells = [pilot(seconds=10.0), *[pilot(seconds=1e-3)] * 10]
    found = plan(cells, Rule(100, (1,)), Overhead(0.0, 0.0), 0)
    assert found.chunks == 11
    # 100 s of two equal cells: 198 chunks of 0.5 s, one of half of 1 s, and two of a block.
    assert plan([pilot()] * 2, rule(), Overhead(0.0, 0.0), 0).chunks == 201


def test_work_that_takes_no_time_still_has_chunks() -> None:
    found = plan([pilot(seconds=0.0)], rule(), Overhead(0.1, 0.0), 0)
    assert found.slots[-1].seconds.expected == pytest.approx(0.1)
    assert found.chunks == len(CHECKPOINTS)


def test_large_chunks_tell_the_stretch_and_small_ones_what_a_chunk_adds() -> None:
    # 4 s of CPU on 2 slots take 3 s in large chunks after 0.1 s of latency: 1.5 for 1. In small
    # ones 4.1 s are 0.1 s, 3 s and 1 s for 500 chunks.
    found = Overhead.of(0.1, Timing(4.1, 4.0, 500), Timing(3.1, 4.0, 8), slots=2)
    assert found == Overhead(0.1, pytest.approx(0.002), pytest.approx(1.5))


def test_noise_makes_no_overhead_negative_and_no_slot_faster_than_its_core() -> None:
    found = Overhead.of(0.1, Timing(2.0, 4.0, 500), Timing(1.9, 4.0, 8), slots=2)
    assert found == Overhead(0.1, 0.0, 1.0)


def test_a_slot_that_gets_half_a_core_takes_twice_as_long_for_its_work_alone() -> None:
    whole = plan([pilot()], rule(), Overhead(0.1, 0.002), 0)
    half = plan([pilot()], rule(), Overhead(0.1, 0.002, stretch=2.0), 0)
    assert half.core_seconds == whole.core_seconds
    assert half.serial_seconds == whole.serial_seconds
    assert half.slots[0].seconds.expected == pytest.approx(0.302 + 2 * 50)


def test_wall_time_follows_amdahl() -> None:
    # 50 s of work on one slot: 98 chunks of 0.5 s until 1 s remains, one that is half of it, and
    # two of a block; each adds 2 ms to a latency of 0.1 s: 0.302 s that no slot takes off.
    found = plan([pilot(seconds=0.25)], rule(), Overhead(0.1, 0.002), live_slots=4)
    assert found.chunks == 101
    assert found.serial_seconds == pytest.approx(0.302)
    assert found.serial_share == pytest.approx(0.302 / 50.302)
    seconds = {one.slots: one.seconds.expected for one in found.slots}
    assert list(seconds) == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert seconds[1] == pytest.approx(50.302)
    # Four: 92 chunks until 4 s remain, 5.2 until 2 s do, 8 of a block.
    assert seconds[4] == pytest.approx(0.1 + 106 * 0.002 + 12.5)
    assert found.slots[2].speedup == pytest.approx(50.302 / 12.812)
    assert found.slots[2].efficiency == pytest.approx(50.302 / 12.812 / 4)
    assert found.live == found.slots[2]
    # More slots than its 200 blocks cannot help.
    assert seconds[256] == pytest.approx(0.1 + 200 * 0.002 + 50 / 200)


@pytest.mark.parametrize(
    ("cells", "latency", "slots"),
    [
        (100, 0.0, 256),  # 5,000 s and nothing serial: each slot counts
        (1, 10.0, 7),  # 60 s; 17.14 s on 7 are 50 %, on 8 it is 46 %
        (1, 1e4, 2),  # a second one adds next to nothing, and half of two is one
    ],
)
def test_slots_are_enough_as_long_as_each_is_used_half(
    cells: int, latency: float, slots: int
) -> None:
    found = plan([pilot()] * cells, rule(), Overhead(latency, 0.0), 0)
    assert found.enough_slots == slots


@pytest.mark.parametrize(
    ("block_seconds", "overhead", "worth"),
    [
        (0.25, Overhead(0.1, 0.002), True),
        (0.001, Overhead(0.05, 0.0), False),  # 0.25 s on one slot: nothing to save
        (0.25, Overhead(30.0, 0.0), False),  # never twice as fast as one core alone
    ],
)
def test_distributing_is_worth_while_where_it_saves_a_second_and_half_the_time(
    block_seconds: float, overhead: Overhead, worth: bool
) -> None:
    found = plan([pilot(seconds=block_seconds)], rule(), overhead, 0)
    assert found.worth_distributing is worth
    assert found.live is None


# Under a time limit


def limited(seconds: float) -> Rule:
    return replace(rule(), seconds=seconds)


def test_a_time_limit_ends_a_cell_at_the_last_checkpoint_before_it() -> None:
    found = plan([pilot()], limited(10.0), Overhead(0.1, 0.002), 0)
    samples = {row.slots: row.samples.expected for row in found.slots}
    # 9.9 s of 50.2 s are 39 blocks, on four slots 9.9 s of 12.7 s are 155; on eight all is done.
    assert (samples[1], samples[4], samples[8]) == (3_200, 10_800, 20_000)
    assert {row.seconds.expected for row in found.slots if row.slots <= 4} == {10.0}
    assert found.slots[0].core_seconds.expected == pytest.approx(50 * 9.9 / 50.202)
    assert found.slots[3].core_seconds.expected == 50
    assert found.best.slots == 256


def test_the_totals_are_those_of_the_live_slots() -> None:
    found = plan([pilot()], limited(10.0), Overhead(0.1, 0.002), live_slots=4)
    assert found.live == found.slots[2]
    assert (found.samples, found.core_seconds) == (found.live.samples, found.live.core_seconds)
    (cell,) = found.cells
    assert (cell.samples.expected, cell.chunks, cell.reaches) == (10_800, 54, False)
    assert (found.cells_cut, found.cells_short) == (1, 0)
    assert found.serial_seconds == pytest.approx(0.1 + 20 * 0.002)  # of the 101 chunks on one slot


def test_segments_are_computed_before_later_ones_of_any_cell() -> None:
    # One slot has 9.9 s: 32 blocks of the first cell take 8 s, the second one is not complete.
    two = plan([pilot()] * 2, limited(10.0), Overhead(0.1, 0.0), 1)
    assert [cell.samples.expected for cell in two.cells] == [3_200, 0]
    # 20 s are 80 blocks: the first 32 of both, and no 16 more of either are complete but one's.
    both = plan([pilot()] * 2, limited(20.2), Overhead(0.1, 0.0), 1)
    assert [cell.samples.expected for cell in both.cells] == [4_800, 3_200]
    assert both.cells_cut == 2


def test_a_cell_that_ends_by_its_target_leaves_its_time_to_others() -> None:
    easy, hard = pilot(spread(variance=1.0)), pilot(spread())
    aimed = Rule(100, CHECKPOINTS, 0.02, seconds=25.0)
    found = plan([easy, hard], aimed, Overhead(0.0, 0.0), 1)
    # 32 blocks of both are 16 s, another 16 and 24 of the hard one 10 s more.
    assert [cell.samples.expected for cell in found.cells] == [3_200, 4_800]
    assert [cell.reaches for cell in found.cells] == [True, False]


def test_a_time_limit_that_is_far_away_changes_nothing() -> None:
    free = plan([pilot()], rule(), Overhead(0.1, 0.002), 4)
    assert plan([pilot()], limited(1e4), Overhead(0.1, 0.002), 4) == free


def test_a_limit_within_the_latency_leaves_nothing() -> None:
    found = plan([pilot()], limited(0.05), Overhead(0.1, 0.002), 1)
    assert (found.samples.expected, found.cells[0].chunks, found.slots[8].speedup) == (0, 0, 1.0)
    assert found.serial_share == 1.0
    assert not found.worth_distributing


def test_under_a_time_limit_distributing_is_worth_while_where_it_computes_twice_as_much() -> None:
    cheap = Overhead(0.1, 0.002)
    assert plan([pilot()], limited(10.0), cheap, 1).worth_distributing
    # On 256 slots half of 10 s is latency, but 5 s of many slots are more than 10 s of one.
    assert plan([pilot()] * 10, limited(10.0), Overhead(5.0, 0.0), 1).worth_distributing
    assert not plan([pilot()] * 10, limited(10.0), Overhead(9.99, 0.0), 1).worth_distributing


def test_slots_whose_work_the_time_limit_discards_are_not_the_best() -> None:
    # 2.9 s are 23 blocks of two slots, 46 of four and 2,969 of 256: only the first 32 count.
    aimed = Rule(100, (32, 4_000), seconds=3.0)
    found = plan([pilot()], aimed, Overhead(0.1, 0.0), 0)
    assert [row.samples.expected for row in found.slots] == [0, 0] + [3_200] * 7
    assert found.best.slots == 4


def test_what_distributing_saves_is_the_time_that_one_slot_needs_for_as_much() -> None:
    found = plan([pilot()] * 10, limited(1.0), Overhead(0.1, 0.0), 0)
    best = found.best.core_seconds.expected
    assert 200 < best < 256
    assert found.saved_seconds == pytest.approx(0.1 + best - 1.0)
