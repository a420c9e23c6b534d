"""One queue of the in-memory broker: order, limits, expiry and fair delivery; no network.

Classic and quorum queues differ as RabbitMQ's do: in where a returned message goes, in counting
returns, and in what a full queue refuses.
"""

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from math import inf
from typing import Any, Protocol

from ops.simulation.events import Message

UNLIMITED = 1 << 62


class DeathReason(StrEnum):
    """Why a message left its queue for the dead-letter exchange, in RabbitMQ's words."""

    REJECTED = "rejected"
    EXPIRED = "expired"
    MAX_LENGTH = "maxlen"
    DELIVERY_LIMIT = "delivery_limit"


Origin = tuple[object, int] | None
"""Who published a message, and under which sequence number, where a confirm was asked for."""


class Stored:
    """A message in a queue, with its place and history there."""

    __slots__ = ("delivered", "expires", "message", "origin", "place", "returns")

    def __init__(self, message: Message, place: int, expires: float, origin: Origin) -> None:
        self.message = message
        self.origin = origin
        self.place = place
        self.expires = expires
        self.delivered = False
        self.returns = 0

    def __lt__(self, other: "Stored") -> bool:
        return self.place < other.place


class Receiver(Protocol):
    """Where a consumer's deliveries go: the broker's side of a channel."""

    def deliver(self, stored: Stored, consumer: "Consumer") -> None:
        """Send a message to the consumer."""

    def queue_deleted(self, consumer: "Consumer") -> None:
        """Tell the consumer that its queue is gone."""


class Consumer:
    """A subscription; `credit` is how many more messages it may have unacknowledged."""

    __slots__ = ("credit", "no_ack", "queue", "receiver", "tag")

    def __init__(
        self, receiver: Receiver, tag: str, queue: "MemoryQueue", prefetch: int, *, no_ack: bool
    ) -> None:
        self.receiver = receiver
        self.tag = tag
        self.queue = queue
        self.no_ack = no_ack
        self.credit = UNLIMITED if no_ack or not prefetch else prefetch


Bury = Callable[["MemoryQueue", Message, DeathReason], None]


class MemoryQueue:
    """A queue; `bury` is called for every message that leaves it without being acknowledged."""

    __slots__ = (
        "_back",
        "_bury",
        "_max_length",
        "_mortal",
        "_next_place",
        "_now",
        "_ready",
        "_reject_publish",
        "_ttl",
        "arguments",
        "consumers",
        "delivery_limit",
        "durable",
        "name",
        "owner",
        "quorum",
    )

    def __init__(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        durable: bool,
        owner: object | None,
        bury: Bury,
    ) -> None:
        self.name = name
        self.arguments = dict(arguments)
        self.durable = durable
        self.owner = owner
        self.quorum = arguments.get("x-queue-type") == "quorum"
        self.delivery_limit: int | None = arguments.get("x-delivery-limit")
        self.consumers: deque[Consumer] = deque()
        self._bury = bury
        self._max_length: int = arguments.get("x-max-length", UNLIMITED)
        self._reject_publish = arguments.get("x-overflow") == "reject-publish"
        self._ttl = arguments.get("x-message-ttl", inf) / 1000
        self._ready: deque[Stored] = deque()
        self._back: list[Stored] = []
        self._next_place = 0
        self._now = 0.0
        self._mortal = False

    def __len__(self) -> int:
        return len(self._ready) + len(self._back)

    def put(self, message: Message, origin: Origin = None) -> bool:
        """Take a message and return whether it was taken."""
        # A quorum queue tells its publishers only after it has gone over its limit by one.
        if self._reject_publish and len(self) >= self._max_length + self.quorum:
            return False
        expiration = message.properties.expiration
        ttl = self._ttl if expiration is None else min(self._ttl, int(expiration) / 1000)
        self._mortal = self._mortal or ttl < inf
        self._ready.append(Stored(message, self._next_place, self._now + ttl, origin))
        self._next_place += 1
        self.serve()
        if not self._reject_publish:
            self._drop_head()
        return True

    def take(self) -> Stored | None:
        """Remove the next message, None when there is none."""
        self.expire(self._now)
        if self._back:
            return self._back.pop(0)
        return self._ready.popleft() if self._ready else None

    def give_back(self, messages: Iterable[Stored]) -> None:
        """Take back what was delivered and not acknowledged, then serve the consumers."""
        for stored in messages:
            stored.delivered = True
            stored.returns += 1
            if not self.quorum:
                insort(self._back, stored)  # to its old place: all others before it were taken too
            elif self.delivery_limit is None:
                self._ready.append(stored)
            elif stored.returns > self.delivery_limit:
                self._bury(self, stored.message, DeathReason.DELIVERY_LIMIT)
            else:
                self._back.append(stored)
        self.serve()

    def reject(self, stored: Stored) -> None:
        """Drop a message that a consumer does not want."""
        self._bury(self, stored.message, DeathReason.REJECTED)

    def serve(self) -> None:
        """Deliver while a consumer has credit, in turn."""
        consumers = self.consumers
        while consumers and (self._ready or self._back):
            for _ in range(len(consumers)):
                consumer = consumers[0]
                consumers.rotate(-1)
                if consumer.credit:
                    break
            else:
                return
            stored = self.take()
            if stored is None:
                return
            consumer.credit -= 1
            consumer.receiver.deliver(stored, consumer)

    def expire(self, now: float) -> None:
        """Bury what has expired at the head; behind a younger head, even RabbitMQ lets it wait."""
        self._now = now
        if not self._mortal:
            return
        for messages in (self._back, self._ready):
            while messages and messages[0].expires <= now:
                stored = messages[0]
                del messages[0]
                self._bury(self, stored.message, DeathReason.EXPIRED)

    def purge(self) -> int:
        """Forget all ready messages and return how many they were."""
        count = len(self)
        self._ready.clear()
        self._back.clear()
        return count

    def survive_restart(self) -> None:
        """Lose what a restart of the broker loses; a quorum queue loses nothing."""
        if not self.quorum:
            self._ready = deque(s for s in self._ready if s.message.properties.persistent)
            self._back = [s for s in self._back if s.message.properties.persistent]

    def lose(self, origins: set[Origin]) -> None:
        """Forget messages that were not on the disk yet: their publishers heard no confirm."""
        self._ready = deque(s for s in self._ready if s.origin not in origins)
        self._back = [s for s in self._back if s.origin not in origins]

    def _drop_head(self) -> None:
        while len(self) > self._max_length:
            stored = self.take()
            if stored is not None:
                self._bury(self, stored.message, DeathReason.MAX_LENGTH)
