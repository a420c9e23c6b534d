from typing import TypeVar

import pytest

from consumer import events as e
from consumer.answers import Worker
from consumer.policy import Policy
from protocol.definition import Lane, Sampling
from protocol.messages import Chunk, Failure, FailureKind, Partial, decode

WORKER = Worker("host-1", "host")
A = TypeVar("A")


def chunk(attempt: int, run: str = "r", model: str = "pi", not_by: str | None = None) -> Chunk:
    return Chunk(
        run=run, definition=bytes(32), attempt=attempt, cell=0, first_block=attempt % 2**32,
        blocks=1, block_size=2, model=model, model_version=1, params={},
        outputs=("x",), sampling=Sampling(), seed=1, not_by=not_by,
    )  # fmt: skip


def ended(run: str, term: int = 0) -> e.RunEnded:
    return e.RunEnded(run, bytes(32), term)


class Driver:
    """Feeds a policy and keeps what it does; the time moves by hand."""

    def __init__(self, slots: int = 1, time_limit: float = 1500.0) -> None:
        self.policy = Policy(WORKER, slots, time_limit)
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
    assert one(driver.send(e.SlotReady(0)), e.Consume).prefetch == 2


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


def test_the_most_urgent_lane_starts_first(driver: Driver) -> None:
    driver.deliver(chunk(1))
    for attempt, lane in ((2, Lane.LOW), (3, Lane.NORMAL), (4, Lane.HIGH), (5, Lane.HIGH)):
        driver.deliver(chunk(attempt), lane)
    assert [started(driver.done())[0] for _ in range(4)] == [4, 5, 3, 2]


def test_an_aged_chunk_starts_next_whatever_its_lane(driver: Driver) -> None:
    driver.deliver(chunk(1))
    driver.deliver(chunk(2), Lane.LOW)
    driver.now += 10.1
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
    for _ in range(4):
        actions = driver.send(e.SlotCrashed(0, "exit code 1"))
        begin = driver.now
        while not only(actions, e.StartSlot):
            actions = driver.pass_time(0.25)
        pauses.append(driver.now - begin)
    assert pauses == [0.0, 1.0, 2.0, 4.0]


def test_an_agent_with_failures_in_a_row_takes_a_rest(driver: Driver) -> None:
    for attempt in range(3):
        assert started(driver.deliver(chunk(attempt))) == [attempt]
        actions = driver.done(kind=FailureKind.MODEL_ERROR)
    assert only(actions, e.StopConsuming)
    assert started(driver.deliver(chunk(7))) == []
    rested = driver.pass_time(1.0)
    assert started(rested) == [7]
    assert only(rested, e.Consume)
    driver.done()
    assert started(driver.deliver(chunk(8))) == [8]
    assert not only(driver.done(kind=FailureKind.MODEL_ERROR), e.StopConsuming)


def test_a_chunk_beyond_its_time_limit_is_killed_and_reported_once() -> None:
    driver = Driver(time_limit=100.0)
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
    actions = driver.deliver(chunk(1, not_by=WORKER.consumer))
    assert published_failure(actions).kind is FailureKind.DECLINED
    assert not started(actions)
    assert started(driver.deliver(chunk(2, not_by="host-2"))) == [2]


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


def test_every_slot_gets_a_chunk_of_its_own() -> None:
    driver = Driver(slots=3)
    driver.connect()
    starts = [only(driver.deliver(chunk(i)), e.StartChunk) for i in range(4)]
    assert [[s.slot for s in start] for start in starts] == [[0], [1], [2], []]
    assert driver.policy.busy == 3
