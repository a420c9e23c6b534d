"""Those who watch runs and consumers live: told that something changed, and never waited for.

What changed they ask for themselves, each at its own pace.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from protocol.rate import Rate
from protocol.rpc_messages import RunStatus

RATE_SECONDS = 5.0
"""Rates are those of so many seconds: chunks take half a second, so that fewer would flicker."""

MAX_WATCHERS = 100
RUNS, FLEET = "runs", "fleet"


def topic_of(run: str) -> str:
    """Return what to watch for one run; no run's id makes it another topic."""
    return f"run:{run}"


class Watcher:
    """One who watches; however often it is told, it keeps but one mark."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.ended = False
        self._mark = asyncio.Event()

    def tell(self) -> None:
        """Say that there is something new."""
        self._mark.set()

    async def news(self, within: float) -> bool:
        """Wait so many seconds (s) for something new; say whether there was."""
        try:
            async with asyncio.timeout(within):
                await self._mark.wait()
        except TimeoutError:
            return False
        self._mark.clear()
        return True


class Watch:
    """All who watch, and the rates of the runs that go on, also for those who ask only once."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()
        self._rates: dict[str, Rate] = {}
        self._latest: dict[str, float | None] = {}

    @property
    def is_full(self) -> bool:
        """Whether nobody more may watch."""
        return len(self._watchers) >= MAX_WATCHERS

    @contextmanager
    def watching(self, topic: str) -> Iterator[Watcher]:
        """Watch while the context lasts."""
        watcher = Watcher(topic)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def tell(self, *topics: str) -> None:
        """Tell those who watch one of the topics."""
        for watcher in self._watchers:
            if watcher.topic in topics:
                watcher.tell()

    def tell_of_runs(self, runs: Iterable[str]) -> None:
        """Tell those who watch one of the runs, or all of them."""
        changed = {topic_of(run) for run in runs} if self._watchers else ()
        if changed:
            self.tell(RUNS, *changed)

    def tell_all(self, *, end: bool = False) -> None:
        """Tell everybody, and that it is over where that is so."""
        for watcher in self._watchers:
            watcher.ended |= end
            watcher.tell()

    def look(self, runs: Iterable[RunStatus], now: float) -> None:
        """Take in how many samples the runs that go on have now (s), about once a second."""
        rates, latest = {}, {}
        for run in runs:
            rates[run.run] = rate = self._rates.get(run.run) or Rate(RATE_SECONDS)
            latest[run.run] = rate.of(run.samples, now)
        self._rates, self._latest = rates, latest

    def rate(self, run: str) -> float | None:
        """Return the samples per second of a run, None where they are not known."""
        return self._latest.get(run)
