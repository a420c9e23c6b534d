"""The failures of one run: which are kept and count, and when they end it."""

import random
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from aggregator.books import RunBooks
from aggregator.failures import BROKER, HOST_LIMIT, MAX_FAILURES, FailureRecord
from protocol.definition import Definition, Lane
from protocol.messages import FailureKind, Telemetry
from tests.support.run_values import RUN, chunk, definition, failure, partial, telemetry

NOBODY: dict[str, Telemetry] = {}


def books_of(of: Definition) -> RunBooks:
    return RunBooks(RUN, of, "default", Lane.NORMAL, 0.0)


@pytest.fixture
def books() -> RunBooks:
    return books_of(definition())


def merge(books: RunBooks, start: int, stop: int, cell: int = 0) -> None:
    books.merge(partial(books.definition, start, stop, cell))


def fail(books: RunBooks, start: int, stop: int, cell: int = 0, **fields: Any) -> bool:
    message = failure(books.definition, start, stop, cell, **fields)
    return books.failures.add(FailureRecord.of(message))


def dead_letter(books: RunBooks, start: int, stop: int, attempt: int) -> bool:
    message = chunk(books.definition, start, stop, attempt=attempt)
    return books.failures.add(FailureRecord.of_dead_letter(message))


def fleet(**hosts: str) -> Mapping[str, Telemetry]:
    """Return live consumers by name, each on a host."""
    return {name: telemetry(name, host=host) for name, host in hosts.items()}


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
            fail(books, 0, 4, attempt=1, consumer=consumer, kind=kind)
    assert len(books.failures) == 1
    assert fail(books, 0, 8, attempt=1)
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
    assert books.verdict(fleet(able="host")) is None


def test_a_run_that_no_live_consumer_can_compute_fails(books: RunBooks) -> None:
    fail(books, 0, 4, consumer="a", kind=FailureKind.UNSUPPORTED_MODEL, text="no model 'demo'")
    assert books.verdict(fleet(a="host-a", b="host-b")) is None
    assert books.verdict(NOBODY) is None
    fail(books, 8, 12, consumer="b", kind=FailureKind.DECLINED)
    assert books.verdict(fleet(a="host-a", b="host-b")) == (
        "cell 0, blocks 0 to 3: no consumer of pool 'default' can compute it; "
        "unsupported_model on host-a: no model 'demo'"
    )


def test_failures_on_one_host_end_no_run_that_another_may_compute(books: RunBooks) -> None:
    for attempt in range(5):
        fail(books, 0, 4, attempt=attempt, host="host-a")
    live = fleet(a="host-a", b="host-b")
    assert books.verdict(live) is None
    assert "failed 5 times" in str(books.verdict(fleet(a="host-a", a2="host-a")))
    fail(books, 0, 4, attempt=9, host="host-b")
    assert "failed 6 times" in str(books.verdict(live))


def test_failures_on_one_host_end_no_run_while_others_may_not_have_been_heard(
    books: RunBooks,
) -> None:
    for attempt in range(3):
        fail(books, 0, 4, attempt=attempt, host="host-a")
    assert books.verdict(None) is None
    fail(books, 0, 4, attempt=3, host="host-b")
    assert books.verdict(None) is not None


def test_a_host_that_cannot_compute_a_run_keeps_none_alive(books: RunBooks) -> None:
    for attempt in range(3):
        fail(books, 0, 4, attempt=attempt, host="host-a")
    live = fleet(a="host-a", b="host-b")
    assert books.verdict(live) is None
    fail(books, 8, 12, consumer="b", host="host-b", kind=FailureKind.UNSUPPORTED_MODEL)
    assert "failed 3 times" in str(books.verdict(live))


def test_failures_on_one_host_end_a_run_that_nobody_else_computes_for_long(
    books: RunBooks,
) -> None:
    live = fleet(a="host-a", b="host-b")
    for attempt in range(HOST_LIMIT):
        assert books.verdict(live) is None
        assert books.verdict(None) is None
        fail(books, 0, 4, attempt=attempt, host="host-a")
    again = RunBooks(
        RUN, books.definition, "default", Lane.NORMAL, 0.0, kept_failures=books.failures
    )
    for one in (books, again):
        assert f"failed {HOST_LIMIT} times" in str(one.verdict(live))
        assert one.verdict(None) is not None


def test_a_host_without_a_slot_that_takes_chunks_keeps_no_run_alive(books: RunBooks) -> None:
    for attempt in range(3):
        fail(books, 0, 4, attempt=attempt, host="host-a")
    loading = {"b": telemetry("b", slots=0, host="host-b")}
    assert books.verdict(fleet(a="host-a", b="host-b")) is None
    assert "failed 3 times" in str(books.verdict({**fleet(a="host-a"), **loading}))


def test_a_run_waits_for_a_consumer_that_still_loads(books: RunBooks) -> None:
    fail(books, 0, 4, consumer="a", kind=FailureKind.UNSUPPORTED_MODEL)
    loading = {"b": telemetry("b", slots=0, host="host-b")}
    assert books.verdict({**fleet(a="host-a"), **loading}) is None
    assert books.verdict(fleet(a="host-a")) is not None


def test_dead_letters_are_of_no_host(books: RunBooks) -> None:
    live = fleet(a="host-a", b="host-b")
    for attempt in range(2):
        dead_letter(books, 0, 4, attempt)
    fail(books, 0, 4, attempt=2, host="host-a")
    assert books.verdict(live) is None
    fail(books, 0, 4, attempt=3, host="host-b")
    assert books.verdict(live) is not None


def test_dead_letters_end_a_run_whoever_else_failed(books: RunBooks) -> None:
    live = fleet(a="host-a", b="host-b")
    for attempt in range(3):
        assert books.verdict(live) is None
        dead_letter(books, 0, 4, attempt)
    assert "failed 3 times; crash on the broker: the chunk came back" in str(books.verdict(live))
    fail(books, 0, 4, attempt=3, host="host-a")
    assert "failed 4 times" in str(books.verdict(live))


def test_a_host_may_be_called_broker(books: RunBooks) -> None:
    for attempt in range(3):
        fail(books, 0, 4, attempt=attempt, host="broker", consumer="broker")
    assert books.verdict(fleet(a="broker", b="host-b")) is None
    with pytest.raises(ValidationError):
        failure(books.definition, 0, 4, host=BROKER)


def test_one_more_failure_never_saves_a_run() -> None:
    chance = random.Random(4)  # noqa: S311 - made-up failures
    ended = 0
    for _ in range(300):
        books = books_of(definition())
        merge(books, 3, 5)
        live = fleet(**{name: name for name in chance.sample("abc", 2)})
        verdicts = []
        for attempt in range(14):
            start = chance.randrange(8)
            stop, host = start + chance.randint(1, 6), chance.choice("aaaaab-")
            if host == "-":
                dead_letter(books, start, stop, attempt)
            else:
                kind = chance.choice([FailureKind.CRASH] * 9 + [FailureKind.DECLINED])
                fail(books, start, stop, attempt=attempt, host=host, consumer=host, kind=kind)
            verdicts.append(books.verdict(live) is not None)
        assert verdicts == sorted(verdicts)
        ended += verdicts[-1] and not verdicts[4]
    assert ended > 50


def test_only_the_cell_that_changed_need_be_judged() -> None:
    books = books_of(definition(cells=2))
    for attempt in range(3):
        fail(books, 0, 4, cell=1, attempt=attempt)
    assert books.verdict(NOBODY, cell=0) is None
    assert "cell 1" in str(books.verdict(NOBODY, cell=1))
    assert "cell 1" in str(books.verdict(NOBODY))


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


def test_a_host_that_fails_all_the_time_leaves_room_for_the_failures_of_others(
    books: RunBooks,
) -> None:
    for attempt in range(MAX_FAILURES + 50):
        fail(books, 50, 54, attempt=attempt, host="host-a")
    assert fail(books, 50, 54, attempt=999, host="host-b")
    assert len(books.failures) == MAX_FAILURES
    merge(books, 0, 32)
    merge(books, 32, 48)
    assert f"failed {MAX_FAILURES} times" in str(books.verdict(fleet(a="host-a", b="host-b")))
    assert "host-b" in {failure.host for failure in books.failures}


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


def test_failures_of_the_first_blocks_count_however_many_others_are_kept() -> None:
    books = books_of(definition(2 * MAX_FAILURES))
    for block in range(MAX_FAILURES + 50):
        fail(books, block, block + 1, attempt=block)
    assert len(books.failures) == MAX_FAILURES
    assert fail(books, 0, 1, attempt=1_000)
    assert fail(books, 0, 1, attempt=2_000)
    assert "failed 3 times" in (books.verdict(NOBODY) or "")
