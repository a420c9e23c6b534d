"""Sets of block numbers as sorted, disjoint, half-open ranges; for scheduler and ledger alike."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]
"""First block and one past the last."""


class Ranges:
    """A set of integers, kept as maximal ranges [start, stop)."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def __iter__(self) -> Iterator[Range]:
        return iter(zip(self._starts, self._stops, strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Ranges({list(self)})"

    def __len__(self) -> int:
        return sum(self._stops) - sum(self._starts)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def add(self, start: int, stop: int) -> None:
        """Add [start, stop), joining it with what it touches."""
        if start >= stop:
            return
        low = bisect_left(self._stops, start)
        high = bisect_right(self._starts, stop)
        if low < high:
            start = min(start, self._starts[low])
            stop = max(stop, self._stops[high - 1])
        self._starts[low:high] = [start]
        self._stops[low:high] = [stop]

    def remove(self, start: int, stop: int) -> None:
        """Take [start, stop) out."""
        if start >= stop:
            return
        low = bisect_right(self._stops, start)
        high = bisect_left(self._starts, stop)
        if low >= high:
            return
        first, last = self._starts[low], self._stops[high - 1]
        kept = [(first, start)] * (first < start) + [(stop, last)] * (stop < last)
        self._starts[low:high] = [span[0] for span in kept]
        self._stops[low:high] = [span[1] for span in kept]

    @property
    def first(self) -> Range:
        """The first range of a set that is not empty."""
        return self._starts[0], self._stops[0]

    @property
    def count(self) -> int:
        """How many ranges the set consists of."""
        return len(self._starts)

    def touches(self, start: int, stop: int) -> bool:
        """Say whether [start, stop) would join a range of the set."""
        return bisect_left(self._stops, start) < bisect_right(self._starts, stop)

    def covers(self, start: int, stop: int) -> bool:
        """Say whether all of [start, stop), which is not empty, is in the set."""
        at = bisect_right(self._starts, start)
        return at > 0 and self._stops[at - 1] >= stop

    def overlap(self, start: int, stop: int) -> int:
        """Return how many integers of [start, stop) are in the set."""
        low = bisect_right(self._stops, start)
        high = bisect_left(self._starts, stop)
        return sum(
            min(stop, self._stops[i]) - max(start, self._starts[i]) for i in range(low, high)
        )

    def gaps(self, start: int, stop: int) -> Iterator[Range]:
        """Yield, in order, the ranges of [start, stop) that are not in the set."""
        for i in range(bisect_right(self._stops, start), len(self._starts)):
            if self._starts[i] >= stop:
                break
            if start < self._starts[i]:
                yield start, self._starts[i]
            start = self._stops[i]
        if start < stop:
            yield start, stop

    def prefix(self) -> int:
        """Return the first integer >= 0 that is not in the set."""
        return self._stops[0] if self._starts and self._starts[0] == 0 else 0
