"""Messages that nobody honest sends, each with the reason for which it must be refused."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pika
from pika.adapters.blocking_connection import BlockingChannel

from protocol.codec import pack
from protocol.messages import Message, encode
from protocol.settings import Broker

HEADERS_OF_GIANTS = {
    "an array": b"\xdd\xff\xff\xff\xff",
    "a map": b"\xdf\xff\xff\xff\xff",
    "a text": b"\xdb\xff\xff\xff\xff",
    "bytes": b"\xc6\xff\xff\xff\xff",
    "an extension": b"\xc9\xff\xff\xff\xff\x01",
}


@dataclass(frozen=True)
class Hostile:
    """One message, what is wrong with it, and the reason under which it must be counted."""

    what: str
    type: str | None
    body: bytes
    reason: str
    reply_to: str | None = None
    correlation_id: str | None = None


def hostile(honest: Message) -> Iterator[Hostile]:
    """Yield what can be wrong with any message, made from an honest one."""
    name, body, fields = honest.type, encode(honest), honest.model_dump(mode="python")

    def bad(what: str, content: bytes, reason: str = "malformed") -> Hostile:
        return Hostile(what, name, content, reason)

    yield bad("nothing", b"")
    yield bad("truncated", body[:-1])
    yield bad("cut in the middle", body[: len(body) // 2])
    yield bad("followed by more", body + b"\x00")
    yield bad("no msgpack", b"\xc1" * 40)
    yield bad("a pickle", pickle.dumps(fields))
    yield bad("arrays in arrays", b"\x91" * 50_000)
    yield bad("maps in maps", b"\x81\xa1a" * 16_000)
    for what, header in HEADERS_OF_GIANTS.items():
        yield bad(f"{what} of 4 GiB", header + body)
    yield bad("a key twice", b"\x82" + 2 * (pack("run") + pack("a")))
    yield bad("an unknown extension", b"\x81" + pack("run") + b"\xd4\x7f\x00")
    yield bad("oversized", bytes(type(honest).limit + 1), "oversized")
    yield bad("no map", pack([1, 2, 3]), "invalid")
    yield bad("an unknown field", pack(fields | {"import": "os"}), "invalid")
    yield bad("a missing field", pack(dict([*fields.items()][1:])), "invalid")
    for field in fields:
        yield bad(f"{field} is a map", pack(fields | {field: {"a": [None]}}), "invalid")
    yield Hostile("without a type", None, body, "unknown_type")
    yield Hostile("an unknown type", "sonnet.v1", body, "unknown_type")
    yield Hostile("a later version", name.replace(".v1", ".v2"), body, "unknown_type")


def changed(honest: Message, reason: str, what: str, **fields: Any) -> Hostile:
    """Return an honest message with some fields exchanged, whatever the rules say of them."""
    plain = honest.model_dump(mode="python") | fields
    return Hostile(what, honest.type, pack(plain), reason)


def send(broker: Broker, exchange: str, key: str, messages: list[Hostile]) -> None:
    """Publish all on one connection, which must outlive them."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for message in messages:
            publish(channel, exchange, key, message)
        connection.process_data_events(0)
        assert connection.is_open
        assert channel.is_open


def publish(channel: BlockingChannel, exchange: str, key: str, message: Hostile) -> None:
    properties = pika.BasicProperties(
        type=message.type,
        delivery_mode=2,
        reply_to=message.reply_to,
        correlation_id=message.correlation_id,
    )
    channel.basic_publish(exchange, key, message.body, properties, mandatory=True)


NOT_UTF8 = cast("str", b"\xff\xfe\xc3")
"""A text as AMQP allows it and nobody sends it: pika takes bytes as they are."""
