"""The consumer's way to the broker: one pika connection, one channel, one loop in one thread.

It reconnects for ever; what to consume, acknowledge or publish is not decided here. Everything but
`call_threadsafe` belongs to the thread that calls `run`.
"""

import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import pika
from pika import exceptions, spec
from pika.adapters.select_connection import IOLoop, PollEvents
from pika.channel import Channel
from pika.credentials import ExternalCredentials

from protocol import broker_errors
from protocol.amqp_pika_connection import Connection, Delivered
from protocol.amqp_pika_errors import translated
from protocol.errors import BrokerError, ConnectionLostError
from protocol.messages import CONTENT_TYPE
from protocol.receipts import Receipts
from protocol.settings import CONNECT_SECONDS, LONGEST_RETRY_SECONDS, RETRY_SECONDS, Broker
from protocol.topology import subscription

LATE_ACK_SECONDS = 0.02
"""How long an acknowledgement may wait for those of older deliveries, to go with them."""

GOODBYE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as it came: nothing of it has been looked at.

    Attributes
    ----------
    receipt
        What `ack` and `give_back` want: the channel's generation and the delivery tag.
    queue
        The queue it came from; None for the subscription.
    exchange
        Of the subscription: what it was published to.
    type, body
        The AMQP property `type`, None where there is none, and the body.
    """

    receipt: tuple[int, int]
    queue: str | None
    type: str | None
    body: bytes
    exchange: str | None = None


class Listener(Protocol):
    """Whoever drives a `Link`; called in the loop's thread."""

    def on_connected(self) -> None:
        """Learn that a channel is open, with publisher confirms and the subscription."""

    def on_consuming(self) -> None:
        """Learn that the broker has accepted every queue of `consume`."""

    def on_lost(self, error: BrokerError) -> None:
        """Learn that there is no channel; the link tries again by itself."""

    def on_message(self, incoming: Incoming) -> None:
        """Take a message."""

    def on_settled(self, token: int, taken: bool) -> None:
        """Learn that the broker has taken, or refused, what was published with this token."""


class Link:
    """A connection to the broker that comes back.

    Parameters
    ----------
    broker
        Where it is; a lost connection comes back to its next node.
    listener
        Who is told.
    name
        Shown among the broker's connections.
    bindings
        Exchanges and keys of the subscription: an own bounded queue that ends with the connection.

    Attributes
    ----------
    cancels
        How often the broker has cancelled a consumer.
    """

    def __init__(
        self, broker: Broker, listener: Listener, name: str, bindings: Sequence[tuple[str, str]]
    ) -> None:
        self._broker, self._listener, self._name, self._bindings = broker, listener, name, bindings
        self.cancels = 0
        self._loop = IOLoop()
        self._nodes = deque(broker.nodes)
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._generation = 0
        self._failures = 0
        self._closing = False
        self._consumers: list[str] = []
        self._consumed = 0
        self._published = 0
        self._unsettled: deque[tuple[int, int | None]] = deque()
        self._returned: set[int] = set()
        self._receipts = Receipts()
        self._acks_due = self._late_acks_due = False

    # the loop

    def run(self) -> None:
        """Connect, and serve until `close` has ended."""
        self._connect()
        try:
            self._loop.start()
        finally:
            self._loop.close()

    def close(self) -> None:
        """Send what is waiting, close the connection, and let `run` return."""
        if self._closing:
            return
        self._closing = True
        self._send_acks(patient=False)
        self._loop.call_later(GOODBYE_SECONDS, self._loop.stop)
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
        else:
            self._loop.stop()

    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        """Have the loop call back soon; from any thread, and from signal handlers."""
        self._loop.add_callback_threadsafe(callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Have the loop call back once."""
        self._loop.call_later(seconds, callback)

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Have the loop call back whenever the descriptor is readable or at its end."""
        self._loop.add_handler(fd, lambda _fd, _events: callback(), PollEvents.READ)

    def remove_reader(self, fd: int) -> None:
        """Watch the descriptor no longer; to be called before it is closed."""
        self._loop.remove_handler(fd)

    # what the policy asks for

    def consume(self, queues: Sequence[str], prefetch: int) -> None:
        """Consume these queues instead of those before, each with this prefetch count."""
        self.stop_consuming()
        if (channel := self._open_channel()) is None:
            return
        self._consumed += 1
        channel.basic_qos(prefetch_count=prefetch)
        waiting = set(queues)
        for queue in queues:
            tag = f"{self._name}.{self._generation}.{self._consumed}.{queue}"
            channel.basic_consume(
                queue,
                partial(self._on_message, self._generation, queue),
                consumer_tag=tag,
                callback=partial(self._on_consume_ok, waiting, queue),
            )
            taker = partial(self._on_delivered, self._generation, queue)
            channel.connection.takers[tag] = taker
            self._consumers.append(tag)

    def stop_consuming(self) -> None:
        """Take no further deliveries; those that were made stay open."""
        tags, self._consumers = self._consumers, []
        if (channel := self._open_channel()) is not None:
            for tag in tags:
                # What is on its way goes to pika, which gives it back.
                channel.connection.takers.pop(tag, None)
                channel.basic_cancel(tag)

    def inspect(self, queue: str, tell: Callable[[int, int], None]) -> None:
        """Ask how many messages of a queue are ready, and how many consume it."""
        if (channel := self._open_channel()) is not None:
            channel.queue_declare(
                queue,
                passive=True,
                callback=lambda frame: tell(
                    frame.method.message_count, frame.method.consumer_count
                ),
            )

    def reconnect(self, reason: str) -> None:
        """Give a connection up that looks alive, and connect anew."""
        if self._open_channel() is not None:
            error = ConnectionLostError(f"the connection to {self._broker} is given up: {reason}")
            self._lose(self._generation, error)

    def ack(self, receipt: tuple[int, int]) -> None:
        """Acknowledge a delivery, in a moment; nothing happens when its channel is gone."""
        if self._open_channel(receipt[0]) is not None:
            self._receipts.answered(receipt[1])
            if not self._acks_due:
                self._acks_due = True
                self._loop.call_later(0.0, self._acknowledge)

    def give_back(self, receipt: tuple[int, int]) -> None:
        """Return a delivery to its queue; nothing happens when its channel is gone."""
        self._refuse(receipt, requeue=True)

    def bury(self, receipt: tuple[int, int]) -> None:
        """Refuse a delivery for good: it becomes a dead letter."""
        self._refuse(receipt, requeue=False)

    def publish(
        self, exchange: str, key: str, type_name: str, body: bytes, token: int | None = None
    ) -> None:
        """Publish a message.

        With a token it is persistent and mandatory, and `on_settled` follows unless the channel
        is lost first; without one it is neither, and may be lost.
        """
        if (channel := self._open_channel()) is None:
            return
        texts = {
            "content_type": CONTENT_TYPE,
            "message_type": type_name,
            "user_id": self._broker.user,
            "message_id": None if token is None else str(token),
        }
        channel.connection.publish(
            channel.channel_number, exchange, key, texts, body, lasting=token is not None
        )
        self._published += 1
        self._unsettled.append((self._published, token))

    # connection and channel

    def _connect(self) -> None:
        if self._closing:
            return
        self._generation += 1
        self._connection = Connection(
            connection_parameters(self._nodes[0], self._name),
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_lost,
            on_close_callback=self._on_lost,
            custom_ioloop=self._loop,
        )

    def _on_open(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._on_channel_open)

    def _on_channel_open(self, channel: Channel) -> None:
        generation = self._generation
        self._published = self._consumed = 0
        self._unsettled.clear()
        self._returned.clear()
        self._consumers.clear()
        self._receipts = Receipts()
        channel.add_on_close_callback(partial(self._on_channel_lost, generation))
        channel.add_on_cancel_callback(partial(self._on_cancelled, generation))
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(
            partial(self._on_confirm, generation),
            callback=lambda _frame: channel.queue_declare(
                "",
                exclusive=True,
                arguments=subscription(),
                callback=partial(self._on_subscription, channel, generation),
            ),
        )

    def _on_subscription(self, channel: Channel, generation: int, frame: Any) -> None:
        queue = frame.method.queue
        for exchange, key in self._bindings:
            channel.queue_bind(queue, exchange, key)
        channel.basic_consume(
            queue,
            partial(self._on_message, generation, None),
            auto_ack=True,
            callback=lambda _frame: self._on_ready(channel),
        )

    def _on_ready(self, channel: Channel) -> None:
        self._channel = channel
        self._listener.on_connected()

    def _on_consume_ok(self, waiting: set[str], queue: str, _frame: Any) -> None:
        waiting.discard(queue)
        if not waiting:
            self._failures = 0
            self._listener.on_consuming()

    def _on_cancelled(self, generation: int, _frame: Any) -> None:
        """Start afresh: the queue was deleted or has moved, and others may have as well.

        Or a chunk was kept for too long, which RabbitMQ before 4.3 says by closing the channel.
        """
        self.cancels += 1
        text = "a queue was deleted, or a chunk took longer than the broker's consumer time-out"
        self._lose(generation, broker_errors.lost(self._nodes[0], text))

    def _on_channel_lost(self, generation: int, _channel: Channel, error: Exception) -> None:
        if not isinstance(error, exceptions.ChannelClosedByClient):
            self._lose(generation, translated(self._nodes[0], error))

    def _lose(self, generation: int, error: BrokerError) -> None:
        """Give up a connection because of its channel; both come back together."""
        if generation != self._generation or self._connection is None:
            return
        connection, self._connection = self._connection, None
        if connection.is_open:
            connection.close()
        self._lost(error)

    def _on_lost(self, connection: Any, error: BaseException) -> None:
        if self._closing:
            self._loop.stop()
        elif connection is self._connection:
            self._connection = None
            self._lost(translated(self._nodes[0], error))

    def _lost(self, error: BrokerError) -> None:
        self._channel = None
        self._generation += 1  # whatever still arrives from the old channel is stale from here on
        self._failures += 1
        self._nodes.rotate(-1)
        # Each node of a cluster is tried as often as a broker alone.
        rounds = (self._failures - 1) // len(self._nodes)
        ceiling = min(RETRY_SECONDS * 2.0**rounds, LONGEST_RETRY_SECONDS) / len(self._nodes)
        delay = ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spreads reconnections only
        self._loop.call_later(delay, self._connect)
        self._listener.on_lost(error)

    def _open_channel(self, generation: int | None = None) -> Channel | None:
        stale = generation is not None and generation != self._generation
        if stale or self._channel is None or not self._channel.is_open:
            return None
        return self._channel

    # acknowledgements

    def _refuse(self, receipt: tuple[int, int], *, requeue: bool) -> None:
        if (channel := self._open_channel(receipt[0])) is not None:
            self._receipts.refused(receipt[1])
            channel.basic_nack(receipt[1], requeue=requeue)

    def _acknowledge(self) -> None:
        """Acknowledge what can go at once; the rest waits a moment for older deliveries."""
        self._acks_due = False
        self._send_acks(patient=True)
        if self._receipts.waiting and not self._late_acks_due:
            self._late_acks_due = True
            self._loop.call_later(LATE_ACK_SECONDS, self._acknowledge_rest)

    def _acknowledge_rest(self) -> None:
        self._late_acks_due = False
        self._send_acks(patient=False)

    def _send_acks(self, *, patient: bool) -> None:
        if (channel := self._open_channel()) is not None:
            for tag, multiple in self._receipts.due(patient=patient):
                channel.basic_ack(tag, multiple=multiple)

    # what the broker says

    def _on_message(
        self,
        generation: int,
        queue: str | None,
        _channel: Channel,
        method: spec.Basic.Deliver,
        properties: spec.BasicProperties,
        body: bytes,
    ) -> None:
        tag = method.delivery_tag
        if tag is not None and generation == self._generation:
            exchange = method.exchange if queue is None else None
            self._take(Incoming((generation, tag), queue, properties.type, body, exchange))

    def _on_delivered(self, generation: int, queue: str, delivered: Delivered) -> None:
        if generation == self._generation:
            receipt = generation, delivered.tag
            self._take(Incoming(receipt, queue, delivered.type, delivered.body))

    def _take(self, incoming: Incoming) -> None:
        if incoming.queue is not None:
            self._receipts.delivered(incoming.receipt[1])
        self._listener.on_message(incoming)

    def _on_return(
        self, _channel: Channel, _method: Any, properties: spec.BasicProperties, _body: bytes
    ) -> None:
        # The broker confirms a returned message as well, right after it.
        if properties.message_id is not None:
            self._returned.add(int(properties.message_id))

    def _on_confirm(self, generation: int, frame: Any) -> None:
        if generation != self._generation:
            return
        method = frame.method
        taken = isinstance(method, spec.Basic.Ack)
        for token in self._settle(method.delivery_tag, method.multiple):
            returned = token in self._returned
            self._returned.discard(token)
            self._listener.on_settled(token, taken and not returned)

    def _settle(self, tag: int, multiple: bool) -> list[int]:
        tokens = []
        if multiple:
            while self._unsettled and self._unsettled[0][0] <= tag:
                tokens.append(self._unsettled.popleft()[1])
        else:
            entry = next(entry for entry in self._unsettled if entry[0] == tag)
            self._unsettled.remove(entry)
            tokens.append(entry[1])
        return [token for token in tokens if token is not None]


def connection_parameters(broker: Broker, name: str) -> pika.ConnectionParameters:
    """Return pika's form of a broker's address, and turn its log off: we say it in a sentence."""
    logging.getLogger("pika").setLevel(logging.CRITICAL + 1)
    secret = pika.PlainCredentials(broker.user, broker.password)
    return pika.ConnectionParameters(
        host=broker.host,
        port=broker.port,
        virtual_host=broker.vhost,
        credentials=ExternalCredentials() if broker.by_certificate else secret,
        ssl_options=broker.tls and pika.SSLOptions(broker.tls.to_a_server(), broker.host),
        heartbeat=broker.heartbeat,
        socket_timeout=CONNECT_SECONDS,
        stack_timeout=CONNECT_SECONDS,
        client_properties={"connection_name": name},
    )
