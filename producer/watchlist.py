"""Which running runs may have lost their leader; pure, time passed in.

A run whose samples grow has somebody who schedules it, so its lock is left alone: the broker logs
every refusal.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass

from protocol.settings import RETRY_SECONDS

REST_SECONDS = 30.0
"""How long a run that could not be scheduled is left alone."""


@dataclass(slots=True)
class _Watched:
    samples: int | None
    due: float


class Watchlist:
    """The runs that somebody else schedules, as far as one knows."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._looked = False

    def look(
        self, running: Iterable[tuple[str, int]], declared: Container[str], now: float
    ) -> list[str]:
        """Return the runs whose lock may be tried now, those that wait for longest first.

        Parameters
        ----------
        running
            Id and merged samples of every running run that is not led from here; all others are
            forgotten.
        declared
            Runs that were declared since the last look.
        now
            Seconds.
        """
        before, self._watched = self._watched, {}
        for run, samples in running:
            known = before.get(run)
            if run in declared or not self._looked:
                known = _Watched(samples, now)
            elif known is None or known.samples not in (None, samples):
                known = _Watched(samples, now + RETRY_SECONDS)
            known.samples = samples
            self._watched[run] = known
        self._looked = True
        due = [(watched.due, run) for run, watched in self._watched.items() if watched.due <= now]
        return [run for _, run in sorted(due)]

    def refused(self, run: str, now: float) -> None:
        """Take note that somebody else leads a run."""
        self._put_off(run, now + RETRY_SECONDS)

    def failed(self, run: str, now: float) -> None:
        """Take note that a run cannot be scheduled at present."""
        self._put_off(run, now + REST_SECONDS)

    def _put_off(self, run: str, due: float) -> None:
        self._watched.setdefault(run, _Watched(None, due)).due = due
