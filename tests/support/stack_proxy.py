"""A TCP proxy in front of a broker: it breaks, silences, slows or holds what passes through it.

It knows where AMQP frames begin, so that a test can stop a program at one step of its work.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from protocol.settings import Broker

BYTES = 1 << 16
GREETING = len(b"AMQP\x00\x00\x09\x01")
HEADER, FRAME_END, METHOD = struct.Struct(">BHI"), 1, 1
STEP_SECONDS = 40.0


@dataclass(frozen=True)
class Frame:
    """Frames of a method, from a client or from the broker, that contain something."""

    from_client: bool
    method: tuple[int, int]
    contains: bytes = b""

    def fits(self, frame: bytes, *, from_client: bool) -> bool:
        kind, _, _ = HEADER.unpack_from(frame)
        if kind != METHOD or from_client is not self.from_client:
            return False
        return struct.unpack_from(">HH", frame, HEADER.size) == self.method and (
            self.contains in frame
        )


class Held:
    """What waits at a step: see `Proxy.hold`."""

    def __init__(self, steps: tuple[Frame, ...]) -> None:
        self._steps = list(steps)
        self._guard = threading.Lock()
        self._reached, self._over = threading.Event(), threading.Event()
        self._dropped = False

    def reached(self) -> None:
        """Wait until the last of the frames has come, which is held."""
        assert self._reached.wait(STEP_SECONDS), f"has not come: {self._steps}"

    def release(self) -> None:
        """Let pass what is held."""
        self._over.set()

    def drop(self) -> None:
        """Lose what is held, and the connection with it."""
        self._dropped = True
        self._over.set()

    def passes(self, frame: bytes, *, from_client: bool) -> bool:
        """Return whether a frame goes on, after a while if it is held."""
        with self._guard:
            if not self._steps or not self._steps[0].fits(frame, from_client=from_client):
                return True
            del self._steps[0]
            if self._steps:
                return True
        self._reached.set()
        self._over.wait()
        return not self._dropped


class Proxy:
    """Passes bytes on; see `proxy`.

    Attributes
    ----------
    broker
        The address to connect to.
    bytes_per_second
        Of each connection and direction; as many as there are if None.
    """

    def __init__(self, target: Broker, port: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port))
        self._sockets: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._held: list[Held] = []
        self._fallen = False
        self._threads = [threading.Thread(target=self._accept)]
        self.bytes_per_second: int | None = None
        self.broker = replace(target, host="127.0.0.1", port=self._listener.getsockname()[1])
        self._threads[0].start()

    def hold(self, *steps: Frame) -> Held:
        """Hold the last of these frames, and what follows it, once all have come in this order."""
        self._held.append(Held(steps))
        return self._held[-1]

    def break_all(self) -> int:
        """End every connection without a word of AMQP; return how many there were."""
        with self._guard:
            broken, self._sockets = self._sockets, []
        _end(broken)
        return len(broken) // 2

    def fall_silent(self) -> int:
        """Lose whatever is said from now on over the connections that are open, which stay so.

        Returns how many there were; those that come later are not concerned.
        """
        with self._guard:
            self._silent.update(self._sockets)
            return len(self._sockets) // 2

    def fall(self) -> None:
        """Be gone for clients, those to come too; the broker is not told and keeps its side."""
        self._fallen = True
        self._stop_listening()
        with self._guard:
            clients = self._sockets[::2]
        _end(clients)

    def say(self, frame: bytes) -> None:
        """Tell the broker something in the name of every client, which do not know of it."""
        with self._guard:
            for server in self._sockets[1::2]:
                server.sendall(frame)

    def close(self) -> None:
        self._stop_listening()
        for held in self._held:
            held.drop()
        self.break_all()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):  # it was done before
            self._listener.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection((self._target.host, self._target.port))
            with self._guard:
                self._sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                thread = threading.Thread(
                    target=self._pass_on, args=(source, sink, source is client)
                )
                thread.start()
                self._threads.append(thread)

    def _pass_on(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            for frame in _frames(source, greeting=from_client):
                if not all(held.passes(frame, from_client=from_client) for held in self._held):
                    break
                if source in self._silent or (self._fallen and not from_client):
                    continue
                if self.bytes_per_second is not None:
                    time.sleep(len(frame) / self.bytes_per_second)
                sink.sendall(frame)
        _end((source,) if self._fallen and from_client else (source, sink))
        source.close()


@contextlib.contextmanager
def proxy(target: Broker, port: int = 0) -> Iterator[Proxy]:
    """Stand between clients and a broker while the context lasts, at a port of its own if 0."""
    made = Proxy(target, port)
    try:
        yield made
    finally:
        made.close()


def _end(sockets: Iterable[socket.socket]) -> None:
    """Say nothing more over sockets; those that are gone already stay so."""
    for end in sockets:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _frames(source: socket.socket, *, greeting: bool) -> Iterator[bytes]:
    """Yield what comes, frame by frame; a client's greeting is none, and comes first."""
    waiting, wanted = b"", GREETING if greeting else 0
    while data := source.recv(BYTES):
        waiting += data
        while len(waiting) >= HEADER.size:
            size = wanted or HEADER.size + HEADER.unpack_from(waiting)[2] + FRAME_END
            if len(waiting) < size:
                break
            yield waiting[:size]
            waiting, wanted = waiting[size:], 0
