"""Which slot does what: the slots' states, for the policy; no process is touched here."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from consumer.job import Job

LONGEST_PAUSE = 16.0


class _State(Enum):
    DOWN = auto()
    STARTING = auto()
    IDLE = auto()
    BUSY = auto()
    KILLED = auto()


@dataclass(slots=True, eq=False)
class _Slot:
    number: int
    state: _State = _State.DOWN
    jobs: deque[Job] = field(default_factory=deque)
    blocks: int = 0
    size: int = 0
    since: float = 0.0
    crashes: int = 0
    answered: int = 0
    start_at: float = 0.0

    def clear(self) -> list[Job]:
        """Take all chunks out and return them."""
        jobs = list(self.jobs)
        self.jobs.clear()
        self.blocks = self.size = 0
        return jobs


class Stock(NamedTuple):
    """What a slot has to do: chunks, their blocks and bytes, and the one that came last."""

    slot: int
    chunks: int
    blocks: int
    size: int
    last: Job | None


class Roster:
    """The states of so many slots, all down at first.

    Parameters
    ----------
    slots
        How many.
    chunks
        How many chunks a slot's process answers at most; None for any number.
    """

    def __init__(self, slots: int, chunks: int | None = None) -> None:
        self._slots = [_Slot(number) for number in range(slots)]
        self._chunks = math.inf if chunks is None else chunks

    @property
    def busy(self) -> int:
        """How many compute."""
        return sum(slot.state is _State.BUSY for slot in self._slots)

    @property
    def idle(self) -> list[int]:
        """Which ones wait for a chunk."""
        return [slot.number for slot in self._slots if slot.state is _State.IDLE]

    @property
    def alive(self) -> list[int]:
        """Which ones have a process."""
        return [slot.number for slot in self._slots if slot.state is not _State.DOWN]

    def pauses(self, now: float) -> bool:
        """Say whether every slot is down after crashes in a row, and may not start again yet."""
        return all(s.state is _State.DOWN and now < s.start_at for s in self._slots)

    def start_due(self, now: float) -> list[int]:
        """Mark as starting, and return, the slots that are down and may start again."""
        due = [s for s in self._slots if s.state is _State.DOWN and s.start_at <= now]
        for slot in due:
            slot.state, slot.answered = _State.STARTING, 0
        return [slot.number for slot in due]

    def ready(self, number: int) -> None:
        """Note that a slot's process waits for its first chunk."""
        self._slots[number].state = _State.IDLE

    def emptiest(self) -> Stock | None:
        """Return what the slot with the fewest chunks has; None where none may have another."""
        open_ = [
            slot
            for slot in self._slots
            if slot.state in (_State.IDLE, _State.BUSY)
            and slot.answered + len(slot.jobs) < self._chunks
        ]
        if not open_:
            return None
        slot = min(open_, key=lambda slot: len(slot.jobs))
        last = slot.jobs[-1] if slot.jobs else None
        return Stock(slot.number, len(slot.jobs), slot.blocks, slot.size, last)

    def begin(self, number: int, job: Job, now: float) -> None:
        """Note that a slot was given a chunk, to be computed after those that it has."""
        slot = self._slots[number]
        if not slot.jobs:
            slot.state, slot.since = _State.BUSY, now
        slot.jobs.append(job)
        slot.blocks += job.chunk.blocks
        slot.size += len(job.body)

    def finish(self, number: int, now: float) -> tuple[Job, float] | None:
        """Note that a slot has answered its oldest chunk; return its job and how long it took.

        None for a slot that is being killed: its time was over just before it answered.
        """
        slot = self._slots[number]
        if not slot.jobs:
            return None
        job, seconds = slot.jobs.popleft(), now - slot.since
        slot.answered += 1
        slot.blocks -= job.chunk.blocks
        slot.size -= len(job.body)
        slot.state, slot.since, slot.crashes = _State.BUSY if slot.jobs else _State.IDLE, now, 0
        return job, seconds

    def kill_worn(self) -> list[int]:
        """Mark as killed, and return, the slots that have answered all that they may."""
        worn = [
            slot
            for slot in self._slots
            if slot.state is _State.IDLE and slot.answered >= self._chunks
        ]
        for slot in worn:
            slot.state = _State.KILLED
        return [slot.number for slot in worn]

    def kill(self, number: int) -> list[Job] | None:
        """Mark a slot as killed and return its jobs; None where it has no process to be killed."""
        slot = self._slots[number]
        if slot.state not in (_State.IDLE, _State.BUSY):
            return None
        slot.state = _State.KILLED
        return slot.clear()

    def kill_overdue(self, now: float, limit: float) -> list[tuple[int, list[Job]]]:
        """Mark as killed, and return with their jobs, the slots that compute for too long."""
        return self._kill(lambda slot: now - slot.since > limit)

    def kill_busy(self) -> list[tuple[int, list[Job]]]:
        """Mark as killed, and return with their jobs, all slots that compute."""
        return self._kill(lambda _: True)

    def _kill(self, doomed: Callable[[_Slot], bool]) -> list[tuple[int, list[Job]]]:
        killed = [slot for slot in self._slots if slot.state is _State.BUSY and doomed(slot)]
        for slot in killed:
            slot.state = _State.KILLED
        return [(slot.number, slot.clear()) for slot in killed]

    def bury(self, number: int, now: float) -> tuple[list[Job], float] | None:
        """Note that a slot's process is gone; return its jobs and the pause before it starts again.

        None for a slot that was to be killed. The pause doubles with each crash in a row; there is
        none where a chunk may be to blame, whose run the policy lets rest.
        """
        slot = self._slots[number]
        killed = slot.state is _State.KILLED
        jobs, slot.state = slot.clear(), _State.DOWN
        if killed:
            return None
        if jobs:
            slot.start_at = now
            return jobs, 0.0
        slot.crashes += 1
        pause = min(2.0 ** (slot.crashes - 2), LONGEST_PAUSE) if slot.crashes > 1 else 0.0
        slot.start_at = now + pause
        return jobs, pause
