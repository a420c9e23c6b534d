"""What has not been told about runs yet, and how it becomes events; pure.

It is collected while a batch is taken in, and taken once the batch is committed. What is true of a
run stands in its books.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from aggregator.books import RunBooks
from aggregator.fleet import Fleet
from aggregator.result import headline
from protocol import topology
from protocol.messages import (
    TOLD_AUDITS,
    CellProgress,
    ConsumerOutdated,
    Declared,
    Finished,
    Headline,
    HostRefused,
    Progress,
    WantedAudits,
)
from protocol.ranges import Range

REMIND_SECONDS = 5.0
"""How often the end of a run is repeated while late results show that somebody has not heard."""

REFUSE_SECONDS = 1.0
"""How often a host is told that it is refused, while it goes on."""

HEADLINE_SECONDS = 0.2
"""How often the estimate for people who watch is computed."""


Refusal = HostRefused | ConsumerOutdated
Event = Progress | Declared | Finished | Refusal


@dataclass(slots=True)
class RunNews:
    """What has not been told about a run yet."""

    cells: set[int] = field(default_factory=set)
    failed_attempts: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Told:
    """What was last told about a run.

    Attributes
    ----------
    sequence
        Of the last progress.
    fruitless
        The latest attempts that came back without an answer, no more than audits are under way at a
        time. No store has them: they are lost with an aggregator that is killed, and the scheduler
        then takes these attempts for late.
    headline, headline_at
        The estimate, and when it was computed.
    """

    sequence: int = 0
    fruitless: dict[int, None] = field(default_factory=dict)
    headline: Headline | None = None
    headline_at: float = float("-inf")


class News:
    """The news of all runs.

    Parameters
    ----------
    epoch
        The store's epoch, which every progress carries.
    runs
        Those that are active from the start.
    wanted
        Gives the audits that are wanted of a run.
    """

    def __init__(
        self,
        epoch: int,
        runs: Iterable[str],
        wanted: Callable[[RunBooks], WantedAudits | None],
    ) -> None:
        self._epoch = epoch
        self._wanted = wanted
        self._told = {run: _Told() for run in runs}
        self._pending: dict[str, RunNews] = {}
        self._declared: list[Declared] = []
        self._finished: list[Finished] = []
        self._reminded: dict[str, float] = {}
        self._refused: list[Refusal] = []
        self._told_off: dict[Refusal, float] = {}

    def begin(self, run: str) -> None:
        """Take note that a run is active; where its end is not told yet, it never will be."""
        self._told[run] = _Told()
        self._declared.append(Declared(run=run))
        self._finished = [event for event in self._finished if event.run != run]

    def of(self, run: str) -> RunNews:
        """Return what is to be told of an active run, to be added to; even nothing is told."""
        return self._pending.setdefault(run, RunNews())

    def gave_nothing(self, run: str, attempt: int) -> None:
        """Tell that an attempt came back without an answer, where no failure is kept of it.

        The event may be lost, and the scheduler would wait for it in vain: answers repeat it.
        """
        self.of(run).failed_attempts.append(attempt)
        fruitless = self._told[run].fruitless
        fruitless.pop(attempt, None)
        fruitless[attempt] = None
        if len(fruitless) > TOLD_AUDITS:
            del fruitless[next(iter(fruitless))]

    def fruitless(self, run: str) -> Collection[int]:
        """Return the latest attempts of an active run of which that was told."""
        return self._told[run].fruitless

    def sequence(self, run: str) -> int:
        """Return the number of the last progress of an active run."""
        return self._told[run].sequence

    def headline(self, books: RunBooks, now: float) -> Headline | None:
        """Return the estimate so far of an active run, which may be a moment old."""
        told = self._told[books.run]
        if now - told.headline_at >= HEADLINE_SECONDS:
            told.headline, told.headline_at = headline(books), now
        return told.headline

    def last_headline(self, run: str) -> Headline | None:
        """Return the estimate that the last progress of an active run told."""
        return self._told[run].headline

    def end(self, finished: Finished) -> None:
        """Tell that a run has ended, and nothing else of it."""
        del self._told[finished.run]
        self._pending.pop(finished.run, None)
        self._finished.append(finished)

    def remind(self, finished: Finished, now: float) -> None:
        """Tell once more that a run has ended, unless that was done a moment ago."""
        if now - self._reminded.get(finished.run, float("-inf")) >= REMIND_SECONDS:
            self._reminded[finished.run] = now
            self._finished.append(finished)

    def refuse(self, refusal: Refusal, now: float) -> None:
        """Tell that a host or consumer is refused, unless it was told a moment ago."""
        if now - self._told_off.get(refusal, float("-inf")) >= REFUSE_SECONDS:
            self._told_off[refusal] = now
            self._refused.append(refusal)

    def emptied(self, run: str) -> None:
        """Have whoever listens to an active run ask what is missing: some of it is again."""
        self._told[run].sequence += 1
        self.of(run)

    def take(self, active: Mapping[str, RunBooks], fleet: Fleet, now: float) -> list[Event]:
        """Return the events that must be published, and start collecting anew."""
        events: list[Event] = [event for event in self._declared if event.run in active]
        events.extend(
            self._progress(active[run], news, fleet, now)
            for run, news in self._pending.items()
            if run in active
        )
        events.extend(self._finished)
        events.extend(self._refused)
        self._refused.clear()
        self._told_off = {r: at for r, at in self._told_off.items() if now - at < REFUSE_SECONDS}
        self._declared.clear()
        self._pending.clear()
        self._finished.clear()
        return events

    def _progress(self, books: RunBooks, news: RunNews, fleet: Fleet, now: float) -> Progress:
        told = self._told[books.run]
        told.sequence += 1
        return Progress(
            run=books.run,
            epoch=self._epoch,
            sequence=told.sequence,
            cells=tuple(
                CellProgress(
                    cell=cell,
                    merged=block_ranges(books.settled(cell)),
                    cost=books.cells[cell].cost.recent,
                )
                for cell in sorted(news.cells)
            ),
            failed_attempts=tuple(news.failed_attempts),
            slots=fleet.slots(books.pool),
            consumers=fleet.consumers(books.pool),
            merged_blocks=books.merged_blocks,
            expected_blocks=books.expected_blocks,
            cpu_seconds=books.cpu_seconds,
            headline=self.headline(books, now),
            audits=self._wanted(books),
        )


def routing_key(event: Event) -> str:
    """Return the key under which an event is published."""
    if isinstance(event, HostRefused | ConsumerOutdated):
        return topology.refused_key(event.host)
    return _KEYS[type(event)](event.run)


_KEYS: Mapping[type[Progress | Declared | Finished], Callable[[str], str]] = {
    Progress: topology.progress_key,
    Declared: topology.declared_key,
    Finished: topology.finished_key,
}


def block_ranges(ranges: Iterable[Range]) -> tuple[tuple[int, int], ...]:
    """Return ranges as messages have them: first block and how many."""
    return tuple((start, stop - start) for start, stop in ranges)
