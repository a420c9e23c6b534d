"""The scheduler of one run as a pure state machine: what happened in, what to do out.

It puts together what is missing, how long chunks should be, how many may be issued, and which of
them are late. It never issues again on a guess: only what the aggregator says is missing.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from producer.audits import Audits
from producer.chunks import Chunks
from producer.late import Issued, Lateness
from producer.sizing import Sizing
from producer.todo import Todo
from producer.window import Window
from protocol.definition import Definition
from protocol.messages import CellProgress, Chunk, Progress, Reissue, RunState, WantedAudit
from protocol.ranges import Ranges
from protocol.rpc_messages import CellMissing, Missing

SILENCE_SECONDS = 5.0
OUTAGE_SECONDS = 7.0
"""After this long without any word nobody can tell how late a chunk is: partials may be waiting."""

LOOK_SECONDS = 0.1
"""How often it is looked for late chunks."""

ASK_SECONDS = 0.2
"""How often the aggregator is asked after late chunks, at most."""

WEIGH_SECONDS = 25e-6
"""How often the remaining work is added up anew, per cell: adding costs a hundredth of this."""

RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish this chunk, and report `confirmed` or `refused` with its attempt."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class AskMissing:
    """Ask the aggregator what is missing, and report the answer as `joined`."""


class Scheduler:
    """Schedules one run.

    Parameters
    ----------
    run, definition
        What is to be computed.
    chunk_blocks
        Blocks per chunk, for tests and measurements; None to find a good number. A chunk is
        smaller where it would cross a checkpoint.
    reissued
        Where to count the chunks of which blocks are issued again.
    """

    def __init__(
        self,
        run: str,
        definition: Definition,
        chunk_blocks: int | None = None,
        reissued: Counter[Reissue] | None = None,
    ) -> None:
        self.run = run
        self._reissued = Counter[Reissue]() if reissued is None else reissued
        self.definition = definition
        self.state = RunState.RUNNING
        self.slots = 0
        self.consumers = 0
        self.merged_blocks = 0
        self._expected_blocks = 0
        self._todo = Todo(definition.checkpoints)
        self._sizing = Sizing(chunk_blocks)
        self._window = Window()
        self._lateness = Lateness()
        self._audits = Audits(run)
        # By the number of the chunk, which is the order of issue; and by attempt.
        self._issued: dict[int, Issued] = {}
        self._by_attempt: dict[int, Issued] = {}
        self._again: list[Issued] = []
        # Failed chunks rest a moment, or a consumer that cannot help would spin on them.
        self._resting: deque[tuple[float, Issued]] = deque()
        self._failures = 0  # since a chunk was merged
        self._seen = (-1, -1)
        self._messages = Chunks(run, definition)
        self._chunks = 0
        self._remaining = 0.0
        self._weighed = self._looked = self._inquired = -math.inf
        self._heard = -math.inf
        self._news = -math.inf
        self._asked = False
        self._paused_until = -math.inf
        self._leads = False

    @property
    def outstanding(self) -> int:
        """Chunks that are issued and not merged."""
        return len(self._issued)

    @property
    def wanted_audits(self) -> int:
        """Chunks that are to be computed again, of those that were told last."""
        return len(self._audits)

    @property
    def window(self) -> int:
        """How many chunks may be outstanding."""
        return self._window.size(self.slots, self.outstanding)

    # What happened

    def joined(self, missing: Missing, now: float) -> None:
        """Take in an answer of the aggregator to `declare` or `missing`."""
        self._asked = False
        self.state = RunState(missing.state)
        self._hear(missing, now, outage=missing.epoch != self._seen[0])
        self._seen = (missing.epoch, missing.sequence)
        self._messages.begin_term(missing.term)
        gaps = self._gaps(missing.cells)
        for attempt in missing.failed_attempts:  # also where the event that told of it was lost
            if self._forget(attempt):  # what is missing of it is among the gaps
                self._reissued[Reissue.FAILED] += 1
            self._audits.gave_nothing(attempt, now)
        for issued in [*self._issued.values()]:
            self._compare(issued, gaps.get(issued.cell, Ranges()), now)
        self._resting.clear()  # they are among the gaps
        self._todo.replace(gaps)
        self._weighed = -math.inf
        idle = self.outstanding - missing.busy if missing.busy < self.slots else 0
        self._again = self._late(now, max(idle, 0))

    def unanswered(self) -> None:
        """Take note that the aggregator did not answer; it is asked again after a silence."""
        self._asked = False

    def leads(self, *, leads: bool) -> None:
        """Take note whether this producer holds the leader lock; a follower issues nothing."""
        self._leads = leads

    def progress(self, progress: Progress, now: float) -> None:
        """Take in an event of the aggregator."""
        for attempt in progress.failed_attempts:
            if issued := self._forget(attempt):
                self._reissued[Reissue.FAILED] += 1
                self._failures += 1
                self._resting.append((now + RETRY_SECONDS, issued))
            self._audits.gave_nothing(attempt, now)
        key = (progress.epoch, progress.sequence)
        if progress.epoch == self._seen[0] and progress.sequence <= self._seen[1]:
            return
        follows = key == (self._seen[0], self._seen[1] + 1)
        self._hear(progress, now, outage=progress.epoch != self._seen[0])
        if not follows:
            self._heard = -math.inf  # something was missed: ask at once
        self._seen = key
        cells = {cell.cell: cell for cell in progress.cells}
        ended = {cell.cell for cell in progress.cells if self._has_ended(cell)}
        merged = {number: self._merge(cell) for number, cell in cells.items()}
        for issued in [*self._issued.values()]:
            if (done := merged.get(issued.cell)) is None:
                continue
            if done.covers(issued.start, issued.stop):
                issued.timed = issued.timed and issued.cell not in ended
                self._settle(issued, now)
            elif issued.stop - issued.start > 1 and done.overlap(issued.start, issued.stop):
                issued.broken = True

    def confirmed(self, attempt: int) -> None:
        """Take note that the broker has the chunk."""
        if issued := self._by_attempt.get(attempt):
            issued.attempts[attempt] = True
        self._audits.confirmed(attempt)

    def refused(self, attempt: int, now: float) -> None:
        """Take a chunk back that the broker did not take, and wait a moment."""
        self._put_back(attempt, Reissue.REFUSED)
        self._audits.gave_nothing(attempt, now)
        self._paused_until = now + RETRY_SECONDS

    def disconnected(self) -> None:
        """Take back what was never confirmed; the rest is safe in the broker."""
        for attempt, issued in [*self._by_attempt.items()]:
            if not issued.attempts[attempt]:
                self._put_back(attempt, Reissue.UNCONFIRMED)
        self._audits.disconnected()
        self._asked = False

    # What to do

    def actions(self, now: float) -> Iterator[Publish | AskMissing]:
        """Yield what is to be done now; call it after every event and about four times a second."""
        if self.state is not RunState.RUNNING:
            return
        while self._resting and self._resting[0][0] <= now:
            self._add_todo(self._resting.popleft()[1])
        if not self._asked and (now - self._heard >= SILENCE_SECONDS or self._suspects(now)):
            self._asked = True
            self._heard = self._inquired = now
            yield AskMissing()
        if not self._leads or now < self._paused_until:
            return
        again, self._again = self._again, []
        for late in again:
            if late.number in self._issued:
                self._lateness.copied()
                self._reissued[Reissue.LATE] += 1
                yield Publish(self._issue(late, now))
        tail = not (self._issued or self._todo or self._resting) and self._audits.all_outstanding
        patience = partial(self._audit_patience, tail=tail)
        for audit in self._audits.due(now, self.window, patience):
            yield Publish(self._issue_audit(audit, now))
        if self._holds_back:
            return
        while self.outstanding < self.window and (issued := self._next(now)):
            yield Publish(self._issue(issued, now))

    # Within

    @property
    def _holds_back(self) -> bool:
        """Whether nothing new is issued before what has failed is tried again.

        Where a whole window failed and nothing was merged meanwhile, more blocks would only take
        other runs' slots, and keep the first ones from failing often enough to end the run.
        """
        return bool(self._resting) and self._failures >= self.window

    def _next(self, now: float) -> Issued | None:
        """Cut the next chunk from what is missing."""
        found = self._todo.first()
        if found is None:
            return None
        cell, (start, stop) = found
        self._weigh(now)
        stop = min(stop, start + self._sizing.blocks(cell, self._remaining, self.slots))
        self._todo.remove(cell, start, stop)
        seconds = self._sizing.seconds(cell, stop - start)
        self._remaining -= seconds or 0.0
        self._window.issued(seconds)
        issued = Issued(cell, start, stop, self._chunks, seconds, now)
        self._chunks += 1
        self._issued[issued.number] = issued
        return issued

    def _issue(self, issued: Issued, now: float) -> Chunk:
        """Return a chunk's message under a fresh attempt."""
        chunk = self._messages.of(issued.cell, issued.start, issued.stop)
        issued.attempts[chunk.attempt] = False
        issued.copies += 1
        issued.at = now
        self._by_attempt[chunk.attempt] = issued
        return chunk

    def _issue_audit(self, audit: WantedAudit, now: float) -> Chunk:
        """Return the message of a chunk that is computed again."""
        first, stop = audit.first_block, audit.first_block + audit.blocks
        chunk = self._messages.of(audit.cell, first, stop).audit(audit.not_by)
        self._audits.issued(audit, chunk.attempt, now)
        return chunk

    def _audit_patience(self, audit: WantedAudit, copies: int, *, tail: bool) -> float:
        seconds = self._sizing.seconds(audit.cell, audit.blocks)
        return self._lateness.patience(seconds, tail=tail) * 2.0 ** min(copies, 60)

    def _weigh(self, now: float) -> None:
        """Add up the CPU seconds of what is wanted and not issued, now and then."""
        if now - self._weighed < WEIGH_SECONDS * len(self.definition.cells):
            return
        self._weighed = now
        if not self.definition.stop.has_target:
            self._remaining, _ = self._sum(self._todo.counts())
            return
        # The sample limit may be far beyond what will be needed: count what surely is, and what
        # the aggregator expects.
        seconds, blocks = self._sum(self._todo.counts_to_checkpoint())
        issued = sum(issued.stop - issued.start for issued in self._issued.values())
        expected = self._expected_blocks - self.merged_blocks - issued
        self._remaining = max(seconds, expected * seconds / max(blocks, 1))

    def _sum(self, counts: Iterable[tuple[int, int]]) -> tuple[float, int]:
        """Return the CPU seconds of so many blocks of cells, and how many blocks these are."""
        seconds, blocks = 0.0, 0
        for cell, count in counts:
            seconds += self._sizing.seconds(cell, count) or 0.0
            blocks += count
        return seconds, blocks

    def _gaps(self, cells: tuple[CellMissing, ...]) -> dict[int, Ranges]:
        gaps = {}
        for cell in cells:
            self._sizing.learn(cell.cell, cell.cost)
            gaps[cell.cell] = Ranges((first, first + count) for first, count in cell.missing)
        return gaps

    def _compare(self, issued: Issued, gap: Ranges, now: float) -> None:
        """Settle a chunk of which nothing is missing; its blocks are no gap while it is issued."""
        count = gap.overlap(issued.start, issued.stop)
        if not count:
            self._settle(issued, now)
        elif count == issued.stop - issued.start:
            gap.remove(issued.start, issued.stop)
        else:  # its partial will be dropped: what is missing of it belongs to new chunks
            self._drop(issued)
            self._reissued[Reissue.OVERLAP] += 1

    def _has_ended(self, cell: CellProgress) -> bool:
        """Say whether a cell needs nothing more although parts of it were never issued."""
        return cell.cell in self._todo and cell.merged == ((0, self.definition.blocks),)

    def _merge(self, cell: CellProgress) -> Ranges:
        """Take in what is merged of a cell, and return it."""
        if cell.cell < len(self.definition.cells):
            self._sizing.learn(cell.cell, cell.cost)
        merged = Ranges((first, first + count) for first, count in cell.merged)
        if cell.cell in self._todo:
            for start, stop in merged:
                self._todo.remove(cell.cell, start, stop)
        return merged

    def _settle(self, issued: Issued, now: float) -> None:
        self._failures = 0
        self._drop(issued)
        self._foresee(issued)
        self._lateness.came_back(issued, now)
        if issued.timed:
            turnaround = now - issued.at
            self._window.came_back(issued.seconds, turnaround, now)
            self._sizing.came_back(issued.stop - issued.start, turnaround)

    def _foresee(self, issued: Issued) -> None:
        """Say how long a chunk should take that was issued before any cost was known."""
        if issued.seconds is None:
            issued.seconds = self._sizing.seconds(issued.cell, issued.stop - issued.start)

    def _drop(self, issued: Issued) -> None:
        del self._issued[issued.number]
        for attempt in issued.attempts:
            del self._by_attempt[attempt]

    def _forget(self, attempt: int) -> Issued | None:
        """Give an attempt up; return its chunk where that was the last one under way."""
        issued = self._by_attempt.pop(attempt, None)
        if issued is None:
            return None
        del issued.attempts[attempt]
        if issued.attempts:
            return None
        del self._issued[issued.number]
        return issued

    def _put_back(self, attempt: int, reason: Reissue) -> None:
        if issued := self._forget(attempt):
            self._reissued[reason] += 1
            self._add_todo(issued)

    def _add_todo(self, issued: Issued) -> None:
        self._todo.add(issued.cell, issued.start, issued.stop)

    def _hear(self, news: Missing | Progress, now: float, *, outage: bool) -> None:
        """Take in what every word of the aggregator tells."""
        if outage or now - self._news > OUTAGE_SECONDS or (news.slots and not self.slots):
            # Nobody could compute or tell what waited so far; only from now on can it be late.
            for issued in self._issued.values():
                issued.at, issued.timed = now, False
            self._audits.forgive(now)
        self._heard = self._news = now
        self.slots, self.consumers = news.slots, news.consumers
        self.merged_blocks = news.merged_blocks
        self._audits.want(news.audits or ())
        self._expected_blocks = news.expected_blocks

    def _suspects(self, now: float) -> bool:
        """Say whether a chunk seems late, although others may still come back."""
        if now - self._looked < LOOK_SECONDS or now - self._inquired < ASK_SECONDS:
            return False
        self._looked = now
        return bool(self._late(now))

    def _late(self, now: float, idle: int = 0) -> list[Issued]:
        if not (self.slots and self._issued):
            return []
        tail = 0 if self._todo or self._resting else self.slots
        chunks = self._issued.values()
        for issued in chunks:
            self._foresee(issued)
        return self._lateness.late(chunks, now, self.window, tail=tail, idle=idle)
