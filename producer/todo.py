"""What is missing and not issued, in the order in which it should be; pure.

Earlier segments come first, whatever the cell: blocks beyond the next checkpoint may turn out not
to be needed.
"""

import heapq
from bisect import bisect_right
from collections.abc import Iterator, Mapping

from protocol.ranges import Range, Ranges


class Todo:
    """The missing blocks of all cells.

    Parameters
    ----------
    checkpoints
        Of every cell: increasing block counts, the last one is the cell's end.
    """

    def __init__(self, checkpoints: tuple[int, ...]) -> None:
        self._checkpoints = checkpoints
        self._gaps: dict[int, Ranges] = {}
        self._order: list[tuple[int, int]] = []
        self._entered: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._gaps)

    def __contains__(self, cell: int) -> bool:
        return cell in self._gaps

    def replace(self, gaps: Mapping[int, Ranges]) -> None:
        """Forget everything, and take this instead."""
        self._gaps = {cell: ranges for cell, ranges in gaps.items() if ranges}
        self._entered = {cell: self._segment(ranges) for cell, ranges in self._gaps.items()}
        self._order = [(segment, cell) for cell, segment in self._entered.items()]
        heapq.heapify(self._order)

    def add(self, cell: int, start: int, stop: int) -> None:
        """Add the blocks [start, stop) of a cell."""
        gaps = self._gaps.setdefault(cell, Ranges())
        gaps.add(start, stop)
        segment = self._segment(gaps)
        if segment < self._entered.get(cell, len(self._checkpoints)):
            self._entered[cell] = segment
            heapq.heappush(self._order, (segment, cell))

    def remove(self, cell: int, start: int, stop: int) -> None:
        """Take the blocks [start, stop) of a cell out, as far as they are in."""
        gaps = self._gaps.get(cell)
        if gaps is not None:
            gaps.remove(start, stop)
            if not gaps:
                del self._gaps[cell]

    def first(self) -> tuple[int, Range] | None:
        """Return a cell and the range of it that comes first, which crosses no checkpoint."""
        while self._order:
            entered, cell = self._order[0]
            gaps = self._gaps.get(cell)
            if gaps is None or entered != self._entered.get(cell):
                heapq.heappop(self._order)
                if gaps is None:
                    self._entered.pop(cell, None)
                continue
            segment = self._segment(gaps)
            if segment == entered:
                start, stop = gaps.first
                return cell, (start, min(stop, self._checkpoints[segment]))
            self._entered[cell] = segment
            heapq.heapreplace(self._order, (segment, cell))
        return None

    def counts(self) -> Iterator[tuple[int, int]]:
        """Yield each cell with how many blocks of it are in."""
        for cell, gaps in self._gaps.items():
            yield cell, len(gaps)

    def counts_to_checkpoint(self) -> Iterator[tuple[int, int]]:
        """Yield the same, up to the next checkpoint of each cell only."""
        for cell, gaps in self._gaps.items():
            start, _ = gaps.first
            yield cell, gaps.overlap(start, self._checkpoints[self._segment(gaps)])

    def _segment(self, gaps: Ranges) -> int:
        start, _ = gaps.first
        return bisect_right(self._checkpoints, start)
