"""What the in-memory broker adds to AMQP for simulations: schedules, faults, deaths, restarts.

What it has in common with RabbitMQ is proved in tests/integration/test_broker_contract.py.
"""

from collections import Counter

import pytest

from ops.simulation.broker import Faults, MemoryBroker, declare
from ops.simulation.channel import MemoryChannel
from ops.simulation.events import PERSISTENT, Closed, Confirmed, Delivery, Event
from protocol import topology
from protocol.definition import Lane
from protocol.errors import (
    BrokerUnreachableError,
    ConnectionLostError,
    LockedError,
    TopologyMissingError,
)

QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 1000}
SEEDS = range(30)


def queue(channel: MemoryChannel, name: str = "q", **arguments: object) -> str:
    return channel.declare_queue(name, durable=True, arguments=arguments or QUORUM).queue


def play(seed: int, faults: Faults, steps: int = 2_000) -> list[tuple[str, Event]]:
    """Return what two publishers and two consumers of one queue see, in order."""
    broker = MemoryBroker(seed, faults)
    queue(broker.connect("setup").channel())
    seen: list[tuple[str, Event]] = []
    channels: dict[str, MemoryChannel] = {}
    sent = 0
    for step in range(steps):
        for name in ("publisher-1", "publisher-2", "consumer-1", "consumer-2"):
            channel = channels.get(name)
            if channel is None or not channel.open:
                channel = channels[name] = broker.connect(name).channel()
                if name.startswith("consumer"):
                    channel.consume("q", prefetch=3)
                else:
                    channel.confirm_select()
            if name.startswith("publisher") and step % 7 == 0:
                sent += 1
                channel.publish("", "q", b"%d" % sent, PERSISTENT)
        reached = broker.step(step / 1000)
        if reached is None:
            continue
        for event in reached.take():
            seen.append((reached.connection.name, event))
            if isinstance(event, Delivery):
                reached.ack(event.delivery_tag)
    return seen


def test_the_same_seed_gives_the_same_schedule() -> None:
    faults = Faults(drop=0.01, close_channel=0.01, duplicate=0.1)
    first = play(7, faults)
    assert len(first) > 300
    # Errors compare by identity.
    assert [*map(repr, first)] == [*map(repr, play(7, faults))]
    assert [*map(repr, first)] != [*map(repr, play(8, faults))]


def test_different_seeds_let_connections_overtake_each_other_but_never_themselves() -> None:
    orders = set()
    for seed in SEEDS:
        broker = MemoryBroker(seed)
        queue(broker.connect("setup").channel())
        left, right = (broker.connect(name).channel() for name in ("left", "right"))
        for number in range(4):
            left.publish("", "q", b"l%d" % number)
            right.publish("", "q", b"r%d" % number)
        broker.run()
        taking = broker.connect("taking").channel()
        bodies = [taking.get("q").body for _ in range(8)]  # type: ignore[union-attr]
        for side in (b"l", b"r"):
            own = [body for body in bodies if body.startswith(side)]
            assert own == sorted(own)
        orders.add(tuple(bodies))
    assert len(orders) > len(SEEDS) // 2


def test_confirms_overtake_each_other() -> None:
    orders = set()
    for seed in SEEDS:
        broker = MemoryBroker(seed)
        channel = broker.connect("publisher").channel()
        queue(channel)
        channel.confirm_select()
        sequences = [channel.publish("", "q", b"x") for _ in range(4)]
        broker.run()
        events = channel.take()
        assert {*events} == {Confirmed(sequence) for sequence in sequences}
        orders.add(tuple(events))
    assert len(orders) > 1


def test_a_step_moves_one_thing_and_names_the_channel_that_it_reached() -> None:
    broker = MemoryBroker(1)
    channel = broker.connect("party").channel()
    queue(channel)
    channel.consume("q")
    channel.publish("", "q", b"x")
    assert broker.pending == 1
    assert broker.step() is None  # the publish reached the broker
    assert broker.pending == 1
    assert broker.step() is channel
    assert broker.pending == 0
    assert broker.step() is None
    assert [event.body for event in channel.take() if isinstance(event, Delivery)] == [b"x"]


def test_an_answer_comes_after_the_deliveries_sent_before_it() -> None:
    broker = MemoryBroker(1)
    channel = broker.connect("party").channel()
    queue(channel)
    channel.consume("q")
    channel.publish("", "q", b"x")
    assert channel.inspect_queue("q").messages == 0
    assert len(channel.take()) == 1


def test_a_broken_wire_loses_only_the_end_of_what_travelled() -> None:
    arrived = Counter[int]()
    for seed in SEEDS:
        broker = MemoryBroker(seed)
        connection = broker.connect("publisher")
        channel = connection.channel()
        queue(channel)
        for number in range(5):
            channel.publish("", "q", b"%d" % number)
        connection.drop()
        broker.run()
        taking = broker.connect("taking").channel()
        bodies = []
        while (delivery := taking.get("q")) is not None:
            bodies.append(delivery.body)
        assert bodies == [b"%d" % number for number in range(len(bodies))]
        arrived[len(bodies)] += 1
    assert min(arrived) == 0
    assert max(arrived) == 5


def test_broker_and_client_notice_a_broken_wire_in_any_order() -> None:
    orders = set()
    for seed in SEEDS:
        broker = MemoryBroker(seed)
        holder, rival = broker.connect("holder"), broker.connect("rival")
        channel = holder.channel()
        channel.declare_queue("lock", exclusive=True)
        holder.drop()
        broker.step()
        released = True
        try:
            rival.channel().declare_queue("lock", exclusive=True)
        except LockedError:
            released = False
        assert released != (not channel.open)
        orders.add(released)
        broker.run()
        assert isinstance(channel.take()[-1], Closed)
        assert rival.channel().declare_queue("lock", exclusive=True).queue == "lock"
    assert orders == {True, False}


def test_who_does_not_know_yet_that_the_wire_is_broken_sends_into_the_void() -> None:
    broker = MemoryBroker(1)
    connection = broker.connect("publisher")
    channel = connection.channel()
    queue(channel)
    channel.confirm_select()
    connection.drop()
    assert channel.publish("", "q", b"x") == 1
    broker.run()
    (closed,) = channel.take()
    assert isinstance(closed, Closed)
    assert broker.connect("other").channel().get("q") is None
    with pytest.raises(ConnectionLostError):
        channel.publish("", "q", b"x")
    with pytest.raises(ConnectionLostError):
        connection.channel()


def test_a_call_over_a_broken_wire_fails_at_once() -> None:
    broker = MemoryBroker(1)
    connection = broker.connect("party")
    channel = connection.channel()
    connection.drop()
    with pytest.raises(ConnectionLostError):
        channel.inspect_queue("q")
    assert not channel.open


def test_a_killed_party_hears_nothing_and_its_messages_return() -> None:
    broker = MemoryBroker(1)
    channel = broker.connect("victim").channel()
    queue(channel)
    channel.consume("q")
    channel.publish("", "q", b"x")
    broker.run()
    assert len(channel.take()) == 1
    other = broker.connect("other").channel()
    other.consume("q")
    broker.kill("victim")
    broker.run()
    assert channel.take() == []
    assert not channel.open
    (delivery,) = other.take()
    assert isinstance(delivery, Delivery)
    assert delivery.redelivered


def test_a_closed_connection_is_closed_for_its_owner() -> None:
    broker = MemoryBroker(1)
    connection = broker.connect("party")
    channel = connection.channel()
    queue(channel)
    channel.publish("", "q", b"x")
    connection.close()
    assert not channel.open
    assert broker.pending == 0
    with pytest.raises(ConnectionLostError):
        channel.publish("", "q", b"y")
    assert broker.connect("other").channel().inspect_queue("q").messages == 1


def test_a_channel_that_the_broker_closes_leaves_its_connection_alone() -> None:
    broker = MemoryBroker(1, Faults(close_channel=1.0))
    connection = broker.connect("party")
    channel = connection.channel()
    channel.declare_queue("lock", exclusive=True)
    broker.step()
    broker.faults = Faults()
    broker.run()
    assert [type(event) for event in channel.take()] == [Closed]
    assert connection.channel().inspect_queue("lock").queue == "lock"


def test_a_channel_ends_once_though_its_wire_breaks_after_the_broker_closed_it() -> None:
    for seed in SEEDS:
        broker = MemoryBroker(seed)
        connection = broker.connect("party")
        channel = connection.channel()
        channel.fail(ConnectionLostError("the broker closed the channel"))
        connection.drop()
        assert channel.open  # the news travels
        broker.run()
        assert [type(event) for event in channel.take()] == [Closed]
        assert not channel.open


def test_a_party_killed_after_its_wire_broke_hears_nothing_either() -> None:
    broker = MemoryBroker(1)
    connection = broker.connect("victim")
    channel = connection.channel()
    connection.drop()
    broker.kill("victim")
    broker.run()
    assert channel.take() == []


def test_every_fault_happens_and_no_message_is_lost() -> None:
    faults = Faults(drop=0.005, close_channel=0.005, duplicate=0.05)
    closed = redelivered = duplicated = 0
    for seed in range(10):
        seen = play(seed, faults)
        bodies = Counter(event.body for _, event in seen if isinstance(event, Delivery))
        again = [event for _, event in seen if isinstance(event, Delivery) and event.redelivered]
        closed += sum(isinstance(event, Closed) for _, event in seen)
        redelivered += len(again)
        duplicated += sum(bodies.values()) - len(bodies) - len(again)
    assert closed > 50
    assert redelivered > 20
    assert duplicated > 20


def test_without_faults_everything_comes_once() -> None:
    seen = play(3, Faults())
    bodies = [event.body for _, event in seen if isinstance(event, Delivery)]
    assert len(bodies) > 300
    assert len({*bodies}) == len(bodies)
    assert not any(isinstance(event, Closed) for _, event in seen)


def test_what_was_confirmed_survives_drops_crashes_and_restarts() -> None:
    for seed in SEEDS:
        broker = MemoryBroker(seed, Faults(drop=0.01))
        queue(broker.connect("setup").channel())
        channel = broker.connect("publisher").channel()
        channel.confirm_select()
        confirmed, waiting, received = set(), {}, set()
        for number in range(300):
            if not channel.open:
                channel, waiting = broker.connect("publisher").channel(), {}
                channel.confirm_select()
            waiting[channel.publish("", "q", b"%d" % number, PERSISTENT)] = b"%d" % number
            for _ in range(2):
                broker.step()
            for event in channel.take():
                if isinstance(event, Confirmed):
                    confirmed.add(waiting.pop(event.sequence))
            if number == 150:
                broker.restart()
        broker.faults = Faults()
        broker.run()
        taking = broker.connect("taking").channel()
        while (delivery := taking.get("q")) is not None:
            received.add(delivery.body)
        assert len(confirmed) > 100
        assert confirmed <= received


def test_nobody_connects_to_a_crashed_broker() -> None:
    broker = MemoryBroker(1)
    channel = broker.connect("party").channel()
    broker.crash()
    with pytest.raises(BrokerUnreachableError):
        broker.connect("party")
    broker.restart()
    broker.run()
    assert isinstance(channel.take()[-1], Closed)
    broker.connect("party").channel()


def test_a_restarted_broker_has_forgotten_who_held_what() -> None:
    broker = MemoryBroker(1)
    channel = broker.connect("party").channel()
    queue(channel)
    channel.publish("", "q", b"x")
    delivery = channel.get("q")
    assert delivery is not None
    broker.restart()
    again = broker.connect("party").channel().get("q")
    assert again is not None
    assert (again.body, again.delivery_count) == (b"x", 1)


def test_a_wiped_broker_has_nothing_left() -> None:
    broker = MemoryBroker(1)
    declare(broker.connect("party").channel(), topology.topology())
    broker.wipe()
    with pytest.raises(TopologyMissingError):
        broker.connect("party").channel().inspect_queue(topology.RESULTS_QUEUE)
    with pytest.raises(TopologyMissingError):
        broker.connect("party").channel().bind("q", topology.WORK, "k")


def test_messages_expire_when_time_is_told_to_pass() -> None:
    broker = MemoryBroker(1)
    channel = broker.connect("party").channel()
    queue(channel, **{"x-message-ttl": 1000})
    channel.publish("", "q", b"x", PERSISTENT._replace(expiration="5000"))
    broker.step(10.0)
    broker.step(10.9)
    assert channel.inspect_queue("q").messages == 1
    broker.step(5.0)  # time does not go back
    assert broker.now == 10.9
    broker.step(11.0)
    assert channel.inspect_queue("q").messages == 0


def test_a_chunk_whose_consumers_keep_dying_is_dead_lettered() -> None:
    for seed in SEEDS:
        broker = MemoryBroker(seed)
        setup = broker.connect("setup").channel()
        declare(setup, topology.topology(("default", "gpu")))
        work = topology.work_queue("gpu", Lane.LOW)
        setup.publish(topology.WORK, topology.work_key("gpu", Lane.LOW), b"poison", PERSISTENT)
        deaths = 0
        while setup.inspect_queue(topology.DEAD_QUEUE).messages == 0:
            channel = broker.connect("victim").channel()
            channel.consume(work, prefetch=1)
            broker.run()
            if channel.take():
                deaths += 1
            broker.kill("victim")
            broker.run()
        assert deaths == topology.WORK_DELIVERY_LIMIT + 1
