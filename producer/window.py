"""How many chunks of a run may be issued and not merged: few, because others share the queue; pure.

As many as the slots that work for this run, and as many again where chunks are so short that a
slot would idle for a message's round trip. Memory of broker and producer follows the slots, and a
run that comes later finds a short queue.
"""

import math

from producer.sizing import AIM_SECONDS

FIRST_WINDOW = 4
"""While no slot is known."""

WINDOW_SECONDS = 0.25
"""Work waiting in the queue where chunks are so short that it is more than a chunk per slot."""

RATE_SECONDS = 1.0
"""Time constant of the measured rate."""

MEMORY = 1 / 8
"""Weight of the newest chunk in what is remembered of all."""


class Window:
    """The window of one run, from what its chunks have shown so far."""

    def __init__(self) -> None:
        self._rate = _Rate()
        self._seconds: float | None = None
        self._newest = 0.0
        self._share = 1.0

    def issued(self, seconds: float | None) -> None:
        """Take in the CPU seconds that the chunk issued last should take, where they are known."""
        self._newest = seconds or 0.0

    def came_back(self, seconds: float | None, turnaround: float, now: float) -> None:
        """Take in a merged chunk.

        Parameters
        ----------
        seconds
            CPU seconds that it was expected to take, where that is known.
        turnaround
            Seconds from its issue until it was merged.
        now
            The time.
        """
        self._rate.count(now)
        if seconds is None:
            return
        if self._seconds is None:
            self._seconds = seconds
        self._seconds += MEMORY * (seconds - self._seconds)
        self._share += MEMORY * (seconds / max(seconds, turnaround) - self._share)

    def size(self, slots: int, outstanding: int) -> int:
        """Return how many chunks may be issued and not merged.

        Parameters
        ----------
        slots
            Live slots of the pool.
        outstanding
            Chunks that are now.
        """
        if not slots:
            return FIRST_WINDOW
        # By Little's law this many of ours are being computed; others' may have the other slots.
        ours = min(slots, outstanding * self._share)
        # Chunks that grow soon take longer than those that came back.
        seconds = max(self._seconds or 0.0, self._newest, 1e-9)
        each = min(1.0, AIM_SECONDS / seconds)
        # While little is known the rate may be that of a burst; slots can compute no faster.
        rate = min(self._rate.per_second, slots / seconds)
        ahead = max(slots * each, rate * WINDOW_SECONDS)
        return max(slots, math.ceil(ours + ahead - 0.25))


class _Rate:
    """Chunks merged per second, smoothed over about a second, at first over all there is."""

    def __init__(self) -> None:
        self.per_second = 0.0
        self._began = self._since = -math.inf
        self._chunks = 0

    def count(self, now: float) -> None:
        """Count one more chunk."""
        self._chunks += 1
        if self._since == -math.inf:
            self._began, self._since, self._chunks = now, now, 0
        elapsed = now - self._since
        if elapsed >= RATE_SECONDS / 20:
            weight = min(1.0, elapsed / min(RATE_SECONDS, now - self._began))
            self.per_second += weight * (self._chunks / elapsed - self.per_second)
            self._since, self._chunks = now, 0
