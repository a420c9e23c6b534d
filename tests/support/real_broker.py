"""A real RabbitMQ behind the interface of the in-memory broker, for tests that run on both."""

import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pika
import pika.exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel

from ops.simulation.events import (
    PLAIN,
    Closed,
    Confirmed,
    ConsumerCancelled,
    Declared,
    Delivery,
    Event,
    Message,
    Properties,
    Rejected,
    Returned,
)
from protocol import topology
from protocol.errors import (
    BrokerError,
    BrokerRefusedError,
    ConnectionLostError,
    LockedError,
    TopologyMissingError,
)
from protocol.settings import Broker

PUMP_SECONDS = 0.01
PLAIN_FIELDS = (
    "content_type",
    "type",
    "message_id",
    "correlation_id",
    "reply_to",
    "expiration",
    "user_id",
)
REFUSALS: dict[int, type[BrokerError]] = {404: TopologyMissingError, 405: LockedError}


class RealConnection:
    """A connection through pika; `pump` takes in what has arrived."""

    def __init__(self, broker: Broker) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(broker.url))
        self.channels: list[RealChannel] = []
        self.alive = True

    def channel(self) -> "RealChannel":
        channel = RealChannel(self, self._connection.channel())
        self.channels.append(channel)
        return channel

    def pump(self) -> None:
        if self.alive:
            with self.losing_channels():
                self._connection.process_data_events(PUMP_SECONDS)

    def close(self) -> None:
        self.alive = False
        with contextlib.suppress(pika_errors.AMQPError):
            self._connection.close()

    def drop(self) -> None:
        """Break the TCP connection without a word of AMQP."""
        raw: socket.socket = self._connection._impl._transport._sock
        raw.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def losing_channels(self) -> Iterator[None]:
        """Turn the end of channels and of the connection into events."""
        try:
            yield
        except (pika_errors.ChannelClosed, pika_errors.ChannelWrongStateError):
            pass
        except pika_errors.AMQPConnectionError as error:
            self.alive = False
            for channel in self.channels:
                channel.end(ConnectionLostError(repr(error)))


class RealChannel:
    """A channel through pika; see `ops.simulation.channel.MemoryChannel` for the interface."""

    def __init__(self, connection: RealConnection, channel: BlockingChannel) -> None:
        self.connection = connection
        self.inbox: deque[Event] = deque()
        self.open = True
        self._channel = channel
        self._sequence = -1
        self._confirmed = 0
        self._unconfirmed: set[int] = set()
        # On the inner channel, because BlockingChannel would report returns after their confirms.
        channel._impl.add_on_return_callback(self._on_return)
        channel.add_on_cancel_callback(self._on_cancel)
        channel._impl.add_on_close_callback(self._on_close)

    def take(self) -> list[Event]:
        events = [*self.inbox]
        self.inbox.clear()
        return events

    def confirm_select(self) -> None:
        selected: list[object] = []
        # BlockingChannel's own confirms wait for each message; these arrive as events.
        self._channel._impl.confirm_delivery(self._on_confirm, selected.append)
        while not selected:
            self.connection.pump()
        self._sequence = 0

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: Properties = PLAIN,
        *,
        mandatory: bool = False,
    ) -> int:
        if not self.open:
            raise ConnectionLostError("the channel has ended")
        sequence = 0
        if self._sequence >= 0:
            self._sequence += 1
            sequence = self._sequence
            self._unconfirmed.add(sequence)
        wire = pika.BasicProperties(
            delivery_mode=2 if properties.persistent else 1,
            headers=dict(properties.headers),
            **{name: getattr(properties, name) for name in PLAIN_FIELDS},
        )
        with self.connection.losing_channels():
            self._channel.basic_publish(exchange, routing_key, body, wire, mandatory)
        return sequence

    def consume(self, queue: str, *, prefetch: int = 0, no_ack: bool = False) -> str:
        self._call(lambda: self._channel.basic_qos(prefetch_count=prefetch))
        return str(
            self._call(
                lambda: self._channel.basic_consume(queue, self._on_message, auto_ack=no_ack)
            )
        )

    def cancel(self, tag: str) -> None:
        self._call(lambda: self._channel.basic_cancel(tag))

    def get(self, queue: str, *, no_ack: bool = False) -> Delivery | None:
        method, properties, body = self._call(lambda: self._channel.basic_get(queue, no_ack))
        return None if method is None else _delivery("", method, properties, body)

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        with self.connection.losing_channels():
            self._channel.basic_ack(tag, multiple)

    def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        with self.connection.losing_channels():
            self._channel.basic_nack(tag, multiple, requeue)

    def reject(self, tag: int) -> None:
        with self.connection.losing_channels():
            self._channel.basic_reject(tag, requeue=True)

    def declare_queue(
        self,
        queue: str = "",
        *,
        durable: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> Declared:
        answer = self._call(
            lambda: self._channel.queue_declare(
                queue, durable=durable, exclusive=exclusive, arguments=dict(arguments or {})
            )
        ).method
        return Declared(answer.queue, answer.message_count, answer.consumer_count)

    def inspect_queue(self, queue: str) -> Declared:
        answer = self._call(lambda: self._channel.queue_declare(queue, passive=True)).method
        return Declared(answer.queue, answer.message_count, answer.consumer_count)

    def declare_exchange(self, exchange: str, type_: str) -> None:
        self._call(lambda: self._channel.exchange_declare(exchange, type_, durable=True))

    def bind(self, queue: str, exchange: str, key: str) -> None:
        self._call(lambda: self._channel.queue_bind(queue, exchange, key))

    def unbind(self, queue: str, exchange: str, key: str) -> None:
        self._call(lambda: self._channel.queue_unbind(queue, exchange, key))

    def purge(self, queue: str) -> int:
        return int(self._call(lambda: self._channel.queue_purge(queue)).method.message_count)

    def delete_queue(self, queue: str) -> int:
        return int(self._call(lambda: self._channel.queue_delete(queue)).method.message_count)

    def delete_exchange(self, exchange: str) -> None:
        self._call(lambda: self._channel.exchange_delete(exchange))

    def close(self) -> None:
        if self.open:
            self.open = False
            self._channel.close()

    def end(self, error: BrokerError) -> None:
        if self.open:
            self.open = False
            self.inbox.append(Closed(error))

    def _call(self, method: Callable[[], Any]) -> Any:
        if not self.open:
            raise ConnectionLostError("the channel has ended")
        try:
            return method()
        except pika_errors.ChannelClosedByBroker as error:
            self.inbox.clear()
            raise _refusal(error) from error
        except pika_errors.AMQPConnectionError as error:
            self.open = False
            raise ConnectionLostError(repr(error)) from error

    def _on_message(self, _: object, method: Any, properties: Any, body: bytes) -> None:
        self.inbox.append(_delivery(method.consumer_tag, method, properties, body))

    def _on_return(self, _: object, method: Any, properties: Any, body: bytes) -> None:
        self.inbox.append(Returned(_message(method, properties, body)))

    def _on_cancel(self, frame: Any) -> None:
        self.inbox.append(ConsumerCancelled(frame.method.consumer_tag))

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        one, upto = {method.delivery_tag}, range(1, method.delivery_tag + 1)
        settled = self._unconfirmed.intersection(upto) if method.multiple else one
        self._unconfirmed -= settled
        kind = Confirmed if isinstance(method, pika.spec.Basic.Ack) else Rejected
        self.inbox.extend(kind(sequence) for sequence in sorted(settled))

    def _on_close(self, _: object, reason: Exception) -> None:
        if isinstance(reason, pika_errors.ChannelClosedByBroker):
            self.end(_refusal(reason))


def remove(broker: Broker) -> None:
    """Delete everything that montemq declares for the default pool."""
    wanted = topology.topology()
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        for queue in wanted.queues:
            channel.queue_delete(queue.name)
        for exchange in wanted.exchanges:
            channel.exchange_delete(exchange.name)


def waiting(broker: Broker, queue: str) -> int:
    """Return how many messages of a queue nobody has taken."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        return int(connection.channel().queue_declare(queue, passive=True).method.message_count)


def reset(broker: Broker, pools: tuple[str, ...] = ("default",)) -> None:
    """Delete everything that montemq declares for these pools, and declare it again."""
    wanted = topology.topology(pools)
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    try:
        channel = connection.channel()
        for queue in wanted.queues:
            channel.queue_delete(queue.name)
        for exchange in wanted.exchanges:
            channel.exchange_delete(exchange.name)
            channel.exchange_declare(exchange.name, exchange.type, durable=True)
        for queue in wanted.queues:
            channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
        for binding in wanted.bindings:
            channel.queue_bind(binding.queue, binding.exchange, binding.key)
    finally:
        connection.close()


def wait_until_led(broker: Broker) -> None:
    """Wait until every queue of the default topology that exists can be published to.

    RabbitMQ 3.10 loses the supervisor of dead-lettering for good when a queue is deleted before its
    election after a restart is over.
    """
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for queue in topology.topology(("default",)).queues:
            with contextlib.suppress(pika_errors.UnroutableError):
                channel.basic_publish("", queue.name, b"", mandatory=True)


def _refusal(error: pika_errors.ChannelClosedByBroker) -> BrokerError:
    return REFUSALS.get(error.reply_code, BrokerRefusedError)(error.reply_text)


def _delivery(tag: str, method: Any, properties: Any, body: bytes) -> Delivery:
    message = _message(method, properties, body)
    return Delivery(tag, method.delivery_tag, method.redelivered, message)


def _message(method: Any, properties: Any, body: bytes) -> Message:
    plain = {name: getattr(properties, name) for name in PLAIN_FIELDS}
    mine = Properties(
        **plain, persistent=properties.delivery_mode == 2, headers=properties.headers or {}
    )
    return Message(method.exchange, method.routing_key, body, mine)
