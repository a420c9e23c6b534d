"""How many chunks the agent asks the broker for, learned from how long chunks take.

Waiting chunks hide the broker's latency, but cost a delivery attempt when the machine vanishes, and
a faster machine could have them: many are worth it for chunks of milliseconds, one for chunks of
half a second, none for long ones, nor before it is known how long they are.
"""

from dataclasses import dataclass, field

PATIENCE = 10.0
"""Seconds a chunk may wait before it is given back, the first time."""
LONGEST_PATIENCE = 240.0
"""A chunk is given back a few times at most: a work queue drops it after 20 deliveries."""
SHORT = 0.02
LONG = 1.0
MEMORY = 0.2
"""Weight of the newest chunk in the mean."""
TINY = 0.002
NOT_TINY = 0.01
"""A tiny chunk may have had to wait for a core: asking for another count costs more than that."""

TINY_LOOKAHEAD = 256
"""Chunks per slot while chunks are tiny: about half a second of work, as with short ones."""

SHORT_LOOKAHEAD = 32
"""Waiting chunks per slot while chunks are short: about half a second of work at most."""


@dataclass
class Appetite:
    """The prefetch count for the agent's slots."""

    slots: int
    patience: float = field(default=PATIENCE, init=False)
    _seconds: float | None = field(default=None, init=False)
    _short: bool = field(default=False, init=False)
    _long: bool = field(default=True, init=False)
    _tiny: bool = field(default=False, init=False)
    _full: bool = field(default=False, init=False)

    def measured(self, seconds: float) -> None:
        """Learn that a chunk took so long."""
        first = self._seconds is None
        old = seconds if self._seconds is None else self._seconds
        self._seconds = old + MEMORY * (seconds - old)
        # Apart by a factor of 2, or the count would change with every other chunk.
        self._short = self._seconds < (2 * SHORT if self._short else SHORT)
        self._long = self._seconds > (LONG / 2 if self._long and not first else LONG)
        self._tiny = self._seconds < (NOT_TINY if self._tiny else TINY)
        self._full = self._full and self._seconds > LONG

    def overfed(self) -> None:
        """Learn that chunks waited beyond the patience, which doubles."""
        self._full = True
        self.patience = min(2 * self.patience, LONGEST_PATIENCE)

    def prefetch(self, idle: int, waiting: int) -> int | None:
        """Return the prefetch count per lane, None to consume nothing.

        Parameters
        ----------
        idle
            Slots without a chunk.
        waiting
            Chunks without a slot.
        """
        if self._full:
            # A count covers only what its own consumer was sent, not what earlier ones still hold.
            return idle if idle and not waiting else None
        if self._tiny:
            return self.slots * TINY_LOOKAHEAD
        if self._short:
            return self.slots * (1 + SHORT_LOOKAHEAD)
        return self.slots if self._long else self.slots + 1 + self.slots // 8
