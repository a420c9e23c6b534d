"""Requests and their replies, on a real ledger and store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.ledger import Ledger
from aggregator.rpc import MAX_STATUS_RUNS, REQUESTS, Responder
from aggregator.store.sqlite import Store
from protocol.definition import Lane
from protocol.errors import StoreError
from protocol.messages import Message, RunState, decode, encode
from protocol.rpc_messages import (
    CancelRequest,
    Declare,
    ErrorCode,
    ErrorReply,
    MissingRequest,
    Results,
    ResultsRequest,
    ResumeRequest,
    Status,
    StatusRequest,
)
from tests.support.run_values import RUN, declare, definition, failure, partial, telemetry

NOW = 50.0


class Desk:
    """A responder with what is behind it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.ledger = Ledger(store.take_over())
        self.responder = Responder(self.ledger, store)
        self.definition = definition()

    def ask(self, request: Message) -> Message:
        return self.responder.answer(request, NOW)

    def commit(self) -> None:
        self.store.commit(self.ledger.take_changes(), self.ledger.epoch)

    def fail(self) -> None:
        for attempt in (1, 2, 3):
            self.ledger.failure(failure(self.definition, 0, 4, attempt=attempt), NOW)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Store(tmp_path / "store.sqlite") as store:
        desk = Desk(store)
        desk.ask(declare(desk.definition))
        yield desk


def result_state(answer: Message) -> str:
    assert isinstance(answer, Results)
    return answer.result.state


@pytest.mark.parametrize("request_type", [r for r in REQUESTS if r not in (Declare, StatusRequest)])
def test_an_unknown_run_is_a_reply(desk: Desk, request_type: type[Message]) -> None:
    answer = desk.ask(request_type.model_validate({"run": "other"}))
    assert isinstance(answer, ErrorReply)
    assert answer.code == ErrorCode.UNKNOWN_RUN
    assert answer.text == "run 'other' is not known to the aggregator"


def test_a_taken_id_is_a_reply(desk: Desk) -> None:
    answer = desk.ask(declare(definition(seed=1)))
    assert isinstance(answer, ErrorReply)
    assert answer.code == ErrorCode.RUN_ID_TAKEN


def test_results_are_there_before_during_and_after_the_commit_of_the_end(desk: Desk) -> None:
    assert result_state(desk.ask(ResultsRequest(run=RUN))) == "running"
    desk.ask(CancelRequest(run=RUN))
    before = desk.ask(ResultsRequest(run=RUN))
    desk.commit()
    assert result_state(before) == "cancelled"
    assert desk.ask(ResultsRequest(run=RUN)) == before


def test_missing_answers_what_is_left(desk: Desk) -> None:
    desk.ledger.partial(partial(desk.definition, 0, 32), NOW)
    answer = desk.ask(MissingRequest(run=RUN))
    assert answer == desk.ledger.missing(RUN)
    assert answer.model_dump()["cells"] == ({"cell": 0, "missing": ((32, 76),)},)


@pytest.mark.parametrize("committed", [False, True])
def test_a_failed_run_is_reopened_with_what_was_merged(desk: Desk, committed: bool) -> None:
    desk.ledger.partial(partial(desk.definition, 4, 32), NOW)
    desk.fail()
    if committed:
        desk.commit()
    assert desk.ask(ResumeRequest(run=RUN)) == declare(desk.definition)
    assert desk.ledger.missing(RUN).state is RunState.RUNNING
    assert desk.ledger.missing(RUN).merged_blocks == 28
    desk.commit()
    books = desk.store.books(RUN)
    assert books is not None
    assert (books.state, books.failures, books.error) == (RunState.RUNNING, [], None)
    assert desk.store.result(RUN) is None


def test_resuming_a_run_that_goes_on_or_has_finished_changes_nothing(desk: Desk) -> None:
    desk.commit()
    assert desk.ask(ResumeRequest(run=RUN)) == declare(desk.definition)
    for span in ((0, 32), (32, 48), (48, 72), (72, 108)):
        desk.ledger.partial(partial(desk.definition, *span), NOW)
    desk.commit()
    assert desk.ask(ResumeRequest(run=RUN)) == declare(desk.definition)
    assert not desk.ledger.changes
    assert desk.ledger.missing(RUN).state is RunState.FINISHED


def test_status_knows_the_fleet_and_the_clock(desk: Desk) -> None:
    desk.ledger.fleet.hear(telemetry(slots=3), NOW)
    answer = desk.ask(StatusRequest())
    assert isinstance(answer, Status)
    assert (answer.slots, answer.consumers, answer.clock) == (3, 1, NOW)
    assert [run.run for run in answer.runs] == [RUN]


def test_a_status_of_very_many_runs_lists_the_newest_and_fits_into_its_message(desk: Desk) -> None:
    count = MAX_STATUS_RUNS + 100
    for number in range(count):
        wanted = Declare(
            run=f"r{number}", definition=desk.definition, pool="default", lane=Lane.LOW
        )
        desk.ledger.declare(wanted, NOW + number + 1)
    answer = desk.ask(StatusRequest())
    assert isinstance(answer, Status)
    expected = [f"r{count - 1 - number}" for number in range(MAX_STATUS_RUNS)]
    assert [run.run for run in answer.runs] == expected
    assert decode(answer.type, encode(answer), Status) == answer


def test_a_store_that_cannot_be_read_is_not_the_users_fault(desk: Desk) -> None:
    desk.ask(CancelRequest(run=RUN))
    desk.commit()
    desk.store._database.execute("ALTER TABLE runs RENAME TO hidden")
    with pytest.raises(StoreError, match="cannot be used"):
        desk.ask(ResultsRequest(run=RUN))
