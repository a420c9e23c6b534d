"""The asyncio adapter on a real broker: what it does, and each error in a sentence of ours."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import aio_pika
import aiormq.connection
import pamqp.commands
import pamqp.decode
import pytest
from aiormq.connection import FrameReceiver
from pamqp.base import BasicProperties

from protocol import amqp_aio, topology
from protocol.amqp_aio import Delivery, Link
from protocol.amqp_aio_wire import Receiver, Wire
from protocol.definition import Lane
from protocol.errors import (
    BrokerError,
    BrokerRefusedError,
    BrokerUnreachableError,
    ConnectionLostError,
    LockedError,
    MessageRefusedError,
    NoAggregatorError,
    RefusedMessageError,
    TopologyMissingError,
    UnroutableError,
)
from protocol.messages import StoreIdentity, decode
from protocol.rpc_messages import ErrorCode, ErrorReply, Status, StatusRequest
from protocol.settings import Broker

SECONDS = 10.0
TINY = "test.tiny.q"
WORD = StoreIdentity(store="word")


def words(count: int) -> list[StoreIdentity]:
    return [StoreIdentity(store=f"w{number}") for number in range(count)]


@pytest.fixture
async def link(broker: Broker) -> AsyncIterator[Link]:
    async with await Link.open(broker, "test") as link:
        yield link


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await condition():  # noqa: ASYNC110 - a condition, with a deadline
            await asyncio.sleep(0.01)


async def depth(link: Link, queue: str) -> int:
    """Return how many messages wait in a queue."""
    channel = await link._channel.get_underlay_channel()
    return (await channel.queue_declare(queue, passive=True)).message_count or 0


async def closed(link: Link) -> None:
    async with asyncio.timeout(SECONDS):
        await link.closed.wait()


async def ignore(_: Delivery) -> None:
    """Take a delivery and do nothing."""


class Proxy:
    """A TCP proxy in front of the broker, whose connections can be held up and cut."""

    def __init__(self, behind: Broker) -> None:
        self.confirms_may_pass = asyncio.Event()
        self.confirms_may_pass.set()
        self._behind = behind
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self._behind.host, self._behind.port)
        self._writers += [writer, there[1]]
        always = asyncio.Event()
        always.set()
        for source, sink, gate in (
            (reader, there[1], always),
            (there[0], writer, self.confirms_may_pass),
        ):
            self._tasks.append(asyncio.create_task(self._copy(source, sink, gate)))

    async def _copy(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                await gate.wait()
                sink.write(data)
        sink.close()

    async def cut(self) -> None:
        """Reset all connections without a word of AMQP."""
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def proxy(broker: Broker) -> AsyncIterator[tuple[Proxy, Broker]]:
    between = Proxy(broker)
    server = await asyncio.start_server(between.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield between, replace(broker, host="127.0.0.1", port=port)
        await between.cut()


@asynccontextmanager
async def aggregator(
    broker: Broker, answer: Callable[[Delivery], Awaitable[None]]
) -> AsyncIterator[Link]:
    """Serve requests on the RPC queue."""
    async with await Link.open(broker, "test aggregator", confirms=False) as link:
        await link.consume(topology.RPC_QUEUE, answer)
        yield link


def status_reply(clock: float) -> Status:
    return Status(runs=(), total=0, slots=0, consumers=0, clock=clock, store="s")


# Connecting


async def test_nobody_at_the_address_is_one_sentence(broker: Broker) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = replace(broker, port=free.getsockname()[1])
        with pytest.raises(BrokerUnreachableError, match=f"no broker can be reached at {nobody}"):
            await Link.open(nobody, "test")


async def test_an_unknown_host_is_one_sentence(broker: Broker) -> None:
    nobody = replace(broker, host="host.invalid")
    with pytest.raises(BrokerUnreachableError, match="no broker can be reached at amqp://guest@ho"):
        await Link.open(nobody, "test")


async def test_something_that_does_not_speak_amqp_is_one_sentence(broker: Broker) -> None:
    async def shout(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(shout, "127.0.0.1", 0) as server:
        wrong = replace(broker, host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        with pytest.raises(BrokerUnreachableError, match="no broker can be reached"):
            await Link.open(wrong, "test")


async def test_something_that_never_answers_is_given_up(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amqp_aio, "CONNECT_SECONDS", 0.3)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        silent = replace(broker, host="127.0.0.1", port=deaf.getsockname()[1])
        async with asyncio.timeout(SECONDS):
            with pytest.raises(BrokerUnreachableError, match="no broker can be reached"):
                await Link.open(silent, "test")


async def test_a_cancellation_that_comes_just_as_it_is_connected_is_not_lost(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = Wire.connect

    async def connect_and_cancel(wire: Wire) -> bool:
        connected: bool = await connect(wire)
        opening.cancel()
        return connected

    monkeypatch.setattr(Wire, "connect", connect_and_cancel)
    opening = asyncio.ensure_future(Link.open(broker, "test"))
    await asyncio.wait([opening], timeout=SECONDS)
    assert opening.cancelled()


async def test_a_wrong_password_is_named_and_not_shown(broker: Broker) -> None:
    wrong = replace(broker, password="s3cret-word")  # noqa: S106 - it is wrong
    with pytest.raises(BrokerRefusedError, match="user 'guest': wrong user or password") as refused:
        await Link.open(wrong, "test")
    assert "s3cret" not in str(refused.value)


async def test_a_missing_virtual_host_is_named(broker: Broker) -> None:
    with pytest.raises(BrokerRefusedError, match="refused virtual host 'nowhere': "):
        await Link.open(replace(broker, vhost="nowhere"), "test")


# Topology and locks


async def test_declaring_the_topology_twice_is_harmless(link: Link) -> None:
    await link.declare(topology.topology())
    assert await link.missing_queues(topology.topology()) == ([], [])


async def test_missing_queues_are_found_without_harming_the_link(link: Link) -> None:
    wanted = topology.topology(("default", "elsewhere"))
    expected = [topology.work_queue("elsewhere", lane) for lane in Lane]
    assert await link.missing_queues(wanted) == (expected, [])
    assert not link.closed.is_set()
    assert await depth(link, topology.RESULTS_QUEUE) == 0


async def test_another_version_of_the_topology_is_named(link: Link) -> None:
    other = topology.Topology((), (topology.Queue(topology.RESULTS_QUEUE, {"x-expires": 9}),), ())
    with pytest.raises(BrokerRefusedError, match=r"another version of the topology \(.*x-"):
        await link.declare(other)


async def test_a_queue_that_exists_is_found_without_harming_the_link(link: Link) -> None:
    await link.expect(topology.RESULTS_QUEUE)
    assert not link.closed.is_set()


async def test_a_missing_queue_says_what_to_run_and_does_not_harm_the_link(link: Link) -> None:
    for _ in range(2):
        with pytest.raises(TopologyMissingError, match=r"no queue 'no\.q'.* `montemq broker init`"):
            await link.expect("no.q")
    await link.expect(topology.RESULTS_QUEUE)
    assert not link.closed.is_set()


@pytest.mark.parametrize("what", ["consume", "get", "publish", "subscribe"])
async def test_whatever_is_missing_is_told_by(link: Link, what: str) -> None:
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "consume": lambda: link.consume("no.q", ignore),
        "get": lambda: link.get("no.q"),
        "publish": lambda: link.publish("no.exchange", "key", WORD),
        "subscribe": lambda: link.subscribe("no.exchange", ("key",), ignore),
    }
    with pytest.raises(TopologyMissingError, match="NOT_FOUND"):
        await calls[what]()


async def test_a_lock_has_one_holder_and_falls_with_its_connection(
    link: Link, broker: Broker
) -> None:
    async with await Link.open(broker, "holder") as holder:
        await holder.lock("test.lock")
        await holder.lock("test.lock")
        for _ in range(2):
            with pytest.raises(LockedError, match=r"RESOURCE_LOCKED.*test\.lock"):
                await link.lock("test.lock")
        assert not link.closed.is_set()

    await eventually(lambda: link.try_lock("test.lock"))


async def test_a_lock_that_is_given_back_is_free_and_looking_at_it_takes_nothing(
    link: Link, broker: Broker
) -> None:
    async with await Link.open(broker, "holder") as holder:
        assert not await link.is_locked("test.lock")
        assert await holder.try_lock("test.lock")
        assert [await each.is_locked("test.lock") for each in (link, holder)] == [True, True]
        assert not await link.try_lock("test.lock")
        await holder.unlock("test.lock")
        assert not await link.is_locked("test.lock")
        assert await link.try_lock("test.lock")
        assert await holder.is_locked("test.lock")
        assert not holder.closed.is_set()
    assert not link.closed.is_set()


async def test_very_many_locks_take_no_channel_each(link: Link) -> None:
    names = [f"test.lock.{number}" for number in range(2_100)]  # RabbitMQ allows 2,047 channels
    assert all(await asyncio.gather(*(link.try_lock(name) for name in names)))


# Publishing


async def test_what_is_sent_without_waiting_is_told_of_as_what_is_published(link: Link) -> None:
    told: list[BrokerError | None] = []
    link.send(topology.RESULTS, topology.partial_key("guest"), WORD, told.append)
    link.send(topology.WORK, "no.queue", WORD, told.append)

    async def both() -> bool:
        return len(told) == 2

    await eventually(both)
    assert {type(error) for error in told} == {type(None), UnroutableError}
    assert await depth(link, topology.RESULTS_QUEUE) == 1


async def test_what_comes_while_a_link_rests_is_read_afterwards_and_in_order(link: Link) -> None:
    seen: list[Delivery] = []
    await link.consume(topology.RESULTS_QUEUE, seen.append, no_ack=True)
    loop = asyncio.get_running_loop()
    began, until = loop.time(), []
    link.rest(0.3)
    link.rest(60.0)  # makes it no longer
    for word in words(20):
        link.send(
            topology.RESULTS, topology.partial_key("guest"), word,
            lambda _: until.append(loop.time()),
        )  # fmt: skip

    async def all_are_here() -> bool:
        return len(seen) == 20 and len(until) == 20

    await eventually(all_are_here)
    assert min(until) - began >= 0.3
    assert [decode(one.type, one.body, StoreIdentity) for one in seen] == words(20)


async def test_a_published_message_is_in_its_queue_once_confirmed(link: Link) -> None:
    await link.publish("", topology.STORE_QUEUE, WORD, correlation_id="c1")
    delivery = await link.get(topology.STORE_QUEUE)
    assert delivery is not None
    assert (delivery.type, delivery.correlation_id) == ("store.v1", "c1")
    assert (delivery.queue, delivery.routing_key) == (topology.STORE_QUEUE,) * 2
    assert delivery.body == b"\x81\xa5store\xa4word"
    assert await link.get(topology.STORE_QUEUE) is None


async def test_confirms_are_pipelined(link: Link, broker: Broker) -> None:
    async with proxy(broker) as (between, through):
        publisher = await Link.open(through, "publisher")
        between.confirms_may_pass.clear()
        tasks = [
            asyncio.create_task(publisher.publish("", topology.STORE_QUEUE, word))
            for word in words(50)
        ]

        async def all_there() -> bool:
            return await depth(link, topology.STORE_QUEUE) == len(tasks)

        await eventually(all_there)
        assert not any(task.done() for task in tasks)
        between.confirms_may_pass.set()
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*tasks)
        await publisher.close()


async def test_messages_of_one_link_keep_their_order(link: Link) -> None:
    sent = words(100)
    await asyncio.gather(*(link.publish("", topology.STORE_QUEUE, word) for word in sent))
    got: list[bytes] = []
    done = asyncio.Event()

    async def take(delivery: Delivery) -> None:
        got.append(delivery.body)
        await link.ack(delivery.tag)
        if len(got) == len(sent):
            done.set()

    await link.consume(topology.STORE_QUEUE, take, prefetch=10)
    async with asyncio.timeout(SECONDS):
        await done.wait()
    assert got == [b"\x81\xa5store" + bytes([0xA0 + len(w.store)]) + w.store.encode() for w in sent]


async def test_what_no_queue_takes_is_unroutable_and_the_link_goes_on(link: Link) -> None:
    key = topology.work_key("nowhere", Lane.HIGH)
    outcomes = await asyncio.gather(
        *(link.publish(topology.WORK, key, WORD) for _ in range(3)),
        link.publish("", topology.STORE_QUEUE, WORD),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [UnroutableError] * 3 + [type(None)]
    assert str(outcomes[0]) == "no queue takes messages for mc.work, key nowhere.high"
    await link.publish(topology.WORK, key, WORD, mandatory=False)


async def test_a_full_queue_refuses_and_the_link_goes_on(link: Link) -> None:
    full = {"x-max-length": 1, "x-overflow": "reject-publish", "x-expires": 60_000}
    await link.declare(topology.Topology((), (topology.Queue(TINY, full),), ()))
    while (waiting := await link.get(TINY)) is not None:
        await link.ack(waiting.tag)
    await link.publish("", TINY, WORD)
    with pytest.raises(RefusedMessageError, match=f"refused a message for a queue, key {TINY}"):
        await link.publish("", TINY, WORD)
    await link.publish("", topology.STORE_QUEUE, WORD)


# Consuming


async def test_prefetch_bounds_what_is_unacknowledged(link: Link, broker: Broker) -> None:
    await asyncio.gather(*(link.publish("", topology.STORE_QUEUE, word) for word in words(10)))
    got: list[Delivery] = []

    async def take(delivery: Delivery) -> None:
        got.append(delivery)

    async def arrived() -> bool:
        return len(got) == 3

    async with await Link.open(broker, "consumer") as consumer:
        await consumer.consume(topology.STORE_QUEUE, take, prefetch=3)
        await eventually(arrived)
        assert await depth(link, topology.STORE_QUEUE) == 7
        await consumer.ack(got[-1].tag, multiple=True)
        got.clear()
        await eventually(arrived)

    async def returned() -> bool:
        return await depth(link, topology.STORE_QUEUE) == 7

    await eventually(returned)


async def test_a_subscriber_hears_its_keys_from_then_on(link: Link, broker: Broker) -> None:
    got: asyncio.Queue[Delivery] = asyncio.Queue()
    async with await Link.open(broker, "subscriber") as subscriber:
        await link.publish(topology.EVENTS, topology.finished_key("a"), WORD, mandatory=False)
        keys = (topology.finished_key("*"), topology.progress_key("b"))
        await subscriber.subscribe(topology.EVENTS, keys, got.put)
        for key in (topology.progress_key("a"), *map(topology.finished_key, "ab"), keys[1]):
            await link.publish(topology.EVENTS, key, WORD, mandatory=False)
        async with asyncio.timeout(SECONDS):
            heard = [(await got.get()).routing_key for _ in range(3)]
    assert heard == ["run.a.finished", "run.b.finished", "run.b.progress"]
    assert got.empty()


async def test_a_consumer_that_the_broker_cancels_closes_its_link(
    link: Link, broker: Broker
) -> None:
    queue = topology.Queue("test.doomed.q", {"x-expires": 60_000})
    async with await Link.open(broker, "consumer") as consumer:
        await link.declare(topology.Topology((), (queue,), ()))
        await consumer.consume(queue.name, ignore)
        await (await link._channel.get_underlay_channel()).queue_delete(queue.name)
        await closed(consumer)
        assert consumer.reason == "the broker cancelled a consumer"
    assert not link.closed.is_set()


async def test_a_stale_acknowledgement_closes_the_link_with_its_reason(link: Link) -> None:
    await link.ack(4711)
    await closed(link)
    assert "unknown delivery tag 4711" in link.reason


# Losing the connection


async def test_a_cut_connection_closes_the_link_and_fails_what_waits(broker: Broker) -> None:
    async with proxy(broker) as (between, through):
        link = await Link.open(through, "test")
        call = asyncio.create_task(link.call(StatusRequest(), Status, within=SECONDS))
        await eventually(lambda: _holds(link._replies))
        await between.cut()
        await closed(link)
        with pytest.raises(ConnectionLostError, match="the connection to the broker at amqp://gue"):
            await call
        with pytest.raises((ConnectionLostError, BrokerUnreachableError)):
            await link.publish("", topology.STORE_QUEUE, WORD)
        await link.close()


async def _holds(mapping: dict[str, object]) -> bool:
    return bool(mapping)


async def test_a_publish_without_its_confirm_is_an_error_when_the_connection_is_cut(
    broker: Broker,
) -> None:
    async with proxy(broker) as (between, through):
        link = await Link.open(through, "test")
        tasks = [
            asyncio.create_task(link.publish("", topology.STORE_QUEUE, word)) for word in words(200)
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await between.cut()
        async with asyncio.timeout(SECONDS):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await link.close()
    confirmed = [outcome for outcome in outcomes if outcome is None]
    lost = [outcome for outcome in outcomes if outcome is not None]
    assert {type(outcome) for outcome in lost} <= {ConnectionLostError, BrokerUnreachableError}
    async with await Link.open(broker, "test") as again:
        # Whatever was confirmed is there; of the rest nobody knows.
        assert len(confirmed) <= await depth(again, topology.STORE_QUEUE) <= len(tasks)


async def test_a_broker_that_falls_silent_is_lost_and_cancels_nobody(broker: Broker) -> None:
    told: list[BrokerError | None] = []
    async with proxy(replace(broker, heartbeat=1)) as (between, through):
        link = await Link.open(through, "test")
        between.confirms_may_pass.clear()
        link.send("", topology.STORE_QUEUE, WORD, told.append)
        async with asyncio.timeout(3 * SECONDS):
            with pytest.raises(ConnectionLostError, match="nothing came from it for too long"):
                await link.publish("", topology.STORE_QUEUE, WORD)
        await link.close()
    assert [type(error) for error in told] == [ConnectionLostError]
    assert link.reason == "nothing came from it for too long"


async def test_a_message_that_has_no_form_leaves_confirms_where_they_belong(link: Link) -> None:
    with pytest.raises(ValueError, match="allowed are 255"):
        await link.publish("", topology.STORE_QUEUE, WORD, correlation_id="x" * 300)
    async with asyncio.timeout(SECONDS):
        await link.publish("", topology.STORE_QUEUE, WORD)
        with pytest.raises(UnroutableError):
            await link.publish("", "no.such.queue", WORD)


async def test_a_link_can_be_closed_twice(broker: Broker) -> None:
    link = await Link.open(broker, "test")
    await link.close()
    await link.close()
    assert link.closed.is_set()
    with pytest.raises((ConnectionLostError, BrokerUnreachableError)):
        await link.publish("", topology.STORE_QUEUE, WORD)


# Asking


async def test_each_of_many_calls_gets_its_own_answer(link: Link, broker: Broker) -> None:
    held: list[Delivery] = []

    async def answer(delivery: Delivery) -> None:
        held.append(delivery)
        if len(held) < 20:
            return
        for number, request in enumerate(reversed(held)):
            await serving.publish(
                "", request.reply_to or "", status_reply(float(number)),
                persistent=False, mandatory=False, correlation_id=request.correlation_id,
            )  # fmt: skip

    async with aggregator(broker, answer) as serving:
        answers = await asyncio.gather(
            *(link.call(StatusRequest(run=f"r{n}"), Status, within=SECONDS) for n in range(20))
        )
    order = [request.body for request in reversed(held)]
    for number, reply in enumerate(answers):
        request = decode(StatusRequest.type, order[int(reply.clock)], StatusRequest)
        assert request.run == f"r{number}"


async def test_a_refusal_is_an_answer_and_nonsense_is_refused(link: Link, broker: Broker) -> None:
    replies = [ErrorReply(code=ErrorCode.UNKNOWN_RUN, text="no"), WORD]

    async def answer(request: Delivery) -> None:
        await serving.publish(
            "", request.reply_to or "", replies.pop(0),
            persistent=False, mandatory=False, correlation_id=request.correlation_id,
        )  # fmt: skip

    async with aggregator(broker, answer) as serving:
        reply = await link.call(StatusRequest(), Status, within=SECONDS)
        assert reply == ErrorReply(code=ErrorCode.UNKNOWN_RUN, text="no")
        with pytest.raises(MessageRefusedError, match=r"unknown_type: type .store\.v1"):
            await link.call(StatusRequest(), Status, within=SECONDS)


async def test_without_an_answer_in_time_there_is_no_aggregator(link: Link) -> None:
    with pytest.raises(NoAggregatorError, match=r"within 0\.2 s; start one with `montemq aggr"):
        await link.call(StatusRequest(), Status, within=0.2)
    assert link._replies == {}


async def test_a_request_that_nobody_waits_for_expires(link: Link, broker: Broker) -> None:
    with pytest.raises(NoAggregatorError):
        await link.call(StatusRequest(), Status, within=0.2)

    async def gone() -> bool:
        return await depth(link, topology.RPC_QUEUE) == 0

    await eventually(gone)
    late: list[Delivery] = []

    async def take(delivery: Delivery) -> None:
        late.append(delivery)
        await serving.publish(
            "", delivery.reply_to or "", status_reply(1.0),
            persistent=False, mandatory=False, correlation_id=delivery.correlation_id,
        )  # fmt: skip

    async with aggregator(broker, take) as serving:
        await link.call(StatusRequest(run="second"), Status, within=SECONDS)
    assert len(late) == 1


async def test_another_connection_of_the_process_stays_as_its_library_has_made_it(
    broker: Broker, link: Link
) -> None:
    assert aiormq.connection.FrameReceiver.__module__ == "aiormq.connection"
    assert pamqp.decode.METHODS["shortstr"] is pamqp.decode.short_str
    assert pamqp.commands.Basic.Properties.unmarshal is BasicProperties.unmarshal
    async with await aio_pika.connect(broker.url) as plain:
        channel = await plain.channel()
        raw = await channel.get_underlay_channel()
        assert type(raw.connection) is aiormq.connection.Connection
        queue = await channel.declare_queue("", exclusive=True)
        await link.publish("", queue.name, WORD)
        got = await queue.get(timeout=SECONDS)
        assert decode(got.type, got.body, StoreIdentity) == WORD
        receivers = [each for each in gc.get_objects() if isinstance(each, FrameReceiver)]
        assert {type(each) for each in receivers} >= {FrameReceiver, Receiver}
