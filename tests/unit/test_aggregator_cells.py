"""Where cells end: at the first checkpoint that their rule allows, whatever arrives when."""

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.books import Outcome, RunBooks
from aggregator.cells import Ending
from aggregator.estimates import estimate
from aggregator.failures import FAILURE_LIMIT, FailureRecord
from aggregator.ledger import Ledger
from aggregator.result import digest, result
from aggregator.stopping import Target, reached
from aggregator.store.sqlite import Store
from protocol.definition import Definition, Lane, Method
from protocol.messages import Progress, RunState
from protocol.ranges import Ranges
from protocol.results import EndedBy, Result
from tests.support.run_values import (
    BLOCK_SIZE,
    RUN,
    declare,
    definition,
    failure,
    partial,
    statistics,
)

NOW = 1_000.0
LIMIT = 162
CHECKPOINTS = (32, 48, 72, 108, 162)


def error_at(cell: int, blocks: int) -> float:
    found = estimate(statistics(cell, 0, blocks), 0, 0.95).standard_error
    assert found is not None
    return found


def between(cells: int, blocks: int) -> float:
    """Return an error that some cells have reached after so many blocks, and others have not."""
    errors = sorted(error_at(cell, blocks) for cell in range(cells))
    return (errors[cells // 2 - 1] + errors[cells // 2]) / 2


def with_target(error: float = 0.004, cells: int = 1, blocks: int = LIMIT) -> Definition:
    return definition(blocks, cells, stop={"standard_error": error, "outputs": ("x",)})


def end_of(cell: int, error: float) -> int:
    """Return where a cell must end, from its blocks alone."""
    for checkpoint in CHECKPOINTS:
        found = statistics(cell, 0, checkpoint)
        if reached(found, Method.PSEUDO, Target(standard_error=error)):
            return checkpoint
    return LIMIT


def books_of(of: Definition) -> RunBooks:
    return RunBooks(RUN, of, "default", Lane.NORMAL, NOW)


def merge(books: RunBooks, *spans: tuple[int, int], cell: int = 0) -> list[Outcome]:
    return [books.merge(partial(books.definition, *span, cell))[0] for span in spans]


# The rule


def test_a_cell_ends_at_the_first_checkpoint_at_which_its_error_is_small_enough() -> None:
    assert error_at(0, 48) > 0.004 > error_at(0, 72)
    books = books_of(with_target())
    merge(books, (0, 32), (32, 48), (48, 71))
    assert books.cells[0].ending is None
    merge(books, (71, 72))
    assert books.cells[0].ending == Ending(EndedBy.ERROR, 72)
    assert books.complete
    assert (books.missing(0), books.settled(0)) == ([], [(0, LIMIT)])


def test_between_checkpoints_nothing_ends() -> None:
    error = error_at(0, 60)
    assert error_at(0, 48) > error * 1.01
    books = books_of(with_target(error * 1.01))
    merge(books, (0, 32), (32, 48), (48, 60), (61, 72))
    assert books.cells[0].ending is None


def test_checkpoints_that_complete_at_once_are_decided_in_order() -> None:
    books = books_of(with_target(0.0050))
    assert merge(books, (32, 48), (48, 72), (72, 108), (108, 162)) == [Outcome.MERGED] * 4
    assert books.merged_blocks == 130
    merge(books, (0, 32))
    cell = books.cells[0]
    assert cell.ending == Ending(EndedBy.ERROR, 48)
    assert (books.merged_blocks, cell.overshoot) == (48, 114)
    assert cell.statistics() == statistics(0, 0, 48)
    assert cell.segments[2:] == [None] * 3


def test_a_cell_that_never_reaches_its_target_ends_at_its_limit() -> None:
    books = books_of(with_target(1e-9))
    merge(books, *pairwise((0, *CHECKPOINTS)))
    assert books.cells[0].ending == Ending(EndedBy.SAMPLES, LIMIT)
    assert result(books, NOW).cells[0].outputs["x"].error_reliable


def test_a_target_that_is_reached_at_the_limit_is_reached() -> None:
    books = books_of(with_target(0.004, blocks=60))
    assert books.definition.checkpoints[-1] == 60
    assert error_at(0, 60) < 0.0043 < error_at(0, 48)
    books = books_of(with_target(0.0043, blocks=60))
    merge(books, (0, 32), (32, 48), (48, 60))
    assert books.cells[0].ending == Ending(EndedBy.ERROR, 60)


def test_without_a_target_only_the_limit_ends_a_cell() -> None:
    books = books_of(definition(LIMIT))
    merge(books, *pairwise((0, *CHECKPOINTS)))
    assert books.cells[0].ending == Ending(EndedBy.SAMPLES, LIMIT)


@pytest.mark.parametrize(
    ("outputs", "ending"),
    [
        (("x",), Ending(EndedBy.ERROR, 32)),
        (("y",), Ending(EndedBy.ERROR, 48)),
        (("y", "x"), Ending(EndedBy.SAMPLES, LIMIT)),  # never both at one checkpoint
    ],
)
def test_all_outputs_that_are_named_must_reach_the_target_at_one_checkpoint(
    outputs: tuple[str, ...], ending: Ending
) -> None:
    stop = {"relative_error": 0.97, "outputs": outputs}
    books = books_of(definition(LIMIT, outputs=("x", "y"), stop=stop))
    merge(books, *pairwise((0, *CHECKPOINTS)))
    assert books.cells[0].ending == ending


def test_both_errors_must_be_reached_where_both_are_given() -> None:
    stop = {"relative_error": 0.97, "standard_error": 0.005, "outputs": ("x",)}
    books = books_of(definition(LIMIT, stop=stop))
    merge(books, *pairwise((0, *CHECKPOINTS)))
    assert books.cells[0].ending == Ending(EndedBy.SAMPLES, LIMIT)


# After the end of a cell


def test_what_comes_for_a_cell_that_has_ended_is_overshoot_and_counts_once() -> None:
    books = books_of(with_target(between(2, 32), cells=2))
    merge(books, (0, 32), (48, 72))
    assert books.cells[0].ending == Ending(EndedBy.ERROR, 32)
    known = books.cells[0].statistics()
    found = merge(books, (72, 80), (72, 80), (78, 90), (0, 4), (48, 60))
    overshoot, duplicate = Outcome.OVERSHOOT, Outcome.DUPLICATE
    assert found == [overshoot, duplicate, Outcome.OVERLAP, duplicate, duplicate]
    assert (books.merged_blocks, books.cells[0].overshoot) == (32, 32)
    assert books.cells[0].statistics() == known
    assert books.cpu_seconds == 3 * 0.5
    assert result(books, NOW).cells[0].overshoot == 32 * BLOCK_SIZE


def test_failures_in_a_cell_that_has_ended_do_not_count() -> None:
    of = with_target(between(2, 32), cells=2)
    books = books_of(of)
    for attempt in range(FAILURE_LIMIT):
        books.failures.add(FailureRecord.of(failure(of, 40, 44, attempt=attempt)))
    assert books.verdict({}) is None  # whether the cell ends before is not known yet
    merge(books, (0, 32))
    assert books.verdict({}) is None
    assert books.failures.attempts() == set()


def test_a_failure_beyond_a_checkpoint_counts_once_that_one_has_not_ended_the_cell() -> None:
    of = with_target(between(2, 32), cells=2)
    books = books_of(of)
    for attempt in range(FAILURE_LIMIT):
        books.failures.add(FailureRecord.of(failure(of, 40, 44, cell=1, attempt=attempt)))
    merge(books, (0, 32), cell=1)
    assert "failed 3 times" in str(books.verdict({}))


def test_a_cell_that_has_ended_is_not_missing_and_progress_calls_all_of_it_merged() -> None:
    of = with_target(between(2, 32), cells=2)
    ledger = Ledger(1)
    ledger.declare(declare(of), NOW)
    ledger.take_events(NOW)
    ledger.partial(partial(of, 0, 32), NOW)
    answer = ledger.missing(RUN)
    assert [(cell.cell, cell.missing) for cell in answer.cells] == [(1, ((0, LIMIT),))]
    assert answer.merged_blocks == 32
    [event] = ledger.take_events(NOW)
    assert isinstance(event, Progress)
    assert event.cells[0].merged == ((0, LIMIT),)
    assert ledger.partial(partial(of, 50, 60), NOW) is Outcome.OVERSHOOT
    [event] = ledger.take_events(NOW)
    assert isinstance(event, Progress)
    assert event.cells[0].merged == ((0, LIMIT),)  # so that its sender hears of the end
    assert ledger.status(RUN, NOW).samples == 32 * BLOCK_SIZE


def test_a_running_run_tells_which_cells_have_ended_and_why() -> None:
    books = books_of(with_target(between(2, 32), cells=2))
    merge(books, (0, 32))
    merge(books, (0, 32), (32, 40), cell=1)
    found = result(books, NOW)
    assert [
        (cell.state, cell.ended_by, cell.checkpoint, cell.samples // BLOCK_SIZE)
        for cell in found.cells
    ] == [("finished", EndedBy.ERROR, 32, 32), ("running", None, None, 40)]
    assert (found.digest, found.reproducible, found.stop) == (None, False, books.definition.stop)


# What is expected


def test_before_the_first_checkpoint_that_one_is_expected_and_then_what_the_error_says() -> None:
    books = books_of(with_target(0.0031))
    assert books.expected_blocks == 32
    merge(books, (0, 32))
    needed = 32 * (error_at(0, 32) / 0.0031) ** 2
    assert 72 < needed < 108
    assert books.expected_blocks == 108
    merge(books, (32, 48), (48, 72), (72, 108))
    assert (books.complete, books.expected_blocks) == (True, 108)


def test_cells_that_have_not_begun_are_expected_to_take_what_the_others_do() -> None:
    books = books_of(with_target(0.0031, cells=4))
    assert books.expected_blocks == 4 * 32
    merge(books, (0, 32), cell=2)
    assert books.expected_blocks == 4 * 108
    merge(books, (0, 32), (32, 48), (48, 72), (72, 108), cell=0)
    assert books.expected_blocks == 4 * 108


def test_no_more_than_the_limit_is_expected_and_no_less_than_is_merged() -> None:
    books = books_of(with_target(1e-9, cells=2))
    merge(books, (0, 32))
    assert books.expected_blocks == 2 * LIMIT
    books = books_of(with_target(0.0031))
    merge(books, (32, 48), (48, 72))
    assert books.expected_blocks == 40


def test_without_a_target_the_limit_is_expected_from_the_start() -> None:
    assert books_of(definition(LIMIT, cells=3)).expected_blocks == 3 * LIMIT


# Time limits


def timed(cells: int = 1, **stop: object) -> Definition:
    return definition(LIMIT, cells, stop={"seconds": 60.0, **stop})


def ledger_of(of: Definition) -> Ledger:
    ledger = Ledger(1)
    ledger.declare(declare(of), NOW)
    return ledger


def ended(ledger: Ledger) -> Result:
    return ledger.take_changes().results[RUN]


def test_a_time_limit_ends_every_cell_at_its_last_complete_checkpoint() -> None:
    of = timed(cells=3)
    ledger = ledger_of(of)
    for cell, *span in ((0, 0, 32), (0, 32, 48), (0, 48, 60), (1, 0, 31), (1, 32, 48)):
        ledger.partial(partial(of, span[0], span[1], cell), NOW + 1)
    ledger.tick(NOW + 59.9)
    assert RUN in ledger.active
    ledger.tick(NOW + 60)
    found = ended(ledger)
    assert (found.state, found.reproducible) == ("finished", False)
    assert [(c.ended_by, c.checkpoint, c.overshoot // BLOCK_SIZE) for c in found.cells] == [
        (EndedBy.SECONDS, 48, 12), (EndedBy.SECONDS, 0, 47), (EndedBy.SECONDS, 0, 0),
    ]  # fmt: skip
    assert [cell.outputs["x"].mean is None for cell in found.cells] == [False, True, True]
    assert found.digest == digest(of.hash, [statistics(0, 0, 48), None, None])
    assert ledger.status(RUN, NOW).samples == 48 * BLOCK_SIZE


def test_a_run_that_ends_before_its_time_limit_is_reproducible() -> None:
    of = timed()
    ledger = ledger_of(of)
    for span in pairwise((0, *CHECKPOINTS)):
        ledger.partial(partial(of, *span), NOW + 59)
    ledger.tick(NOW + 61)
    found = ended(ledger)
    assert (found.reproducible, found.cells[0].ended_by) == (True, EndedBy.SAMPLES)


def test_the_time_counts_from_when_a_run_was_reopened_and_not_from_a_new_declaration() -> None:
    ledger = ledger_of(timed())
    books = ledger.active[RUN]
    ledger.cancel(RUN, NOW + 50)
    ledger.reopen(books, NOW + 1_000)
    ledger.declare(declare(books.definition), NOW + 1_030)
    ledger.tick(NOW + 1_059)
    assert RUN in ledger.active
    ledger.tick(NOW + 1_060)
    assert ledger.status(RUN, NOW).state is RunState.FINISHED


def test_what_is_expected_of_a_timed_run_follows_its_pace() -> None:
    of = definition(1 << 20, stop={"seconds": 60.0})
    ledger = ledger_of(of)
    ledger.partial(partial(of, 0, 10), NOW + 6)
    ledger.tick(NOW + 6)
    assert ledger.missing(RUN).expected_blocks == 100
    ledger.partial(partial(of, 10, 20), NOW + 6)
    ledger.partial(partial(of, 20, 32), NOW + 6)
    ledger.tick(NOW + 30)
    assert ledger.status(RUN, NOW + 30).total_samples == 64 * BLOCK_SIZE


# Reopening


def test_cells_that_have_ended_stay_ended_when_a_run_is_taken_up_again() -> None:
    of = with_target(between(2, 32), cells=2)
    store = Store(Path(":memory:"))
    ledger = Ledger(store.take_over())
    ledger.declare(declare(of), NOW)
    for span in ((0, 32), (32, 40)):
        ledger.partial(partial(of, *span), NOW)
    ledger.cancel(RUN, NOW)
    store.commit(ledger.take_changes(), ledger.epoch)
    books = store.books(RUN)
    assert books is not None
    ledger.reopen(books, NOW)
    assert [cell.cell for cell in ledger.missing(RUN).cells] == [1]
    for span in ((0, 32), (32, 48)):
        ledger.partial(partial(of, *span, 1), NOW)
    found = ended(ledger)
    assert [(cell.checkpoint, cell.ended_by) for cell in found.cells] == [
        (32, EndedBy.ERROR), (48, EndedBy.ERROR),
    ]  # fmt: skip
    assert found.cells[0].overshoot == 8 * BLOCK_SIZE


# Any order, any chunks, any overlap, any reload

CELLS = 3
TARGET = between(CELLS, 48)


def in_order() -> str:
    of = with_target(TARGET, CELLS)
    return digest(of.hash, [statistics(cell, 0, end_of(cell, TARGET)) for cell in range(CELLS)])


def test_the_cells_of_this_test_end_at_different_checkpoints() -> None:
    assert {end_of(cell, TARGET) for cell in range(CELLS)} == {48, 72}


@st.composite
def spans(draw: st.DrawFn) -> tuple[int, int, int]:
    cell, segment = draw(st.integers(0, CELLS - 1)), draw(st.integers(0, len(CHECKPOINTS) - 1))
    low, high = ((0, *CHECKPOINTS)[segment], CHECKPOINTS[segment])
    start = draw(st.integers(low, high - 1))
    return cell, start, draw(st.integers(start + 1, high))


class Aggregator:
    """A ledger and its store; it commits now and then, and may start anew from what is kept."""

    def __init__(self, of: Definition, chance: random.Random) -> None:
        self.of, self.chance = of, chance
        self.store = Store(Path(":memory:"))
        self.ledger = Ledger(self.store.take_over())
        self.ledger.declare(declare(of), NOW)
        self.commit()
        self.arrived = [Ranges() for _ in of.cells]

    def commit(self) -> None:
        self.store.commit(self.ledger.take_changes(), self.ledger.epoch)

    def take(self, cell: int, start: int, stop: int) -> None:
        outcome = self.ledger.partial(partial(self.of, start, stop, cell), NOW)
        if outcome in (Outcome.MERGED, Outcome.OVERSHOOT):
            self.arrived[cell].add(start, stop)
        if self.chance.random() < 0.3:
            self.commit()
            kept = self.store.active_runs()
            assert kept == [*self.ledger.active.values()]
            if self.chance.random() < 0.3:
                self.ledger = Ledger(self.store.take_over(), kept, self.store.ended_runs())

    def missing(self) -> list[tuple[int, int, int]]:
        """Return what is missing in pieces of chance that cross no checkpoint."""
        pieces = []
        for cell in self.ledger.missing(RUN).cells if RUN in self.ledger.active else ():
            for first, count in cell.missing:
                within = range(first + 1, first + count)
                edges = {first, first + count, *(c for c in CHECKPOINTS if c in within)}
                edges |= {b for b in within if self.chance.random() < 0.1}
                pieces += [(cell.cell, a, b) for a, b in pairwise(sorted(edges))]
        return pieces


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.lists(spans(), max_size=30), st.integers(0, 2**32))
def test_where_cells_end_and_the_digest_do_not_depend_on_what_arrives_when(
    arrivals: list[tuple[int, int, int]], seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - an order
    site = Aggregator(with_target(TARGET, CELLS), chance)
    for arrival in arrivals:
        site.take(*arrival)
    while rest := site.missing():
        chance.shuffle(rest)
        for arrival in (rest + arrivals)[: chance.randint(1, len(rest) + len(arrivals))]:
            site.take(*arrival)
    site.commit()
    found, books = site.store.result(RUN), site.store.books(RUN)
    assert found is not None
    assert books is not None
    assert (found.digest, found.reproducible) == (in_order(), True)
    assert [cell.checkpoint for cell in found.cells] == [
        end_of(cell, TARGET) for cell in range(CELLS)
    ]
    for number, cell in enumerate(books.cells):
        assert cell.statistics() == statistics(number, 0, end_of(number, TARGET))
        assert cell.merged == site.arrived[number]
        assert cell.overshoot * BLOCK_SIZE == found.cells[number].overshoot


def test_segments_beyond_the_end_leave_the_store() -> None:
    of = with_target(between(2, 32), cells=2)
    store = Store(Path(":memory:"))
    ledger = Ledger(store.take_over())
    ledger.declare(declare(of), NOW)
    ledger.partial(partial(of, 32, 48), NOW)
    store.commit(ledger.take_changes(), ledger.epoch)
    ledger.partial(partial(of, 48, 72), NOW)  # merged and discarded within one batch
    ledger.partial(partial(of, 0, 32), NOW)
    store.commit(ledger.take_changes(), ledger.epoch)
    rows = store._database.execute("SELECT cell, segment FROM segments").fetchall()
    assert [tuple(row) for row in rows] == [(0, 0)]
