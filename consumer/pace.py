"""How many chunks a slot is given at a time: several where each is over in a moment.

A slot that has the next chunk at hand does not wait for the agent, and one message carries many
answers; but what is in a slot cannot be overtaken, so it is never more than a moment's work.
"""

from consumer.job import Job
from consumer.roster import Stock
from protocol.messages import Chunk

STOCK_SECONDS = 0.02
"""Work in a slot at most, beyond its first chunk."""

STOCK_CHUNKS = 128
STOCK_BYTES = 32_768
"""A slot's pipe takes as much without anybody waiting."""

FORGET = 0.95
"""A faster chunk lowers the estimate to no less than this; a slower one raises it at once."""

MAX_RUNS = 100


class Pace:
    """Seconds per block of each run, as seen lately."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, bytes], float] = {}

    def measured(self, chunk: Chunk, seconds: float) -> None:
        """Learn how long a chunk took."""
        run = _run(chunk)
        if run not in self._seconds and len(self._seconds) >= MAX_RUNS:
            self._seconds.clear()
        self._seconds[run] = max(seconds / chunk.blocks, FORGET * self._seconds.get(run, 0.0))

    def fits(self, job: Job, stock: Stock, last: Job) -> bool:
        """Say whether a slot with this stock, which ends in `last`, may be given one more chunk."""
        run = _run(job.chunk)
        pace = self._seconds.get(run)
        if pace is None or job.alone or last.alone or run != _run(last.chunk):
            return False
        return (
            stock.chunks < STOCK_CHUNKS
            and (stock.blocks + job.chunk.blocks) * pace <= STOCK_SECONDS
            and stock.size + len(job.body) <= STOCK_BYTES
        )


def _run(chunk: Chunk) -> tuple[str, bytes]:
    return chunk.run, chunk.definition
