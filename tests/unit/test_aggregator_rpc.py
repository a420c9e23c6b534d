"""Requests and their replies, on a real ledger and store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.fleet import ALIVE_SECONDS
from aggregator.hosts import Hosts
from aggregator.ledger import Ledger
from aggregator.rpc import REQUESTS, Responder
from aggregator.store.sqlite import Store
from aggregator.watch import Watch
from protocol.definition import Lane
from protocol.errors import StoreError
from protocol.messages import (
    ConsumerState,
    Headline,
    Message,
    RunState,
    Suspension,
    decode,
    encode,
)
from protocol.rpc_messages import (
    MAX_FLEET_CONSUMERS,
    MAX_STATUS_RUNS,
    CancelRequest,
    Condition,
    DeclarationRequest,
    Declare,
    ErrorCode,
    ErrorReply,
    Failures,
    FailuresRequest,
    Fleet,
    FleetMember,
    FleetRequest,
    History,
    HistoryRequest,
    MissingRequest,
    Results,
    ResultsRequest,
    ResumeRequest,
    Status,
    StatusRequest,
)
from tests.support.run_values import RUN, declare, definition, failure, partial, telemetry, totals

NOW = 50.0


def states(answer: Message) -> dict[str, str]:
    assert isinstance(answer, Status)
    return {run.run: run.state for run in answer.runs}


class Desk:
    """A responder with what is behind it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.ledger = Ledger(store.take_over())
        self.hosts = Hosts()
        self.watch = Watch()
        self.responder = Responder(self.ledger, self.hosts, self.watch, store)
        self.definition = definition()

    def ask(self, request: Message) -> Message:
        return self.responder.answer(request, NOW)

    def commit(self) -> None:
        self.store.commit(self.ledger.take_changes(), self.ledger.epoch)

    def fail(self) -> None:
        for attempt in (1, 2, 3):
            failed = failure(self.definition, 0, 4, attempt=attempt, host=f"host-{attempt}")
            self.ledger.failure(failed, NOW)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Store(tmp_path / "store.sqlite") as store:
        desk = Desk(store)
        desk.ask(declare(desk.definition))
        yield desk


NAMING = [r for r in REQUESTS if r not in (Declare, StatusRequest, FleetRequest)]
"""Requests about one run that must be there."""


def result_state(answer: Message) -> str:
    assert isinstance(answer, Results)
    return answer.result.state


@pytest.mark.parametrize("request_type", NAMING)
def test_an_unknown_run_is_a_reply(desk: Desk, request_type: type[Message]) -> None:
    cell = {"cell": 0} if "cell" in request_type.model_fields else {}
    answer = desk.ask(request_type.model_validate({"run": "other", **cell}))
    assert isinstance(answer, ErrorReply)
    assert answer.code == ErrorCode.UNKNOWN_RUN
    assert answer.text == "run 'other' is not known to the aggregator"


@pytest.mark.parametrize("state", RunState)
def test_a_declaration_is_told_whatever_became_of_the_run_and_changes_nothing(
    desk: Desk, state: RunState
) -> None:
    if state is RunState.CANCELLED:
        desk.ask(CancelRequest(run=RUN))
    elif state is RunState.FAILED:
        desk.fail()
    elif state is RunState.FINISHED:
        for span in ((0, 32), (32, 48), (48, 72), (72, 108)):
            desk.ledger.partial(partial(desk.definition, *span), NOW)
    desk.commit()
    assert desk.ask(DeclarationRequest(run=RUN)) == declare(desk.definition)
    assert not desk.ledger.take_changes()
    assert states(desk.ask(StatusRequest())) == {RUN: state}


def test_status_can_be_asked_for_runs_in_one_state(desk: Desk) -> None:
    desk.ask(declare(desk.definition).model_copy(update={"run": "ended"}))
    desk.ask(CancelRequest(run="ended"))
    assert states(desk.ask(StatusRequest(state=RunState.RUNNING))) == {RUN: "running"}
    assert states(desk.ask(StatusRequest(state=RunState.CANCELLED))) == {"ended": "cancelled"}
    assert states(desk.ask(StatusRequest(run="ended", state=RunState.RUNNING))) == {}


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


def test_a_result_that_no_reply_can_hold_is_refused_in_one_sentence(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(encode(desk.ask(ResultsRequest(run=RUN))))
    monkeypatch.setattr(Results, "limit", size)
    assert isinstance(desk.ask(ResultsRequest(run=RUN)), Results)
    monkeypatch.setattr(Results, "limit", size - 1)
    answer = desk.ask(ResultsRequest(run=RUN))
    assert isinstance(answer, ErrorReply)
    assert answer.code == ErrorCode.TOO_LARGE
    assert f"takes {size} bytes, allowed in a reply are {size - 1}; the agg" in answer.text


def test_missing_answers_what_is_left(desk: Desk) -> None:
    desk.ledger.partial(partial(desk.definition, 0, 32), NOW)
    answer = desk.ask(MissingRequest(run=RUN))
    assert answer == desk.ledger.missing(RUN)
    assert answer.model_dump()["cells"] == ({"cell": 0, "missing": ((32, 76),), "cost": 0.5 / 32},)


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
    assert (books.state, list(books.failures), books.error) == (RunState.RUNNING, [], None)
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


def test_a_declaration_is_told_with_the_name_that_was_declared_first(desk: Desk) -> None:
    named = declare(desk.definition, "n").model_copy(update={"name": "n-{date}"})
    desk.ask(named)
    desk.ask(named.model_copy(update={"name": "other-{date}"}))
    desk.commit()
    assert desk.ask(DeclarationRequest(run="n")) == named


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


def test_a_status_tells_of_the_newest_runs_and_how_many_there_are(desk: Desk) -> None:
    desk.ask(declare(desk.definition).model_copy(update={"run": "later"}))
    answer = desk.ask(StatusRequest(newest=1))
    assert isinstance(answer, Status)
    assert (len(answer.runs), answer.total) == (1, 2)
    answer = desk.ask(StatusRequest())
    assert isinstance(answer, Status)
    assert (len(answer.runs), answer.total) == (2, 2)


def test_every_run_that_goes_on_is_told_page_by_page_also_while_others_begin_and_end(
    desk: Desk,
) -> None:
    for number in range(6):
        wanted = declare(desk.definition).model_copy(update={"run": f"r{number}"})
        desk.ledger.declare(wanted, NOW + number // 2)
    found: list[str] = []
    totals: list[int] = []
    last = None
    for ends in ("r5", "r1", "r3", "r4"):
        page = desk.ask(StatusRequest(state=RunState.RUNNING, newest=2, older_than=last))
        assert isinstance(page, Status)
        found += [run.run for run in page.runs]
        totals.append(page.total)
        last = page.runs[-1].age if page.runs else last
        desk.ask(CancelRequest(run=ends))
        begun = declare(desk.definition).model_copy(update={"run": f"after-{ends}"})
        desk.ledger.declare(begun, NOW + 10)
    assert found == ["r5", "r4", "r3", "r2", RUN, "r0"]
    assert totals == [7, 5, 2, 0]


# Estimates so far


def headlines(answer: Message) -> dict[str, Headline | None]:
    assert isinstance(answer, Status)
    assert decode(answer.type, encode(answer), Status) == answer
    found = (None,) * len(answer.runs) if answer.headlines is None else answer.headlines
    return {run.run: headline for run, headline in zip(answer.runs, found, strict=True)}


def test_a_status_tells_estimates_of_the_runs_that_go_on_only_when_asked(desk: Desk) -> None:
    desk.ask(declare(desk.definition).model_copy(update={"run": "ended"}))
    for run in (RUN, "ended"):
        desk.ledger.partial(partial(desk.definition, 0, 4, run=run), NOW)
    desk.ask(CancelRequest(run="ended"))
    plain = desk.ask(StatusRequest())
    assert headlines(plain) == {RUN: None, "ended": None}
    for name in (b"headlines", b"rates"):
        assert name not in encode(plain) + encode(StatusRequest())  # older ones refuse it
    found = headlines(desk.ask(StatusRequest(headlines=True)))
    estimate = desk.ask(ResultsRequest(run=RUN))
    assert isinstance(estimate, Results)
    output = estimate.result.cells[0].outputs["x"]
    expected = Headline(output="x", mean=output.mean, standard_error=output.standard_error)
    assert found == {RUN: expected, "ended": None}


def test_a_status_that_has_estimates_tells_how_fast_runs_go(desk: Desk) -> None:
    desk.ask(declare(desk.definition))
    desk.ask(declare(desk.definition).model_copy(update={"run": "new"}))
    going_on = [desk.ledger.status(RUN, NOW)]
    desk.watch.look(going_on, NOW)
    going_on[0] = going_on[0].model_copy(update={"samples": 300})
    desk.watch.look(going_on, NOW + 2)
    told = desk.ask(StatusRequest(headlines=True))
    assert isinstance(told, Status)
    assert told.rates is not None
    assert dict(zip([run.run for run in told.runs], told.rates, strict=True)) == {
        RUN: 150.0, "new": None,
    }  # fmt: skip


def test_a_run_of_which_nothing_is_merged_has_no_estimate(desk: Desk) -> None:
    assert headlines(desk.ask(StatusRequest(headlines=True))) == {RUN: None}


# The fleet


def names(answer: Message) -> list[str]:
    assert isinstance(answer, Fleet)
    return [member.consumer for member in answer.consumers]


def test_the_fleet_is_told_as_its_last_words_have_it(desk: Desk) -> None:
    desk.hosts.hear(telemetry("host-a.1", totals=totals(chunks={0: 10})), NOW - 3)
    draining = {"state": ConsumerState.DRAINING, "busy": 1, "pool": "gpu", "version": "9.9"}
    desk.hosts.hear(telemetry("host-a.1", 4, totals=totals(chunks={0: 50}), **draining), NOW - 1)
    assert desk.ask(FleetRequest()) == Fleet(
        consumers=(
            FleetMember(
                consumer="host-a.1", host="host-a", pool="gpu", slots=4, busy=1,
                state=Condition.DRAINING, version="9.9", samples_per_second=200.0,
                last_seen=NOW - 1,
            ),
        ),
        total=1,
        clock=NOW,
    )  # fmt: skip


def test_the_slots_of_a_suspended_consumer_do_not_count_but_it_is_told_of(desk: Desk) -> None:
    fleet = desk.ledger.fleet
    assert fleet.hear(telemetry("guest", 4, busy=2), NOW)
    assert fleet.slots("default") == 4
    assert fleet.hear(telemetry("guest", 4, busy=2, suspended=Suspension.HOURS), NOW)
    assert (fleet.slots("default"), fleet.busy("default"), fleet.consumers("default")) == (0, 0, 0)
    assert fleet.capacity()["default"].slots == 0
    assert set(fleet.live("default")) == {"guest"}  # it comes back
    desk.hosts.hear(telemetry("guest", 4, suspended=Suspension.HOURS), NOW)
    answer = desk.ask(FleetRequest())
    assert isinstance(answer, Fleet)
    assert [member.suspended for member in answer.consumers] == [Suspension.HOURS]
    assert fleet.hear(telemetry("guest", 4, suspended=Suspension.FAILURES), NOW)
    assert fleet.slots("default") == 4  # for a moment only


def test_a_consumer_that_stopped_or_fell_silent_is_told_only_when_asked(desk: Desk) -> None:
    desk.hosts.hear(telemetry("silent"), NOW - ALIVE_SECONDS - 0.1)
    desk.hosts.hear(telemetry("stopped"), NOW)
    desk.hosts.hear(telemetry("stopped", state=ConsumerState.STOPPED), NOW)
    desk.hosts.hear(telemetry("alive"), NOW - ALIVE_SECONDS)
    desk.hosts.hear(telemetry("loading", slots=0), NOW)
    assert names(desk.ask(FleetRequest())) == ["alive", "loading"]
    answer = desk.ask(FleetRequest(departed=True))
    assert isinstance(answer, Fleet)
    assert {one.consumer: one.state.value for one in answer.consumers} == {
        "alive": "running", "loading": "loading", "silent": "lost", "stopped": "stopped"
    }  # fmt: skip
    assert answer.total == 4


def test_a_fleet_is_told_pool_by_pool_and_page_by_page_by_name(desk: Desk) -> None:
    for name in ("c", "a", "d", "b"):
        desk.hosts.hear(telemetry(name), NOW)
    desk.hosts.hear(telemetry("else", pool="other"), NOW)
    pages = [
        desk.ask(FleetRequest(pool="default", first=3, after=after)) for after in (None, "c", "d")
    ]
    assert [names(page) for page in pages] == [["a", "b", "c"], ["d"], []]
    assert {page.total for page in pages if isinstance(page, Fleet)} == {4}
    assert names(desk.ask(FleetRequest(pool="other"))) == ["else"]


def test_the_longest_answer_about_a_fleet_fits_into_its_message(desk: Desk) -> None:
    for number in range(MAX_FLEET_CONSUMERS + 1):
        name = f"{number:0120}"
        long = telemetry(name, host=name, pool="p" * 40, version="v" * 64, slots=4096, busy=4096)
        desk.hosts.hear(long, NOW)
    answer = desk.ask(FleetRequest())
    assert isinstance(answer, Fleet)
    assert (len(answer.consumers), answer.total) == (1_000, 1_001)
    assert decode(answer.type, encode(answer), Fleet) == answer


def test_history_and_failures_are_told_of_runs_that_go_on_and_that_have_ended(desk: Desk) -> None:
    desk.ledger.partial(partial(desk.definition, 0, 8), NOW)
    desk.ledger.record(NOW + 1)
    desk.ledger.failure(failure(desk.definition, 9, 10, text="why"), NOW)
    desk.commit()
    desk.ledger.partial(partial(desk.definition, 8, 16), NOW)
    for ends in (False, True):
        if ends:
            desk.ask(CancelRequest(run=RUN))
            desk.commit()
        history = desk.ask(HistoryRequest(run=RUN, cell=0))
        assert isinstance(history, History)
        assert [point.samples for point in history.points] == [8 * 1024, 16 * 1024]
        failures = desk.ask(FailuresRequest(run=RUN))
        assert isinstance(failures, Failures)
        assert [one.text for one in failures.failures] == ["why"]
    refused = desk.ask(HistoryRequest(run=RUN, cell=99))
    assert isinstance(refused, ErrorReply)
    assert refused.code == ErrorCode.INVALID
