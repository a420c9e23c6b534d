"""The scheduler of one run as a pure state machine: what happened in, what to do out.

It holds what is missing and not yet issued, and what is issued and not yet merged; a window keeps
the second small. It never re-issues on a guess: only what the aggregator says is missing.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from protocol.definition import Definition
from protocol.messages import Chunk, Progress, RunState
from protocol.ranges import Ranges
from protocol.rpc_messages import Missing

FIRST_WINDOW = 4
WINDOW_SECONDS = 0.25
"""Work kept waiting in the queue beyond the slots, so that a round trip never idles a slot."""

RATE_SECONDS = 1.0
"""Time constant of the measured rate."""

SILENCE_SECONDS = 5.0
PATIENCE_SECONDS = 30.0
"""How long an issued chunk may be missing, while consumers live, before it counts as lost."""

PATIENCE_FACTOR = 4.0
"""The same in terms of the slowest chunk so far; every loss in a row doubles the patience."""

MAX_PATIENCE_SECONDS = 3_600.0
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish this chunk, and report `confirmed` or `refused` with its attempt."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class AskMissing:
    """Ask the aggregator what is missing, and report the answer as `joined`."""


@dataclass(slots=True)
class _Issued:
    cell: int
    start: int
    stop: int
    at: float
    confirmed: bool = False


class _Rate:
    """Chunks merged per second, smoothed over about a second."""

    def __init__(self) -> None:
        self.per_second = 0.0
        self._since = -math.inf
        self._chunks = 0

    def count(self, now: float) -> None:
        """Count one more chunk."""
        self._chunks += 1
        if self._since == -math.inf:
            self._since, self._chunks = now, 0
        elapsed = now - self._since
        if elapsed >= RATE_SECONDS / 20:
            weight = 1 - math.exp(-elapsed / RATE_SECONDS)
            self.per_second += weight * (self._chunks / elapsed - self.per_second)
            self._since, self._chunks = now, 0


class Scheduler:
    """Schedules one run.

    Parameters
    ----------
    run, definition
        What is to be computed.
    chunk_blocks
        Blocks per chunk; a chunk is smaller where it would cross a checkpoint.
    """

    def __init__(self, run: str, definition: Definition, chunk_blocks: int) -> None:
        self.run = run
        self.definition = definition
        self.state = RunState.RUNNING
        self.slots = 0
        self.consumers = 0
        self.merged_blocks = 0
        self._chunk_blocks = chunk_blocks
        self._todo: dict[int, Ranges] = {}
        self._issued: dict[int, _Issued] = {}
        # Failed chunks rest a moment, or a consumer that cannot help would spin on them.
        self._resting: deque[tuple[float, _Issued]] = deque()
        self._seen = (-1, -1)
        self._term = 0
        self._count = 0
        self._rate = _Rate()
        self._slowest = 0.0
        self._losses = 0
        self._heard = -math.inf
        self._asked = False
        self._paused_until = -math.inf
        self._leads = False

    @property
    def outstanding(self) -> int:
        """Chunks that are issued and not merged."""
        return len(self._issued)

    @property
    def window(self) -> int:
        """How many chunks may be outstanding."""
        if not self.slots:
            return FIRST_WINDOW
        return FIRST_WINDOW + 2 * self.slots + math.ceil(self._rate.per_second * WINDOW_SECONDS)

    # What happened

    def joined(self, missing: Missing, now: float) -> None:
        """Take in an answer of the aggregator to `declare` or `missing`."""
        self._asked = False
        self._heard = now
        self.state = RunState(missing.state)
        self._hear_of_fleet(missing, now)
        self._seen = (missing.epoch, missing.sequence)
        if missing.term > self._term:
            self._term, self._count = missing.term, 0
        self.merged_blocks = missing.merged_blocks
        gaps = {
            cell.cell: Ranges((first, first + count) for first, count in cell.missing)
            for cell in missing.cells
        }
        for attempt in missing.failed_attempts:  # also where the event that told of it was lost
            self._issued.pop(attempt, None)  # what is missing of it is among the gaps
        patience, lost = self._patience(), False
        for attempt, issued in list(self._issued.items()):
            gap = gaps.get(issued.cell)
            if gap is None or not gap.overlap(issued.start, issued.stop):
                self._settle(attempt, now)
            elif self.slots and now - issued.at > patience:
                del self._issued[attempt]
                lost = True
            else:
                gap.remove(issued.start, issued.stop)
        self._losses += lost
        self._resting.clear()  # they are among the gaps
        self._todo = {cell: gap for cell, gap in gaps.items() if gap}

    def unanswered(self) -> None:
        """Take note that the aggregator did not answer; it is asked again after a silence."""
        self._asked = False

    def leads(self, *, leads: bool) -> None:
        """Take note whether this producer holds the leader lock; a follower issues nothing."""
        self._leads = leads

    def progress(self, progress: Progress, now: float) -> None:
        """Take in an event of the aggregator."""
        for attempt in progress.failed_attempts:
            if issued := self._issued.pop(attempt, None):
                self._resting.append((now + RETRY_SECONDS, issued))
        key = (progress.epoch, progress.sequence)
        if progress.epoch == self._seen[0] and progress.sequence <= self._seen[1]:
            return
        if key != (self._seen[0], self._seen[1] + 1):
            self._heard = -math.inf  # something was missed: ask at once
        else:
            self._heard = now
        self._seen = key
        self._hear_of_fleet(progress, now)
        self.merged_blocks = progress.merged_blocks
        merged = {
            cell.cell: Ranges((first, first + count) for first, count in cell.merged)
            for cell in progress.cells
        }
        for attempt, issued in list(self._issued.items()):
            done = merged.get(issued.cell)
            if done and done.overlap(issued.start, issued.stop) == issued.stop - issued.start:
                self._settle(attempt, now)

    def confirmed(self, attempt: int) -> None:
        """Take note that the broker has the chunk."""
        if attempt in self._issued:
            self._issued[attempt].confirmed = True

    def refused(self, attempt: int, now: float) -> None:
        """Take a chunk back that the broker did not take, and wait a moment."""
        self._put_back(attempt)
        self._paused_until = now + RETRY_SECONDS

    def disconnected(self) -> None:
        """Take back what was never confirmed; the rest is safe in the broker."""
        for attempt in [a for a, issued in self._issued.items() if not issued.confirmed]:
            self._put_back(attempt)
        self._asked = False

    # What to do

    def actions(self, now: float) -> Iterator[Publish | AskMissing]:
        """Yield what is to be done now; call it after every event and about four times a second."""
        if self.state is not RunState.RUNNING:
            return
        while self._resting and self._resting[0][0] <= now:
            self._add_todo(self._resting.popleft()[1])
        silent = now - self._heard >= SILENCE_SECONDS
        if not self._asked and (silent or self._has_late_chunk(now)):
            self._asked = True
            self._heard = now
            yield AskMissing()
        while self._leads and self.outstanding < self.window and now >= self._paused_until:
            chunk = self._next_chunk(now)
            if chunk is None:
                return
            yield Publish(chunk)

    # Within

    def _next_chunk(self, now: float) -> Chunk | None:
        cell = next(iter(self._todo), None)
        if cell is None:
            return None
        start, stop = next(iter(self._todo[cell]))
        checkpoint = next(c for c in self.definition.checkpoints if c > start)
        stop = min(stop, start + self._chunk_blocks, checkpoint)
        self._todo[cell].remove(start, stop)
        if not self._todo[cell]:
            del self._todo[cell]
        attempt = (self._term << 32) + self._count
        self._count += 1
        self._issued[attempt] = _Issued(cell, start, stop, now)
        return self._chunk(attempt, cell, start, stop)

    def _settle(self, attempt: int, now: float) -> None:
        issued = self._issued.pop(attempt)
        self._slowest = max(self._slowest, now - issued.at)
        self._losses = 0
        self._rate.count(now)

    def _put_back(self, attempt: int) -> None:
        issued = self._issued.pop(attempt, None)
        if issued is not None:
            self._add_todo(issued)

    def _add_todo(self, issued: _Issued) -> None:
        self._todo.setdefault(issued.cell, Ranges()).add(issued.start, issued.stop)

    def _hear_of_fleet(self, news: Missing | Progress, now: float) -> None:
        if news.slots and not self.slots:
            # Nobody could compute what waited so far; only from now on can it be late.
            for issued in self._issued.values():
                issued.at = now
        self.slots, self.consumers = news.slots, news.consumers

    def _has_late_chunk(self, now: float) -> bool:
        """Say whether the oldest chunk seems lost, although others still come back."""
        oldest = next(iter(self._issued.values()), None)
        return bool(self.slots) and oldest is not None and now - oldest.at > self._patience()

    def _patience(self) -> float:
        """Return after how many seconds a missing chunk is given up; purges lose many at once."""
        patience = max(PATIENCE_SECONDS, PATIENCE_FACTOR * self._slowest)
        return min(patience * 2.0 ** min(self._losses, 10), MAX_PATIENCE_SECONDS)

    def _chunk(self, attempt: int, cell: int, start: int, stop: int) -> Chunk:
        return Chunk.of(self.run, self.definition, cell, (start, stop), attempt)
