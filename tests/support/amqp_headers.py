"""Frames of properties that brokers pass on and client libraries fail to decode."""

import struct

from protocol import amqp_frames

_HEADERS, _BASIC = 1 << 13, 60


def _table(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _nested(depth: int) -> bytes:
    table = _table(b"")
    for _ in range(depth):
        table = _table(b"\x01kF" + table)
    return table


UNREADABLE_HEADERS = {
    "a deep nest": _nested(3_000),
    "a time in the far future": _table(b"\x01kT" + struct.pack(">Q", 2**64 - 1)),
    "a time beyond the calendar": _table(b"\x01kT" + struct.pack(">Q", 10**14)),
    "an unknown kind": _table(b"\x01k?"),
    "a length that lies": struct.pack(">I", 1_000) + b"\x01kt\x01",
}
"""The property `headers`, as bytes, by what is wrong with it."""


def header_frame(size: int, headers: bytes) -> bytes:
    """Return the frame of properties of which there are only headers."""
    payload = struct.pack(">HHQH", _BASIC, 0, size, _HEADERS) + headers
    start = amqp_frames.START.pack(amqp_frames.HEADER, 1, len(payload))
    return start + payload + amqp_frames.END
