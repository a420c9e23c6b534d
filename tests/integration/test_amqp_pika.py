"""The consumer's way to a real broker, where the two believe different things."""

import threading
from collections.abc import Callable, Iterator

import pytest

from protocol.amqp_pika import Incoming, Link
from protocol.definition import Lane
from protocol.errors import BrokerError
from protocol.settings import Broker
from protocol.topology import EVENTS, finished_key, work_queue
from tests.support.stack_processes import eventually

QUEUE = work_queue("default", Lane.NORMAL)


class Consuming:
    """A link in a thread that consumes one queue whenever it is connected."""

    def __init__(self, broker: Broker) -> None:
        self.link = Link(broker, self, "test", [(EVENTS, finished_key("*"))])
        self.consuming = 0
        self.lost: list[str] = []
        self._thread = threading.Thread(target=self.link.run)
        self._thread.start()

    def on_connected(self) -> None:
        self.link.consume([QUEUE], 1)

    def on_consuming(self) -> None:
        self.consuming += 1

    def on_lost(self, error: BrokerError) -> None:
        self.lost.append(str(error))

    def on_message(self, incoming: Incoming) -> None:
        """Nothing is sent."""

    def on_settled(self, token: int, taken: bool) -> None:
        """Nothing is published."""

    def soon(self, what: Callable[[], None]) -> None:
        self.link.call_threadsafe(what)

    def inspected(self) -> tuple[int, int]:
        """Return how many messages are ready, and how many consume, as the broker has it."""
        told: list[tuple[int, int]] = []
        self.soon(lambda: self.link.inspect(QUEUE, lambda *seen: told.append(seen)))
        return eventually(lambda: told, "the broker tells")[0]

    def close(self) -> None:
        self.soon(self.link.close)
        self._thread.join(40)
        assert not self._thread.is_alive()


@pytest.fixture
def consuming(broker: Broker) -> Iterator[Consuming]:
    made = Consuming(broker)
    yield made
    made.close()


def test_a_broker_that_forgot_who_consumes_is_found_out_and_connected_to_anew(
    consuming: Consuming,
) -> None:
    eventually(lambda: consuming.consuming == 1, "it consumes")
    assert consuming.inspected() == (0, 1)

    def forget() -> None:
        channel = consuming.link._channel
        assert channel is not None
        channel.basic_cancel(consuming.link._consumers[0])

    consuming.soon(forget)
    eventually(lambda: consuming.inspected() == (0, 0), "the broker has forgotten it")
    assert (consuming.consuming, consuming.lost) == (1, [])  # and nobody has noticed
    consuming.soon(lambda: consuming.link.reconnect("forgotten"))
    eventually(lambda: consuming.consuming == 2, "it consumes again")
    assert consuming.inspected() == (0, 1)
    assert [text.rpartition(" is given up: ")[2] for text in consuming.lost] == ["forgotten"]
