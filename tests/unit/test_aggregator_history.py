"""When a cell gets a point of its convergence history, on a ledger without store or broker."""

from collections import Counter
from itertools import pairwise

import pytest

from aggregator.history import ESTIMATES_PER_SECOND, MAX_POINTS
from aggregator.ledger import Ledger
from aggregator.result import result
from protocol.definition import Definition
from tests.support.run_values import BLOCK_SIZE, RUN, declare, definition, partial

NOW = 1_000.0


def ledger_of(of: Definition) -> Ledger:
    ledger = Ledger(1)
    ledger.declare(declare(of), NOW)
    return ledger


def test_a_point_tells_the_estimates_of_all_outputs_as_the_result_does() -> None:
    of = definition(outputs=("x", "y"))
    ledger = ledger_of(of)
    ledger.partial(partial(of, 0, 5), NOW)
    ledger.record(NOW + 1)
    changes = ledger.take_changes()
    [new] = changes.points
    told = result(ledger.active[RUN], NOW).cells[0].outputs.values()
    assert (new.run, new.cell, new.point.samples, new.point.at) == (RUN, 0, 5 * 1024, NOW + 1)
    assert new.point.estimates == tuple((one.mean, one.standard_error) for one in told)
    assert changes.runs[RUN] is ledger.active[RUN]


def test_what_was_merged_already_gets_no_point() -> None:
    of = definition()
    ledger = ledger_of(of)
    for _ in range(3):
        ledger.partial(partial(of, 0, 8), NOW)
        ledger.record(NOW)
    assert [new.point.samples for new in ledger.take_changes().points] == [8 * BLOCK_SIZE]


def test_a_burst_costs_no_more_estimates_than_a_second_allows_and_leaves_no_cell_out() -> None:
    of = definition(cells=100)
    ledger = ledger_of(of)
    for cell in range(100):
        ledger.partial(partial(of, 0, 1, cell), NOW)
    points: list[int] = []
    for second in range(8):
        ledger.record(NOW + second)
        batch = ledger.take_changes().points
        assert len(batch) <= ESTIMATES_PER_SECOND
        points += [new.cell for new in batch]
    assert Counter(points) == Counter(range(100))


@pytest.mark.parametrize("outputs", [1, 40])
def test_estimates_of_many_outputs_count_as_several(outputs: int) -> None:
    of = definition(cells=100, outputs=tuple(f"x{number}" for number in range(outputs)))
    ledger = ledger_of(of)
    for cell in range(100):
        ledger.partial(partial(of, 0, 1, cell), NOW)
    ledger.record(NOW)
    assert len(ledger.take_changes().points) == {1: 25, 40: 3}[outputs]


def test_points_grow_by_a_share_of_the_samples_and_are_thinned_in_time() -> None:
    of = definition(2**20)
    ledger = ledger_of(of)
    seen, thinnings, block = [], 0, 0
    for number in range(900):
        blocks = 1 + block // 100  # each a hundredth of what there is
        end = min(block + blocks, *(c for c in of.checkpoints if c > block))
        sums = partial(of, 0, 1).statistics
        grown = sums.model_copy(update={"blocks": end - block, "samples": (end - block) * 1024})
        ledger.partial(
            partial(of, 0, 1, statistics=grown, first_block=block, blocks=end - block), 0
        )
        block = end
        ledger.record(NOW + number)
        for new in ledger.take_changes().points:
            seen.append(new.point.samples)
            thinnings += new.limit is not None
    assert all(b - a > b // MAX_POINTS for a, b in pairwise(seen))
    assert len(seen) > 2 * MAX_POINTS
    assert thinnings == 1 + (len(seen) - 2 * MAX_POINTS - 1) // (MAX_POINTS + 1)


def test_a_cell_that_has_ended_gets_no_point_for_its_result_is_the_last_one() -> None:
    of = definition(32, cells=2)
    ledger = ledger_of(of)
    ledger.partial(partial(of, 0, 32, 0), NOW)
    ledger.partial(partial(of, 0, 31, 1), NOW)
    ledger.record(NOW)
    assert [new.cell for new in ledger.take_changes().points] == [1]
    ledger.partial(partial(of, 31, 32, 1), NOW)
    ledger.record(NOW)
    assert ledger.take_changes().points == []
    assert RUN not in ledger.active


def test_samples_of_a_cell_are_those_that_count() -> None:
    of = definition(1_000)
    ledger = ledger_of(of)
    ledger.partial(partial(of, 3, 7), NOW)
    assert ledger.active[RUN].samples_of(0) == 4 * BLOCK_SIZE
