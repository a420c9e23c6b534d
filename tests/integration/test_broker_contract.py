"""What montemq relies on of AMQP, proved on the in-memory broker and on RabbitMQ alike."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ops.simulation.broker import declare
from ops.simulation.events import (
    PERSISTENT,
    Closed,
    Confirmed,
    ConsumerCancelled,
    Delivery,
    Event,
    Properties,
    Rejected,
    Returned,
)
from protocol import topology
from protocol.definition import Lane
from protocol.errors import (
    BrokerRefusedError,
    ConnectionLostError,
    LockedError,
    TopologyMissingError,
)
from tests.support.worlds import UNCOUNTED_NACKS, MemoryWorld, RealWorld, World

QUORUM = {"x_queue_type": "quorum", "x_delivery_limit": 20}
UNLIMITED = {"x_queue_type": "quorum"}
KINDS = pytest.mark.parametrize("kind", [{}, QUORUM], ids=["classic", "quorum"])


@pytest.fixture(params=["memory-1", "memory-2", "memory-3", "rabbitmq"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    built: World
    if request.param == "rabbitmq":
        built = RealWorld(request.node.name, request.getfixturevalue("private_broker"))
    else:
        built = MemoryWorld(request.node.name, seed=int(request.param[-1]))
    yield built
    built.clean()


def deliveries(events: list[Event]) -> list[Delivery]:
    found = [event for event in events if isinstance(event, Delivery)]
    assert len(found) == len(events), events
    return found


def tags(events: list[Event]) -> dict[bytes, int]:
    return {delivery.body: delivery.delivery_tag for delivery in deliveries(events)}


def ends_with(channel: Any, error: type[Exception]) -> Callable[[], bool]:
    return lambda: any(
        isinstance(event, Closed) and isinstance(event.error, error) for event in channel.inbox
    )


# Routing


@pytest.mark.parametrize(
    ("type_", "pattern", "key", "reached"),
    [
        ("direct", "default.high", "default.high", True),
        ("direct", "default.high", "default.low", False),
        ("direct", "*", "word", False),
        ("fanout", "", "anything", True),
        ("topic", "partial.*", "partial.me", True),
        ("topic", "partial.*", "partial", False),
        ("topic", "partial.*", "partial.me.too", False),
        ("topic", "run.#", "run", True),
        ("topic", "run.#", "run.1.progress", True),
        ("topic", "#.progress", "run.1.progress", True),
        ("topic", "run.*.finished", "run.*.finished", True),
        ("topic", "run.*.finished", "run.1.progress", False),
        ("topic", "*", "", False),
        ("topic", "#", "", True),
        ("topic", "a.#.b.*", "a.x.b.b.c", True),
    ],
)
def test_an_exchange_routes_by_its_type(
    world: World, type_: str, pattern: str, key: str, reached: bool
) -> None:
    channel = world.channel()
    queue = world.queue(channel)
    exchange = world.exchange(channel, type_)
    channel.bind(queue, exchange, pattern)
    channel.confirm_select()
    channel.publish(exchange, key, b"x", mandatory=True)
    events = world.events(channel, 1 if reached else 2)
    assert isinstance(events[0], Confirmed if reached else Returned)
    world.ready(channel, queue, int(reached))


def test_a_message_reaches_a_queue_once_though_two_bindings_match(world: World) -> None:
    channel = world.channel()
    queue = world.queue(channel)
    exchange = world.exchange(channel, "topic")
    channel.bind(queue, exchange, "#")
    channel.bind(queue, exchange, "a.*")
    channel.confirm_select()
    channel.publish(exchange, "a.b", b"x")
    world.events(channel, 1)
    world.ready(channel, queue, 1)


def test_after_unbind_nothing_arrives(world: World) -> None:
    channel = world.channel()
    queue = world.queue(channel)
    exchange = world.exchange(channel, "direct")
    channel.bind(queue, exchange, "k")
    channel.unbind(queue, exchange, "k")
    channel.confirm_select()
    channel.publish(exchange, "k", b"x", mandatory=True)
    returned, confirmed = world.events(channel, 2)
    assert isinstance(returned, Returned)
    assert confirmed == Confirmed(1)


def test_the_topology_leads_every_message_to_its_queue(world: World) -> None:
    if isinstance(world, RealWorld):
        world.fresh_topology()
    channel = world.channel()
    declare(channel, topology.topology())
    declare(channel, topology.topology())  # twice is as good as once
    channel.confirm_select()
    routes = [
        (topology.WORK, topology.work_key("default", lane), topology.work_queue("default", lane))
        for lane in Lane
    ]
    routes += [
        (topology.RESULTS, topology.partial_key("me"), topology.RESULTS_QUEUE),
        (topology.RESULTS, topology.failure_key("me"), topology.RESULTS_QUEUE),
        (topology.TELEMETRY, "me", topology.TELEMETRY_QUEUE),
        (topology.RPC, topology.RPC_KEY, topology.RPC_QUEUE),
        (topology.DEAD, "default.high", topology.DEAD_QUEUE),
        ("", topology.STORE_QUEUE, topology.STORE_QUEUE),
    ]
    for exchange, key, queue in routes:
        sequence = channel.publish(exchange, key, queue.encode(), PERSISTENT, mandatory=True)
        assert world.events(channel, 1) == [Confirmed(sequence)]
        delivery = channel.get(queue, no_ack=True)
        assert delivery is not None
        assert delivery.body == queue.encode()
        assert (delivery.message.exchange, delivery.message.routing_key) == (exchange, key)


# Publishing


@KINDS
def test_every_publish_is_confirmed(world: World, kind: dict[str, Any]) -> None:
    channel = world.channel()
    queue = world.queue(channel, **kind)
    channel.confirm_select()
    sequences = [channel.publish("", queue, b"x", PERSISTENT) for _ in range(50)]
    assert sequences == list(range(1, 51))
    events = world.events(channel, 50)
    assert {*events} == {Confirmed(sequence) for sequence in sequences}
    world.ready(channel, queue, 50)


def test_an_unroutable_mandatory_message_is_returned_before_it_is_confirmed(world: World) -> None:
    channel = world.channel()
    channel.confirm_select()
    channel.publish("", "no such queue", b"x", Properties(message_id="7"), mandatory=True)
    returned, confirmed = world.events(channel, 2)
    assert isinstance(returned, Returned)
    assert returned.message.body == b"x"
    assert returned.message.routing_key == "no such queue"
    assert returned.message.properties.message_id == "7"
    assert confirmed == Confirmed(1)


def test_an_unroutable_message_that_is_not_mandatory_is_confirmed(world: World) -> None:
    channel = world.channel()
    channel.confirm_select()
    channel.publish("", "no such queue", b"x")
    assert world.events(channel, 1) == [Confirmed(1)]


def test_publishing_to_a_missing_exchange_ends_the_channel_only(world: World) -> None:
    connection = world.connect()
    channel, other = connection.channel(), connection.channel()
    channel.publish("no such exchange", "k", b"x")
    world.eventually(ends_with(channel, TopologyMissingError))
    assert not channel.open
    assert other.declare_queue(exclusive=True).messages == 0


def test_properties_arrive_as_they_were_sent(world: World) -> None:
    channel = world.channel()
    queue = world.queue(channel)
    sent = Properties(
        content_type="application/msgpack",
        type="chunk.v1",
        message_id="m",
        correlation_id="c",
        reply_to="r",
        expiration="60000",
        user_id="guest",
        persistent=True,
        headers={"a": 1},
    )
    channel.publish("", queue, b"x", sent)
    channel.consume(queue)
    (delivery,) = deliveries(world.events(channel, 1))
    assert delivery.message.properties == sent


def test_a_false_user_id_ends_the_channel(world: World) -> None:
    channel = world.channel()
    queue = world.queue(channel)
    channel.publish("", queue, b"x", Properties(user_id="somebody"))
    world.eventually(ends_with(channel, BrokerRefusedError))


@pytest.mark.parametrize(("kind", "taken"), [({}, 3), (QUORUM, 4)], ids=["classic", "quorum"])
def test_a_full_queue_that_rejects_publishes_says_so(
    world: World, kind: dict[str, Any], taken: int
) -> None:
    channel = world.channel()
    queue = world.queue(channel, x_max_length=3, x_overflow="reject-publish", **kind)
    channel.confirm_select()
    events = []
    for _ in range(6):
        channel.publish("", queue, b"x")
        events += world.events(channel, 1)
        world.ready(channel, queue, min(len(events), taken))
    # A quorum queue tells its publishers that it is full once it is over its limit by one.
    assert events == [Confirmed(n) if n <= taken else Rejected(n) for n in range(1, 7)]
    channel.get(queue, no_ack=True)
    channel.get(queue, no_ack=True)
    world.ready(channel, queue, taken - 2)

    def accepted() -> bool:
        sequence = channel.publish("", queue, b"y")
        return world.events(channel, 1) == [Confirmed(sequence)]

    world.eventually(accepted, "room for another message")


@KINDS
def test_a_full_queue_that_drops_its_head_keeps_the_newest(
    world: World, kind: dict[str, Any]
) -> None:
    channel = world.channel()
    queue = world.queue(channel, x_max_length=3, x_overflow="drop-head", **kind)
    channel.confirm_select()
    for number in range(6):
        channel.publish("", queue, b"%d" % number)
        assert world.events(channel, 1) == [Confirmed(number + 1)]
    world.ready(channel, queue, 3)
    channel.consume(queue)
    assert world.bodies(channel, 3) == [b"3", b"4", b"5"]


# Consuming


@KINDS
def test_a_queue_delivers_in_order(world: World, kind: dict[str, Any]) -> None:
    channel = world.channel()
    queue = world.queue(channel, **kind)
    channel.consume(queue)
    sent = [b"%d" % number for number in range(30)]
    world.publish(channel, queue, *sent)
    received = deliveries(world.events(channel, 30))
    assert [delivery.body for delivery in received] == sent
    assert [delivery.delivery_tag for delivery in received] == list(range(1, 31))
    assert not any(delivery.redelivered for delivery in received)
    assert not any(delivery.delivery_count for delivery in received)


@KINDS
def test_a_consumer_holds_no_more_than_its_prefetch(world: World, kind: dict[str, Any]) -> None:
    channel = world.channel()
    queue = world.queue(channel, **kind)
    channel.consume(queue, prefetch=2)
    world.publish(channel, queue, *(b"%d" % number for number in range(5)))
    first = tags(world.events(channel, 2))
    world.ready(channel, queue, 3)
    channel.ack(first[b"0"])
    assert world.bodies(channel, 1) == [b"2"]
    world.ready(channel, queue, 2)
    channel.nack(first[b"1"], requeue=False)
    assert world.bodies(channel, 1) == [b"3"]
    world.ready(channel, queue, 1)


def test_prefetch_is_of_each_consumer_not_of_the_channel(world: World) -> None:
    channel = world.channel()
    left, right = world.queue(channel), world.queue(channel)
    channel.consume(left, prefetch=1)
    channel.consume(right, prefetch=2)
    world.publish(channel, left, b"l1", b"l2")
    world.publish(channel, right, b"r1", b"r2", b"r3")
    assert sorted(world.bodies(channel, 3)) == [b"l1", b"r1", b"r2"]
    world.ready(channel, left, 1)
    world.ready(channel, right, 1)


@KINDS
def test_consumers_of_a_queue_take_turns(world: World, kind: dict[str, Any]) -> None:
    channels = [world.channel() for _ in range(3)]
    queue = world.queue(channels[0], **kind)
    for channel in channels:
        channel.consume(queue, prefetch=2)
    world.publish(channels[0], queue, *(b"%d" % number for number in range(6)))
    bodies = [body for channel in channels for body in world.bodies(channel, 2)]
    assert sorted(bodies) == [b"%d" % number for number in range(6)]


@KINDS
def test_without_acknowledgement_a_delivery_is_forgotten(
    world: World, kind: dict[str, Any]
) -> None:
    connection, other = world.connect(), world.channel()
    channel = connection.channel()
    queue = world.queue(channel, **kind)
    channel.consume(queue, no_ack=True)
    world.publish(channel, queue, b"1", b"2", b"3")
    assert len(world.bodies(channel, 3)) == 3
    connection.close()
    world.eventually(lambda: other.inspect_queue(queue).consumers == 0)
    world.ready(other, queue, 0)


@KINDS
def test_get_takes_one_message_that_must_be_acknowledged(
    world: World, kind: dict[str, Any]
) -> None:
    channel, other = world.channel(), world.channel()
    queue = world.queue(channel, **kind)
    assert channel.get(queue) is None
    world.publish(channel, queue, b"1", b"2")
    world.ready(channel, queue, 2)
    first, second = channel.get(queue), channel.get(queue)
    assert (first.body, second.body) == (b"1", b"2")
    assert not first.redelivered
    channel.ack(second.delivery_tag)
    channel.close()
    world.ready(other, queue, 1)
    again = other.get(queue)
    assert (again.body, again.redelivered) == (b"1", True)


def test_a_call_comes_after_what_the_channel_published_before(world: World) -> None:
    channel = world.channel()
    queue = world.queue(channel)
    for number in range(20):
        channel.publish("", queue, b"%d" % number)
        assert channel.get(queue, no_ack=True).body == b"%d" % number


def test_a_cancelled_consumer_gets_no_more_and_keeps_what_it_has(world: World) -> None:
    channel = world.channel()
    queue = world.queue(channel)
    tag = channel.consume(queue)
    world.publish(channel, queue, b"1")
    (held,) = deliveries(world.events(channel, 1))
    channel.cancel(tag)
    world.publish(channel, queue, b"2")
    world.ready(channel, queue, 1)
    channel.nack(held.delivery_tag)
    world.ready(channel, queue, 2)
    assert channel.get(queue).body == b"1"


@KINDS
def test_a_consumer_whose_queue_is_deleted_is_told(world: World, kind: dict[str, Any]) -> None:
    channel, other = world.channel(), world.channel()
    queue = world.queue(channel, **kind)
    tag = channel.consume(queue)
    other.delete_queue(queue)
    assert world.events(channel, 1) == [ConsumerCancelled(tag)]
    assert channel.open


def test_consuming_from_a_missing_queue_ends_the_channel(world: World) -> None:
    channel = world.channel()
    with pytest.raises(TopologyMissingError):
        channel.consume("no such queue")
    assert not channel.open
    with pytest.raises(ConnectionLostError):
        channel.publish("", "anything", b"x")


@KINDS
def test_purge_takes_what_is_ready_and_leaves_what_is_delivered(
    world: World, kind: dict[str, Any]
) -> None:
    channel = world.channel()
    queue = world.queue(channel, **kind)
    channel.consume(queue, prefetch=2)
    world.publish(channel, queue, b"1", b"2", b"3", b"4", b"5")
    held = deliveries(world.events(channel, 2))
    world.ready(channel, queue, 3)
    assert channel.purge(queue) == 3
    channel.nack(held[0].delivery_tag)
    assert world.bodies(channel, 1) == [b"1"]


# Settling


@KINDS
def test_ack_multiple_settles_all_up_to_the_tag(world: World, kind: dict[str, Any]) -> None:
    channel, other = world.channel(), world.channel()
    queue = world.queue(channel, **kind)
    channel.consume(queue)
    world.publish(channel, queue, b"1", b"2", b"3", b"4")
    held = tags(world.events(channel, 4))
    channel.ack(held[b"3"], multiple=True)
    channel.close()
    world.ready(other, queue, 1)
    assert other.get(queue).body == b"4"


@KINDS
def test_an_unknown_delivery_tag_ends_the_channel(world: World, kind: dict[str, Any]) -> None:
    channel = world.channel()
    queue = world.queue(channel, **kind)
    channel.consume(queue, prefetch=1)
    world.publish(channel, queue, b"1", b"2")
    (held,) = deliveries(world.events(channel, 1))
    channel.ack(held.delivery_tag)
    world.events(channel, 1)
    channel.ack(held.delivery_tag)
    world.eventually(ends_with(channel, BrokerRefusedError))


@KINDS
def test_a_requeued_message_comes_again_and_is_marked(world: World, kind: dict[str, Any]) -> None:
    channel = world.channel()
    queue = world.queue(channel, **kind)
    channel.consume(queue, prefetch=1)
    world.publish(channel, queue, b"1", b"2")
    for returns in range(3):
        (delivery,) = deliveries(world.events(channel, 1))
        assert delivery.body == b"1"
        assert delivery.redelivered == (returns > 0)
        counts = kind and world.release < UNCOUNTED_NACKS
        assert delivery.delivery_count == (returns if counts else 0)
        channel.nack(delivery.delivery_tag)
    channel.ack(deliveries(world.events(channel, 1))[0].delivery_tag)
    (second,) = deliveries(world.events(channel, 1))
    assert (second.body, second.redelivered) == (b"2", False)


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        ({}, [b"1", b"2", b"3", b"4", b"5"]),  # to its old place
        (QUORUM, [b"3", b"1", b"2", b"4", b"5"]),  # before all others, by time of return
        (UNLIMITED, [b"4", b"5", b"3", b"1", b"2"]),  # to the end
    ],
    ids=["classic", "quorum", "quorum without limit"],
)
def test_where_a_requeued_message_goes_depends_on_the_queue(
    world: World, kind: dict[str, Any], order: list[bytes]
) -> None:
    if kind == UNLIMITED and world.release >= (4, 0):
        order = [b"3", b"1", b"2", b"4", b"5"]  # every queue has a limit there
    channel, other = world.channel(), world.channel()
    queue = world.queue(channel, **kind)
    world.publish(channel, queue, b"1", b"2", b"3", b"4", b"5")
    world.ready(channel, queue, 5)
    held = [channel.get(queue).delivery_tag for _ in range(3)]
    channel.nack(held[2])
    world.ready(channel, queue, 3)
    channel.nack(held[1], multiple=True)
    world.ready(channel, queue, 5)
    assert [other.get(queue).body for _ in range(5)] == order


@KINDS
def test_what_a_lost_connection_held_returns_in_order(world: World, kind: dict[str, Any]) -> None:
    connection, other = world.connect(), world.channel()
    channel = connection.channel()
    queue = world.queue(channel, **kind)
    channel.consume(queue, prefetch=3)
    world.publish(channel, queue, *(b"%d" % number for number in range(6)))
    held = tags(world.events(channel, 3))
    channel.ack(held[b"1"])
    world.events(channel, 1)
    connection.drop()
    world.eventually(ends_with(channel, ConnectionLostError))
    world.ready(other, queue, 5)
    other.consume(queue)
    again = deliveries(world.events(other, 5))
    assert [delivery.body for delivery in again] == [b"0", b"2", b"3", b"4", b"5"]
    assert [delivery.redelivered for delivery in again] == [True] * 3 + [False] * 2
    counts = [1] * 3 + [0] * 2 if kind else [0] * 5
    assert [delivery.delivery_count for delivery in again] == counts


def test_a_message_past_its_delivery_limit_goes_to_the_dead_letters(world: World) -> None:
    channel = world.channel()
    dead = world.queue(channel, **QUORUM)
    exchange = world.exchange(channel, "fanout")
    channel.bind(dead, exchange, "")
    queue = world.queue(
        channel,
        x_queue_type="quorum",
        x_delivery_limit=2,
        x_dead_letter_exchange=exchange,
        x_dead_letter_strategy="at-least-once",
        x_overflow="reject-publish",
    )
    channel.consume(queue, prefetch=1)
    world.publish(channel, queue, b"1", b"2")
    for returns in range(3):
        (delivery,) = deliveries(world.events(channel, 1))
        assert (delivery.body, delivery.delivery_count) == (b"1", returns)
        world.failed(channel, delivery.delivery_tag)
    assert world.bodies(channel, 1) == [b"2"]
    world.ready(channel, dead, 1)
    letter = channel.get(dead)
    assert letter.body == b"1"
    if world.release < UNCOUNTED_NACKS:  # its count goes along from there on
        assert (letter.redelivered, letter.delivery_count) == (False, 0)
    assert (letter.message.exchange, letter.message.routing_key) == (exchange, queue)
    death = letter.message.properties.headers["x-death"][0]
    assert (death["queue"], death["reason"], death["count"]) == (queue, "delivery_limit", 1)
    assert letter.message.properties.headers["x-first-death-reason"] == "delivery_limit"


def test_a_chunk_past_its_delivery_limit_ends_in_the_dead_letter_queue(world: World) -> None:
    if isinstance(world, RealWorld):
        world.fresh_topology()
    channel = world.channel()
    declare(channel, topology.topology())
    channel.consume(topology.work_queue("default", Lane.NORMAL), prefetch=1)
    channel.publish(topology.WORK, topology.work_key("default", Lane.NORMAL), b"x", PERSISTENT)
    for returns in range(topology.WORK_DELIVERY_LIMIT + 1):
        (delivery,) = deliveries(world.events(channel, 1))
        assert delivery.delivery_count == returns
        world.failed(channel, delivery.delivery_tag)
    world.ready(channel, topology.DEAD_QUEUE, 1)
    assert channel.get(topology.DEAD_QUEUE, no_ack=True).body == b"x"


def test_without_a_dead_letter_exchange_the_limit_drops_the_message(world: World) -> None:
    channel = world.channel()
    queue = world.queue(channel, x_queue_type="quorum", x_delivery_limit=0)
    channel.consume(queue, prefetch=1)
    world.publish(channel, queue, b"1", b"2")
    (delivery,) = deliveries(world.events(channel, 1))
    world.failed(channel, delivery.delivery_tag)
    assert world.bodies(channel, 1) == [b"2"]
    world.ready(channel, queue, 0)


def test_a_rejected_message_goes_to_the_dead_letters(world: World) -> None:
    channel = world.channel()
    dead = world.queue(channel)
    exchange = world.exchange(channel, "direct")
    channel.bind(dead, exchange, "elsewhere")
    queue = world.queue(
        channel, x_dead_letter_exchange=exchange, x_dead_letter_routing_key="elsewhere"
    )
    world.publish(channel, queue, b"1")
    channel.consume(queue)
    (delivery,) = deliveries(world.events(channel, 1))
    channel.nack(delivery.delivery_tag, requeue=False)
    world.ready(channel, dead, 1)
    letter = channel.get(dead)
    assert letter.message.routing_key == "elsewhere"
    assert letter.message.properties.headers["x-death"][0]["reason"] == "rejected"


def test_at_least_once_keeps_a_dead_letter_that_nobody_takes(world: World) -> None:
    channel = world.channel()
    exchange = world.exchange(channel, "fanout")
    dead = world.queue(channel, **QUORUM)
    queue = world.queue(
        channel,
        x_queue_type="quorum",
        x_delivery_limit=0,
        x_dead_letter_exchange=exchange,
        x_dead_letter_strategy="at-least-once",
        x_overflow="reject-publish",
    )
    channel.consume(queue, prefetch=1)
    world.publish(channel, queue, b"1", b"2")
    (delivery,) = deliveries(world.events(channel, 1))
    channel.nack(delivery.delivery_tag)
    (delivery,) = deliveries(world.events(channel, 1))
    channel.ack(delivery.delivery_tag)
    channel.bind(dead, exchange, "")
    world.restart()  # or 3 minutes of waiting: then RabbitMQ tries again
    world.ready(world.channel(), dead, 1)


# Expiry


@KINDS
def test_a_message_expires_after_the_queue_s_time(world: World, kind: dict[str, Any]) -> None:
    channel = world.channel()
    queue = world.queue(channel, x_message_ttl=50, **kind)
    world.publish(channel, queue, b"1", b"2")
    channel.confirm_select()
    world.ready(channel, queue, 0)
    channel.publish("", queue, b"3")
    world.events(channel, 1)
    world.ready(channel, queue, 0)
    assert channel.get(queue) is None


@KINDS
def test_a_message_expires_after_its_own_time_and_dies_of_it(
    world: World, kind: dict[str, Any]
) -> None:
    channel = world.channel()
    dead = world.queue(channel)
    queue = world.queue(channel, x_dead_letter_exchange="", x_dead_letter_routing_key=dead, **kind)
    world.publish(channel, queue, b"1", properties=Properties(expiration="50"))
    world.publish(channel, queue, b"2")
    world.ready(channel, dead, 1)
    world.ready(channel, queue, 1)
    letter = channel.get(dead)
    assert letter.body == b"1"
    assert letter.message.properties.expiration is None
    assert letter.message.properties.headers["x-death"][0]["reason"] == "expired"


# Locks


def test_an_exclusive_queue_is_a_lock(world: World) -> None:
    holder, rival = world.connect(), world.connect()
    name = f"lock.{id(world)}"
    holder.channel().declare_queue(name, exclusive=True)
    holder.channel().declare_queue(name, exclusive=True)  # any channel of the holder may
    for attempt in (
        lambda channel: channel.declare_queue(name, exclusive=True),
        lambda channel: channel.inspect_queue(name),
        lambda channel: channel.consume(name),
        lambda channel: channel.get(name),
        lambda channel: channel.delete_queue(name),
    ):
        channel = rival.channel()
        with pytest.raises(LockedError):
            attempt(channel)
        assert not channel.open
    holder.close()
    world.eventually(lambda: takes_lock(rival, name), "release of the lock")


def test_a_lost_connection_releases_its_lock(world: World) -> None:
    holder, rival = world.connect(), world.connect()
    name = f"lock.{id(world)}"
    channel = holder.channel()
    channel.declare_queue(name, exclusive=True)
    assert not takes_lock(rival, name)
    channel.close()
    assert not takes_lock(rival, name)
    holder.drop()
    world.eventually(lambda: takes_lock(rival, name), "release of the lock")


def takes_lock(connection: Any, name: str) -> bool:
    try:
        connection.channel().declare_queue(name, exclusive=True)
    except LockedError:
        return False
    return True


def test_a_server_named_queue_vanishes_with_its_connection(world: World) -> None:
    connection, other = world.connect(), world.channel()
    channel = connection.channel()
    exchange = world.exchange(other, "topic")
    queue = channel.declare_queue(exclusive=True, arguments=topology.subscription()).queue
    assert queue.startswith("amq.gen-")
    assert channel.declare_queue(exclusive=True).queue != queue
    channel.bind(queue, exchange, "run.*.finished")
    channel.consume(queue, no_ack=True)
    other.publish(exchange, "run.1.finished", b"x")
    assert world.bodies(channel, 1) == [b"x"]
    connection.close()
    other.confirm_select()

    def gone() -> bool:
        other.publish(exchange, "run.1.finished", b"x", mandatory=True)
        world.eventually(lambda: bool(other.inbox) and isinstance(other.inbox[-1], Confirmed))
        return len(other.take()) == 2

    world.eventually(gone, "end of the queue")


def test_a_queue_with_other_arguments_is_refused(world: World) -> None:
    channel = world.channel()
    queue = world.queue(channel, x_max_length=3)
    with pytest.raises(BrokerRefusedError):
        channel.declare_queue(queue, durable=True, arguments={"x-max-length": 4})


# Direct replies


def test_a_direct_reply_finds_the_asking_channel(world: World) -> None:
    asking, answering = world.channel(), world.channel()
    requests = world.queue(answering)
    answering.consume(requests, no_ack=True)
    asking.consume(topology.DIRECT_REPLY, no_ack=True)
    asked = Properties(reply_to=topology.DIRECT_REPLY, correlation_id="7")
    asking.publish("", requests, b"question", asked)
    (question,) = deliveries(world.events(answering, 1))
    address = question.message.properties.reply_to
    assert address is not None
    assert address.startswith(f"{topology.DIRECT_REPLY}.")
    answering.publish("", address, b"answer", Properties(correlation_id="7"))
    (answer,) = deliveries(world.events(asking, 1))
    assert answer.body == b"answer"
    assert answer.message.properties.correlation_id == "7"


def test_a_mandatory_direct_reply_is_delivered_and_before_4_3_returned(
    world: World,
) -> None:
    asking, answering = world.channel(), world.channel()
    requests = world.queue(answering)
    asking.consume(topology.DIRECT_REPLY, no_ack=True)
    asking.publish("", requests, b"question", Properties(reply_to=topology.DIRECT_REPLY))
    world.ready(answering, requests, 1)
    address = answering.get(requests).message.properties.reply_to
    answering.confirm_select()
    answering.publish("", address, b"answer", mandatory=True)
    *returned, confirmed = world.events(answering, 2 if world.release < (4, 3) else 1)
    assert all(isinstance(event, Returned) for event in returned)
    assert confirmed == Confirmed(1)
    assert world.bodies(asking, 1) == [b"answer"]


def test_a_direct_reply_to_somebody_who_left_is_lost_without_a_word(world: World) -> None:
    connection, answering = world.connect(), world.channel()
    asking = connection.channel()
    requests = world.queue(answering)
    asking.consume(topology.DIRECT_REPLY, no_ack=True)
    asking.publish("", requests, b"question", Properties(reply_to=topology.DIRECT_REPLY))
    world.ready(answering, requests, 1)
    address = answering.get(requests).message.properties.reply_to
    connection.close()
    answering.confirm_select()
    answering.publish("", address, b"answer")
    assert world.events(answering, 1) == [Confirmed(1)]


def test_asking_for_a_direct_reply_without_a_consumer_ends_the_channel(world: World) -> None:
    channel = world.channel()
    requests = world.queue(channel)
    channel.publish("", requests, b"question", Properties(reply_to=topology.DIRECT_REPLY))
    world.eventually(ends_with(channel, BrokerRefusedError))


# The broker's own end


def test_a_restart_keeps_what_is_durable(world: World) -> None:
    connection = world.connect()
    channel = connection.channel()
    channel.confirm_select()
    exchange = world.exchange(channel, "direct")
    quorum, classic = world.queue(channel, **QUORUM), world.queue(channel)
    transient = world.queue(channel, durable=False)
    for queue in (quorum, classic, transient):
        channel.bind(queue, exchange, "k")
    lock = channel.declare_queue(exclusive=True).queue
    held = channel.publish("", quorum, b"held", PERSISTENT)
    channel.publish(exchange, "k", b"persistent", PERSISTENT)
    channel.publish(exchange, "k", b"plain")
    world.eventually(lambda: len(channel.inbox) == held + 2)
    channel.take()
    assert channel.get(quorum).body == b"held"

    world.restart()
    world.eventually(ends_with(channel, ConnectionLostError))
    after = world.channel()
    world.ready(after, quorum, 3)
    assert [after.get(quorum).body for _ in range(3)] == [b"held", b"persistent", b"plain"]
    world.ready(after, classic, 1)
    assert after.get(classic).body == b"persistent"
    after.confirm_select()
    after.publish(exchange, "k", b"new", mandatory=True)
    assert world.events(after, 1) == [Confirmed(1)]
    for gone in (transient, lock):
        with pytest.raises(TopologyMissingError):
            world.channel().inspect_queue(gone)
