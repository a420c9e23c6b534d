"""What the frames of a broker hold, whatever others have put in; part of the asyncio adapter."""

import struct
from typing import Any

import pamqp.commands
import pamqp.decode
import pamqp.exceptions
import pamqp.frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from protocol import amqp_frames as frames

UNREADABLE = (
    pamqp.exceptions.PAMQPException, struct.error, ValueError, OverflowError, OSError, TypeError,
    LookupError, RecursionError,
)  # fmt: skip
"""What the codec raises of what it cannot decode."""

_HEADER = struct.Struct(">HHQ")


def content(kind: int, frame: bytes) -> Any:
    """Return what a frame holds, whatever texts and properties a broker passes on in it.

    A routing key that is no UTF-8, or properties that the library cannot decode, would end the
    connection that is to receive the message, over and over: one message would stop a service.
    """
    payload = frame[frames.START.size : -1]
    if kind == frames.BODY and frame[-1:] == frames.END:
        return ContentBody(payload)
    try:
        return pamqp.frame.unmarshal(frame)[2]
    except UNREADABLE:
        if frame[-1:] != frames.END or kind not in (frames.METHOD, frames.HEADER):
            raise
    return _foreign_method(payload) if kind == frames.METHOD else _foreign_header(payload)


def properties(payload: bytes) -> tuple[int, dict[str, Any]]:
    """Return how long the body is that follows a header, and the properties in it."""
    if (found := frames.read_header(payload)) is not None:
        return found
    header = ContentHeader()
    try:
        header.unmarshal(payload)
    except UNREADABLE:
        header = _foreign_header(payload)
    return header.body_size, dict(header.properties)


def _foreign_header(payload: bytes) -> ContentHeader:
    """Return a header without properties: a message without a type is refused, and counted."""
    _, weight, size = _HEADER.unpack_from(payload)
    return ContentHeader(weight, size)


def _foreign_method(payload: bytes) -> Any:
    """Return a method whose texts may be anything."""
    method = pamqp.commands.INDEX_MAPPING[int.from_bytes(payload[:4], "big")]()
    rest = payload[4:]
    for name in method.__slots__:
        match method.amqp_type(name):
            case "shortstr":
                used = 1 + rest[0]
                value: Any = rest[1:used].decode("utf-8", errors="replace")
            case "bit":  # no method that a broker sends has both texts and a second bit
                used, value = 1, bool(rest[0] & 1)
            case other:
                used, value = pamqp.decode.by_type(rest, other)
        setattr(method, name, value)
        rest = rest[used:]
    return method
