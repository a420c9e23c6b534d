"""What every simulated process is: it lives and dies, freezes, connects and repeats itself.

What it does with its channel is its own business.
"""

import abc
from collections.abc import Callable
from random import Random
from typing import Protocol

from ops.simulation.broker import MemoryBroker
from ops.simulation.channel import MemoryChannel
from ops.simulation.events import (
    Closed,
    Confirmed,
    ConsumerCancelled,
    Delivery,
    Rejected,
    Returned,
)
from protocol.errors import BrokerError, LockedError
from protocol.messages import Chunk

RETRY_SECONDS = 2.0
TICK_SECONDS = 0.25


class Clock(Protocol):
    """What a party knows of its world, and tells it."""

    now: float
    random: Random
    broker: MemoryBroker
    crashes: list[tuple[Chunk, str]]

    @property
    def wall(self) -> float:
        """What the hosts' clocks show, which may jump."""

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something later."""


class Party(abc.ABC):
    """A process: alive until killed, connected now and then, frozen at times.

    Attributes
    ----------
    alive
        False from `kill` on; nothing it had planned happens any more.
    """

    def __init__(self, world: Clock, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.frozen_until = 0.0
        self.channel: MemoryChannel | None = None
        self._connect_later(0.0)

    def kill(self) -> None:
        """End it as SIGKILL would."""
        self.alive = False
        self.world.broker.kill(self.name)

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something later, if this process lives then; once it is awake, if it is frozen."""

        def due() -> None:
            if self.alive and self.awake:
                what()
            elif self.alive:
                self.world.after(self.frozen_until - self.world.now, due)

        self.world.after(seconds, due)

    @property
    def awake(self) -> bool:
        """Whether it is not frozen, as by SIGSTOP: nothing happens in a frozen process."""
        return self.world.now >= self.frozen_until

    def poll(self) -> None:
        """Take in what has arrived."""
        while self.alive and self.awake and self.channel is not None and self.channel.inbox:
            event = self.channel.inbox.popleft()
            if isinstance(event, (Closed, ConsumerCancelled)):
                self.lose()
            else:
                self.guard(lambda event=event: self.take(event))  # type: ignore[misc]

    @abc.abstractmethod
    def connect(self, channel: MemoryChannel) -> None:
        """Use a fresh channel."""

    @abc.abstractmethod
    def take(self, event: Delivery | Confirmed | Rejected | Returned) -> None:
        """Take in one event."""

    @abc.abstractmethod
    def disconnected(self) -> None:
        """Take note that the channel is gone."""

    def every(self, seconds: float, what: Callable[[], None]) -> None:
        """Repeat something while this process lives."""

        def again() -> None:
            self.guard(what)
            self.later(seconds, again)

        self.later(seconds, again)

    def guard(self, what: Callable[[], None]) -> None:
        """Do something that the broker may interrupt."""
        try:
            what()
        except BrokerError:
            self.lose()

    def lose(self) -> None:
        """Give the channel up, and connect again a moment later."""
        if self.channel is not None:
            channel, self.channel = self.channel, None
            channel.connection.close()
            self.disconnected()
            self._connect_later(self.world.random.uniform(0.1, RETRY_SECONDS))

    def locks(self, name: str) -> bool:
        """Try to take a lock over this connection, and say whether it is held now."""
        if self.channel is None:
            return False
        try:
            self.channel.connection.channel().declare_queue(name, exclusive=True)
        except LockedError:
            return False
        return True

    def _connect_later(self, seconds: float) -> None:
        self.later(seconds, self._connect)

    def _connect(self) -> None:
        if not self.alive or self.channel is not None:
            return
        try:
            self.channel = self.world.broker.connect(self.name).channel()
            self.channel.confirm_select()
            self.connect(self.channel)
        except BrokerError:
            if self.channel is not None:
                self.channel.connection.close()
            self.channel = None
            self._connect_later(RETRY_SECONDS)
