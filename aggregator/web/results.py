"""Results for those who look again and again: computed aside, and kept for as long as they cost.

Estimates of very many cells take seconds; however many look, they get but a share of the processor.
"""

import asyncio
import copy
import time
from dataclasses import dataclass

from aggregator.books import RunBooks
from aggregator.result import result
from aggregator.session import Session
from protocol.ranges import Ranges
from protocol.results import Result

FEW_CELLS = 20
"""Results of so few are computed at once: the event loop hardly notices."""

KEEP = 20
"""A result is kept this many times as long as it took."""

MAX_KEPT = 100


@dataclass(frozen=True, slots=True)
class _Kept:
    result: Result | None
    was_active: bool
    until: float


class Results:
    """The results that were asked for lately."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, session: Session, run: str) -> Result | None:
        """Return a run's result, which may be a moment old; None where there is no such run.

        Raises
        ------
        StoreError
            The store cannot be read.
        """
        lock = self._locks.setdefault(run, asyncio.Lock())
        try:
            async with lock:  # so that those who come meanwhile wait for the same
                is_active = run in session.ledger.active
                kept = self._kept.get(run)
                began = time.monotonic()
                if kept is not None and kept.was_active == is_active and began < kept.until:
                    return kept.result
                found = await _compute(session, run)
                ended = time.monotonic()
                self._kept = {
                    name: kept
                    for name, kept in self._kept.items()
                    if name != run and ended < kept.until
                }
                if found is not None:
                    self._kept[run] = _Kept(found, is_active, ended + KEEP * (ended - began))
                while len(self._kept) > MAX_KEPT:
                    del self._kept[next(iter(self._kept))]
                return found
        finally:
            if not lock.locked():
                self._locks.pop(run, None)


async def _compute(session: Session, run: str) -> Result | None:
    books = session.ledger.active.get(run)
    if books is None or len(books.cells) <= FEW_CELLS:
        return await session.result(run)
    return await asyncio.to_thread(result, _snapshot(books), session.clock())


def _snapshot(books: RunBooks) -> RunBooks:
    """Return books that stay as they are while others change; sums never change themselves."""
    same = copy.copy(books)
    same.engines = set(books.engines)
    same.cells = [copy.copy(cell) for cell in books.cells]
    for cell in same.cells:
        cell.segments, cell.merged = list(cell.segments), Ranges(cell.merged)
    return same
