"""What the in-memory broker stores: exchanges, queues, dead letters; it knows no network."""

from collections.abc import Mapping
from itertools import count
from typing import Any

from ops.simulation.events import Message
from ops.simulation.queue import DeathReason, MemoryQueue
from ops.simulation.routing import MATCHERS, MemoryExchange
from protocol.errors import BrokerRefusedError, LockedError, TopologyMissingError


class Server:
    """All exchanges and queues of one virtual host."""

    def __init__(self) -> None:
        self.now = 0.0
        self.exchanges: dict[str, MemoryExchange] = {}
        self.queues: dict[str, MemoryQueue] = {}
        self._names = count(1)
        self._held: list[tuple[MemoryQueue, Message]] = []
        self.wipe()

    def wipe(self) -> None:
        """Forget everything."""
        self.queues.clear()
        self._held.clear()
        self.exchanges = {
            name: MemoryExchange(name, name.removeprefix("amq."))
            for name in ("amq.direct", "amq.topic", "amq.fanout")
        }

    def restart(self) -> None:
        """Lose what does not survive a restart of the broker."""
        for queue in [*self.queues.values()]:
            if queue.durable and queue.owner is None:
                queue.survive_restart()
            else:
                self.delete_queue(queue)

    def advance(self, now: float) -> None:
        """Let time pass until `now`, in seconds: messages expire, held dead letters try again."""
        self.now = now
        # Burying only puts messages into other queues.
        for queue in self.queues.values():
            queue.expire(now)
        held, self._held = self._held, []
        for queue, message in held:
            self._send_dead_letter(queue, message)

    def route(self, exchange: str, key: str) -> tuple[MemoryQueue, ...]:
        """Return the queues that a message reaches.

        Raises
        ------
        TopologyMissingError
            There is no such exchange.
        """
        if exchange:
            return self.exchange(exchange).route(key)
        queue = self.queues.get(key)
        return () if queue is None else (queue,)

    def exchange(self, name: str) -> MemoryExchange:
        """Return an exchange.

        Raises
        ------
        TopologyMissingError
            There is none of this name.
        """
        try:
            return self.exchanges[name]
        except KeyError:
            raise TopologyMissingError(f"NOT_FOUND - no exchange '{name}'") from None

    def queue(self, name: str, owner: object) -> MemoryQueue:
        """Return a queue that a connection may use.

        Raises
        ------
        TopologyMissingError
            There is none of this name.
        LockedError
            It belongs to another connection.
        """
        try:
            queue = self.queues[name]
        except KeyError:
            raise TopologyMissingError(f"NOT_FOUND - no queue '{name}'") from None
        if queue.owner not in (None, owner):
            raise LockedError(f"RESOURCE_LOCKED - queue '{name}' is another connection's")
        return queue

    def declare_exchange(self, name: str, type_: str) -> None:
        """Make sure that an exchange of this type exists.

        Raises
        ------
        BrokerRefusedError
            It has another type.
        """
        if type_ not in MATCHERS:
            raise BrokerRefusedError(f"COMMAND_INVALID - unknown exchange type '{type_}'")
        exchange = self.exchanges.setdefault(name, MemoryExchange(name, type_))
        if exchange.type != type_:
            raise BrokerRefusedError(f"PRECONDITION_FAILED - exchange '{name}' is {exchange.type}")

    def declare_queue(
        self, name: str, arguments: Mapping[str, Any], owner: object, *, durable: bool, lock: bool
    ) -> MemoryQueue:
        """Make sure that a queue exists; `lock` makes it exclusive to the owner, a connection.

        Raises
        ------
        LockedError
            It belongs to another connection.
        BrokerRefusedError
            It exists with other properties.
        """
        name = name or f"amq.gen-{next(self._names)}"
        if name not in self.queues:
            self.queues[name] = MemoryQueue(
                name, arguments, durable=durable, owner=owner if lock else None, bury=self.bury
            )
            self.queues[name].expire(self.now)
        queue = self.queue(name, owner)
        same = (queue.durable, queue.owner is not None, queue.arguments)
        if same != (durable, lock, dict(arguments)):
            raise BrokerRefusedError(f"PRECONDITION_FAILED - queue '{name}' has other arguments")
        return queue

    def delete_queue(self, queue: MemoryQueue) -> int:
        """Remove a queue with its bindings; return how many messages were lost with it."""
        del self.queues[queue.name]
        for exchange in self.exchanges.values():
            exchange.unbind(queue)
        for consumer in queue.consumers:
            consumer.receiver.queue_deleted(consumer)
        queue.consumers.clear()
        return queue.purge()

    def bury(self, queue: MemoryQueue, message: Message, reason: DeathReason) -> None:
        """Send a message to its queue's dead-letter exchange, or drop it where there is none."""
        if self.queues.get(queue.name) is queue and "x-dead-letter-exchange" in queue.arguments:
            self._send_dead_letter(queue, _dead_letter(queue, message, reason))

    def _send_dead_letter(self, queue: MemoryQueue, letter: Message) -> None:
        known = not letter.exchange or letter.exchange in self.exchanges
        targets = self.route(letter.exchange, letter.routing_key) if known else ()
        taken = [target.put(letter) for target in targets]
        if queue.arguments.get("x-dead-letter-strategy") == "at-least-once" and not any(taken):
            self._held.append((queue, letter))


def _dead_letter(queue: MemoryQueue, message: Message, reason: DeathReason) -> Message:
    """Return the message as it arrives at the dead-letter exchange, with RabbitMQ's headers."""
    headers = dict(message.properties.headers)
    deaths = list(headers.get("x-death", ()))
    same = [d for d in deaths if (d["queue"], d["reason"]) == (queue.name, reason)]
    death = {
        "queue": queue.name,
        "reason": str(reason),
        "exchange": message.exchange,
        "routing-keys": [message.routing_key],
        "count": same[0]["count"] + 1 if same else 1,
    }
    headers["x-death"] = [death, *(d for d in deaths if d not in same)]
    headers.setdefault("x-first-death-queue", queue.name)
    headers.setdefault("x-first-death-reason", str(reason))
    headers.setdefault("x-first-death-exchange", message.exchange)
    return Message(
        queue.arguments["x-dead-letter-exchange"],
        queue.arguments.get("x-dead-letter-routing-key", message.routing_key),
        message.body,
        message.properties._replace(headers=headers, expiration=None),
    )
