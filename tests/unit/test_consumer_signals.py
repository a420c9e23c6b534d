"""Signals of an agent: written where its loop reads, whatever the main thread does."""

import contextlib
import os
import select
import signal
import socket
import threading

import pytest

from consumer.signals import received, signals_told

SECONDS = 30.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGTSTP, signal.SIGCONT])
def test_a_signal_is_read_by_another_thread(number: signal.Signals) -> None:
    read: list[int] = []

    def listen(signals: socket.socket) -> None:
        def take() -> None:
            select.select([signals], [], [], SECONDS)
            read.extend(received(signals))

        thread.append(threading.Thread(target=take))

    thread: list[threading.Thread] = []
    with signals_told(listen):
        thread[0].start()
        os.kill(os.getpid(), number)
        thread[0].join(SECONDS)
    assert read == [number]


def test_afterwards_signals_do_what_they_did_before() -> None:
    def before(*_: object) -> None:
        came.append("before")

    came: list[str] = []
    kept = signal.signal(signal.SIGTERM, before)
    try:
        with contextlib.suppress(ZeroDivisionError), signals_told(lambda _: None):
            _ = 1 / 0
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, kept)
    assert came == ["before"]
    assert signal.set_wakeup_fd(-1) == -1
