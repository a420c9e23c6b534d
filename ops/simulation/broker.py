"""The in-memory broker: what montemq uses of AMQP 0-9-1, one seeded step at a time.

No thread, no clock, no socket: time is an argument, and the seed decides which of the messages
that travel arrives next. Order is kept within a channel and direction, as AMQP guarantees it, and
nowhere else. The contract tests hold it against a real RabbitMQ.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Protocol

from ops.simulation.channel import MemoryChannel
from ops.simulation.connection import MemoryConnection
from ops.simulation.disturbance import Disturbance
from ops.simulation.network import Network
from ops.simulation.server import Server
from ops.simulation.session import Session
from protocol.errors import BrokerUnreachableError, ConnectionLostError
from protocol.topology import Topology

UNCONFIRMED_LOSS = 0.5


@dataclass(frozen=True, slots=True)
class Faults:
    """How likely each fault is: the first two in every step, the last for every publish.

    Attributes
    ----------
    drop
        A connection breaks.
    close_channel
        The broker closes a channel, as it does at a consumer time-out.
    duplicate
        A message arrives twice, as after a confirm was lost and its publisher tried again.
    """

    drop: float = 0.0
    close_channel: float = 0.0
    duplicate: float = 0.0


NO_FAULTS = Faults()


class MemoryBroker:
    """A broker whose every schedule is a function of its seed and of what is done to it.

    Attributes
    ----------
    faults
        May be changed at any time, for instance back to `NO_FAULTS` to let a test come to its end.
    connections
        Those that the broker believes to be alive.
    seen
        How often what has befallen this broker and its clients, as far as anybody counts.
    """

    def __init__(self, seed: int, faults: Faults = NO_FAULTS) -> None:
        self.faults = faults
        self.connections: list[MemoryConnection] = []
        self.seen: Counter[Disturbance] = Counter()
        self._random = Random(seed)  # noqa: S311 - schedules must repeat, not surprise
        self._network = Network(self._random)
        self._server = Server()
        self._replies: dict[str, Session] = {}
        self._numbers = count(1)
        self._up = True

    @property
    def now(self) -> float:
        """The time last told, in seconds."""
        return self._server.now

    @property
    def pending(self) -> int:
        """How many frames and events travel; 0 means that nothing happens by itself."""
        return self._network.pending

    @property
    def busy(self) -> bool:
        """Whether anything travels."""
        return self._network.busy

    def connect(self, name: str, user: str = "guest") -> MemoryConnection:
        """Connect a party.

        Raises
        ------
        BrokerUnreachableError
            The broker is down.
        """
        if not self._up:
            raise BrokerUnreachableError("no broker can be reached: it is down")
        connection = MemoryConnection(
            name,
            user,
            next(self._numbers),
            server=self._server,
            network=self._network,
            replies=self._replies,
            duplicate=self._duplicates,
        )
        self.connections = [other for other in self.connections if not other.noticed]
        self.connections.append(connection)
        return connection

    def step(self, now: float | None = None) -> MemoryChannel | None:
        """Let one thing arrive; return the channel whose inbox it reached, if it did.

        Parameters
        ----------
        now
            The time in seconds; it never goes back. None leaves it.
        """
        if now is not None and now > self._server.now:
            self._server.advance(now)
        faults = self.faults
        if faults.drop or faults.close_channel:
            self._misfortune(faults)
        reached: MemoryChannel | None = self._network.step()
        return reached

    def run(self) -> None:
        """Step until nothing travels any more."""
        while self._network.busy:
            self.step()

    def kill(self, name: str) -> None:
        """End a party as SIGKILL would, with all its connections."""
        for connection in self.connections:
            if connection.name == name:
                connection.kill()

    def crash(self) -> None:
        """End the broker: connections break, and what is not durable is gone.

        Of what was published and not yet confirmed, the seed decides what reached the disk.
        """
        self._up = False
        lost = {
            origin
            for connection in self.connections
            for channel in connection.channels
            for origin in channel.unconfirmed()
            if self._random.random() < UNCONFIRMED_LOSS
        }
        for connection in self.connections:
            connection.drop()
            connection.end_at_broker()
        self.connections.clear()
        self._server.restart()
        for queue in self._server.queues.values():
            queue.lose(lost)

    def restart(self) -> None:
        """Start the broker again, after ending it where it runs."""
        if self._up:
            self.crash()
        self._up = True

    def wipe(self) -> None:
        """Lose the disk: `crash`, and nothing is left when it comes back."""
        self.crash()
        self._server.wipe()
        self._up = True

    def _misfortune(self, faults: Faults) -> None:
        chance = self._random.random()
        alive = [connection for connection in self.connections if not connection.severed]
        if not alive or chance >= faults.drop + faults.close_channel:
            return
        connection = alive[self._network.choose(len(alive))]
        if chance < faults.drop:
            self.seen[Disturbance.LOST_CONNECTION] += 1
            connection.drop()
        elif channels := [channel for channel in connection.channels if channel.open]:
            self.seen[Disturbance.CLOSED_CHANNEL] += 1
            channel = channels[self._network.choose(len(channels))]
            channel.fail(ConnectionLostError("the broker closed the channel"))

    def _duplicates(self) -> bool:
        twice = self.faults.duplicate > 0 and self._random.random() < self.faults.duplicate
        self.seen[Disturbance.DUPLICATE] += twice
        return twice


class Declares(Protocol):
    """What can declare a topology: a channel, in memory or real."""

    def declare_exchange(self, exchange: str, type_: str) -> None:
        """Make sure that an exchange exists."""

    def declare_queue(
        self, queue: str, *, durable: bool, arguments: dict[str, str | int]
    ) -> object:
        """Make sure that a queue exists."""

    def bind(self, queue: str, exchange: str, key: str) -> None:
        """Bind a queue to an exchange."""


def declare(channel: Declares, wanted: Topology) -> None:
    """Declare exchanges, queues and bindings."""
    for exchange in wanted.exchanges:
        channel.declare_exchange(exchange.name, exchange.type)
    for queue in wanted.queues:
        channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
    for binding in wanted.bindings:
        channel.bind(binding.queue, binding.exchange, binding.key)
