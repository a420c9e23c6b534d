"""What travels between the in-memory broker and its clients, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from protocol.errors import BrokerError

NO_HEADERS: Mapping[str, Any] = MappingProxyType({})


class Properties(NamedTuple):
    """Properties of a message; `expiration` is in milliseconds, as text, as AMQP has it."""

    content_type: str | None = None
    type: str | None = None
    message_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    user_id: str | None = None
    persistent: bool = False
    headers: Mapping[str, Any] = NO_HEADERS


PLAIN = Properties()
PERSISTENT = Properties(persistent=True)


class Message(NamedTuple):
    """What a publisher hands to an exchange."""

    exchange: str
    routing_key: str
    body: bytes
    properties: Properties = PLAIN


class Delivery(NamedTuple):
    """A message for a consumer, or the answer to `get` (then without a consumer tag)."""

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    message: Message

    @property
    def body(self) -> bytes:
        """The body of the message."""
        return self.message.body

    @property
    def delivery_count(self) -> int:
        """How often a quorum queue took this message back."""
        return int(self.message.properties.headers.get("x-delivery-count", 0))


# The rest are dataclasses, because named tuples of equal fields are equal whatever their kind.


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The broker is responsible for the publish of this sequence number."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """A queue refused the publish of this sequence number (basic.nack)."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Returned:
    """A mandatory message reached no queue; its confirm follows."""

    message: Message


@dataclass(frozen=True, slots=True)
class ConsumerCancelled:
    """The consumer's queue was deleted."""

    consumer_tag: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The channel has ended, alone or with its connection; nothing follows."""

    error: BrokerError


Event = Delivery | Confirmed | Rejected | Returned | ConsumerCancelled | Closed


class Declared(NamedTuple):
    """Answer to a queue's declaration: its name, ready messages and consumers."""

    queue: str
    messages: int
    consumers: int
