"""pika's connection with shorter ways for what there is most of: deliveries in, publications out.

Both are whole messages here: pika makes three objects of each, and a packet of each of its frames.
And what pika cannot decode of a delivery ends no connection, or one message would come back, and
end it, until every chunk beside it has been delivered too often.
"""

import contextlib
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import pika
from pika import spec

from protocol import amqp_frames
from protocol.amqp_frames import PERSISTENT, TRANSIENT

_CONTENT = struct.Struct(">HHQ")

_publish_frame = lru_cache(maxsize=64)(amqp_frames.publish)
"""There are few exchanges and keys, and many messages for each."""


class Delivered(NamedTuple):
    """A whole delivery.

    Attributes
    ----------
    length
        The bytes of its frames.
    consumer, tag
        The consumer's and the delivery's tag.
    type, body
        The AMQP property `type`, None where there is none, and the body.
    """

    length: int
    consumer: str
    tag: int
    type: str | None
    body: bytes


Taker = Callable[[Delivered], None]


class Connection(pika.SelectConnection):  # type: ignore[misc]
    """Hands over whole deliveries, and what one turn of the loop has to say in one packet.

    Attributes
    ----------
    takers
        Who is called with the deliveries of a consumer, by its tag; those of others take pika's
        way.
    """

    def _init_connection_state(self) -> None:
        super()._init_connection_state()
        self.takers: dict[str, Taker] = {}
        self._pieces: list[bytes] = []

    def publish(
        self,
        channel: int,
        exchange: str,
        key: str,
        texts: Mapping[str, str | None],
        body: bytes,
        *,
        lasting: bool,
    ) -> None:
        """Publish a message on a channel that is open.

        Parameters
        ----------
        channel
            Its number.
        exchange, key, body
            Of the message.
        texts
            Its properties, as in `amqp_frames`.
        lasting
            Whether it is persistent and mandatory, or neither.
        """
        mode = PERSISTENT if lasting else TRANSIENT
        piece = self.params.frame_max - spec.FRAME_HEADER_SIZE - spec.FRAME_END_SIZE
        content = amqp_frames.content(channel, texts, mode, body, piece)
        method = _publish_frame(channel, exchange, key, mandatory=lasting)
        self._output_marshaled_frames((method, content))

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        if not self._pieces:
            self.ioloop.call_later(0.0, self._write)
        self._pieces += marshaled_frames

    def _write(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces:  # none where the connection was lost in the same turn
            super()._output_marshaled_frames([b"".join(pieces)])

    def _read_frame(self) -> Any:
        try:
            found = first_delivery(self._frame_buffer)
        except CutOffError:
            return 0, None  # as pika says it
        if found is not None and found.consumer in self.takers:
            return found.length, found
        return super()._read_frame()

    def _process_frame(self, frame_value: Any) -> None:
        if isinstance(frame_value, Delivered):
            self.takers[frame_value.consumer](frame_value)
        else:
            super()._process_frame(frame_value)


class CutOffError(Exception):
    """The rest of a delivery has not been received yet."""


def first_delivery(stream: bytes) -> Delivered | None:
    """Return the delivery that received bytes begin with, None where they begin otherwise.

    Raises
    ------
    CutOffError
        More is to come.
    """
    if not stream.startswith(amqp_frames.DELIVER, amqp_frames.START.size):
        return None
    view = memoryview(stream)
    try:
        method, at = _payload(view, 0, amqp_frames.METHOD)
        consumer, tag, _ = amqp_frames.read_delivery(bytes(method))
        header, at = _payload(view, at, amqp_frames.HEADER)
        _, _, missing = _CONTENT.unpack_from(header)
        pieces = []
        while missing > 0:
            piece, at = _payload(view, at, amqp_frames.BODY)
            pieces.append(piece)
            missing -= len(piece)
    except (struct.error, IndexError, ValueError):
        return None
    return Delivered(at, consumer, tag, _type(bytes(header)), b"".join(pieces))


def _payload(stream: memoryview, at: int, kind: int) -> tuple[memoryview, int]:
    """Return what the frame at a place holds, and where the next one begins."""
    start = at + amqp_frames.START.size
    if len(stream) < start:
        raise CutOffError
    found, _, size = amqp_frames.START.unpack_from(stream, at)
    end = start + size
    if found != kind:
        raise ValueError("no frame of this kind")
    if len(stream) <= end:
        raise CutOffError
    if stream[end] != spec.FRAME_END:
        raise ValueError("no end of a frame")
    return stream[start:end], end + 1


def _type(header: bytes) -> str | None:
    """Return the property `type`, None where there is none or the properties are unreadable."""
    if (found := amqp_frames.read_header(header)) is not None:
        return found[1].get("message_type")
    properties = spec.BasicProperties()
    with contextlib.suppress(Exception):  # pika raises whatever comes of tables that lie
        properties.decode(header, _CONTENT.size)
        return properties.type if isinstance(properties.type, str) else None
    return None
