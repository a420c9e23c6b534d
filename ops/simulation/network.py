"""Pipes whose order is kept, and a seeded choice of which pipe moves next; nothing of AMQP."""

from collections import deque
from collections.abc import Callable, Iterator
from random import Random
from typing import Any


class Pipe:
    """One direction of one channel: what was pushed first arrives first."""

    __slots__ = ("_handle", "_index", "_items", "_network", "_open")

    def __init__(self, network: "Network", handle: Callable[[Any], Any]) -> None:
        self._network = network
        self._handle = handle
        self._items: deque[Any] = deque()
        self._index = -1
        self._open = True

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def push(self, item: Any) -> None:
        """Send an item; one sent into a closed pipe is lost, unnoticed."""
        if self._open:
            self._items.append(item)
            if self._index < 0:
                self._index = self._network.activate(self)

    def move(self) -> Any:
        """Let the next item arrive and return what its receiver returned."""
        item = self._next()
        if not self._items:
            self._rest()
        return self._handle(item)

    def drain(self) -> None:
        """Let everything arrive."""
        while self._items:
            self.move()

    def close(self, *, keep: int = 0, last: Any = None) -> None:
        """Lose all but the next `keep` items, add a last one and take no more."""
        while len(self._items) > keep:
            self._items.pop()
        if last is not None:
            self._open = True
            self.push(last)
        elif not self._items:
            self._rest()
        self._open = False

    def _next(self) -> Any:
        return self._items.popleft()

    def _rest(self) -> None:
        if self._index >= 0:
            self._network.deactivate(self._index)
            self._index = -1

    def moved_to(self, index: int) -> None:
        """Remember the place among the network's busy pipes (for the network)."""
        self._index = index


class LoosePipe(Pipe):
    """A pipe that keeps no order: confirms of different queues overtake each other."""

    __slots__ = ()

    def _next(self) -> Any:
        self._items.rotate(-self._network.choose(len(self._items)))
        return self._items.popleft()


class Network:
    """All pipes; every step moves one item of a pipe that the seed chooses."""

    __slots__ = ("_busy", "_random")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._busy: list[Pipe] = []

    @property
    def pending(self) -> int:
        """How many items travel."""
        return sum(map(len, self._busy))

    @property
    def busy(self) -> bool:
        """Whether anything travels."""
        return bool(self._busy)

    def choose(self, count: int) -> int:
        """Return a number below `count`, by the seed."""
        return int(self._random.random() * count)

    def step(self) -> Any:
        """Move one item; return what its receiver returned, None when nothing travels."""
        if not self._busy:
            return None
        return self._busy[self.choose(len(self._busy))].move()

    def activate(self, pipe: Pipe) -> int:
        """Enter a pipe that has got its first item; return its place."""
        self._busy.append(pipe)
        return len(self._busy) - 1

    def deactivate(self, index: int) -> None:
        """Strike a pipe off that has run empty."""
        last = self._busy.pop()
        if index < len(self._busy):
            self._busy[index] = last
            last.moved_to(index)
