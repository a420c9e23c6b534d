from typing import Any, TypeVar

import pytest

from consumer import events as e
from consumer.answers import Worker
from consumer.limits import Limits
from consumer.policy import Policy
from protocol.definition import Lane, Sampling
from protocol.messages import Chunk, Failure, FailureKind, Partial, Suspension, decode

WORKER = Worker("host-1", "host")
A = TypeVar("A")


def chunk(
    attempt: int, run: str = "r", model: str = "pi", not_by: tuple[str, ...] | None = None
) -> Chunk:
    return Chunk(
        run=run, definition=bytes(32), attempt=attempt, cell=0, first_block=attempt % 2**32,
        blocks=1, block_size=2, model=model, model_version=1, params={},
        outputs=("x",), sampling=Sampling(), seed=1, not_by=not_by,
    )  # fmt: skip


def ended(run: str, term: int = 0) -> e.RunEnded:
    return e.RunEnded(run, bytes(32), term)


class Driver:
    """Feeds a policy and keeps what it does; the time moves by hand."""

    def __init__(self, slots: int = 1, **limits: Any) -> None:
        self.policy = Policy(WORKER, slots, Limits(**limits))
        self.now = 0.0
        self.tags = 0

    def send(self, event: e.Event) -> list[e.Action]:
        return self.policy.handle(event, self.now)

    def connect(self) -> list[e.Action]:
        self.send(e.Connected())
        self.send(e.Tick())
        return [a for n in range(self.policy.slots) for a in self.send(e.SlotReady(n))]

    def deliver(self, work: Chunk, lane: Lane = Lane.NORMAL) -> list[e.Action]:
        self.tags += 1
        return self.send(e.Delivered((1, self.tags), lane, work, b"body"))

    def done(
        self, slot: int = 0, kind: FailureKind | None = None, text: str = ""
    ) -> list[e.Action]:
        type_name = Partial.type if kind is None else Failure.type
        return self.send(e.SlotDone(slot, type_name, b"answer", kind, text))

    def pass_time(self, seconds: float) -> list[e.Action]:
        self.now += seconds
        return self.send(e.Tick())


@pytest.fixture
def driver() -> Driver:
    result = Driver()
    result.connect()
    return result


def only(actions: list[e.Action], kind: type[A]) -> list[A]:
    return [action for action in actions if isinstance(action, kind)]


def one(actions: list[e.Action], kind: type[A]) -> A:
    (found,) = only(actions, kind)
    return found


def started(actions: list[e.Action]) -> list[int]:
    return [action.chunk.attempt for action in only(actions, e.StartChunk)]


def published_failure(actions: list[e.Action]) -> Failure:
    action = one(actions, e.Publish)
    message: Failure = decode(action.type, action.body, Failure)
    return message


def test_nothing_is_consumed_before_a_slot_is_ready() -> None:
    driver = Driver()
    assert not only(driver.send(e.Connected()), e.Consume)
    assert one(driver.send(e.SlotReady(0)), e.Consume).prefetch == 1


def test_no_slot_is_told_of_before_the_first_is_ready_and_then_all() -> None:
    driver = Driver(slots=2)
    driver.send(e.Connected())
    assert driver.policy.announced == 0
    driver.send(e.SlotReady(0))
    assert driver.policy.announced == 2
    driver.send(e.SlotCrashed(0, "gone"))
    assert driver.policy.announced == 2


def test_a_chunk_is_acknowledged_only_after_its_answer_was_confirmed(driver: Driver) -> None:
    assert started(driver.deliver(chunk(1))) == [1]
    done = driver.done()
    assert not only(done, e.Ack)
    publish = one(done, e.Publish)
    assert publish.body == b"answer"
    assert one(driver.send(e.Confirmed(publish.token)), e.Ack).receipt == (1, 1)


def test_a_refused_answer_is_published_again_later_and_not_acknowledged(driver: Driver) -> None:
    driver.deliver(chunk(1))
    refused = driver.send(e.Refused(one(driver.done(), e.Publish).token))
    assert not only(refused, e.Ack)
    assert not only(refused, e.Publish)
    again = one(driver.pass_time(1.0), e.Publish)
    assert again.body == b"answer"
    assert one(driver.send(e.Confirmed(again.token)), e.Ack).receipt == (1, 1)


def test_an_answer_that_is_refused_for_long_is_published_again_every_15_seconds(
    driver: Driver,
) -> None:
    driver.deliver(chunk(1))
    publish = one(driver.done(), e.Publish)
    for pause in (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0):
        driver.send(e.Refused(publish.token))
        assert not only(driver.pass_time(0.9 * pause), e.Publish)
        publish = one(driver.pass_time(0.1 * pause), e.Publish)


def test_the_most_urgent_lane_starts_first(driver: Driver) -> None:
    driver.deliver(chunk(1))
    for attempt, lane in ((2, Lane.LOW), (3, Lane.NORMAL), (4, Lane.HIGH), (5, Lane.HIGH)):
        driver.deliver(chunk(attempt), lane)
    order = []
    for _ in range(4):
        driver.now += 0.1
        order += started(driver.done())
    assert order == [4, 5, 3, 2]


def test_an_aged_chunk_starts_next_whatever_its_lane(driver: Driver) -> None:
    driver.deliver(chunk(1))
    driver.deliver(chunk(2), Lane.LOW)
    driver.now += 8.1
    driver.deliver(chunk(3), Lane.HIGH)
    assert started(driver.done()) == [2]


def test_chunks_that_wait_behind_long_ones_go_back_once_and_none_is_fetched(
    driver: Driver,
) -> None:
    driver.deliver(chunk(1))
    driver.deliver(chunk(2))
    assert not only(driver.pass_time(9.0), e.Return)
    actions = driver.pass_time(2.0)
    order = [type(a) for a in actions if isinstance(a, e.StopConsuming | e.Return)]
    assert order == [e.StopConsuming, e.Return]
    assert one(driver.done(), e.Consume).prefetch == 1
    # What the broker sends nevertheless is kept for longer, not sent to and fro.
    driver.deliver(chunk(3))
    driver.deliver(chunk(4))
    assert not only(driver.pass_time(15.0), e.Return)


def test_look_ahead_grows_for_short_chunks_and_comes_back_for_long_ones(driver: Driver) -> None:
    driver.deliver(chunk(1))
    driver.now += 0.001
    assert one(driver.done(), e.Consume).prefetch > 20
    driver.deliver(chunk(2))
    driver.now += 1.0
    assert one(driver.done(), e.Consume).prefetch == 2


def test_nothing_waits_behind_chunks_of_more_than_a_second_nor_before_one_is_measured(
    driver: Driver,
) -> None:
    prefetch = []
    for attempt, seconds in enumerate((0.5, 5.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)):
        driver.deliver(chunk(attempt))
        driver.now += seconds
        prefetch += [action.prefetch for action in only(driver.done(), e.Consume)]
    assert prefetch == [2, 1, 2]


def test_a_chunk_of_a_lower_lane_is_started_rather_than_given_back_when_it_has_aged(
    driver: Driver,
) -> None:
    driver.deliver(chunk(0))
    driver.deliver(chunk(1), Lane.LOW)
    begun: list[int] = []
    for attempt in range(2, 30):
        driver.deliver(chunk(attempt), Lane.HIGH)
        assert not only(driver.pass_time(0.25), e.Return)
        assert not only(driver.pass_time(0.25), e.Return)
        begun += started(driver.done())
    assert 1 in begun


def test_chunks_of_an_ended_run_are_acknowledged_without_computing(driver: Driver) -> None:
    driver.deliver(chunk(1, run="other"))
    driver.deliver(chunk(2, run="over"))
    assert one(driver.send(ended("over")), e.Ack).receipt == (1, 2)
    assert driver.deliver(chunk(3, run="over")) == [e.Ack((1, 3))]


def test_the_answer_for_a_run_that_ended_meanwhile_is_not_published(driver: Driver) -> None:
    driver.deliver(chunk(1))
    driver.send(ended("r"))
    actions = driver.done()
    assert not only(actions, e.Publish)
    assert one(actions, e.Ack).receipt == (1, 1)


def test_a_run_that_is_taken_up_again_under_a_later_term_is_computed(driver: Driver) -> None:
    driver.send(ended("r", term=3))
    assert started(driver.deliver(chunk((3 << 32) + 7))) == []
    assert started(driver.deliver(chunk(4 << 32))) == [4 << 32]


def test_the_end_of_another_definition_ends_nothing(driver: Driver) -> None:
    driver.send(e.RunEnded("r", bytes([1]) * 32, 9))
    assert started(driver.deliver(chunk(1))) == [1]


def test_an_ended_run_is_forgotten_after_a_minute(driver: Driver) -> None:
    driver.send(ended("r"))
    driver.pass_time(59.0)
    assert started(driver.deliver(chunk(1))) == []
    driver.pass_time(2.0)
    assert started(driver.deliver(chunk(2))) == [2]


def test_a_crash_is_reported_and_the_slot_starts_again(driver: Driver) -> None:
    driver.deliver(chunk(1))
    actions = driver.send(e.SlotCrashed(0, "killed by SIGKILL"))
    failure = published_failure(actions)
    assert (failure.kind, failure.attempt) == (FailureKind.CRASH, 1)
    assert failure.text == "killed by SIGKILL"
    assert one(actions, e.StartSlot).slot == 0


def test_a_slot_that_keeps_crashing_starts_after_growing_pauses(driver: Driver) -> None:
    pauses = []
    for _ in range(8):
        actions = driver.send(e.SlotCrashed(0, "exit code 1"))
        begin = driver.now
        while not only(actions, e.StartSlot):
            actions = driver.pass_time(0.25)
        pauses.append(driver.now - begin)
    assert pauses == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]


def test_a_consumer_tells_that_it_rests_while_none_of_its_slots_may_start_again() -> None:
    driver = Driver(2)
    driver.connect()

    def suspension_after_crash_of(slot: int) -> Suspension | None:
        driver.send(e.SlotCrashed(slot, "exit code 1"))
        return driver.policy.suspension(driver.now)

    assert [suspension_after_crash_of(slot) for slot in (0, 0, 1)] == [None, None, None]
    assert suspension_after_crash_of(1) is Suspension.FAILURES
    driver.pass_time(1.0)
    assert driver.policy.suspension(driver.now) is None


def fail(driver: Driver, *chunks: Chunk) -> list[e.Action]:
    """Let chunks start and fail, one after the other; return what the last one led to."""
    actions: list[e.Action] = []
    for one in chunks:
        assert started(driver.deliver(one)) == [one.attempt]
        actions = driver.done(kind=FailureKind.MODEL_ERROR)
    return actions


def test_a_run_with_failures_in_a_row_rests_and_its_next_chunk_waits(driver: Driver) -> None:
    assert only(fail(driver, *map(chunk, range(3))), e.Note)
    assert started(driver.deliver(chunk(7))) == []
    assert started(driver.pass_time(1.0)) == [7]
    driver.done()
    assert started(driver.deliver(chunk(8))) == [8]
    assert not only(driver.done(kind=FailureKind.MODEL_ERROR), e.Note)


def test_other_runs_go_on_while_one_rests_however_many_of_its_chunks_are_delivered(
    driver: Driver,
) -> None:
    assert not only(fail(driver, *map(chunk, range(3))), e.StopConsuming)
    for attempt in range(10, 13):
        held = driver.deliver(chunk(attempt))
        # Consuming anew makes room for what comes behind the chunk that is held.
        assert only(held, e.Consume)
        assert not only(held, e.Return)
    assert started(driver.deliver(chunk(20, run="other"))) == [20]
    driver.done()
    assert started(driver.pass_time(1.0))[0] == 10


def test_chunks_of_a_resting_run_are_not_hoarded(driver: Driver) -> None:
    fail(driver, *map(chunk, range(3)))
    held = [driver.deliver(chunk(attempt)) for attempt in range(10, 14)]
    assert only(held[-1], e.StopConsuming)
    assert only(driver.pass_time(1.0), e.Consume)


def test_chunks_that_are_held_go_with_their_run_and_with_the_agent(driver: Driver) -> None:
    fail(driver, *map(chunk, range(3)))
    driver.deliver(chunk(10))
    assert one(driver.send(ended("r")), e.Ack).receipt == (1, 4)
    fail(driver, *(chunk(attempt, run="s") for attempt in range(3)))
    driver.deliver(chunk(11, run="s"))
    assert one(driver.send(e.Drain()), e.Return).receipt == (1, 8)


def test_chunks_begun_before_a_rest_do_not_make_it_longer() -> None:
    driver = Driver(slots=8)
    driver.connect()
    for attempt in range(8):
        driver.deliver(chunk(attempt))
    notes = [only(driver.done(slot, FailureKind.MODEL_ERROR), e.Note) for slot in range(8)]
    assert [len(told) for told in notes] == [0, 0, 1, 0, 0, 0, 0, 0]
    driver.deliver(chunk(9))
    assert started(driver.pass_time(1.0)) == [9]
    assert "for 2 s" in one(driver.done(kind=FailureKind.MODEL_ERROR), e.Note).text


def test_the_agent_rests_when_several_runs_fail_in_a_row(driver: Driver) -> None:
    actions = fail(driver, *(chunk(n, run=f"r{n}") for n in range(3)))
    assert only(actions, e.StopConsuming)
    assert started(driver.deliver(chunk(7, run="other"))) == []
    rested = driver.pass_time(1.0)
    assert started(rested) == [7]
    assert only(rested, e.Consume)


def test_a_run_that_succeeds_between_says_that_the_agent_is_well(driver: Driver) -> None:
    for n in range(6):
        assert not only(fail(driver, chunk(n, run=f"r{n}")), e.StopConsuming)
        driver.deliver(chunk(n, run="other"))
        driver.done()


def test_a_slot_that_a_chunk_ended_starts_again_at_once_for_other_runs(driver: Driver) -> None:
    for attempt in range(3):
        driver.deliver(chunk(attempt))
        assert only(driver.send(e.SlotCrashed(0, "exit code 3")), e.StartSlot)
        driver.send(e.SlotReady(0))
    assert started(driver.deliver(chunk(3))) == []
    assert started(driver.deliver(chunk(4, run="other"))) == [4]


def test_a_chunk_beyond_its_time_limit_is_killed_and_reported_once() -> None:
    driver = Driver(chunk_seconds=100.0)
    driver.connect()
    driver.deliver(chunk(1))
    assert not only(driver.pass_time(100.0), e.KillSlot)
    actions = driver.pass_time(0.5)
    assert one(actions, e.KillSlot).slot == 0
    assert published_failure(actions).kind is FailureKind.TIMEOUT
    assert not only(driver.done(), e.Publish)  # it answered in the last moment
    # Its end was asked for: it is no crash, and the slot starts again without a word.
    assert driver.send(e.SlotCrashed(0, "killed by SIGKILL")) == [e.StartSlot(0)]


def test_a_chunk_that_must_not_be_computed_here_is_declined(driver: Driver) -> None:
    actions = driver.deliver(chunk(1, not_by=("host-2", WORKER.host)))
    assert published_failure(actions).kind is FailureKind.DECLINED
    assert not started(actions)
    assert started(driver.deliver(chunk(2, not_by=("host-2",)))) == [2]


def test_further_chunks_of_a_run_that_this_consumer_cannot_compute_are_refused_without_a_slot(
    driver: Driver,
) -> None:
    assert started(driver.deliver(chunk(1))) == [1]
    driver.done(kind=FailureKind.UNSUPPORTED_MODEL, text="prices.csv is not here")
    failure = published_failure(driver.deliver(chunk(2)))
    assert (failure.kind, failure.text) == (
        FailureKind.UNSUPPORTED_MODEL,
        "prices.csv is not here",
    )


def test_other_runs_of_the_same_model_and_a_resumed_run_are_tried(driver: Driver) -> None:
    driver.deliver(chunk(1))
    driver.done(kind=FailureKind.UNSUPPORTED_MODEL, text="prices.csv is not here")
    assert started(driver.deliver(chunk(2, run="other"))) == [2]
    driver.done()
    later_term = (1 << 32) + 3
    assert started(driver.deliver(chunk(later_term))) == [later_term]


def test_a_lost_connection_drops_what_waits_and_keeps_what_runs(driver: Driver) -> None:
    driver.deliver(chunk(1))
    driver.deliver(chunk(2))
    driver.send(e.Disconnected())
    driver.now += 0.5  # neither short nor long: the look-ahead stays as it is
    assert not only(driver.done(), e.Publish)
    again = driver.send(e.Connected())
    publish = one(again, e.Publish)
    assert one(again, e.Consume).prefetch == 2
    # The old receipt belongs to a channel that is gone: there is nothing to acknowledge.
    assert not only(driver.send(e.Confirmed(publish.token)), e.Ack)


def test_an_unconfirmed_answer_is_published_again_after_a_lost_connection(driver: Driver) -> None:
    driver.deliver(chunk(1))
    old = one(driver.done(), e.Publish)
    driver.send(e.Disconnected())
    new = one(driver.send(e.Connected()), e.Publish)
    assert new.body == old.body
    assert driver.send(e.Confirmed(old.token)) == []


def test_a_chunk_delivered_again_while_it_runs_is_computed_once(driver: Driver) -> None:
    driver.deliver(chunk(1))
    driver.send(e.Disconnected())
    driver.send(e.Connected())
    assert not started(driver.deliver(chunk(1)))
    driver.deliver(chunk(1))
    publish = one(driver.done(), e.Publish)
    acks = only(driver.send(e.Confirmed(publish.token)), e.Ack)
    assert [ack.receipt for ack in acks] == [(1, 2), (1, 3)]


def test_draining_returns_what_waits_finishes_what_runs_and_exits(driver: Driver) -> None:
    driver.deliver(chunk(1))
    driver.deliver(chunk(2))
    actions = driver.send(e.Drain())
    assert one(actions, e.Return).receipt == (1, 2)
    assert only(actions, e.StopConsuming)
    assert not only(actions, e.Exit)
    assert driver.deliver(chunk(3)) == [e.Return((1, 3))]
    publish = one(driver.done(), e.Publish)
    last = driver.send(e.Confirmed(publish.token))
    assert last == [e.Ack((1, 1)), e.Exit()]
    assert driver.send(e.Tick()) == []


def test_draining_without_a_connection_exits_at_once(driver: Driver) -> None:
    driver.deliver(chunk(1))
    driver.send(e.Disconnected())
    assert driver.send(e.Drain()) == [e.Exit()]


def test_stopping_kills_the_slots_and_returns_everything(driver: Driver) -> None:
    driver.deliver(chunk(1))
    driver.deliver(chunk(2))
    actions = driver.send(e.Stop())
    assert only(actions, e.KillSlot) == [e.KillSlot(0)]
    assert {a.receipt for a in only(actions, e.Return)} == {(1, 1), (1, 2)}
    assert actions[-1] == e.Exit()


def tiny(driver: Driver) -> None:
    """Let the run's first chunk be over in a moment."""
    driver.deliver(chunk(0))
    driver.now += 0.001
    driver.done()


def test_a_slot_gets_several_tiny_chunks_of_a_run_and_answers_them_in_their_order(
    driver: Driver,
) -> None:
    tiny(driver)
    starts = [started(driver.deliver(chunk(attempt))) for attempt in range(1, 25)]
    assert starts == [[attempt] for attempt in range(1, 21)] + [[]] * 4  # 20 ms of work
    published = []
    for _ in range(20):
        driver.now += 0.001
        actions = driver.done()
        published += only(actions, e.Publish)
        starts.append(started(actions))
    assert len(published) == 20
    assert starts[24:28] == [[21], [22], [23], [24]]


def test_other_runs_and_chunks_of_unknown_cost_start_in_idle_slots_only(driver: Driver) -> None:
    tiny(driver)
    assert started(driver.deliver(chunk(1))) == [1]
    assert started(driver.deliver(chunk(2, run="other"))) == []
    driver.now += 0.001
    assert started(driver.done()) == [2]
    assert started(driver.deliver(chunk(3, run="other"))) == []
    assert started(driver.deliver(chunk(4))) == []


def test_a_run_whose_chunks_turn_long_gets_one_at_a_time_again(driver: Driver) -> None:
    tiny(driver)
    driver.deliver(chunk(1))
    driver.now += 1.0
    driver.done()
    assert started(driver.deliver(chunk(2))) == [2]
    assert started(driver.deliver(chunk(3))) == []


def test_when_a_slot_with_several_chunks_dies_each_is_tried_alone_and_none_is_blamed(
    driver: Driver,
) -> None:
    tiny(driver)
    for attempt in (1, 2, 3):
        driver.deliver(chunk(attempt))
    died = driver.send(e.SlotCrashed(0, "killed by SIGKILL"))
    assert not only(died, e.Publish)
    assert started(driver.send(e.SlotReady(0))) == [1]
    assert started(driver.done()) == [2]
    again = driver.send(e.SlotCrashed(0, "killed by SIGKILL"))
    assert (published_failure(again).kind, published_failure(again).attempt) == (
        FailureKind.CRASH,
        2,
    )
    assert started(driver.send(e.SlotReady(0))) == [3]


def test_events_of_one_turn_are_answered_together(driver: Driver) -> None:
    tiny(driver)
    work = [e.Delivered((1, 10 + n), Lane.NORMAL, chunk(n), b"body") for n in (1, 2)]
    assert started(driver.policy.handle_all(work, driver.now)) == [1, 2]
    answers = [e.SlotDone(0, Partial.type, b"answer", seconds=0.001) for _ in work]
    assert len(only(driver.policy.handle_all(answers, driver.now), e.Publish)) == 2


def test_every_slot_gets_a_chunk_of_its_own() -> None:
    driver = Driver(slots=3)
    driver.connect()
    starts = [only(driver.deliver(chunk(i)), e.StartChunk) for i in range(4)]
    assert [[s.slot for s in start] for start in starts] == [[0], [1], [2], []]
    assert driver.policy.busy == 3


# What is told


def test_the_tally_has_what_slots_answered_and_what_failed_without_them(driver: Driver) -> None:
    for attempt, kind in enumerate((None, FailureKind.NOT_FINITE, None)):
        driver.deliver(chunk(attempt))
        driver.pass_time(0.2)
        driver.done(kind=kind)
    driver.deliver(chunk(7, not_by=(WORKER.host,)))
    found = driver.policy.tally.totals(0, 0, 0)
    assert found.models["pi"].samples == 2 * 2
    assert found.models["pi"].chunks[4] == 2
    assert found.failures == {FailureKind.NOT_FINITE: 1, FailureKind.DECLINED: 1}


def test_an_agent_that_rests_says_why_it_starts_nothing() -> None:
    driver = Driver()
    driver.connect()
    assert driver.policy.suspension(driver.now) is None
    for number in range(3):
        driver.deliver(chunk(number, run=f"r{number}"))
        driver.done(kind=FailureKind.MODEL_ERROR)
    assert driver.policy.suspension(driver.now) is Suspension.FAILURES
    assert driver.policy.suspension(driver.now + 3600.0) is None


# Suspended


def suspended(driver: Driver, *, give_back: bool = False) -> list[e.Action]:
    return driver.send(e.Suspend(Suspension.HOURS, "it is day", give_back))


def test_a_suspended_agent_finishes_what_runs_and_gives_back_the_rest(driver: Driver) -> None:
    for attempt in (1, 2):
        driver.deliver(chunk(attempt))
    actions = suspended(driver)
    # Not the other way round, or the broker would send it here again.
    assert [a for a in actions if not isinstance(a, e.Note)] == [
        e.StopConsuming(),
        e.Return((1, 2)),
    ]
    assert driver.policy.busy == 1
    publish = one(driver.done(), e.Publish)
    assert one(driver.send(e.Confirmed(publish.token)), e.Ack).receipt == (1, 1)
    assert not only(driver.pass_time(3600.0), e.Exit)


def test_what_was_on_its_way_to_a_suspended_agent_goes_back(driver: Driver) -> None:
    suspended(driver)
    assert driver.deliver(chunk(1)) == [e.Return((1, 1))]


def test_an_agent_that_returns_its_chunks_kills_its_slots_and_fails_nothing(driver: Driver) -> None:
    driver.deliver(chunk(1))
    actions = suspended(driver, give_back=True)
    assert one(actions, e.KillSlot).slot == 0
    assert one(actions, e.Return).receipt == (1, 1)
    died = driver.send(e.SlotCrashed(0, "killed by SIGKILL"))
    assert not only(died, e.Publish)
    assert driver.policy.tally.totals(0, 0, 0).failures == {}
    assert one(died, e.StartSlot).slot == 0  # at hand when it goes on


def test_answers_that_nobody_has_confirmed_are_not_given_back(driver: Driver) -> None:
    driver.deliver(chunk(1))
    publish = one(driver.done(), e.Publish)
    assert not only(suspended(driver, give_back=True), e.Return)
    assert one(driver.send(e.Confirmed(publish.token)), e.Ack).receipt == (1, 1)


def test_an_agent_goes_on_once_no_reason_is_left_and_tells_the_first_of_them(
    driver: Driver,
) -> None:
    suspended(driver)
    driver.send(e.Suspend(Suspension.QUIET, "told so"))
    assert driver.policy.suspension(driver.now) is Suspension.QUIET
    assert not only(driver.send(e.Resume(Suspension.QUIET)), e.Consume)
    assert driver.policy.suspension(driver.now) is Suspension.HOURS
    assert one(driver.send(e.Resume(Suspension.HOURS)), e.Consume)
    assert driver.policy.suspension(driver.now) is None
    assert started(driver.deliver(chunk(1))) == [1]


def test_an_agent_that_was_suspended_before_it_was_connected_consumes_nothing() -> None:
    driver = Driver()
    suspended(driver)
    assert not only(driver.connect(), e.Consume)
    driver.send(e.Disconnected())
    driver.send(e.Connected())
    assert only(driver.send(e.Resume(Suspension.HOURS)), e.Consume)


def test_a_suspended_agent_drains_as_any_other(driver: Driver) -> None:
    driver.deliver(chunk(1))
    suspended(driver)
    assert not only(driver.send(e.Drain()), e.Exit)
    publish = one(driver.done(), e.Publish)
    assert only(driver.send(e.Confirmed(publish.token)), e.Exit)


def test_what_takes_longer_than_the_time_to_drain_is_given_back(driver: Driver) -> None:
    driver.deliver(chunk(1))
    driver.send(e.Drain())
    assert not only(driver.pass_time(59.0), e.Exit)
    driver.send(e.Drain())  # does not begin anew
    late = driver.pass_time(1.0)
    assert one(late, e.Return).receipt == (1, 1)
    assert one(late, e.KillSlot).slot == 0
    assert not only(late, e.Publish)
    assert only(late, e.Exit)
    assert "1 slot still at work after 60 s" in one(late, e.Note).text


# Slots that end


def test_a_slot_is_exchanged_after_so_many_chunks_and_no_chunk_fails() -> None:
    driver = Driver(chunks_per_slot=2)
    driver.connect()
    tiny(driver)
    driver.send(e.SlotCrashed(0, "killed by SIGKILL"))
    driver.send(e.SlotReady(0))
    assert started([a for n in (1, 2, 3) for a in driver.deliver(chunk(n))]) == [1, 2]
    assert not only(driver.done(), e.KillSlot)
    last = driver.done()
    assert one(last, e.KillSlot).slot == 0
    assert not started(last)
    ended = driver.send(e.SlotCrashed(0, "killed by SIGKILL"))
    assert one(ended, e.StartSlot).slot == 0
    assert not only(ended, e.Note)
    assert started(driver.send(e.SlotReady(0))) == [3]
    assert FailureKind.CRASH not in driver.policy.tally.totals(0, 0, 0).failures


def test_a_slot_that_uses_too_much_memory_is_killed_and_its_chunk_fails_with_the_figure() -> None:
    driver = Driver(slot_memory=2**30)
    driver.connect()
    driver.deliver(chunk(1))
    killed = driver.send(e.SlotTooLarge(0, 3 * 2**29))
    assert one(killed, e.KillSlot).slot == 0
    failure = published_failure(killed)
    assert (failure.kind, failure.text) == (
        FailureKind.CRASH, "used 1,536 MiB of memory, more than the 1,024 MiB it may",
    )  # fmt: skip
    assert driver.send(e.SlotTooLarge(0, 2**31)) == []  # seen before it was gone
    gone = driver.send(e.SlotCrashed(0, "killed by SIGKILL"))
    assert one(gone, e.StartSlot).slot == 0
    assert not only(gone, e.Publish)


def test_a_slot_that_keeps_too_much_memory_between_chunks_starts_anew(driver: Driver) -> None:
    killed = driver.send(e.SlotTooLarge(0, 2**40))
    assert one(killed, e.KillSlot).slot == 0
    assert not only(killed, e.Publish)
    assert one(driver.send(e.SlotCrashed(0, "killed by SIGKILL")), e.StartSlot).slot == 0
