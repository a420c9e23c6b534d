"""Signals as something that a loop in any thread can read.

A handler written in Python runs in the main thread, and where a signal comes just before that
thread begins to wait for another one, only once that wait has ended.
"""

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

ENDING = (signal.SIGTERM, signal.SIGINT)
"""Those that end an agent."""

SIGNALS = (*ENDING, signal.SIGTSTP, signal.SIGCONT)
"""The others quiet it and let it go on; they do not stop the process, which keeps its connection.
"""

_AT_ONCE = 100


@contextlib.contextmanager
def signals_told(listen: Callable[[socket.socket], None]) -> Iterator[None]:
    """Have signals written to a socket instead of ending the process; for the main thread.

    Parameters
    ----------
    listen
        Called with the socket, which `received` reads.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        listen(theirs)
        written_before = signal.set_wakeup_fd(ours.fileno())
        before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(written_before)


def received(signals: socket.socket) -> list[int]:
    """Return which signals have come, in this order; to be called when the socket is readable."""
    return [number for number in signals.recv(_AT_ONCE) if number in SIGNALS]
