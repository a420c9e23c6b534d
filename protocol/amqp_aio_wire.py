"""How frames come in, below aio-pika; part of the asyncio adapter.

They are cut out of what the socket has given, and a channel's go to whoever takes them before the
library sees them. Other connections of the process stay as they are.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import aio_pika
import aiormq.connection
from aio_pika.abc import UnderlayConnection
from pamqp.heartbeat import Heartbeat

from protocol import amqp_frames as frames
from protocol.amqp_aio_content import UNREADABLE, content

READ_BYTES = 1 << 18
Inlet = Callable[[int, bytes], bool]
"""Takes a frame of one channel by its kind and payload, or says that it is the library's."""

_ALIVE = (0, 0, Heartbeat())


class Receiver(aiormq.connection.FrameReceiver):
    """Reads as much as there is, and cuts frames out of it."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._buffer = b""
        self._at = 0
        self._taken = False
        self._inlets: dict[int, Inlet] = {}
        self._rests = False
        self._transport: asyncio.ReadTransport = reader._transport  # type: ignore[attr-defined]  # noqa: SLF001

    def divert(self, channel: int, inlet: Inlet) -> None:
        """Offer all further frames of a channel to somebody before the library has them."""
        self._inlets[channel] = inlet

    def rest(self, seconds: float) -> None:
        """Read nothing for so long: what comes meanwhile is read in one piece, which is cheap.

        The next rest begins only after something was read, so that no number of callers stops the
        reading.
        """
        if not self._rests:
            self._rests = True
            self._transport.pause_reading()
            self.loop.call_later(seconds, self._transport.resume_reading)

    async def get_frame(self) -> Any:
        """Return weight, channel and content of the next frame that is the library's.

        Raises
        ------
        StopAsyncIteration
            The connection was closed between two frames.
        AMQPError
            It was lost, or what came is no frame.
        """
        while (found := self._cut()) is None:
            if self._taken:
                # The library takes a connection for dead of which it sees no frame.
                self._taken = False
                return _ALIVE
            try:
                more = await self.reader.read(READ_BYTES)
            except OSError as error:
                text = f"Server connection error: {error!r}"
                raise aiormq.exceptions.AMQPConnectionError(text) from error
            self._rests = False
            rest = self._buffer[self._at :]
            if not more and rest:
                raise aiormq.exceptions.AMQPConnectionError("Server connection was cut off")
            if not more:
                raise StopAsyncIteration
            self._buffer, self._at = rest + more, 0
        return found

    def _cut(self) -> tuple[int, int, Any] | None:
        buffer = self._buffer
        if not self.started and buffer[self._at : self._at + 4] == b"AMQP":
            raise aiormq.exceptions.ProtocolSyntaxError("Unexpected AMQP protocol header")
        while len(buffer) >= (payload := self._at + frames.START.size):
            start = self._at
            kind, channel, size = frames.START.unpack_from(buffer, start)
            end = payload + size + 1
            if len(buffer) < end:
                break
            self.started, self._at = True, end
            inlet = self._inlets.get(channel)
            whole = buffer[end - 1] == frames.END[0]
            if inlet is None or not whole or not inlet(kind, buffer[payload : end - 1]):
                try:
                    return end - start, channel, content(kind, buffer[start:end])
                except UNREADABLE as error:
                    raise aiormq.exceptions.InvalidFrameError(str(error)) from error
            self._taken = True
        return None


class Wire(aiormq.connection.Connection):
    """The library's connection with our receiver, once it is open.

    Attributes
    ----------
    blocked
        Whether the broker reads nothing from it now, for want of memory or disk.
    blockings
        How often that has begun.
    """

    receiver: Receiver
    blocked = False
    blockings = 0

    async def _Connection__handle_connection_blocked(self, frame: Any) -> None:  # noqa: N802
        """Take note of it; the library's own name, of a private method."""
        self.blocked = True
        self.blockings += 1
        await super()._Connection__handle_connection_blocked(frame)  # type: ignore[misc]

    async def _Connection__handle_connection_unblocked(self, frame: Any) -> None:  # noqa: N802
        """Take note that it is over."""
        self.blocked = False
        await super()._Connection__handle_connection_unblocked(frame)  # type: ignore[misc]

    def _Connection__reader(self, receiver: aiormq.connection.FrameReceiver) -> Any:  # noqa: N802
        """Read all further frames; that is the library's own name, of a private method."""
        # Nothing else tells which receiver it shall use but its module's namespace, and that is
        # shared with every other connection of the process.
        self.receiver = Receiver(receiver.reader)
        return super()._Connection__reader(self.receiver)  # type: ignore[misc]


class _Underlay(UnderlayConnection):
    @classmethod
    async def make_connection(cls, url: Any, timeout: Any = None, **kwargs: Any) -> Any:  # noqa: ASYNC109 - theirs
        """Open one; as in the library, but for the class."""
        wire = Wire(url, **kwargs)
        try:
            # Not `wait_for`: before Python 3.12 it loses a cancellation that comes as it ends.
            async with asyncio.timeout(timeout):
                await wire.connect()
            await wire.ready()
        except BaseException:
            await wire.close()
            raise
        return wire


class Connection(aio_pika.Connection):
    """Reads through our receiver.

    It never closes itself when it is collected: that leaves a coroutine that nobody awaits.
    """

    async def connect(self, timeout: Any = None) -> None:  # noqa: ASYNC109 - theirs
        """Connect; `aio_pika.connect` calls it."""
        self.transport = await _Underlay.connect(
            self.url, self._on_connection_close, timeout=timeout, **self.kwargs
        )
        await self._on_connected()

    def __del__(self) -> None:
        """Do nothing; `Link` closes what it has opened."""
