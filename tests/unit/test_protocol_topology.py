"""The topology as values: what a broker must hold, and what it must never be asked for."""

import pytest

from protocol import topology as t
from protocol.definition import Lane

WHOLE = t.topology(("default", "gpu"))


def test_a_queue_never_shares_the_name_of_an_exchange() -> None:
    assert not {q.name for q in WHOLE.queues} & {e.name for e in WHOLE.exchanges}


def test_names_are_unique() -> None:
    for things in (WHOLE.queues, WHOLE.exchanges):
        names = [thing.name for thing in things]
        assert len(names) == len(set(names))


def test_every_binding_joins_what_is_declared() -> None:
    queues, exchanges = {q.name for q in WHOLE.queues}, {e.name for e in WHOLE.exchanges}
    assert {b.queue for b in WHOLE.bindings} <= queues
    assert {b.exchange for b in WHOLE.bindings} <= exchanges


@pytest.mark.parametrize("pool", ["default", "gpu"])
@pytest.mark.parametrize("lane", Lane)
def test_a_chunk_published_to_a_lane_reaches_its_queue(pool: str, lane: Lane) -> None:
    reached = [b.queue for b in WHOLE.bindings if (b.exchange, b.key) == (t.WORK, f"{pool}.{lane}")]
    assert reached == [t.work_queue(pool, lane)] == [f"mc.work.{pool}.{lane}.q"]
    assert t.work_key(pool, lane) == f"{pool}.{lane}"


def test_every_quorum_queue_says_its_delivery_limit() -> None:
    for queue in WHOLE.queues:
        if queue.arguments["x-queue-type"] == "quorum":
            work = queue.name.startswith("mc.work.")
            assert queue.arguments["x-delivery-limit"] == (20 if work else 1_000_000)


def test_work_is_dead_lettered_at_least_once() -> None:
    work = [q for q in WHOLE.queues if q.name.startswith("mc.work.")]
    assert len(work) == 6
    for queue in work:
        assert queue.arguments["x-dead-letter-exchange"] == t.DEAD
        assert queue.arguments["x-dead-letter-strategy"] == "at-least-once"
        assert queue.arguments["x-overflow"] == "reject-publish"


def test_telemetry_and_subscriptions_lose_the_oldest_and_never_grow() -> None:
    telemetry = next(q.arguments for q in WHOLE.queues if q.name == t.TELEMETRY_QUEUE)
    for arguments in (telemetry, t.subscription()):
        assert arguments["x-overflow"] == "drop-head"
        assert int(arguments["x-max-length"]) > 0
    assert telemetry["x-queue-type"] == "quorum"


def test_routing_keys_and_locks_carry_their_names() -> None:
    assert t.partial_key("u") == "partial.u"
    assert t.failure_key("u") == "failure.u"
    assert t.progress_key("r") == "run.r.progress"
    assert t.finished_key("*") == "run.*.finished"
    assert t.leader_lock("r") == "mc.leader.r"
