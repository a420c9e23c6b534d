"""The frames of messages as bytes, for both adapters.

Those of published ones are written here; of received ones, what brokers usually send is read here,
and what is unusual or broken is left to whoever reads it.
"""

import struct
from collections.abc import Mapping
from typing import Any

METHOD, HEADER, BODY = 1, 2, 3
PERSISTENT, TRANSIENT = 2, 1
"""Delivery modes."""

START = struct.Struct(">BHI")
"""How a frame begins: its type, its channel, and the size of what follows."""

END = b"\xce"
_BASIC, _PUBLISH = 60, 40
_METHODS = struct.Struct(">HH")
RETURN, DELIVER, ACK, NACK = (_METHODS.pack(_BASIC, number) for number in (50, 60, 80, 120))
"""How the payloads of these methods begin."""

_DELIVERED = struct.Struct(">QB")
_SHORT = 255
_CONTENT = struct.Struct(">HHQH")
_DELIVERY_MODE = 12
_TEXTS = {
    15: "content_type", 10: "correlation_id", 9: "reply_to", 8: "expiration",
    7: "message_id", 5: "message_type", 4: "user_id", 3: "app_id",
}  # fmt: skip
"""Properties that are texts, by the bit that says they are there; they stand in this order."""

_KNOWN = sum(1 << bit for bit in (_DELIVERY_MODE, *_TEXTS))


def publish(channel: int, exchange: str, key: str, *, mandatory: bool) -> bytes:
    """Return the frame of a `basic.publish`.

    Raises
    ------
    ValueError
        A name has more than 255 bytes.
    """
    fields = struct.pack(">HHH", _BASIC, _PUBLISH, 0) + _text(exchange) + _text(key)
    return _frame(METHOD, channel, fields + bytes([mandatory]))


def content(
    channel: int, texts: Mapping[str, str | None], delivery_mode: int, body: bytes, piece: int
) -> bytes:
    """Return the frames of a message's properties and body.

    Parameters
    ----------
    channel
        Its number.
    texts, delivery_mode
        The properties.
    body, piece
        The body, and how many bytes of it a frame may hold.

    Raises
    ------
    ValueError
        A property has more than 255 bytes.
    """
    flags, fields = 1 << _DELIVERY_MODE, []
    for bit, name in _TEXTS.items():
        if (text := texts.get(name)) is not None:
            flags |= 1 << bit
            fields.append(_text(text))
        if name == "content_type":
            fields.append(bytes([delivery_mode]))
    header = _CONTENT.pack(_BASIC, 0, len(body), flags) + b"".join(fields)
    parts = (body[at : at + piece] for at in range(0, len(body), piece))
    return _frame(HEADER, channel, header) + b"".join(_frame(BODY, channel, p) for p in parts)


def read_delivery(payload: bytes) -> tuple[str, int, str]:
    """Return consumer tag, delivery tag and routing key of a `basic.deliver`.

    Raises
    ------
    IndexError, struct.error
        It is cut off.
    """
    consumer, at = _read_text(payload, len(DELIVER))
    tag, _ = _DELIVERED.unpack_from(payload, at)
    _, at = _read_text(payload, at + _DELIVERED.size)
    key, _ = _read_text(payload, at)
    # Whatever a broker passes on: a key that is no text must not end the connection.
    return consumer.decode(errors="replace"), tag, key.decode(errors="replace")


def read_confirm(payload: bytes) -> tuple[int, bool]:
    """Return the tag of a `basic.ack` or `basic.nack`, and whether all before it are meant too.

    Raises
    ------
    struct.error
        It is cut off.
    """
    tag, bits = _DELIVERED.unpack_from(payload, len(ACK))
    return tag, bits & 1 == 1


def read_header(payload: bytes) -> tuple[int, dict[str, Any]] | None:
    """Return size and properties of a message; None where it has other properties than ours."""
    if len(payload) < _CONTENT.size:
        return None
    _, _, size, flags = _CONTENT.unpack_from(payload)
    if flags & ~_KNOWN:
        return None
    at = _CONTENT.size
    found: dict[str, Any] = {}
    try:
        for bit, name in _TEXTS.items():
            if flags >> bit & 1:
                text, at = _read_text(payload, at)
                found[name] = text.decode()
            if name == "content_type" and flags >> _DELIVERY_MODE & 1:
                found["delivery_mode"] = payload[at]
                at += 1
    except (IndexError, UnicodeDecodeError):
        return None
    return (size, found) if at == len(payload) else None


def _read_text(payload: bytes, at: int) -> tuple[bytes, int]:
    """Return the bytes of a text, and where it ends."""
    end = at + 1 + payload[at]
    return payload[at + 1 : end], end


def _text(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > _SHORT:
        raise ValueError(f"'{text[:40]}…' has {len(encoded)} bytes, allowed are {_SHORT}")
    return bytes([len(encoded)]) + encoded


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return START.pack(kind, channel, len(payload)) + payload + END
