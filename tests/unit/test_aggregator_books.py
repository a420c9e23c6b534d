"""The books of one run: what is merged, refused and charged."""

from typing import Any

import numpy as np
import pytest

from aggregator.books import (
    MAX_CPU_SECONDS,
    MAX_ENGINES,
    MAX_FAILURES,
    MAX_RANGES,
    Outcome,
    RunBooks,
)
from protocol.definition import Definition, Lane
from protocol.errors import MessageRefusedError
from protocol.histogram import Tally
from protocol.messages import Failure, FailureKind, Partial, RefusalReason
from protocol.ranges import Ranges
from protocol.statistics import BlockMoments, collect
from tests.support.run_values import RUN, definition, failure, partial, statistics

NOBODY: frozenset[str] = frozenset()


def books_of(of: Definition) -> RunBooks:
    return RunBooks(RUN, of, "default", Lane.NORMAL, 0.0)


@pytest.fixture
def books() -> RunBooks:
    return books_of(definition())


def merge(books: RunBooks, start: int, stop: int, cell: int = 0, **fields: Any) -> Outcome:
    return books.merge(partial(books.definition, start, stop, cell, **fields))[0]


def fail(books: RunBooks, start: int, stop: int, cell: int = 0, **fields: Any) -> bool:
    return books.record(failure(books.definition, start, stop, cell, **fields)) is not None


def refusal(books: RunBooks, message: Partial | Failure) -> str:
    before = (list(books.cells[0].merged), books.merged_blocks, list(books.failures))
    with pytest.raises(MessageRefusedError) as refused:
        books.merge(message) if isinstance(message, Partial) else books.record(message)
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


# Failures


def test_three_attempts_that_fail_at_a_block_end_the_run(books: RunBooks) -> None:
    for attempt in (1, 2):
        fail(books, 0, 4, attempt=attempt)
        assert books.verdict(NOBODY) is None
    fail(books, 0, 4, attempt=3)
    assert books.verdict(NOBODY) == (
        "cell 0, blocks 0 to 3: failed 3 times; model_error on host-a: division by zero"
    )


def test_the_first_error_is_named(books: RunBooks) -> None:
    for attempt in (1, 2, 3):
        fail(books, 0, 4, attempt=attempt, text=f"error {attempt}", host=f"host-{attempt}")
    assert "on host-1: error 1" in str(books.verdict(NOBODY))


def test_one_attempt_fails_once_per_host_however_often_it_is_told(books: RunBooks) -> None:
    for _ in range(5):
        fail(books, 0, 4, attempt=1, host="host-a")
        fail(books, 0, 4, attempt=1, host="host-b")
    assert books.verdict(NOBODY) is None
    assert len(books.failures) == 2
    fail(books, 0, 4, attempt=1, host="host-c")
    assert books.verdict(NOBODY) is not None


def test_one_attempt_on_one_host_counts_once_whoever_tells_and_however_it_failed(
    books: RunBooks,
) -> None:
    for consumer in ("host-a.1", "host-a.2"):
        for kind in (FailureKind.CRASH, FailureKind.TIMEOUT):
            assert fail(books, 0, 4, attempt=1, consumer=consumer, kind=kind)
    assert books.verdict(NOBODY) is None


def test_chunks_that_share_a_missing_block_count_together(books: RunBooks) -> None:
    fail(books, 0, 8, attempt=1)
    fail(books, 4, 12, attempt=2)
    fail(books, 7, 9, attempt=3)
    assert "failed 3 times" in str(books.verdict(NOBODY))


def test_three_failures_that_share_no_block_do_not_count_together(books: RunBooks) -> None:
    fail(books, 0, 8, attempt=1)
    fail(books, 0, 4, attempt=2)
    fail(books, 4, 8, attempt=3)
    assert books.verdict(NOBODY) is None


def test_failures_that_share_only_merged_blocks_do_not_count_together(books: RunBooks) -> None:
    fail(books, 0, 6, attempt=1)
    fail(books, 4, 10, attempt=2)
    fail(books, 3, 7, attempt=3)
    assert books.verdict(NOBODY) is not None
    merge(books, 4, 6)
    assert books.verdict(NOBODY) is None


def test_failures_of_different_cells_do_not_count_together() -> None:
    books = books_of(definition(cells=3))
    for cell in range(3):
        fail(books, 0, 4, cell, attempt=cell)
    assert books.verdict(NOBODY) is None


def test_a_failure_counts_only_once_every_earlier_checkpoint_is_complete(books: RunBooks) -> None:
    for attempt in (1, 2, 3):
        fail(books, 50, 54, attempt=attempt)
    merge(books, 0, 32)
    merge(books, 33, 48)
    assert books.verdict(NOBODY) is None
    merge(books, 32, 33)
    assert books.verdict(NOBODY) is not None


def test_what_is_merged_after_all_is_not_held_against_the_run(books: RunBooks) -> None:
    for attempt in (1, 2, 3):
        fail(books, 0, 4, attempt=attempt)
    merge(books, 0, 4)
    assert books.verdict(NOBODY) is None


@pytest.mark.parametrize("kind", [FailureKind.UNSUPPORTED_MODEL, FailureKind.DECLINED])
def test_who_cannot_or_must_not_compute_is_never_charged(
    books: RunBooks, kind: FailureKind
) -> None:
    for number in range(10):
        fail(books, 0, 4, attempt=number, consumer=f"c{number}", host=f"h{number}", kind=kind)
    assert books.verdict(NOBODY) is None
    assert books.verdict(frozenset({"able"})) is None


def test_a_run_that_no_live_consumer_can_compute_fails(books: RunBooks) -> None:
    fail(books, 0, 4, consumer="a", kind=FailureKind.UNSUPPORTED_MODEL, text="no model 'demo'")
    assert books.verdict(frozenset({"a", "b"})) is None
    assert books.verdict(NOBODY) is None
    fail(books, 8, 12, consumer="b", kind=FailureKind.DECLINED)
    assert books.verdict(frozenset({"a", "b"})) == (
        "cell 0, blocks 0 to 3: no consumer of pool 'default' can compute it; "
        "unsupported_model on host-a: no model 'demo'"
    )


def test_a_verdict_is_one_line_without_control_codes(books: RunBooks) -> None:
    for attempt in (1, 2, 3):
        fail(books, 0, 4, attempt=attempt, text="Trace\nback \x1b]0;owned\x07" + "x" * 2000)
    verdict = str(books.verdict(NOBODY))
    assert verdict.isprintable()
    assert "Trace back  ]0;owned" in verdict
    assert len(verdict) == 2000


# Bounds


def test_failures_that_are_kept_are_bounded(books: RunBooks) -> None:
    for attempt in range(MAX_FAILURES + 50):
        kept = fail(books, 50, 54, attempt=attempt)
        assert kept == (attempt < MAX_FAILURES)
    assert len(books.failures) == MAX_FAILURES


def test_failures_of_merged_blocks_make_room_for_new_ones(books: RunBooks) -> None:
    for attempt in range(MAX_FAILURES):
        fail(books, 50, 54, attempt=attempt)
    merge(books, 48, 60)
    assert fail(books, 60, 64, attempt=999)
    assert len(books.failures) == 1


def test_a_consumer_that_keeps_saying_that_it_is_unable_fills_one_place(books: RunBooks) -> None:
    for attempt in range(50):
        fail(books, 0, 4, attempt=attempt, kind=FailureKind.UNSUPPORTED_MODEL)
        fail(books, 4, 8, attempt=attempt, kind=FailureKind.UNSUPPORTED_MODEL, consumer="b")
    assert [record.consumer for record in books.failures] == ["host-a.1", "b"]
    merge(books, 0, 4)
    assert fail(books, 8, 12, kind=FailureKind.UNSUPPORTED_MODEL)


def test_books_count_what_they_were_given(books: RunBooks) -> None:
    merge(books, 0, 10)
    again = RunBooks(RUN, books.definition, "default", Lane.NORMAL, 0.0, cells=books.cells)
    assert again.merged_blocks == 10
    assert again.cells[0].merged == Ranges([(0, 10)])
    assert again.total_blocks == 108


def test_failures_of_the_first_blocks_count_however_many_others_are_kept() -> None:
    books = books_of(definition(2 * MAX_FAILURES))
    for block in range(MAX_FAILURES + 50):
        fail(books, block, block + 1, attempt=block)
    assert len(books.failures) == MAX_FAILURES
    assert fail(books, 0, 1, attempt=1_000)
    assert fail(books, 0, 1, attempt=2_000)
    assert "failed 3 times" in (books.verdict(NOBODY) or "")


def test_a_partial_that_leaves_one_gap_too_many_is_refused() -> None:
    books = books_of(definition(4 * MAX_RANGES))
    books.cells[0].merged = Ranges((2 * i, 2 * i + 1) for i in range(MAX_RANGES))
    beyond = 3 * MAX_RANGES
    message = partial(books.definition, beyond, beyond + 1)
    assert refusal(books, message) == RefusalReason.TOO_FRAGMENTED
    assert merge(books, 1, 2) is Outcome.MERGED
