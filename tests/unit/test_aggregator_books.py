"""The books of one run: what is merged, and what is refused."""

from typing import Any

import numpy as np
import pytest

from aggregator.books import (
    MAX_CPU_SECONDS,
    MAX_ENGINES,
    MAX_RANGES,
    Outcome,
    RunBooks,
)
from protocol.definition import Definition, Lane
from protocol.errors import MessageRefusedError
from protocol.histogram import Tally
from protocol.messages import Failure, Partial, RefusalReason
from protocol.ranges import Ranges
from protocol.statistics import BlockMoments, collect
from tests.support.run_values import RUN, definition, failure, partial, statistics


def books_of(of: Definition) -> RunBooks:
    return RunBooks(RUN, of, "default", Lane.NORMAL, 0.0)


@pytest.fixture
def books() -> RunBooks:
    return books_of(definition())


def merge(books: RunBooks, start: int, stop: int, cell: int = 0, **fields: Any) -> Outcome:
    return books.merge(partial(books.definition, start, stop, cell, **fields))[0]


def refusal(books: RunBooks, message: Partial | Failure) -> str:
    before = (list(books.cells[0].merged), books.merged_blocks, list(books.failures))
    with pytest.raises(MessageRefusedError) as refused:
        books.merge(message) if isinstance(message, Partial) else books.segment_of(message)
    assert (list(books.cells[0].merged), books.merged_blocks, list(books.failures)) == before
    return refused.value.reason


# Merging


def test_merged_segments_add_up_to_the_statistics_of_all_blocks(books: RunBooks) -> None:
    for start, stop in ((32, 40), (0, 32), (72, 108), (40, 48), (48, 72)):
        assert merge(books, start, stop) is Outcome.MERGED
    assert books.complete
    assert books.cells[0].statistics() == statistics(0, 0, 108)
    assert books.cells[0].segments == [
        statistics(0, start, stop) for start, stop in ((0, 32), (32, 48), (48, 72), (72, 108))
    ]


def test_the_segment_of_a_partial_is_the_one_that_its_checkpoint_ends(books: RunBooks) -> None:
    found = [books.merge(partial(books.definition, *span))[1] for span in ((31, 32), (32, 33))]
    assert found == [0, 1]


def test_what_is_merged_already_is_a_duplicate_and_changes_nothing(books: RunBooks) -> None:
    merge(books, 0, 10)
    assert merge(books, 0, 10) is Outcome.DUPLICATE
    assert merge(books, 3, 7) is Outcome.DUPLICATE
    assert books.cells[0].statistics() == statistics(0, 0, 10)
    assert (books.merged_blocks, books.cpu_seconds) == (10, 0.5)


@pytest.mark.parametrize("span", [(5, 15), (9, 32), (0, 21), (15, 21)])
def test_what_overlaps_in_part_is_dropped_whole(books: RunBooks, span: tuple[int, int]) -> None:
    merge(books, 0, 10)
    merge(books, 20, 30)
    assert merge(books, *span) is Outcome.OVERLAP
    assert list(books.cells[0].merged) == [(0, 10), (20, 30)]
    assert books.merged_blocks == 20


def test_cells_do_not_mix() -> None:
    books = books_of(definition(cells=2))
    merge(books, 0, 10, 0)
    assert merge(books, 0, 10, 1) is Outcome.MERGED
    assert [cell.statistics() for cell in books.cells] == [
        statistics(0, 0, 10),
        statistics(1, 0, 10),
    ]


def test_the_engines_of_a_run_are_remembered_up_to_a_limit(books: RunBooks) -> None:
    for number in range(MAX_ENGINES + 3):
        merge(books, number, number + 1, engine=f"engine{number}")
    assert books.engines == {f"engine{number}" for number in range(MAX_ENGINES)}


def test_the_seconds_of_a_liar_stay_what_a_message_can_carry(books: RunBooks) -> None:
    merge(books, 0, 1, cpu_seconds=MAX_CPU_SECONDS)
    merge(books, 1, 2, cpu_seconds=MAX_CPU_SECONDS)
    assert books.cpu_seconds == MAX_CPU_SECONDS


def test_missing_ranges_are_what_is_not_merged(books: RunBooks) -> None:
    merge(books, 10, 32)
    merge(books, 50, 60)
    assert books.missing(0) == [(0, 10), (32, 50), (60, 108)]


# Refusals


def test_another_definition_is_refused(books: RunBooks) -> None:
    other = definition(seed=8)
    assert refusal(books, partial(other, 0, 4)) == RefusalReason.WRONG_DEFINITION
    assert refusal(books, failure(other, 0, 4)) == RefusalReason.WRONG_DEFINITION


@pytest.mark.parametrize(("start", "stop", "cell"), [(0, 4, 1), (104, 109, 0), (108, 109, 0)])
def test_what_lies_outside_the_run_is_refused(
    books: RunBooks, start: int, stop: int, cell: int
) -> None:
    wide = {"cell": cell}
    assert (
        refusal(books, partial(books.definition, start, stop, **wide)) == RefusalReason.OUT_OF_RANGE
    )
    record = failure(books.definition, start, stop, **wide)
    assert refusal(books, record) == RefusalReason.OUT_OF_RANGE


@pytest.mark.parametrize(("start", "stop"), [(31, 33), (0, 48), (0, 108), (71, 73)])
def test_what_crosses_a_checkpoint_is_refused(books: RunBooks, start: int, stop: int) -> None:
    message = partial(books.definition, start, stop)
    assert refusal(books, message) == RefusalReason.CROSSES_CHECKPOINT


def test_statistics_of_another_shape_are_refused(books: RunBooks) -> None:
    good = statistics(0, 0, 4)
    for wrong in (
        statistics(0, 0, 5),
        statistics(0, 0, 4, outputs=2),
        good.model_copy(update={"samples": good.samples // 2}),
        good.model_copy(update={"sums": good.sums * 2}),  # a control column that nobody asked for
    ):
        message = partial(books.definition, 0, 4).model_copy(update={"statistics": wrong})
        assert refusal(books, message) == RefusalReason.WRONG_SHAPE


def test_control_columns_are_merged_where_the_run_has_controls(books: RunBooks) -> None:
    fields = books.definition.model_dump() | {
        "sampling": {"control_variates": True}, "controls": ("c",),
    }  # fmt: skip
    steered = RunBooks(RUN, Definition.model_validate(fields), "default", Lane.NORMAL, 0.0)
    moments = BlockMoments([1.0, 2.0], [10.0, 3.0, 1.0], [0.0], [1.0])
    found = collect([moments] * 4, 1024)
    good = partial(steered.definition, 0, 4).model_copy(update={"statistics": found})
    assert steered.merge(good) == (Outcome.MERGED, 0)
    bare = partial(steered.definition, 4, 8)
    assert refusal(steered, bare) == RefusalReason.WRONG_SHAPE


def test_histograms_are_merged_where_and_only_where_the_run_asks_for_quantiles(
    books: RunBooks,
) -> None:
    fields = books.definition.model_dump() | {"quantiles": (0.5,)}
    curious = RunBooks(RUN, Definition.model_validate(fields), "default", Lane.NORMAL, 0.0)
    drawn, tally = np.zeros((1, 4096)), Tally(1)
    tally.add(drawn)
    found = collect([BlockMoments([0.0], [0.0], [0.0], [0.0])] * 4, 1024, tally)
    good = partial(curious.definition, 0, 4).model_copy(update={"statistics": found})
    assert curious.merge(good) == (Outcome.MERGED, 0)
    assert refusal(curious, partial(curious.definition, 4, 8)) == RefusalReason.WRONG_SHAPE
    unasked = good.model_copy(update={"definition": books.definition.hash})
    assert refusal(books, unasked) == RefusalReason.WRONG_SHAPE


# Bounds


def test_books_count_what_they_were_given(books: RunBooks) -> None:
    merge(books, 0, 10)
    again = RunBooks(RUN, books.definition, "default", Lane.NORMAL, 0.0, cells=books.cells)
    assert again.merged_blocks == 10
    assert again.cells[0].merged == Ranges([(0, 10)])
    assert again.expected_blocks == 108


def test_a_partial_that_leaves_one_gap_too_many_is_refused() -> None:
    books = books_of(definition(4 * MAX_RANGES))
    books.cells[0].merged = Ranges((2 * i, 2 * i + 1) for i in range(MAX_RANGES))
    beyond = 3 * MAX_RANGES
    message = partial(books.definition, beyond, beyond + 1)
    assert refusal(books, message) == RefusalReason.TOO_FRAGMENTED
    assert merge(books, 1, 2) is Outcome.MERGED
