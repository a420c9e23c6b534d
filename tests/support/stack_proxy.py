"""A TCP proxy in front of a broker that breaks every connection through it when it is told to."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

from protocol.settings import Broker

BYTES = 1 << 16


class Proxy:
    """Passes bytes on; see `proxy`.

    Attributes
    ----------
    broker
        The address to connect to.
    """

    def __init__(self, target: Broker, port: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port))
        self._sockets: list[socket.socket] = []
        self._guard = threading.Lock()
        self._threads = [threading.Thread(target=self._accept)]
        self.broker = replace(target, host="127.0.0.1", port=self._listener.getsockname()[1])
        self._threads[0].start()

    def break_all(self) -> int:
        """End every connection without a word of AMQP; return how many there were."""
        with self._guard:
            broken, self._sockets = self._sockets, []
        for end in broken:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(broken) // 2

    def say(self, frame: bytes) -> None:
        """Tell the broker something in the name of every client, which do not know of it."""
        with self._guard:
            for server in self._sockets[1::2]:
                server.sendall(frame)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.break_all()
        for thread in self._threads:
            thread.join()
        self._listener.close()

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
                thread = threading.Thread(target=_pass_on, args=(source, sink))
                thread.start()
                self._threads.append(thread)


@contextlib.contextmanager
def proxy(target: Broker, port: int = 0) -> Iterator[Proxy]:
    """Stand between clients and a broker while the context lasts, at a port of its own if 0."""
    made = Proxy(target, port)
    try:
        yield made
    finally:
        made.close()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(BYTES):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    source.close()
