"""The broker's side of one channel: what it was sent, what it has not acknowledged, its consumers.

Every method is one AMQP method arriving at the broker; an error it raises closes the channel.
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from ops.simulation.events import (
    Confirmed,
    ConsumerCancelled,
    Declared,
    Delivery,
    Event,
    Message,
    Rejected,
    Returned,
)
from ops.simulation.queue import Consumer, MemoryQueue, Stored
from ops.simulation.server import Server
from protocol.errors import BrokerRefusedError
from protocol.topology import DIRECT_REPLY

Send = Callable[[Event], None]
Duplicate = Callable[[], bool]


class Session:
    """One channel as the broker sees it.

    Parameters
    ----------
    server
        What the broker stores.
    owner, user
        The connection, which owns exclusive queues, and whose it is.
    send, confirm
        Where events and confirms for the client go.
    replies
        The sessions that wait for direct replies, by address; shared by all of a broker.
    duplicate
        Whether a publish shall arrive twice: a fault that its publisher's retry would cause.
    """

    def __init__(
        self,
        server: Server,
        owner: object,
        user: str,
        *,
        send: Send,
        confirm: Send,
        replies: dict[str, "Session"],
        duplicate: Duplicate,
    ) -> None:
        self._server = server
        self._owner = owner
        self._user = user
        self._send = send
        self._confirm = confirm
        self._replies = replies
        self._duplicate = duplicate
        self._tags = count(1)
        self._unacked: dict[int, tuple[Stored, MemoryQueue, Consumer | None]] = {}
        self._consumers: dict[str, Consumer] = {}
        self._reply_address = ""
        self._reply_consumer = ""

    # Publishing

    def publish(self, message: Message, sequence: int, *, mandatory: bool) -> None:
        """Route a message; a sequence number above 0 asks for a confirm."""
        properties = message.properties
        if properties.user_id not in (None, self._user):
            raise BrokerRefusedError("PRECONDITION_FAILED - user_id is another user's")
        if properties.reply_to == DIRECT_REPLY:
            if not self._reply_address:
                raise BrokerRefusedError("PRECONDITION_FAILED - fast reply consumer does not exist")
            message = message._replace(properties=properties._replace(reply_to=self._reply_address))
        queues = self._server.route(message.exchange, message.routing_key)
        if not queues:
            self._unroutable(message, sequence, mandatory=mandatory)
            return
        origin = (self, sequence) if sequence else None
        taken = [queue.put(message, origin) for queue in queues]
        if self._duplicate():
            for queue in queues:
                queue.put(message)
        if sequence:
            self._confirm(Confirmed(sequence) if all(taken) else Rejected(sequence))

    def _unroutable(self, message: Message, sequence: int, *, mandatory: bool) -> None:
        if not message.exchange and message.routing_key.startswith(f"{DIRECT_REPLY}."):
            receiver = self._replies.get(message.routing_key)
            if receiver is not None:
                receiver.reply(message)
        # A mandatory direct reply is delivered and returned as well: no queue took it.
        if mandatory:
            self._send(Returned(message))
        if sequence:
            self._send(Confirmed(sequence))

    # Consuming

    def consume(self, queue: str, tag: str, prefetch: int, *, no_ack: bool) -> None:
        """Start a consumer; on `amq.rabbitmq.reply-to` it receives direct replies."""
        if queue == DIRECT_REPLY:
            if not no_ack:
                raise BrokerRefusedError("PRECONDITION_FAILED - reply consumer cannot acknowledge")
            self._reply_address, self._reply_consumer = f"{DIRECT_REPLY}.{tag}", tag
            self._replies[self._reply_address] = self
            return
        target = self._server.queue(queue, self._owner)
        consumer = self._consumers[tag] = Consumer(self, tag, target, prefetch, no_ack=no_ack)
        target.consumers.append(consumer)
        target.serve()

    def cancel(self, tag: str) -> None:
        """End a consumer; what it has not acknowledged stays with the channel."""
        consumer = self._consumers.pop(tag, None)
        if consumer is not None:
            consumer.queue.consumers.remove(consumer)

    def get(self, queue: str, *, no_ack: bool) -> Delivery | None:
        """Take one message, None when there is none."""
        source = self._server.queue(queue, self._owner)
        stored = source.take()
        return None if stored is None else self._delivery(stored, source, None, no_ack=no_ack)

    def deliver(self, stored: Stored, consumer: Consumer) -> None:
        """Send a message to one of this channel's consumers."""
        self._send(self._delivery(stored, consumer.queue, consumer, no_ack=consumer.no_ack))

    def queue_deleted(self, consumer: Consumer) -> None:
        """Tell the client that a consumer's queue is gone."""
        del self._consumers[consumer.tag]
        self._send(ConsumerCancelled(consumer.tag))

    def reply(self, message: Message) -> None:
        """Send a direct reply."""
        self._send(Delivery(self._reply_consumer, next(self._tags), False, message))

    def _delivery(
        self, stored: Stored, queue: MemoryQueue, consumer: Consumer | None, *, no_ack: bool
    ) -> Delivery:
        tag = next(self._tags)
        if not no_ack:
            self._unacked[tag] = (stored, queue, consumer)
        message = stored.message
        if queue.quorum and stored.returns:
            headers = {**message.properties.headers, "x-delivery-count": stored.returns}
            message = message._replace(properties=message.properties._replace(headers=headers))
        return Delivery(consumer.tag if consumer else "", tag, stored.delivered, message)

    # Settling

    def ack(self, tag: int, *, multiple: bool) -> None:
        """Forget a delivery, or all up to it."""
        for _, queue, consumer in self._settle(tag, multiple=multiple):
            if consumer is not None:
                consumer.credit += 1
                queue.serve()

    def nack(self, tag: int, *, multiple: bool, requeue: bool) -> None:
        """Give a delivery, or all up to it, back to the queue, or have it dead-lettered."""
        settled = self._settle(tag, multiple=multiple)
        for _, _, consumer in settled:
            if consumer is not None:
                consumer.credit += 1
        self._give_back(settled, requeue=requeue)

    def _settle(
        self, tag: int, *, multiple: bool
    ) -> list[tuple[Stored, MemoryQueue, Consumer | None]]:
        if not multiple:
            tags = [tag] if tag in self._unacked else []
        elif tag:
            tags = [one for one in self._unacked if one <= tag]
        else:
            tags = [*self._unacked]
        if not tags and tag:
            raise BrokerRefusedError(f"PRECONDITION_FAILED - unknown delivery tag {tag}")
        return [self._unacked.pop(one) for one in tags]

    def _give_back(
        self, settled: list[tuple[Stored, MemoryQueue, Consumer | None]], *, requeue: bool
    ) -> None:
        by_queue: dict[MemoryQueue, list[Stored]] = {}
        for stored, queue, _ in settled:
            by_queue.setdefault(queue, []).append(stored)
        for queue, messages in by_queue.items():
            if requeue:
                queue.give_back(messages)
                continue
            for stored in messages:
                queue.reject(stored)
            queue.serve()

    # Declaring

    def declare_queue(
        self, name: str, arguments: Mapping[str, Any], *, durable: bool, exclusive: bool
    ) -> Declared:
        """Make sure that a queue exists."""
        queue = self._server.declare_queue(
            name, arguments, self._owner, durable=durable, lock=exclusive
        )
        return Declared(queue.name, len(queue), len(queue.consumers))

    def inspect_queue(self, name: str) -> Declared:
        """Return the state of a queue that must exist (a passive declaration)."""
        queue = self._server.queue(name, self._owner)
        return Declared(queue.name, len(queue), len(queue.consumers))

    def declare_exchange(self, name: str, type_: str) -> None:
        """Make sure that an exchange exists."""
        self._server.declare_exchange(name, type_)

    def bind(self, queue: str, exchange: str, key: str) -> None:
        """Bind a queue to an exchange."""
        self._server.exchange(exchange).bind(self._server.queue(queue, self._owner), key)

    def unbind(self, queue: str, exchange: str, key: str) -> None:
        """Undo a binding."""
        self._server.exchange(exchange).unbind(self._server.queue(queue, self._owner), key)

    def purge(self, queue: str) -> int:
        """Delete the ready messages of a queue and return how many they were."""
        return self._server.queue(queue, self._owner).purge()

    def delete_queue(self, queue: str) -> int:
        """Delete a queue, if it exists, and return how many messages were ready in it."""
        if queue not in self._server.queues:
            return 0
        return self._server.delete_queue(self._server.queue(queue, self._owner))

    def delete_exchange(self, exchange: str) -> None:
        """Delete an exchange, if it exists."""
        self._server.exchanges.pop(exchange, None)

    # The end

    def end(self) -> None:
        """End the channel: consumers go, and what is unacknowledged returns to its queue."""
        for tag in [*self._consumers]:
            self.cancel(tag)
        self._replies.pop(self._reply_address, None)
        unacked = [*self._unacked.values()]
        self._unacked.clear()
        self._give_back(unacked, requeue=True)
