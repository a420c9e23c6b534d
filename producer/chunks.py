"""The chunk messages of one run, each under an attempt that is never used again."""

from protocol.definition import Definition
from protocol.messages import Chunk


class Chunks:
    """Makes them.

    Parameters
    ----------
    run, definition
        What is to be computed.
    """

    def __init__(self, run: str, definition: Definition) -> None:
        self._run = run
        self._definition = definition
        self._term = 0
        self._attempts = 0
        self._last: Chunk | None = None

    def begin_term(self, term: int) -> None:
        """Take note of a term; attempts carry it, so that a later one begins anew."""
        if term > self._term:
            self._term, self._attempts = term, 0

    def of(self, cell: int, start: int, stop: int) -> Chunk:
        """Return the message for the blocks [start, stop) of a cell, under a fresh attempt."""
        attempt = (self._term << 32) + self._attempts
        self._attempts += 1
        if self._last is None or self._last.cell != cell:
            self._last = Chunk.of(self._run, self._definition, cell, (start, stop), attempt)
        else:
            self._last = self._last.at((start, stop), attempt)
        return self._last
