"""How estimates converged: which points of that are worth keeping, and when to make one; pure.

A point costs an estimate, so few are made per second, whatever arrives; a plot needs few of them,
so they are thinned as a run grows. Where they are kept is the store's business.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aggregator.books import RunBooks
from aggregator.estimates import estimates

MAX_POINTS = 120
"""Points of a cell after thinning; twice as many may be kept before it is due."""

MIN_POINTS = 8
MAX_VALUES = 250_000
"""Points times outputs times cells of a run, after thinning, unless `MIN_POINTS` are more."""

OCTAVES = 32
"""Of block counts: a cell has at most 2³² blocks."""

ESTIMATES_PER_SECOND = 25.0
"""Estimates of four outputs or fewer; each takes about a third of a millisecond."""

OUTPUTS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Point:
    """How far a cell was at some time.

    Attributes
    ----------
    samples
        Merged until then.
    at
        Seconds since the epoch.
    estimates
        Mean and standard error of each reported output; what cannot be known is None.
    """

    samples: int
    at: float
    estimates: tuple[tuple[float | None, float | None], ...]


@dataclass(frozen=True, slots=True)
class NewPoint:
    """A point to be kept, and whether its cell has so many by now that they must be thinned."""

    run: str
    cell: int
    point: Point
    limit: int | None


def point_limit(cells: int, outputs: int) -> int:
    """Return how many points each cell of a run keeps after thinning."""
    return max(MIN_POINTS, min(MAX_POINTS, MAX_VALUES // (cells * outputs)))


def thinned(samples: Sequence[int], limit: int) -> list[int]:
    """Return which points of a cell to keep, at most `limit` + 2 of them, the last one included.

    Where there are few samples the gaps grow with their number, so that logarithmic axes are
    covered evenly; further on they are equal, for linear ones. Each takes half of the points.

    Parameters
    ----------
    samples
        At each point, ascending, from one block to 2³² blocks.
    limit
        At least `MIN_POINTS`.
    """
    if not samples:
        return []
    growth, widest = 2.0 ** (2 * OCTAVES / limit) - 1.0, 2 * samples[-1] / limit
    kept = [samples[0]]
    kept.extend(
        number for number in samples[1:-1] if number - kept[-1] >= min(kept[-1] * growth, widest)
    )
    return [*kept, samples[-1]] if len(samples) > 1 else kept


class Recorder:
    """Which cells are to get a point, the one that has waited longest first."""

    def __init__(self) -> None:
        self._due: dict[tuple[str, int], None] = {}
        self._credit = ESTIMATES_PER_SECOND
        self._credited = float("-inf")

    def merged(self, books: RunBooks, cell: int) -> None:
        """Note that something of a cell was merged."""
        key = books.run, cell
        if key not in self._due and _is_due(books, cell):
            self._due[key] = None

    def take(self, active: dict[str, RunBooks], now: float) -> Iterator[NewPoint]:
        """Yield the points that are due and that the processor has the time for."""
        passed = min(1.0, now - self._credited)
        self._credit = min(ESTIMATES_PER_SECOND, self._credit + passed * ESTIMATES_PER_SECOND)
        self._credited = now
        while self._due and self._credit > 0:
            run, cell = key = next(iter(self._due))
            del self._due[key]
            books = active.get(run)
            # An end may have come meanwhile: its result has the last point. Or all was emptied.
            if books is None or books.cells[cell].ending or not books.cells[cell].counted:
                continue
            self._credit -= max(1.0, len(books.definition.reported) / OUTPUTS_AT_ONCE)
            yield _new_point(books, cell, now)


def _is_due(books: RunBooks, cell: int) -> bool:
    samples, trace = books.samples_of(cell), books.cells[cell].trace
    limit = point_limit(len(books.cells), len(books.definition.reported))
    return samples - trace.samples > samples // limit


def _new_point(books: RunBooks, cell: int, now: float) -> NewPoint:
    definition, trace = books.definition, books.cells[cell].trace
    statistics = books.cells[cell].moments()
    assert statistics is not None  # noqa: S101 - something was merged
    found = estimates(statistics, definition.sampling.method, definition.stop.confidence)
    limit = point_limit(len(books.cells), len(definition.reported))
    trace.samples, trace.points = statistics.samples, trace.points + 1
    is_full = trace.points > 2 * limit
    if is_full:
        trace.points = limit  # or a few less, which only the store could tell
    pairs = tuple((one.mean, one.standard_error) for one in found)
    point = Point(statistics.samples, now, pairs)
    return NewPoint(books.run, cell, point, limit if is_full else None)
