"""Which runs rest here after failures in a row, and when the whole agent does; pure.

A run whose chunks fail says nothing of other runs. Several runs that fail one after the other say
that the machine is broken.
"""

from dataclasses import dataclass, field

from protocol.messages import Chunk

FREE_FAILURES = 2
"""Failures in a row, of one run or of different runs, before the first rest; it doubles with each
further one."""

LONGEST_RUN_PAUSE = 16.0
"""Seconds that a run rests at most: what was delivered of it waits here for as long."""

LONGEST_PAUSE = 60.0
REMEMBERED = 60.0
"""Seconds after which a failure, or the end of a rest, no longer counts."""

Run = tuple[str, bytes]


def run_of(chunk: Chunk) -> Run:
    """Return the run that a chunk belongs to, and its definition."""
    return chunk.run, chunk.definition


@dataclass(slots=True)
class _Streak:
    failures: int = 0
    until: float = 0.0


@dataclass
class Rests:
    """The rests of one agent and of the runs that it computes."""

    _runs: dict[Run, _Streak] = field(default_factory=dict, init=False)
    _row: dict[Run, float] = field(default_factory=dict, init=False)
    _until: float = field(default=0.0, init=False)

    def failed(self, chunk: Chunk, now: float) -> str | None:
        """Take in that a chunk failed; return what to tell where a rest begins.

        What fails during a rest was begun before, and tells nothing more.
        """
        run = run_of(chunk)
        streak = self._runs.setdefault(run, _Streak())
        whole = self._row_grows(run, now)
        if now < streak.until:
            return whole
        streak.failures += 1
        if not (pause := _pause(streak.failures, LONGEST_RUN_PAUSE)):
            streak.until = now
            return whole
        streak.until = now + pause
        return whole or (
            f"{streak.failures} failures in a row; no new chunk of run {chunk.run} for {pause:g} s"
        )

    def succeeded(self, chunk: Chunk) -> None:
        """Take in that a chunk was computed: neither its run nor the machine is broken."""
        self._runs.pop(run_of(chunk), None)
        self._row.clear()

    def ended(self, run: Run) -> None:
        """Forget a run's own rest; it may be taken up again."""
        self._runs.pop(run, None)

    def pass_time(self, now: float) -> None:
        """Forget what was long ago."""
        self._runs = {r: s for r, s in self._runs.items() if now < s.until + REMEMBERED}
        self._row = {run: at for run, at in self._row.items() if now < at + REMEMBERED}

    def agent_rests(self, now: float) -> bool:
        """Say whether no chunk at all may start."""
        return now < self._until

    def run_rests(self, chunk: Chunk, now: float) -> bool:
        """Say whether no chunk of this one's run may start."""
        streak = self._runs.get(run_of(chunk))
        return streak is not None and now < streak.until

    def any_run_rests(self, now: float) -> bool:
        """Say whether there is a run of which no chunk may start."""
        return any(now < streak.until for streak in self._runs.values())

    def _row_grows(self, run: Run, now: float) -> str | None:
        new = run not in self._row and not self.agent_rests(now)
        if run in self._row or new:
            self._row[run] = now
        pause = _pause(len(self._row), LONGEST_PAUSE)
        if not (new and pause):
            return None
        self._until = now + pause
        return f"{len(self._row)} runs failed in a row; no new chunk for {pause:g} s"


def _pause(failures: int, longest: float) -> float:
    """Return the seconds of the rest after so many failures in a row."""
    excess = failures - FREE_FAILURES
    return min(2.0 ** min(excess - 1, 60), longest) if excess > 0 else 0.0
