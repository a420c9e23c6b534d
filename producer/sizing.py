"""How many blocks a chunk gets: by what blocks cost, and less towards the end of a run; pure.

Shrinking towards the end is guided self-scheduling (Polychronopoulos and Kuck 1987): each chunk is
a share of what remains, so that all slots finish together.
"""

import math

AIM_SECONDS = 0.5
"""CPU seconds of a chunk, while much remains."""

FLOOR_SECONDS = 0.01
"""Below this, messages would cost more than the waiting that they save."""

GUESS_SHARE = 0.25
"""Of the aim, for a cell whose cost is only guessed from other cells."""

SHARES = 2
"""A chunk is at most what remains, divided by this and by the slots."""

MAX_CHUNK_BLOCKS = 1 << 16
MAX_COST = 1_500.0
"""CPU seconds of one block: a consumer gives up a chunk about then."""

LONGEST_SECONDS = 8.0
"""A model that waits more than it computes: no chunk takes longer at the best pace seen."""

LEAST_COST = 1e-9


class Sizing:
    """The costs of a run's cells, and the sizes of chunks that follow.

    Parameters
    ----------
    chunk_blocks
        A size that is forced; None to find one.
    """

    def __init__(self, chunk_blocks: int | None = None) -> None:
        self._forced = chunk_blocks
        self._costs: dict[int, float] = {}
        self._dearest: int | None = None
        self._pace = 0.0

    def learn(self, cell: int, cost: float | None) -> None:
        """Take in the CPU seconds of one block of a cell, where they are known."""
        if cost is None:
            return
        self._costs[cell] = min(max(cost, LEAST_COST), MAX_COST)
        if cell == self._dearest:
            self._dearest = max(self._costs, key=self._costs.__getitem__)
        elif self._dearest is None or self._costs[cell] >= self._costs[self._dearest]:
            self._dearest = cell

    def came_back(self, blocks: int, seconds: float) -> None:
        """Take in how long after its issue a chunk of so many blocks was merged."""
        self._pace = max(self._pace, blocks / max(seconds, LEAST_COST))

    def seconds(self, cell: int, blocks: int) -> float | None:
        """Return the CPU seconds that blocks of a cell need, None while no cell's are known."""
        cost = self._cost(cell)
        return None if cost is None else blocks * cost

    def blocks(self, cell: int, remaining: float, slots: int) -> int:
        """Return how many blocks the next chunk of a cell may have.

        Parameters
        ----------
        cell
            Whose blocks.
        remaining
            CPU seconds of all blocks that are not issued.
        slots
            That will share them.
        """
        if self._forced is not None:
            return self._forced
        cost = self._cost(cell)
        if cost is None:
            return 1
        aim = min(AIM_SECONDS, max(FLOOR_SECONDS, remaining / (SHARES * max(slots, 1))))
        if cell not in self._costs:
            aim *= GUESS_SHARE
        most = min(MAX_CHUNK_BLOCKS, math.ceil(LONGEST_SECONDS * self._pace))
        return max(1, min(math.floor(aim / cost), most))

    def _cost(self, cell: int) -> float | None:
        if self._dearest is None:
            return None
        return self._costs.get(cell, self._costs[self._dearest])
