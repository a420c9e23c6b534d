"""Which slot does what: the slots' states, for the policy; no process is touched here."""

from dataclasses import dataclass
from enum import Enum, auto

from consumer.job import Job

LONGEST_PAUSE = 60.0


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
    job: Job | None = None
    since: float = 0.0
    crashes: int = 0
    start_at: float = 0.0


class Roster:
    """The states of so many slots, all down at first."""

    def __init__(self, slots: int) -> None:
        self._slots = [_Slot(number) for number in range(slots)]

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

    def start_due(self, now: float) -> list[int]:
        """Mark as starting, and return, the slots that are down and may start again."""
        due = [s for s in self._slots if s.state is _State.DOWN and s.start_at <= now]
        for slot in due:
            slot.state = _State.STARTING
        return [slot.number for slot in due]

    def ready(self, number: int) -> None:
        """Note that a slot's process waits for its first chunk."""
        self._slots[number].state = _State.IDLE

    def begin(self, number: int, job: Job, now: float) -> None:
        """Note that an idle slot was given a chunk."""
        slot = self._slots[number]
        slot.state, slot.job, slot.since = _State.BUSY, job, now

    def finish(self, number: int, now: float) -> tuple[Job, float] | None:
        """Note that a slot is idle again; return its job and how long it took.

        None for a slot that is being killed: its time was over just before it answered.
        """
        slot = self._slots[number]
        if slot.job is None:
            return None
        job, slot.job = slot.job, None
        slot.state, slot.crashes = _State.IDLE, 0
        return job, now - slot.since

    def kill_overdue(self, now: float, limit: float) -> list[tuple[int, Job]]:
        """Mark as killed, and return with their jobs, the slots that compute for too long."""
        overdue = []
        for slot in self._slots:
            if slot.state is _State.BUSY and slot.job and now - slot.since > limit:
                overdue.append((slot.number, slot.job))
                slot.state, slot.job = _State.KILLED, None
        return overdue

    def bury(self, number: int, now: float) -> tuple[Job | None, float] | None:
        """Note that a slot's process is gone; return its job and the pause before it starts again.

        None for a slot that was to be killed. The pause doubles with each crash in a row.
        """
        slot = self._slots[number]
        killed = slot.state is _State.KILLED
        job, slot.job, slot.state = slot.job, None, _State.DOWN
        if killed:
            return None
        slot.crashes += 1
        pause = min(2.0 ** (slot.crashes - 2), LONGEST_PAUSE) if slot.crashes > 1 else 0.0
        slot.start_at = now + pause
        return job, pause
