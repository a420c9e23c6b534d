"""The books of one cell, and the rule by which it ends at a checkpoint; pure.

Which partials may enter is decided in `aggregator.books`.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, reduce

from aggregator.block_cost import BlockCost
from aggregator.stopping import Target, growth_needed
from protocol.definition import Definition
from protocol.ranges import Range, Ranges
from protocol.results import EndedBy
from protocol.statistics import Statistics


@dataclass(frozen=True, slots=True)
class Ending:
    """What ended a cell, and at which checkpoint: 0 blocks where there was none yet."""

    by: EndedBy
    blocks: int


@dataclass(slots=True)
class Trace:
    """What a store has of how a cell converged: about how many points, and where the last is."""

    points: int = 0
    samples: int = 0


@dataclass(slots=True)
class CellBooks:
    """One cell: which blocks were merged, and the sums of each segment.

    Attributes
    ----------
    merged
        Once the cell has ended, also the blocks beyond that count no more.
    segments
        Sums between checkpoints; none of those beyond the end.
    contributors
        The hosts whose partials are in the sums of each segment that has any.
    ending
        None while the cell goes on.
    expected
        Blocks that the cell is expected to take, None before that can be told.
    cost
        What a block costs; a store does not keep it, so it tells no books apart.
    trace
        Nor does this: it follows from the points.
    """

    merged: Ranges
    segments: list[Statistics | None]
    ending: Ending | None = None
    expected: int | None = None
    contributors: dict[int, set[str]] = field(default_factory=dict)
    cost: BlockCost = field(default_factory=BlockCost, compare=False)
    trace: Trace = field(default_factory=Trace, compare=False)

    @property
    def counted(self) -> int:
        """Blocks that count."""
        return len(self.merged) if self.ending is None else self.ending.blocks

    @property
    def overshoot(self) -> int:
        """Blocks that were merged or arrived beyond the end."""
        return len(self.merged) - self.counted

    def statistics(self) -> Statistics | None:
        """Return all that counts, None where nothing does."""
        return total(self.segments)

    def moments(self) -> Statistics | None:
        """Return all that counts without its histograms, which take much longer to merge."""
        return total(s and s.model_copy(update={"histograms": ()}) for s in self.segments)

    def needs(self, start: int, stop: int) -> bool:
        """Say whether a block of [start, stop) is still needed; none is once it has ended."""
        return self.ending is None and not self.merged.covers(start, stop)

    def missing(self, start: int, stop: int) -> list[Range]:
        """Return the ranges of [start, stop) that are still needed; none once it has ended."""
        return [] if self.ending is not None else list(self.merged.gaps(start, stop))


class StoppingRule:
    """At which checkpoint each cell of a run ends."""

    def __init__(self, definition: Definition) -> None:
        stop = definition.stop
        self._definition = definition
        self._target = Target(stop.standard_error, stop.relative_error) if stop.has_target else None

    @cached_property
    def _outputs(self) -> tuple[int, ...]:
        reported = self._definition.reported
        return tuple(map(reported.index, self._definition.stop.outputs))

    @property
    def first_checkpoint(self) -> int:
        """Blocks after which a cell can end at the earliest."""
        return self._definition.checkpoints[0]

    def fresh_cell(self) -> CellBooks:
        """Return the books of a cell of which nothing is merged."""
        expected = None if self._target else self._definition.blocks
        return CellBooks(Ranges(), [None] * len(self._definition.checkpoints), expected=expected)

    def decide(self, cell: CellBooks, before: int) -> None:
        """End a cell at the first checkpoint that allows it, of those that are complete now.

        Parameters
        ----------
        cell
            One that goes on.
        before
            Up to this block the cell was complete, and decided upon, already.
        """
        checkpoints = self._definition.checkpoints
        first, last = (bisect_right(checkpoints, n) for n in (before, cell.merged.prefix()))
        for number in range(first, last):
            if (by := self._verdict(cell, number)) is not None:
                self._end(cell, Ending(by, checkpoints[number]))
                return

    def end_by_time(self, cell: CellBooks) -> None:
        """End a cell that goes on at its last complete checkpoint, if there is one."""
        checkpoints = self._definition.checkpoints
        complete = bisect_right(checkpoints, cell.merged.prefix())
        self._end(cell, Ending(EndedBy.SECONDS, checkpoints[complete - 1] if complete else 0))

    def empty(self, cell: CellBooks, segments: Iterable[int]) -> None:
        """Forget segments as if nothing of them had been merged; a cell that has ended goes on."""
        checkpoints = self._definition.checkpoints
        if cell.ending is not None:  # of what came beyond, the sums were not kept
            cell.merged.remove(cell.ending.blocks, self._definition.blocks)
        for number in segments:
            start = checkpoints[number - 1] if number else 0
            cell.merged.remove(start, checkpoints[number])
            cell.segments[number] = None
            del cell.contributors[number]
        cell.ending, cell.expected, cell.trace = None, self.fresh_cell().expected, Trace()

    def kept_segments(self, ending: Ending) -> int:
        """Return how many segments count of a cell that has ended."""
        return bisect_right(self._definition.checkpoints, ending.blocks)

    def _verdict(self, cell: CellBooks, number: int) -> EndedBy | None:
        """Return what ends a cell at a complete checkpoint, and foresee where that will be."""
        checkpoints = self._definition.checkpoints
        if self._target is not None:
            found = total(cell.segments[: number + 1])
            assert found is not None  # noqa: S101 - the checkpoint is complete
            method = self._definition.sampling.method
            growth = growth_needed(found, method, self._target, self._outputs)
            if growth is not None and growth <= 1:
                return EndedBy.ERROR
            needed = checkpoints[-1] if growth is None else math.ceil(growth * checkpoints[number])
            at = min(bisect_left(checkpoints, needed), len(checkpoints) - 1)
            cell.expected = checkpoints[at]
        return EndedBy.SAMPLES if number == len(checkpoints) - 1 else None

    def _end(self, cell: CellBooks, ending: Ending) -> None:
        cell.ending, cell.expected = ending, ending.blocks
        kept = self.kept_segments(ending)
        cell.segments[kept:] = [None] * (len(cell.segments) - kept)
        cell.contributors = {n: hosts for n, hosts in cell.contributors.items() if n < kept}


def total(segments: Iterable[Statistics | None]) -> Statistics | None:
    """Return the sum of the segments that have something merged."""
    present = [segment for segment in segments if segment is not None]
    return reduce(Statistics.merge, present) if present else None
