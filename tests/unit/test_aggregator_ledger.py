"""The ledger: what it declares, answers and tells, and that nothing counts twice."""

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.books import MAX_CPU_SECONDS, Outcome
from aggregator.failures import BROKER, MAX_FAILURES
from aggregator.fleet import ALIVE_SECONDS
from aggregator.ledger import Ledger
from aggregator.news import HEADLINE_SECONDS, REFUSE_SECONDS, REMIND_SECONDS
from protocol.definition import Definition, Lane
from protocol.errors import MessageRefusedError, RunIdTakenError, UnknownRunError
from protocol.messages import (
    ConsumerOutdated,
    ConsumerState,
    Declared,
    FailureKind,
    Finished,
    Progress,
    RefusalReason,
    RunState,
    decode,
    encode,
)
from protocol.ranges import Ranges
from protocol.rpc_messages import Missing
from tests.support.run_values import (
    BLOCK_SIZE,
    RUN,
    chunk,
    declare,
    definition,
    failure,
    partial,
    telemetry,
)

NOW = 1_000.0
WHOLE = ((0, 32), (32, 48), (48, 72), (72, 108))


@pytest.fixture
def of() -> Definition:
    return definition()


@pytest.fixture
def ledger(of: Definition) -> Ledger:
    ledger = Ledger(3)
    ledger.declare(declare(of), NOW)
    ledger.take_events(NOW)
    return ledger


def finish(ledger: Ledger, of: Definition, now: float = NOW) -> None:
    for span in WHOLE:
        ledger.partial(partial(of, *span), now)


def fail(ledger: Ledger, of: Definition, *attempts: int, **fields: Any) -> None:
    for attempt in attempts:
        host = {"host": f"host-{attempt}"}
        ledger.failure(failure(of, 0, 4, attempt=attempt, **(host | fields)), NOW)


def refusal(ledger: Ledger, message: Any) -> str:
    take = {"partial.v1": ledger.partial, "failure.v1": ledger.failure}.get(
        message.type, ledger.dead_letter
    )
    with pytest.raises(MessageRefusedError) as refused:
        take(message, NOW)
    return refused.value.reason


# Declaring


def test_a_declared_run_has_everything_missing(of: Definition) -> None:
    answer = Ledger(3).declare(declare(of), NOW)
    assert (answer.state, answer.epoch, answer.sequence, answer.term) == ("running", 3, 0, 1)
    assert [(cell.cell, cell.missing) for cell in answer.cells] == [(0, ((0, 108),))]


def test_declaring_a_run_again_finds_it_and_starts_a_new_term(
    ledger: Ledger, of: Definition
) -> None:
    ledger.partial(partial(of, 0, 32), NOW)
    answer = ledger.declare(declare(of), NOW + 9)
    assert (answer.term, answer.merged_blocks) == (2, 32)
    assert answer.cells[0].missing == ((32, 76),)
    assert ledger.status(RUN, NOW + 10).created == NOW


def test_a_term_goes_to_whoever_declares_and_to_nobody_who_only_asks(
    ledger: Ledger, of: Definition
) -> None:
    assert [ledger.declare(declare(of), NOW).term for _ in range(3)] == [2, 3, 4]
    assert ledger.missing(RUN).term == 0


def test_the_term_rises_across_a_reload_from_what_was_kept(ledger: Ledger, of: Definition) -> None:
    again = Ledger(4, active=ledger.active.values())
    assert again.declare(declare(of), NOW).term == 2


@pytest.mark.parametrize("ended", [False, True])
def test_a_run_id_with_another_definition_is_taken(
    ledger: Ledger, of: Definition, ended: bool
) -> None:
    if ended:
        finish(ledger, of)
    ledger.take_changes()
    with pytest.raises(RunIdTakenError, match="run id 'run-1' names another definition"):
        ledger.declare(declare(definition(seed=8)), NOW)
    assert not ledger.take_changes()


def test_declaring_an_ended_run_answers_its_state_and_changes_nothing(
    ledger: Ledger, of: Definition
) -> None:
    finish(ledger, of)
    ledger.take_changes()
    answer = ledger.declare(declare(of), NOW)
    assert (answer.state, answer.cells, answer.term) == (RunState.FINISHED, (), 0)
    assert not ledger.take_changes()


def test_the_cost_of_a_block_is_told_per_cell_as_soon_as_it_is_known() -> None:
    of = definition(cells=2)
    ledger = Ledger(3)
    assert [cell.cost for cell in ledger.declare(declare(of), NOW).cells] == [None, None]
    ledger.partial(partial(of, 0, 4, cell=1, cpu_seconds=2.0), NOW)
    *_, progress = ledger.take_events(NOW)
    assert isinstance(progress, Progress)
    assert [(cell.cell, cell.cost) for cell in progress.cells] == [(1, 0.5)]
    assert [cell.cost for cell in ledger.missing(RUN).cells] == [None, 0.5]


def test_the_cost_follows_the_last_partials_and_no_single_one(ledger: Ledger) -> None:
    of = definition()
    costs = []
    for block, seconds in enumerate((9.0, 1.0, 1.0, 1e12, 1.0, 2.0, 2.0, 2.0)):
        ledger.partial(partial(of, block, block + 1, cpu_seconds=seconds), NOW)
        costs.append(ledger.missing(RUN).cells[0].cost)
    assert costs == [9.0, 5.0, 1.0, 5.0, 1.0, 1.0, 2.0, 2.0]


def test_a_duplicate_does_not_count_towards_the_cost(ledger: Ledger, of: Definition) -> None:
    ledger.partial(partial(of, 0, 4, cpu_seconds=4.0), NOW)
    ledger.partial(partial(of, 0, 4, cpu_seconds=400.0), NOW)
    assert ledger.missing(RUN).cells[0].cost == 1.0


def test_an_answer_tells_how_many_slots_of_the_pool_are_at_work(ledger: Ledger) -> None:
    ledger.fleet.hear(telemetry("host-a.1", slots=4, busy=3), NOW)
    ledger.fleet.hear(telemetry("host-b.1", slots=2, busy=9), NOW)
    ledger.fleet.hear(telemetry("host-c.1", slots=2, busy=2, pool="other"), NOW)
    answer = ledger.missing(RUN)
    assert (answer.slots, answer.busy) == (6, 5)


def test_a_cell_that_is_complete_is_not_missing() -> None:
    of = definition(cells=2)
    ledger = Ledger(1)
    ledger.declare(declare(of), NOW)
    for span in WHOLE:
        ledger.partial(partial(of, *span), NOW)
    assert [cell.cell for cell in ledger.missing(RUN).cells] == [1]


def test_a_run_that_nobody_declared_is_unknown(ledger: Ledger, of: Definition) -> None:
    for ask in (ledger.missing, lambda run: ledger.cancel(run, NOW), lambda r: ledger.status(r, 0)):
        with pytest.raises(UnknownRunError, match="'other'"):
            ask("other")
    for message in (
        partial(of, 0, 4, run="other"),
        failure(of, 0, 4, run="other"),
        chunk(of, 0, 4, run="other"),
    ):
        assert refusal(ledger, message) == RefusalReason.UNKNOWN_RUN


# Ending


def test_the_last_block_finishes_the_run_with_a_digest(ledger: Ledger, of: Definition) -> None:
    finish(ledger, of, NOW + 2)
    changes = ledger.take_changes()
    result = changes.results[RUN]
    assert (result.state, result.samples, result.elapsed_seconds) == (
        "finished",
        108 * BLOCK_SIZE,
        2.0,
    )
    assert len(str(result.digest)) == 64
    assert result.reproducible
    assert changes.segments == {(RUN, 0, segment) for segment in range(4)}
    assert [type(event) for event in ledger.take_events(NOW)] == [Finished]
    assert not ledger.active


def test_nothing_of_an_ended_run_is_merged(ledger: Ledger, of: Definition) -> None:
    ledger.partial(partial(of, 0, 32), NOW)
    assert ledger.cancel(RUN, NOW).state is RunState.CANCELLED
    ledger.take_changes()
    assert ledger.partial(partial(of, 32, 48), NOW) is Outcome.LATE
    assert ledger.failure(failure(of, 32, 48), NOW) is Outcome.LATE
    assert ledger.dead_letter(chunk(of, 32, 48), NOW) is Outcome.LATE
    assert not ledger.take_changes()


def test_late_results_of_another_definition_are_refused(ledger: Ledger, of: Definition) -> None:
    finish(ledger, of)
    assert refusal(ledger, partial(definition(seed=8), 0, 4)) == RefusalReason.WRONG_DEFINITION


def test_the_end_is_repeated_for_late_results_at_most_every_five_seconds(
    ledger: Ledger, of: Definition
) -> None:
    finish(ledger, of)
    told = []
    for tenth in range(121):
        now = NOW + 1 + tenth / 10
        ledger.partial(partial(of, 0, 4), now)
        told += [(now, event) for event in ledger.take_events(now) if tenth]
    times = [time for time, event in told if isinstance(event, Finished)]
    assert [event.state for _, event in told] == [RunState.FINISHED] * len(times)
    assert len(times) == 2
    assert all(later - earlier >= REMIND_SECONDS for earlier, later in pairwise(times))


def test_cancelling_an_ended_run_leaves_it_as_it_is(ledger: Ledger, of: Definition) -> None:
    finish(ledger, of)
    ledger.take_events(NOW)
    assert ledger.cancel(RUN, NOW).state is RunState.FINISHED
    assert ledger.take_events(NOW) == []


def test_a_cancelled_run_has_a_result_without_a_digest(ledger: Ledger, of: Definition) -> None:
    ledger.partial(partial(of, 0, 32), NOW)
    ledger.cancel(RUN, NOW)
    result = ledger.take_changes().results[RUN]
    assert (result.state, result.digest, result.reproducible) == ("cancelled", None, False)
    assert result.samples == 32 * BLOCK_SIZE
    assert result.cells[0].outputs["x"].mean is not None


# Reopening


def test_a_reopened_run_goes_on_from_what_is_merged(ledger: Ledger, of: Definition) -> None:
    ledger.partial(partial(of, 0, 32), NOW)
    books = ledger.active[RUN]
    fail(ledger, of=of)
    ledger.cancel(RUN, NOW)
    ledger.take_changes()
    assert ledger.reopen(books, NOW) == declare(of)
    assert ledger.take_changes().reopened == {RUN}
    answer = ledger.declare(declare(of), NOW)
    assert (answer.state, answer.merged_blocks, answer.term) == (RunState.RUNNING, 32, 2)
    for span in WHOLE[1:]:
        assert ledger.partial(partial(of, *span), NOW) is Outcome.MERGED
    assert ledger.take_changes().results[RUN].state == "finished"


def test_old_failures_are_not_held_against_a_reopened_run(ledger: Ledger, of: Definition) -> None:
    books = ledger.active[RUN]
    fail(ledger, of, 1, 2, 3)
    assert ledger.status(RUN, NOW).state is RunState.FAILED
    ledger.reopen(books, NOW)
    fail(ledger, of, 4, 5)
    status = ledger.status(RUN, NOW)
    assert (status.state, status.error) == (RunState.RUNNING, None)


def test_a_run_that_ends_and_is_reopened_in_one_batch_has_not_ended(
    ledger: Ledger, of: Definition
) -> None:
    books = ledger.active[RUN]
    fail(ledger, of, 1, 2, 3)
    ledger.reopen(books, NOW)
    ledger.failure(failure(of, 0, 4, attempt=9), NOW)
    changes = ledger.take_changes()
    assert changes.results == {}
    assert [record.attempt for _, record in changes.failures] == [9]
    assert [type(event) for event in ledger.take_events(NOW)] == [Declared, Progress]


def test_a_run_is_announced_when_it_is_created_and_when_it_is_reopened_and_not_in_between(
    of: Definition,
) -> None:
    ledger = Ledger(3)
    ledger.declare(declare(of), NOW)
    assert ledger.take_events(NOW) == [Declared(run=RUN)]
    ledger.declare(declare(of), NOW)
    assert ledger.take_events(NOW) == []
    books = ledger.active[RUN]
    ledger.cancel(RUN, NOW)
    ledger.take_events(NOW)
    ledger.reopen(books, NOW)
    assert ledger.take_events(NOW) == [Declared(run=RUN)]


def test_a_run_that_ends_in_the_batch_that_created_it_is_not_announced(of: Definition) -> None:
    ledger = Ledger(3)
    ledger.declare(declare(of), NOW)
    ledger.cancel(RUN, NOW)
    assert [type(event) for event in ledger.take_events(NOW)] == [Finished]


# Failures


def test_a_failed_run_says_why(ledger: Ledger, of: Definition) -> None:
    fail(ledger, of, 1, 2, 3)
    result = ledger.take_changes().results[RUN]
    assert result.state == "failed"
    assert "failed 3 times; model_error on host-1: division by zero" in str(result.error)
    assert [event.state for event in ledger.take_events(NOW)] == [RunState.FAILED]


def test_a_failure_ahead_ends_the_run_when_the_earlier_checkpoint_completes(
    ledger: Ledger, of: Definition
) -> None:
    for attempt in (1, 2, 3):
        ledger.failure(failure(of, 40, 44, attempt=attempt, host=f"host-{attempt}"), NOW)
    assert ledger.status(RUN, NOW).state is RunState.RUNNING
    ledger.partial(partial(of, 0, 32), NOW)
    assert ledger.status(RUN, NOW).state is RunState.FAILED


def test_failures_on_one_host_end_the_run_once_no_other_is_left(
    ledger: Ledger, of: Definition
) -> None:
    def passes(seconds: int, *alive: str) -> RunState:
        for second in range(seconds):
            for name in alive:
                ledger.fleet.hear(telemetry(f"{name}.1", host=name), NOW + second)
            ledger.tick(NOW + second)
        return ledger.status(RUN, NOW).state

    fail(ledger, of, 1, 2, 3, host="host-a")
    assert passes(20, "host-a", "host-b") is RunState.RUNNING
    assert passes(29, "host-a") is RunState.FAILED


def test_failures_on_one_host_wait_until_the_fleet_is_known(ledger: Ledger, of: Definition) -> None:
    fail(ledger, of, 1, 2, 3, host="host-a")
    ledger.tick(NOW)
    assert ledger.status(RUN, NOW).state is RunState.RUNNING
    ledger.tick(NOW + ALIVE_SECONDS)
    assert ledger.status(RUN, NOW).state is RunState.FAILED


def test_who_says_to_be_unable_of_one_cell_leaves_the_failures_of_another_to_one_host() -> None:
    of = definition(cells=2)
    ledger = Ledger(3)
    ledger.declare(declare(of), NOW - ALIVE_SECONDS)
    for name in ("a", "b"):
        ledger.fleet.hear(telemetry(name, host=f"host-{name}"), NOW - ALIVE_SECONDS)
    fail(ledger, of, 1, 2, 3, host="host-a")
    assert RUN in ledger.active
    kind = FailureKind.UNSUPPORTED_MODEL
    ledger.failure(failure(of, 0, 4, cell=1, kind=kind, consumer="b", host="host-b"), NOW)
    assert "failed 3 times" in str(ledger.status(RUN, NOW).error)


def test_a_dead_letter_counts_as_one_crash_on_the_broker(ledger: Ledger, of: Definition) -> None:
    for _ in range(3):
        ledger.dead_letter(chunk(of, 0, 4, attempt=1), NOW)
    [record] = ledger.active[RUN].failures
    assert (record.kind, record.host, record.attempt) == (FailureKind.CRASH, BROKER, 1)
    fail(ledger, of, 2, 3)
    assert ledger.status(RUN, NOW).state is RunState.FAILED


def test_a_dead_letter_of_merged_blocks_does_not_count(ledger: Ledger, of: Definition) -> None:
    ledger.partial(partial(of, 0, 4), NOW)
    assert ledger.dead_letter(chunk(of, 0, 4), NOW) is Outcome.DUPLICATE
    assert not ledger.active[RUN].failures


def test_every_failed_attempt_is_told_even_when_no_more_failures_are_kept(
    ledger: Ledger, of: Definition
) -> None:
    attempts = range(MAX_FAILURES + 3)
    for attempt in attempts:
        ledger.failure(failure(of, 40, 44, attempt=attempt), NOW)
    [event] = ledger.take_events(NOW)
    assert isinstance(event, Progress)
    assert event.failed_attempts == tuple(attempts)
    assert len(ledger.take_changes().failures) == MAX_FAILURES


def test_an_answer_has_the_failed_attempts_whose_blocks_are_missing(
    ledger: Ledger, of: Definition
) -> None:
    ledger.failure(failure(of, 40, 44, attempt=9), NOW)
    fail(ledger, of, 5, 7)
    assert ledger.missing(RUN).failed_attempts == (5, 7, 9)
    ledger.partial(partial(of, 0, 4), NOW)
    assert ledger.missing(RUN).failed_attempts == (9,)
    # An aggregator that starts anew with the books of the store knows them as well.
    again = Ledger(4, active=ledger.active.values())
    assert again.declare(declare(of), NOW).failed_attempts == (9,)
    again.cancel(RUN, NOW)
    assert again.missing(RUN).failed_attempts == ()


def test_the_failed_attempts_of_an_answer_are_bounded(ledger: Ledger, of: Definition) -> None:
    for attempt in range(MAX_FAILURES + 3):
        for turn, kind in enumerate((FailureKind.CRASH, FailureKind.UNSUPPORTED_MODEL)):
            who = {"attempt": 2 * attempt + turn, "consumer": f"h{attempt}", "host": f"h{attempt}"}
            ledger.failure(failure(of, 40, 44, kind=kind, **who), NOW)
    answer = ledger.missing(RUN)
    assert len(answer.failed_attempts) == 2 * MAX_FAILURES
    assert decode(answer.type, encode(answer), Missing) == answer


def test_the_failure_of_a_merged_chunk_tells_that_it_is_merged(
    ledger: Ledger, of: Definition
) -> None:
    ledger.partial(partial(of, 0, 4), NOW)
    ledger.take_events(NOW)
    fail(ledger, of, 5)
    [event] = ledger.take_events(NOW)
    assert isinstance(event, Progress)
    assert (event.failed_attempts, event.cells[0].merged) == ((), ((0, 4),))


# The fleet


def unable(ledger: Ledger, of: Definition, consumer: str) -> None:
    kind = FailureKind.UNSUPPORTED_MODEL
    ledger.failure(failure(of, 0, 4, kind=kind, consumer=consumer), NOW)


def test_a_run_fails_when_every_live_consumer_is_unable(ledger: Ledger, of: Definition) -> None:
    for consumer in ("a", "b"):
        ledger.fleet.hear(telemetry(consumer), NOW - ALIVE_SECONDS)
    ledger.fleet.hear(telemetry("other", pool="elsewhere"), NOW)
    unable(ledger, of, "a")
    assert RUN in ledger.active
    unable(ledger, of, "b")
    assert ledger.status(RUN, NOW).state is RunState.FAILED


def test_a_run_fails_when_the_last_able_consumer_falls_silent(
    ledger: Ledger, of: Definition
) -> None:
    ledger.fleet.hear(telemetry("able"), NOW - ALIVE_SECONDS)
    ledger.fleet.hear(telemetry("a"), NOW)
    unable(ledger, of, "a")
    ledger.tick(NOW)
    assert RUN in ledger.active
    ledger.tick(NOW + 0.1)
    assert RUN in ledger.ended


def test_a_fresh_aggregator_does_not_judge_before_it_has_heard_everybody(
    ledger: Ledger, of: Definition
) -> None:
    unable(ledger, of, "a")
    ledger.fleet.hear(telemetry("a"), NOW)
    ledger.fleet_changed("default", NOW)
    ledger.tick(NOW + ALIVE_SECONDS - 0.1)
    assert RUN in ledger.active
    ledger.fleet.hear(telemetry("a"), NOW + ALIVE_SECONDS)
    ledger.tick(NOW + ALIVE_SECONDS)
    assert RUN in ledger.ended


def test_runs_hear_that_the_slots_of_their_pool_changed(ledger: Ledger) -> None:
    assert ledger.fleet.hear(telemetry("a", slots=3), NOW)
    ledger.fleet_changed("elsewhere", NOW)
    assert ledger.take_events(NOW) == []
    ledger.fleet_changed("default", NOW)
    [event] = ledger.take_events(NOW)
    assert isinstance(event, Progress)
    assert (event.slots, event.consumers, event.cells) == (3, 1, ())


def test_only_changes_of_slots_or_state_are_news(ledger: Ledger) -> None:
    fleet = ledger.fleet
    assert fleet.hear(telemetry("a"), NOW)
    assert not fleet.hear(telemetry("a", busy=1), NOW)
    assert fleet.hear(telemetry("a", slots=5), NOW)
    assert fleet.hear(telemetry("a", slots=5, state=ConsumerState.DRAINING), NOW)
    assert fleet.slots("default") == 0
    assert fleet.hear(telemetry("a", state=ConsumerState.STOPPED), NOW)
    assert not fleet.hear(telemetry("a", state=ConsumerState.STOPPED), NOW)


def test_a_consumer_that_loads_is_not_live_but_may_be_able(ledger: Ledger, of: Definition) -> None:
    fleet = ledger.fleet
    for consumer, slots in (("a", 2), ("loads", 0)):
        fleet.hear(telemetry(consumer, slots=slots), NOW - ALIVE_SECONDS)
    assert (fleet.consumers("default"), fleet.slots("default")) == (1, 2)
    unable(ledger, of, "a")
    assert RUN in ledger.active
    assert fleet.hear(telemetry("loads"), NOW)
    assert (fleet.consumers("default"), fleet.slots("default")) == (2, 4)
    unable(ledger, of, "loads")
    assert RUN in ledger.ended


def test_a_consumer_counts_until_it_was_silent_for_eight_seconds(ledger: Ledger) -> None:
    ledger.fleet.hear(telemetry("a"), NOW)
    ledger.tick(NOW + ALIVE_SECONDS)
    assert ledger.fleet.consumers() == 1
    ledger.tick(NOW + ALIVE_SECONDS + 0.1)
    assert ledger.fleet.consumers() == 0


# Telling


def progress(ledger: Ledger, now: float = NOW) -> Progress:
    [event] = [e for e in ledger.take_events(now) if not isinstance(e, Declared)]
    assert isinstance(event, Progress)
    return event


def test_progress_is_numbered_without_gaps_and_cumulative(ledger: Ledger, of: Definition) -> None:
    ledger.partial(partial(of, 0, 4), NOW)
    first = progress(ledger)
    ledger.partial(partial(of, 8, 12), NOW)
    ledger.partial(partial(of, 4, 8), NOW)
    ledger.partial(partial(of, 20, 24), NOW)
    second = progress(ledger)
    assert (first.epoch, first.sequence, second.sequence) == (3, 1, 2)
    assert first.cells[0].merged == ((0, 4),)
    assert second.cells[0].merged == ((0, 12), (20, 4))
    assert ledger.missing(RUN).sequence == 2


def test_progress_lists_only_cells_that_changed_since_the_last() -> None:
    of = definition(cells=3)
    ledger = Ledger(1)
    ledger.declare(declare(of), NOW)
    for cell in (2, 0):
        ledger.partial(partial(of, 0, 4, cell), NOW)
    assert [cell.cell for cell in progress(ledger).cells] == [0, 2]
    ledger.partial(partial(of, 0, 4, 1), NOW)
    assert [cell.cell for cell in progress(ledger).cells] == [1]
    assert ledger.take_events(NOW) == []


def test_a_duplicate_is_told_because_its_scheduler_has_not_heard(
    ledger: Ledger, of: Definition
) -> None:
    ledger.partial(partial(of, 0, 4), NOW)
    progress(ledger)
    ledger.take_changes()
    ledger.partial(partial(of, 0, 4), NOW)
    assert progress(ledger).cells[0].merged == ((0, 4),)
    assert not ledger.take_changes()


def test_the_headline_is_computed_five_times_a_second_at_most(
    ledger: Ledger, of: Definition
) -> None:
    means = []
    for number in range(3):
        ledger.partial(partial(of, number, number + 1), NOW)
        headline = progress(ledger, NOW + number * 0.9 * HEADLINE_SECONDS).headline
        assert headline is not None
        means.append(headline.mean)
    assert means[0] == means[1] != means[2]


def test_progress_after_the_claims_of_a_liar_can_still_be_sent(
    ledger: Ledger, of: Definition
) -> None:
    for number in range(3):
        ledger.partial(partial(of, number, number + 1, cpu_seconds=MAX_CPU_SECONDS), NOW)
    event = progress(ledger)
    assert decode(Progress.type, encode(event), Progress) == event


def test_status_lists_the_newest_run_first(ledger: Ledger, of: Definition) -> None:
    ledger.declare(declare(of, "run-2"), NOW + 5)
    ledger.declare(declare(of, "run-0"), NOW + 2)
    ledger.cancel("run-0", NOW + 3)
    found, total = ledger.newest(NOW + 9)
    assert [(s.run, s.state, s.elapsed_seconds) for s in found] == [
        ("run-2", "running", 4.0),
        ("run-0", "cancelled", 1.0),
        ("run-1", "running", 9.0),
    ]
    assert total == 3


# Any order, any duplicates, any overlaps

CELLS, BLOCKS = 2, 72
CHECKPOINTS = (32, 48, 72)


def in_order() -> str:
    of = definition(BLOCKS, CELLS)
    ledger = Ledger(1)
    ledger.declare(declare(of), NOW)
    for cell in range(CELLS):
        for start, stop in pairwise((0, *CHECKPOINTS)):
            ledger.partial(partial(of, start, stop, cell), NOW)
    return str(ledger.take_changes().results[RUN].digest)


@st.composite
def spans(draw: st.DrawFn) -> tuple[int, int, int]:
    cell, segment = draw(st.integers(0, CELLS - 1)), draw(st.integers(0, 2))
    low, high = ((0, *CHECKPOINTS)[segment], CHECKPOINTS[segment])
    start = draw(st.integers(low, high - 1))
    return cell, start, draw(st.integers(start + 1, high))


def missing(ledger: Ledger) -> Iterator[tuple[int, int, int]]:
    """Give what is missing in pieces that cross no checkpoint."""
    for cell in ledger.missing(RUN).cells if RUN in ledger.active else ():
        for first, count in cell.missing:
            edges = [first, *(c for c in CHECKPOINTS if first < c < first + count), first + count]
            yield from ((cell.cell, a, b) for a, b in pairwise(edges))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(spans(), max_size=40), st.randoms(use_true_random=False))
def test_any_sequence_of_partials_ends_with_the_digest_of_merging_in_order(
    arrivals: list[tuple[int, int, int]], chance: random.Random
) -> None:
    of = definition(BLOCKS, CELLS)
    ledger = Ledger(1)
    ledger.declare(declare(of), NOW)
    counted = [Ranges() for _ in range(CELLS)]
    results: list[str] = []

    def arrive(cell: int, start: int, stop: int) -> None:
        before = counted[cell].overlap(start, stop)
        ended = RUN in ledger.ended
        outcome = ledger.partial(partial(of, start, stop, cell), NOW)
        if ended:
            assert outcome is Outcome.LATE
        elif before:
            assert outcome is (Outcome.DUPLICATE if before == stop - start else Outcome.OVERLAP)
        else:
            assert outcome is Outcome.MERGED
            counted[cell].add(start, stop)
        # A commit may come at any moment, and the next aggregator reads it.
        changes = ledger.take_changes()
        results.extend(str(result.digest) for result in changes.results.values())
        if RUN in ledger.active:
            books = ledger.active[RUN]
            assert [cell.merged for cell in books.cells] == counted
            assert books.merged_blocks == sum(map(len, counted))

    for arrival in arrivals:
        arrive(*arrival)
    rest = list(missing(ledger)) * 2 + arrivals
    chance.shuffle(rest)
    for arrival in rest:
        arrive(*arrival)
    assert sum(map(len, counted)) == CELLS * BLOCKS
    assert results == [in_order()]


def test_a_run_declared_again_for_another_pool_moves_there() -> None:
    of = definition()
    ledger = Ledger(1)
    ledger.declare(declare(of), NOW)
    moved = declare(of).model_copy(update={"pool": "night", "lane": Lane.LOW})
    ledger.declare(moved, NOW)
    status = ledger.status(RUN, NOW)
    assert (status.pool, status.lane) == ("night", Lane.LOW)


def test_consumers_that_are_too_old_hear_so_now_and_then_and_do_not_count() -> None:
    ledger = Ledger(3, oldest="0.2")
    for version in ("0.2", "0.10.1", "0.2.0rc1"):
        ledger.heartbeat(telemetry(f"new.{version}", version=version), NOW)
    for version in ("0.1.9", "unknown"):
        for _ in range(2):
            ledger.heartbeat(telemetry(f"old.{version}", version=version), NOW)
    assert ledger.fleet.consumers("default") == 3
    told = [
        ConsumerOutdated(consumer=f"old.{version}", host="old", oldest="0.2")
        for version in ("0.1.9", "unknown")
    ]
    assert ledger.take_events(NOW) == told
    ledger.heartbeat(telemetry("old.0.1.9", version="0.1.9"), NOW + REFUSE_SECONDS)
    assert ledger.take_events(NOW + REFUSE_SECONDS) == told[:1]


def test_who_was_silent_when_a_clock_was_set_back_is_forgotten_all_the_same(
    ledger: Ledger,
) -> None:
    ledger.heartbeat(telemetry("dead"), NOW)
    ledger.heartbeat(telemetry("alive"), NOW)
    back = NOW - 600
    for seconds in range(0, int(ALIVE_SECONDS) + 3, 2):
        ledger.heartbeat(telemetry("alive"), back + seconds)
        ledger.tick(back + seconds)
    assert ledger.fleet.consumers("default") == 1
