"""The same small world for a test twice: around the in-memory broker and around a real one."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import count
from typing import Any

from ops.private_broker import PrivateBroker
from ops.simulation.broker import MemoryBroker
from ops.simulation.events import Delivery, Event
from protocol.amqp_probe import probe
from tests.support.real_broker import RealConnection, reset, wait_until_led

DEADLINE_SECONDS = 20.0
STEP_SECONDS = 0.01
UNCOUNTED_NACKS = (4, 3)
"""The first release of RabbitMQ that lets consumers return a message as often as they like."""


class World(ABC):
    """A broker and the connections that a test has opened to it.

    Attributes
    ----------
    release
        Of RabbitMQ that it is, or behaves like.
    """

    release: tuple[int, ...] = (3, 10)

    def __init__(self, prefix: str) -> None:
        self._names = (f"{prefix}.{number}" for number in count(1))
        self._queues: list[str] = []
        self._exchanges: list[str] = []

    @abstractmethod
    def connect(self) -> Any:
        """Open a connection."""

    @abstractmethod
    def restart(self) -> None:
        """End the broker without warning and start it again."""

    @abstractmethod
    def pass_time(self) -> None:
        """Let a little time pass and everything that travels arrive."""

    @abstractmethod
    def seconds(self) -> float:
        """Return the time."""

    def channel(self) -> Any:
        return self.connect().channel()

    def failed(self, channel: Any, tag: int) -> None:
        """Return a delivery as one that failed; from RabbitMQ 4.3 on no nack counts as that."""
        (channel.nack if self.release < UNCOUNTED_NACKS else channel.reject)(tag)

    def eventually(self, condition: Callable[[], bool], what: str = "condition") -> None:
        deadline = self.seconds() + DEADLINE_SECONDS
        while not condition():
            assert self.seconds() < deadline, f"{what} did not come true"
            self.pass_time()

    def events(self, channel: Any, number: int) -> list[Event]:
        """Return the next events of a channel; there must be exactly so many."""
        try:
            self.eventually(lambda: len(channel.inbox) >= number)
        except AssertionError:
            raise AssertionError(f"{number} events expected, got {[*channel.inbox]}") from None
        events: list[Event] = channel.take()
        assert len(events) == number, events
        return events

    def bodies(self, channel: Any, number: int) -> list[bytes]:
        events = self.events(channel, number)
        return [event.body for event in events if isinstance(event, Delivery)]

    def ready(self, channel: Any, queue: str, number: int) -> None:
        """Wait until so many messages are ready in a queue."""
        try:
            self.eventually(lambda: channel.inspect_queue(queue).messages == number)
        except AssertionError:
            found = channel.inspect_queue(queue).messages
            raise AssertionError(f"{number} ready messages expected, got {found}") from None

    def queue(self, channel: Any, *, durable: bool = True, **arguments: Any) -> str:
        """Declare a queue of a new name; `x_max_length=3` is the argument x-max-length."""
        name = next(self._names)
        self._queues.append(name)
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        channel.declare_queue(name, durable=durable, arguments=named)
        return name

    def exchange(self, channel: Any, type_: str) -> str:
        name = next(self._names)
        self._exchanges.append(name)
        channel.declare_exchange(name, type_)
        return name

    def publish(self, channel: Any, queue: str, *bodies: bytes, **properties: Any) -> None:
        """Publish straight to a queue."""
        for body in bodies:
            channel.publish("", queue, body, **properties)

    def clean(self) -> None:
        """Delete what the test declared."""
        channel = self.channel()
        for queue in self._queues:
            channel.delete_queue(queue)
        for exchange in self._exchanges:
            channel.delete_exchange(exchange)


class MemoryWorld(World):
    """Around the in-memory broker."""

    def __init__(self, prefix: str, seed: int) -> None:
        super().__init__(prefix)
        self.broker = MemoryBroker(seed)

    def connect(self) -> Any:
        return self.broker.connect("test")

    def restart(self) -> None:
        self.broker.restart()

    def pass_time(self) -> None:
        self.broker.step(self.broker.now + STEP_SECONDS)
        self.broker.run()

    def seconds(self) -> float:
        return self.broker.now


class RealWorld(World):
    """Around a private RabbitMQ node."""

    def __init__(self, prefix: str, node: PrivateBroker) -> None:
        super().__init__(prefix)
        self.release = tuple(map(int, probe(node.broker).version.split(".")[:2]))
        self._node = node
        self._connections: list[RealConnection] = []

    def connect(self) -> Any:
        connection = RealConnection(self._node.broker)
        self._connections.append(connection)
        return connection

    def fresh_topology(self) -> None:
        """Empty the queues of montemq, which other tests may have used."""
        reset(self._node.broker)

    def restart(self) -> None:
        self._node.persist()
        self._node.kill()
        self._node.restart()
        wait_until_led(self._node.broker)

    def pass_time(self) -> None:
        for connection in self._connections:
            connection.pump()

    def seconds(self) -> float:
        return time.monotonic()

    def clean(self) -> None:
        for connection in self._connections:
            connection.close()
        super().clean()
        self._connections[-1].close()
