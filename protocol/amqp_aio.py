"""Thin asyncio adapter over aio-pika, for producer and aggregator: one connection, one channel.

It does not reconnect: whoever owns a `Link` starts a fresh one when `closed` is set.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

import aio_pika
import aio_pika.exceptions as aio_errors
import aiormq
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import DeliveredMessage

from protocol import broker_errors, topology
from protocol.amqp_aio_errors import detail, ended, translated
from protocol.amqp_aio_stream import Stream
from protocol.amqp_aio_wire import Connection, Wire
from protocol.amqp_frames import PERSISTENT, TRANSIENT
from protocol.errors import (
    BrokerError,
    BrokerRefusedError,
    BrokerUnreachableError,
    ConnectionLostError,
    LockedError,
    NoAggregatorError,
    RefusedMessageError,
    TopologyMissingError,
    UnroutableError,
)
from protocol.messages import CONTENT_TYPE, Message, decode, encode
from protocol.rpc_messages import ErrorReply
from protocol.settings import CONNECT_SECONDS, Broker

# The libraries log every reconnection and refusal with a traceback; we say it in one sentence.
for _name in ("aio_pika", "aiormq"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came; `tag` belongs to the link that delivered it."""

    tag: int
    queue: str
    type: str | None
    body: bytes
    routing_key: str
    reply_to: str | None
    correlation_id: str | None


Handler = Callable[[Delivery], Coroutine[Any, Any, None] | None]
"""A plain function is called at once, and must not raise: that would end the connection. A
coroutine becomes a task."""

Told = Callable[[BrokerError | None], None]


class Link:
    """A connection to the broker with one channel with publisher confirms.

    What the broker may refuse happens on a second channel, because a refusal closes the channel.

    Attributes
    ----------
    broker, node
        What was asked for, and which of its nodes has answered.
    release
        Of the broker: the first two numbers of its version.
    closed, closed_at, reason
        Whether the connection has ended, when on the monotonic clock, and why.
    """

    def __init__(
        self,
        broker: Broker,
        node: Broker,
        connection: AbstractConnection,
        channel: AbstractChannel,
        raw: Any,
    ) -> None:
        self.broker = broker
        self.node = node
        self.release = _release(raw.connection.server_properties)
        self.closed = asyncio.Event()
        self.closed_at: float | None = None
        self.reason = "the connection was closed"
        self._connection = connection
        self._channel = channel
        self._replies: dict[str, asyncio.Future[DeliveredMessage]] = {}
        self._replies_ready = False
        self._replies_lock = asyncio.Lock()
        self._side: AbstractChannel | None = None
        self._side_lock = asyncio.Lock()
        self._stream = Stream(raw)
        self._wire: Wire = raw.connection
        connection.close_callbacks.add(self._on_close)
        channel.close_callbacks.add(self._on_close)

    @classmethod
    async def open(cls, broker: Broker, name: str, *, confirms: bool = True) -> Self:
        """Connect to the first node that answers.

        `name` is what the broker's tools show, `confirms` makes `publish` wait.

        Raises
        ------
        BrokerUnreachableError, BrokerRefusedError
            One sentence that says why.
        """
        *others, last = broker.nodes
        for node in others:
            with suppress(BrokerUnreachableError, ConnectionLostError):
                return await cls._open(broker, node, name, confirms=confirms)
        return await cls._open(broker, last, name, confirms=confirms)

    @classmethod
    async def _open(cls, broker: Broker, node: Broker, name: str, *, confirms: bool) -> Self:
        with translated(node, opening=True):
            connection = await aio_pika.connect(
                host=node.host,
                port=node.port,
                login=node.user,
                password=node.password,
                virtualhost=node.vhost,
                heartbeat=node.heartbeat,
                timeout=CONNECT_SECONDS,
                client_properties={"connection_name": name},
                connection_class=Connection,
                **_security(node),
            )
            try:
                channel = await connection.channel(publisher_confirms=confirms)
                raw = await channel.get_underlay_channel()
                link = cls(broker, node, connection, channel, raw)
            except BaseException:
                await connection.close()
                raise
            raw.on_consumer_cancel_callbacks.add(link._on_cancelled)
        return link

    @property
    def blocked(self) -> bool:
        """Whether the broker takes nothing from this connection now, for want of memory or disk."""
        return self._wire.blocked

    @property
    def blockings(self) -> int:
        """How often the broker has blocked this connection."""
        return self._wire.blockings

    async def close(self) -> None:
        """Close the connection; what was not acknowledged goes back to its queue."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._connection.close()
        except (TimeoutError, *aio_errors.CONNECTION_EXCEPTIONS):
            pass  # it is gone either way
        self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def declare(self, wanted: topology.Topology) -> None:
        """Declare exchanges, queues and bindings; needs the `configure` right."""
        with translated(self.broker):
            raw = await self._channel.get_underlay_channel()
            for exchange in wanted.exchanges:
                await raw.exchange_declare(
                    exchange=exchange.name, exchange_type=exchange.type, durable=True
                )
            for queue in wanted.queues:
                await raw.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
            for binding in wanted.bindings:
                await raw.queue_bind(binding.queue, binding.exchange, binding.key)

    async def missing_queues(self, wanted: topology.Topology) -> tuple[list[str], list[str]]:
        """Return the queues of a topology that this broker lacks, and those that it is silent on.

        Needs no right to declare.
        """
        missing, untold = [], []
        for queue in wanted.queues:
            try:
                await self.expect(queue.name)
            except TopologyMissingError:
                missing.append(queue.name)
            except BrokerRefusedError:
                untold.append(queue.name)
        return missing, untold

    async def expect(self, queue: str) -> None:
        """Make sure that a queue exists.

        Raises
        ------
        BrokerRefusedError
            This user has no right to it, neither to configure nor to write nor to read; RabbitMQ
            before 4.2.6 wants none.
        TopologyMissingError
            It does not.
        LockedError
            It does, and is somebody else's own.
        """
        async with self._aside() as raw:
            await raw.queue_declare(queue, passive=True)

    async def allows(self, attempt: Callable[[Any], Awaitable[object]]) -> bool:
        """Return whether the broker lets this user do something, on a channel that it may close."""
        try:
            async with self._aside() as raw:
                await attempt(raw)
        except BrokerRefusedError:
            return False
        return True

    async def lock(self, name: str) -> None:
        """Take a lock: an exclusive queue that lives as long as this connection.

        Raises
        ------
        LockedError
            Somebody else holds it.
        """
        async with self._aside() as raw:
            await raw.queue_declare(name, exclusive=True)

    async def try_lock(self, name: str) -> bool:
        """Take a lock unless somebody else holds it; say whether this connection has it now."""
        try:
            await self.lock(name)
        except LockedError:
            return False
        return True

    async def unlock(self, name: str) -> None:
        """Give a lock of this connection back."""
        async with self._aside() as raw:
            await raw.queue_delete(name)

    async def is_locked(self, name: str) -> bool:
        """Say whether anybody holds a lock, without taking it."""
        try:
            await self.expect(name)
        except LockedError:
            return True
        except TopologyMissingError:
            return False
        return True

    async def publish(
        self,
        exchange: str,
        key: str,
        message: Message,
        *,
        persistent: bool = True,
        mandatory: bool = True,
        **properties: str | None,
    ) -> None:
        """Publish and wait for the broker's confirm; call it concurrently to pipeline.

        Raises
        ------
        UnroutableError
            No queue takes the message.
        RefusedMessageError
            The queue is full, or the broker could not store the message.
        ConnectionLostError
            Nobody knows whether the broker has it.
        """
        with translated(self.broker), _refusals(exchange, key):
            routed = await self._stream.publish(
                encode(message), exchange, key,
                mandatory=mandatory, mode=PERSISTENT if persistent else TRANSIENT,
                content_type=CONTENT_TYPE, message_type=message.type, **properties,
            )  # fmt: skip
        if routed is False:
            raise _unroutable(exchange, key)

    def send(self, exchange: str, key: str, message: Message, told: Told) -> None:
        """Publish as `publish` does, mandatory and persistent, without a task that waits.

        Parameters
        ----------
        exchange, key, message
            What, and where.
        told
            Called once the broker has confirmed, with None, or else with what `publish` would
            raise.

        Raises
        ------
        ConnectionLostError
            Before anything was sent.
        """

        def tell(confirm: asyncio.Future[bool]) -> None:
            try:
                with translated(self.broker), _refusals(exchange, key):
                    routed = confirm.result()
            except BrokerError as error:
                told(error)
            else:
                told(_unroutable(exchange, key) if routed is False else None)

        with translated(self.broker):
            confirm = self._stream.publish(
                encode(message), exchange, key, mandatory=True, mode=PERSISTENT,
                content_type=CONTENT_TYPE, message_type=message.type,
            )  # fmt: skip
        confirm.add_done_callback(tell)

    async def tell(self, exchange: str, key: str, message: Message) -> None:
        """Publish what may be lost: neither persistent nor mandatory.

        It goes over the second channel, so that a broker that refuses it harms nothing else.

        Raises
        ------
        BrokerRefusedError, TopologyMissingError
            This user may not publish there, or there is no such exchange.
        ConnectionLostError
            Nobody knows whether the broker has it.
        """
        properties = aiormq.spec.Basic.Properties(
            content_type=CONTENT_TYPE,
            message_type=message.type,
            delivery_mode=TRANSIENT,
            user_id=self.broker.user,
        )
        async with self._aside() as raw:
            await raw.basic_publish(
                encode(message), exchange=exchange, routing_key=key, properties=properties
            )

    def rest(self, seconds: float) -> None:
        """Read nothing for so long: what comes meanwhile costs less when it is read at once."""
        self._stream.rest(seconds)

    async def consume(
        self, queue: str, handler: Handler, *, prefetch: int = 0, no_ack: bool = False
    ) -> None:
        """Deliver a queue's messages to a handler.

        Parameters
        ----------
        queue
            Its name.
        handler
            Called for each message.
        prefetch
            How many may be unacknowledged on this consumer; 0 for no limit.
        no_ack
            The broker forgets a message when it sends it.
        """

        def deliver(tag: int, key: str, properties: Mapping[str, Any], body: bytes) -> None:
            if (task := handler(_delivery(queue, tag, key, properties, body))) is not None:
                self._stream.create_task(task)

        with translated(self.broker):
            raw = await self._channel.get_underlay_channel()
            await raw.basic_qos(prefetch_count=prefetch)
            await self._stream.consume(queue, deliver, no_ack=no_ack)

    async def subscribe(self, exchange: str, keys: tuple[str, ...], handler: Handler) -> str:
        """Deliver what matches the keys from now on, through a queue of this connection's own.

        Returns
        -------
        str
            The queue's name, for `bind` and `unbind`.
        """
        with translated(self.broker):
            raw = await self._channel.get_underlay_channel()
            declared = await raw.queue_declare(
                "", exclusive=True, arguments=dict(topology.subscription())
            )
            queue = declared.queue or ""
            for key in keys:
                await raw.queue_bind(queue, exchange, key)
        await self.consume(queue, handler, no_ack=True)
        return queue

    async def bind(self, queue: str, exchange: str, key: str) -> None:
        """Deliver what matches one more key to a subscription's queue."""
        async with self._aside() as raw:
            await raw.queue_bind(queue, exchange, key)

    async def unbind(self, queue: str, exchange: str, key: str) -> None:
        """Deliver no more of what matches a key."""
        async with self._aside() as raw:
            await raw.queue_unbind(queue, exchange, key)

    async def get(self, queue: str) -> Delivery | None:
        """Take one message from a queue, None when it is empty."""
        with translated(self.broker):
            raw = await self._channel.get_underlay_channel()
            message = await raw.basic_get(queue)
        if message.delivery_tag is None:
            return None
        properties = dict(message.header.properties)
        return _delivery(
            queue, message.delivery_tag, message.routing_key or "", properties, message.body
        )

    async def ack(self, tag: int, *, multiple: bool = False, written: bool = False) -> None:
        """Acknowledge a delivery, or all up to it.

        Parameters
        ----------
        tag
            The delivery.
        multiple
            Whether all before it are meant too.
        written
            Whether to wait until the socket has it, so that a link closed next does not lose it.
        """
        with translated(self.broker):
            raw = await self._channel.get_underlay_channel()
            await raw.basic_ack(tag, multiple=multiple, wait=written)

    async def call(self, request: Message, answer: type[Message], within: float) -> Any:
        """Ask the aggregator and return its answer.

        Raises
        ------
        NoAggregatorError
            Nobody answered in time.
        """
        correlation_id = uuid.uuid4().hex
        future = self._replies[correlation_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within):
                await self._expect_replies()
                await self.publish(
                    topology.RPC,
                    topology.RPC_KEY,
                    request,
                    reply_to=topology.DIRECT_REPLY,
                    correlation_id=correlation_id,
                    # Nobody waits for the answer after that, and a stale `cancel` must not wake up.
                    expiration=str(int(within * 1000)),
                )
                reply = await future
        except TimeoutError:
            raise no_aggregator(self.broker, within) from None
        finally:
            del self._replies[correlation_id]
            if future.done() and not future.cancelled():
                future.exception()  # asyncio complains of an exception that nobody looked at
        return decode(_type(reply), reply.body, answer, ErrorReply)

    @asynccontextmanager
    async def _aside(self) -> AsyncIterator[Any]:
        """Lend the second channel, a new one where the last was closed by a refusal."""
        async with self._side_lock:
            with translated(self.broker):
                if self._side is None or self._side.is_closed:
                    self._side = await self._connection.channel()
                yield await self._side.get_underlay_channel()

    async def _expect_replies(self) -> None:
        """Ask for direct replies once; a request that goes out earlier closes the channel."""
        async with self._replies_lock:
            if not self._replies_ready:
                with translated(self.broker):
                    raw = await self._channel.get_underlay_channel()
                    await raw.basic_consume(topology.DIRECT_REPLY, self._on_reply, no_ack=True)
                self._replies_ready = True

    async def _on_reply(self, message: DeliveredMessage) -> None:
        future = self._replies.get(message.header.properties.correlation_id or "")
        if future is not None and not future.done():
            future.set_result(message)

    def _end(self) -> None:
        if self.closed_at is None:
            self.closed_at = time.monotonic()
        self.closed.set()

    def _on_close(self, _: object, error: BaseException | None = None) -> None:
        error = ended(error)
        if error is not None and not self.closed.is_set():
            self.reason = detail(error)
        self._end()
        self._stream.close(error)
        for future in self._replies.values():
            if not future.done():
                future.set_exception(broker_errors.lost(self.broker))

    async def _on_cancelled(self, _: object) -> None:
        self.reason = "the broker cancelled a consumer"
        self._end()  # first, or closing would give another reason
        await self.close()


def no_aggregator(broker: Broker, within: float) -> NoAggregatorError:
    """Return what to raise where nobody answered a request within this many seconds."""
    return NoAggregatorError(
        f"no aggregator answered at {broker} within {within:g} s; "
        "start one with `montemq aggregator`"
    )


def _security(broker: Broker) -> dict[str, Any]:
    """Return how the library shall encrypt and who we shall be, beside user and password."""
    if broker.tls is None:
        return {}
    mechanism = {"auth": "external"} if broker.by_certificate else {}
    return {"ssl": True, "ssl_context": broker.tls.to_a_server(), **mechanism}


@contextmanager
def _refusals(exchange: str, key: str) -> Iterator[None]:
    try:
        yield
    except aio_errors.DeliveryError as error:
        text = f"the broker refused a message for {exchange or 'a queue'}, key {key}"
        raise RefusedMessageError(text) from error


def _unroutable(exchange: str, key: str) -> UnroutableError:
    return UnroutableError(f"no queue takes messages for {exchange or 'default'}, key {key}")


def _release(properties: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d{1,9}", str(properties.get("version", "")))[:2]))


def _type(message: DeliveredMessage) -> str | None:
    return message.header.properties.message_type


def _delivery(
    queue: str, tag: int, key: str, properties: Mapping[str, Any], body: bytes
) -> Delivery:
    return Delivery(
        tag=tag,
        queue=queue,
        type=properties.get("message_type"),
        body=body,
        routing_key=key,
        reply_to=properties.get("reply_to"),
        correlation_id=properties.get("correlation_id"),
    )
