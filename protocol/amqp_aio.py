"""Thin asyncio adapter over aio-pika, for producer and aggregator: one connection, one channel.

It does not reconnect: whoever owns a `Link` starts a fresh one when `closed` is set.
"""

import asyncio
import logging
import struct
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

import aio_pika
import aio_pika.exceptions as aio_errors
import aiormq
import pamqp.commands
import pamqp.decode
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import DeliveredMessage

from protocol import broker_errors, topology
from protocol.amqp_aio_errors import translated
from protocol.errors import (
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


def _read_foreign_properties(library: Any, properties: type[Any]) -> None:
    """Let the codec of aio-pika read whatever a broker may pass on.

    As it stands, a routing key that is no UTF-8, or properties that it cannot decode, end the
    connection that is to receive the message, over and over: one message would stop a service.
    """
    read = properties.unmarshal

    def text(value: bytes) -> tuple[int, str]:
        length = value[0]
        return length + 1, value[1 : length + 1].decode("utf-8", errors="replace")

    def unmarshal(self: Any, flags: int, data: bytes) -> None:
        try:
            read(self, flags, data)
        except (ValueError, OverflowError, OSError, TypeError, LookupError, struct.error):
            self.__init__()  # no type: the message is refused, and counted

    library.METHODS["shortstr"] = text
    properties.unmarshal = unmarshal


_read_foreign_properties(pamqp.decode, pamqp.commands.Basic.Properties)


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


Handler = Callable[[Delivery], Awaitable[None]]


class _Connection(aio_pika.Connection):
    """Never closes itself when it is collected: that leaves a coroutine that nobody awaits."""

    def __del__(self) -> None:
        """Do nothing; `Link` closes what it has opened."""


class Link:
    """A connection to the broker with one channel with publisher confirms."""

    def __init__(
        self, broker: Broker, connection: AbstractConnection, channel: AbstractChannel
    ) -> None:
        self.broker = broker
        self.closed = asyncio.Event()
        self.reason = "the connection was closed"
        self._connection = connection
        self._channel = channel
        self._replies: dict[str, asyncio.Future[DeliveredMessage]] = {}
        self._replies_ready = False
        self._replies_lock = asyncio.Lock()
        connection.close_callbacks.add(self._on_close)
        channel.close_callbacks.add(self._on_close)

    @classmethod
    async def open(cls, broker: Broker, name: str, *, confirms: bool = True) -> Self:
        """Connect; `name` is what the broker's tools show, `confirms` makes `publish` wait.

        Raises
        ------
        BrokerUnreachableError, BrokerRefusedError
            One sentence that says why.
        """
        with translated(broker, opening=True):
            connection = await aio_pika.connect(
                host=broker.host,
                port=broker.port,
                login=broker.user,
                password=broker.password,
                virtualhost=broker.vhost,
                heartbeat=broker.heartbeat,
                timeout=CONNECT_SECONDS,
                client_properties={"connection_name": name},
                connection_class=_Connection,
            )
            try:
                channel = await connection.channel(publisher_confirms=confirms)
                link = cls(broker, connection, channel)
                raw = await channel.get_underlay_channel()
            except BaseException:
                await connection.close()
                raise
            raw.on_consumer_cancel_callbacks.add(link._on_cancelled)
        return link

    async def close(self) -> None:
        """Close the connection; what was not acknowledged goes back to its queue."""
        try:
            await asyncio.wait_for(self._connection.close(), CONNECT_SECONDS)
        except (TimeoutError, *aio_errors.CONNECTION_EXCEPTIONS):
            pass  # it is gone either way
        self.closed.set()

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

    async def missing_queues(self, wanted: topology.Topology) -> list[str]:
        """Return the queues of a topology that this broker lacks; needs no right to declare."""
        missing = []
        for queue in wanted.queues:
            # On a channel of its own, because a refusal closes the channel.
            raw = await (await self._connection.channel()).get_underlay_channel()
            try:
                with translated(self.broker):
                    await raw.queue_declare(queue.name, passive=True)
            except TopologyMissingError:
                missing.append(queue.name)
        return missing

    async def expect(self, queue: str) -> None:
        """Make sure that a queue exists; needs no right to it.

        Raises
        ------
        TopologyMissingError
            It does not; the channel is closed by that.
        """
        with translated(self.broker):
            raw = await self._channel.get_underlay_channel()
            await raw.queue_declare(queue, passive=True)

    async def lock(self, name: str) -> None:
        """Take a lock: an exclusive queue that lives as long as this connection.

        Raises
        ------
        LockedError
            Somebody else holds it.
        """
        with translated(self.broker):
            # On a channel of its own, because a refusal closes the channel.
            raw = await (await self._connection.channel()).get_underlay_channel()
            await raw.queue_declare(name, exclusive=True)

    async def publish(
        self,
        exchange: str,
        key: str,
        message: Message,
        *,
        persistent: bool = True,
        mandatory: bool = True,
        **properties: Any,
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
        with translated(self.broker):
            raw = await self._channel.get_underlay_channel()
            try:
                answer = await raw.basic_publish(
                    encode(message),
                    exchange=exchange,
                    routing_key=key,
                    properties=_properties(message, persistent=persistent, **properties),
                    mandatory=mandatory,
                )
            except aio_errors.DeliveryError as error:
                text = f"the broker refused a message for {exchange or 'a queue'}, key {key}"
                raise RefusedMessageError(text) from error
        if isinstance(answer, DeliveredMessage):
            raise UnroutableError(f"no queue takes messages for {exchange or 'default'}, key {key}")

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

        async def deliver(raw_message: DeliveredMessage) -> None:
            await handler(_delivery(queue, raw_message))

        with translated(self.broker):
            raw = await self._channel.get_underlay_channel()
            await raw.basic_qos(prefetch_count=prefetch)
            await raw.basic_consume(queue, deliver, no_ack=no_ack)

    async def subscribe(self, exchange: str, keys: tuple[str, ...], handler: Handler) -> None:
        """Deliver what matches the keys from now on, through a queue of this connection's own."""
        with translated(self.broker):
            raw = await self._channel.get_underlay_channel()
            declared = await raw.queue_declare(
                "", exclusive=True, arguments=dict(topology.subscription())
            )
            queue = declared.queue or ""
            for key in keys:
                await raw.queue_bind(queue, exchange, key)
        await self.consume(queue, handler, no_ack=True)

    async def get(self, queue: str) -> Delivery | None:
        """Take one message from a queue, None when it is empty."""
        with translated(self.broker):
            raw = await self._channel.get_underlay_channel()
            message = await raw.basic_get(queue)
        return None if message.delivery_tag is None else _delivery(queue, message)

    async def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Acknowledge a delivery, or all up to it."""
        with translated(self.broker):
            raw = await self._channel.get_underlay_channel()
            await raw.basic_ack(tag, multiple=multiple, wait=False)

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
            raise NoAggregatorError(
                f"no aggregator answered at {self.broker} within {within:g} s; "
                "start one with `montemq aggregator`"
            ) from None
        finally:
            del self._replies[correlation_id]
            if future.done() and not future.cancelled():
                future.exception()  # asyncio complains of an exception that nobody looked at
        return decode(_type(reply), reply.body, answer, ErrorReply)

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

    def _on_close(self, _: object, error: BaseException | None = None) -> None:
        if error is not None and not self.closed.is_set():
            self.reason = str(error) or type(error).__name__
        self.closed.set()
        for future in self._replies.values():
            if not future.done():
                future.set_exception(broker_errors.lost(self.broker))

    async def _on_cancelled(self, _: object) -> None:
        self.reason = "the broker cancelled a consumer"
        self.closed.set()  # first, or closing would give another reason
        await self.close()


def _properties(message: Message, *, persistent: bool, **more: Any) -> Any:
    return aiormq.spec.Basic.Properties(
        content_type=CONTENT_TYPE,
        message_type=message.type,
        delivery_mode=2 if persistent else 1,
        **more,
    )


def _type(message: DeliveredMessage) -> str | None:
    return message.header.properties.message_type


def _delivery(queue: str, message: DeliveredMessage) -> Delivery:
    properties = message.header.properties
    return Delivery(
        tag=message.delivery_tag or 0,
        queue=queue,
        type=properties.message_type,
        body=bytes(message.body),
        routing_key=message.routing_key or "",
        reply_to=properties.reply_to,
        correlation_id=properties.correlation_id,
    )
