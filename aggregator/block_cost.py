"""What a block of one cell costs, by its last partials; kept in memory, and no part of a result."""

from dataclasses import dataclass
from statistics import median

REMEMBERED = 5
"""Partials: the median of so many shrugs off the first one, which warms a slot up, and a liar."""


@dataclass(slots=True)
class BlockCost:
    """CPU seconds per block of the last few partials."""

    _last: tuple[float, ...] = ()

    def learn(self, cpu_seconds: float, blocks: int) -> None:
        """Take in what a partial says of itself."""
        self._last = (*self._last[1 - REMEMBERED :], cpu_seconds / blocks)

    @property
    def recent(self) -> float | None:
        """The median of what is remembered, None before the first partial."""
        return median(self._last) if self._last else None
