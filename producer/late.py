"""Which issued chunks are late enough to be asked after, and issued again if still missing; pure.

A chunk is late by the measure of those that came back. Whether it is lost or its consumer slow,
nobody can tell from outside, and the cure is the same: a copy, of which the first partial counts.
"""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

REMEMBERED = 15
"""Chunks whose median is what is usual: a slow consumer sends few of them."""

PATIENCE_SECONDS = 30.0
"""While nothing has come back yet: slots may still be loading."""

OVERTAKEN_FACTOR, OVERTAKEN_SECONDS = 12.0, 2.0
"""In terms of what is usual, where chunks issued later are back; and at least. A consumer ten times
slower than others is worth having: what it computes is not copied before the end of the run."""

SILENT_FACTOR, SILENT_SECONDS = 16.0, 10.0
"""The same where none is: the whole fleet may be slow, or busy with other runs."""

IDLE_SECONDS, FIRST_IDLE_SECONDS = 5.0, 15.0
"""Where slots idle although more chunks are issued than are at work; before the first came back."""

TAIL_FACTOR, TAIL_SECONDS = 1.5, 0.05
"""The same once nothing else is left to be issued, so that slots would idle."""

MAX_PATIENCE_SECONDS = 3_600.0
COPIES_SHARE = 0.05
"""Copies per merged chunk that are free; every window of them beyond that doubles the patience,
as every copy does for its own chunk."""


@dataclass(slots=True, eq=False)
class Issued:
    """A chunk that is issued and not merged.

    Attributes
    ----------
    cell, start, stop
        Its blocks, [start, stop).
    number
        Counts the chunks of a scheduler, in the order of their first issue.
    seconds
        CPU seconds that it should take, None where nothing is known.
    at
        When it was issued last, or when it could first be computed.
    attempts
        Those that may still be answered, and whether the broker has confirmed them.
    copies
        How often it was issued.
    timed
        Whether the time that it takes says something about others.
    broken
        Whether some of its blocks are merged without the others: its partial will be dropped.
    """

    cell: int
    start: int
    stop: int
    number: int
    seconds: float | None
    at: float
    attempts: dict[int, bool] = field(default_factory=dict)
    copies: int = 0
    timed: bool = True
    broken: bool = False


class Lateness:
    """What is usual, and who is later than that."""

    def __init__(self) -> None:
        self._waits: deque[float] = deque(maxlen=REMEMBERED)
        self._wait: float | None = None
        self._newest = -1
        self._merged = 0
        self._copies = 0

    def came_back(self, chunk: Issued, now: float) -> None:
        """Take in that a chunk is merged."""
        self._newest = max(self._newest, chunk.number)
        self._merged += 1
        if chunk.timed and chunk.copies == 1:
            self._waits.append(max(0.0, now - chunk.at - (chunk.seconds or 0.0)))

    def copied(self) -> None:
        """Take in that a chunk is issued once more."""
        self._copies += 1

    def patience(self, seconds: float | None, *, tail: bool) -> float:
        """Return after how long a chunk that takes so long is late, others left to issue or not."""
        if not self._waits:
            return PATIENCE_SECONDS
        usual = median(self._waits) + (seconds or 0.0)
        if tail:
            return TAIL_FACTOR * usual + TAIL_SECONDS
        return max(OVERTAKEN_SECONDS, OVERTAKEN_FACTOR * usual)

    def late(
        self, chunks: Collection[Issued], now: float, window: int, *, tail: int, idle: int = 0
    ) -> list[Issued]:
        """Return the chunks that are late.

        Parameters
        ----------
        chunks
            All that are issued, in that order.
        now
            The time.
        window
            How many chunks may be issued and not merged.
        tail
            How many copies may be under way because nothing else is left to issue; 0 before that.
        idle
            How many of the chunks cannot be at work, because slots idle and fewer are at work.
        """
        self._wait = median(self._waits) if self._waits else None
        # The broker hands out the oldest first, so what is not at work is the youngest.
        not_at_work = {chunk.number for chunk in islice(reversed([*chunks]), idle)}
        spare = tail - sum(chunk.copies > 1 for chunk in chunks)
        excess = (self._copies - COPIES_SHARE * self._merged) // max(window, 1)
        found = []
        for chunk in chunks:
            age = now - chunk.at
            growth = 2.0 ** min(max(excess, 0.0) + chunk.copies - 1, 60)
            patience = growth * self._patience(chunk, idle=chunk.number in not_at_work)
            if chunk.broken or age > min(patience, MAX_PATIENCE_SECONDS):
                found.append(chunk)
            elif spare > 0 and age > growth * self._tail_patience(chunk):
                found.append(chunk)
                spare -= 1
        return found

    def _patience(self, chunk: Issued, *, idle: bool) -> float:
        usual = self._usual(chunk)
        if usual is None:
            seconds = FIRST_IDLE_SECONDS if idle else PATIENCE_SECONDS
        elif chunk.number < self._newest:
            seconds = max(OVERTAKEN_SECONDS, OVERTAKEN_FACTOR * usual)
        else:
            seconds = max(SILENT_SECONDS, SILENT_FACTOR * usual)
        if idle and usual is not None:
            seconds = min(seconds, IDLE_SECONDS)
        return seconds

    def _tail_patience(self, chunk: Issued) -> float:
        usual = self._usual(chunk)
        return PATIENCE_SECONDS if usual is None else TAIL_FACTOR * usual + TAIL_SECONDS

    def _usual(self, chunk: Issued) -> float | None:
        """Return after how many seconds a chunk like this one usually is merged."""
        return None if self._wait is None else self._wait + (chunk.seconds or 0.0)
