"""Which runs have ended lately, so that nobody waits for what is left of them; pure."""

from typing import NamedTuple

from protocol.messages import Chunk

REMEMBERED = 60.0
"""Seconds for which an ended run is remembered; a reopened one must not be skipped for ever."""


class _End(NamedTuple):
    """The end of a run: of which term, and until when it is remembered."""

    term: int
    until: float


class Endings:
    """The ends of runs that were heard of."""

    def __init__(self) -> None:
        self._ends: dict[tuple[str, bytes], _End] = {}

    def heard(self, run: str, definition: bytes, term: int, now: float) -> None:
        """Take in that a run ended in this term."""
        self._ends[run, definition] = _End(term, now + REMEMBERED)

    def pass_time(self, now: float) -> None:
        """Forget what was long ago."""
        self._ends = {run: end for run, end in self._ends.items() if end.until > now}

    def include(self, chunk: Chunk) -> bool:
        """Say whether nobody waits for a chunk; a run taken up again issues under a later term."""
        end = self._ends.get((chunk.run, chunk.definition))
        return end is not None and chunk.attempt >> 32 <= end.term
