"""A channel's messages, both ways, past the library's own; part of the asyncio adapter.

It makes several tasks, futures and small writes for each message. Here deliveries go straight to
their takers, confirms to whoever waits for them, and messages that are published in one turn of the
loop are one write.
"""

import asyncio
import itertools
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiormq
from aiormq.abc import ChannelFrame
from pamqp.commands import Basic

from protocol import amqp_frames as frames
from protocol.amqp_aio_content import properties

FULL_SECONDS = 0.001
"""Until the next look where the connection's writer is behind."""

MAX_METHODS = 100

Taker = Callable[[int, str, dict[str, Any], bytes], None]
"""Takes a delivery's tag, routing key, properties by their names in pamqp, and body."""


class Stream:
    """A channel's messages.

    Parameters
    ----------
    channel
        A channel of aiormq, open, on a `Wire`; nothing else may publish on it.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._piece = channel.max_content_size - 1
        self._pieces: list[bytes] = []
        self._methods: dict[tuple[str, str, bool], bytes] = {}
        self._published = 0
        # By their tags, in that order: whether a queue has taken the message.
        self._confirms: dict[int, asyncio.Future[bool]] = {}
        self._takers: dict[str, Taker] = {}
        self._coming: _Coming | None = None
        self._receiver = channel.connection.receiver
        self._receiver.divert(channel.number, self._take)

    def publish(
        self,
        body: bytes,
        exchange: str,
        key: str,
        *,
        mandatory: bool,
        mode: int,
        **texts: str | None,
    ) -> asyncio.Future[Any]:
        """Publish, and return what tells of the broker's confirm or, without, of the socket.

        Parameters
        ----------
        body, exchange, key, mandatory, mode, texts
            The message, and its properties by their names in pamqp.

        Returns
        -------
        asyncio.Future
            On a channel with confirms, false where the message was returned, `DeliveryError` where
            it was refused.

        Raises
        ------
        ChannelInvalidStateError
            The channel is closed.
        """
        channel = self._channel
        if channel.is_closed:
            raise aiormq.exceptions.ChannelInvalidStateError("the channel is closed")
        place = (exchange, key, mandatory)
        if (method := self._methods.get(place)) is None:
            method = frames.publish(channel.number, exchange, key, mandatory=mandatory)
            if len(self._methods) < MAX_METHODS:
                self._methods[place] = method
        if not channel.publisher_confirms:
            piece = method + frames.content(channel.number, texts, mode, body, self._piece)
            return self._loop.create_task(self._write_out(piece))
        tag = self._published + 1
        if mandatory:  # by which what is returned is found
            texts["message_id"] = str(tag)
        piece = method + frames.content(channel.number, texts, mode, body, self._piece)
        self._published = tag  # only now: the broker counts what it gets
        confirm = self._confirms[tag] = self._loop.create_future()
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(piece)
        return confirm

    async def consume(self, queue: str, taker: Taker, *, no_ack: bool) -> None:
        """Have a queue's messages handed to a function, one after the other."""
        tag = uuid.uuid4().hex
        self._takers[tag] = taker
        await self._channel.basic_consume(queue, _never, no_ack=no_ack, consumer_tag=tag)

    def create_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that ends with the channel; what it raises is logged."""
        task = self._channel.create_task(work)
        task.add_done_callback(self._channel._on_consumer_done)  # noqa: SLF001

    def rest(self, seconds: float) -> None:
        """Read nothing from the connection for so long."""
        self._receiver.rest(seconds)

    def close(self, error: BaseException | None) -> None:
        """Tell those who wait for confirms that none will come."""
        reason = error or aiormq.exceptions.ChannelInvalidStateError("the channel is closed")
        confirms, self._confirms = self._confirms, {}
        for confirm in confirms.values():
            if not confirm.done():
                confirm.set_exception(reason)

    async def _write_out(self, piece: bytes) -> None:
        written = self._channel.create_future()
        await self._channel.write_queue.put(ChannelFrame(piece, False, written))
        await written

    def _flush(self) -> None:
        """Hand the connection's writer all that this turn of the loop has published."""
        try:
            self._channel.write_queue.put_nowait(ChannelFrame(b"".join(self._pieces), False))
        except asyncio.QueueFull:
            if not self._channel.is_closed:
                self._loop.call_later(FULL_SECONDS, self._flush)
        else:
            self._pieces.clear()

    def _take(self, kind: int, payload: bytes) -> bool:
        """Take a frame if it is ours."""
        if self._coming is not None:
            if self._coming.is_complete_with(kind, payload):
                whole, self._coming = self._coming, None
                whole.taker(whole.tag, whole.key, whole.properties or {}, b"".join(whole.pieces))
            return True
        if kind != frames.METHOD:
            return False
        method = payload[: len(frames.DELIVER)]
        if method == frames.DELIVER:
            consumer, tag, key = frames.read_delivery(payload)
            if (taker := self._takers.get(consumer)) is None:
                return False
            self._coming = _Coming(taker, tag, key)
        elif method == frames.RETURN:
            self._coming = _Coming(self._on_returned)
        elif method in (frames.ACK, frames.NACK):
            self._on_confirmed(*frames.read_confirm(payload), taken=method == frames.ACK)
        else:
            return False
        return True

    def _on_confirmed(self, last: int, multiple: bool, *, taken: bool) -> None:
        confirms = self._confirms
        tags = [last]
        if multiple:
            tags = list(itertools.takewhile(lambda tag: tag <= last, confirms))
        for tag in tags:
            confirm = confirms.pop(tag, None)
            if confirm is None or confirm.done():
                continue
            if taken:
                confirm.set_result(True)
            else:
                confirm.set_exception(aiormq.exceptions.DeliveryError(None, Basic.Nack(tag)))

    def _on_returned(self, _: int, __: str, found: dict[str, Any], ___: bytes) -> None:
        """Take note of a message that no queue takes; its confirm comes next."""
        tag = found.get("message_id") or ""
        confirm = self._confirms.pop(int(tag), None) if tag.isdecimal() else None
        if confirm is not None and not confirm.done():
            confirm.set_result(False)


@dataclass(slots=True)
class _Coming:
    """A message of which the first frame has come."""

    taker: Taker
    tag: int = 0
    key: str = ""
    properties: dict[str, Any] | None = None
    size: int = 0
    pieces: list[bytes] = field(default_factory=list)

    def is_complete_with(self, kind: int, payload: bytes) -> bool:
        """Take in the next frame, and say whether that was the last one."""
        if kind != (frames.HEADER if self.properties is None else frames.BODY):
            raise aiormq.exceptions.InvalidFrameError("a message is mixed up with something else")
        if self.properties is None:
            self.size, self.properties = properties(payload)
        else:
            self.pieces.append(payload)
            self.size -= len(payload)
        return self.size <= 0


async def _never(_: object) -> None:
    """Stand for a taker in the library's table of consumers."""
    raise AssertionError
