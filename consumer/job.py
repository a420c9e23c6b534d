"""A chunk on its way through the agent, and which one starts next."""

from dataclasses import dataclass

from consumer.events import Receipt
from protocol.definition import Lane
from protocol.messages import Chunk

AGED = 10.0
"""Seconds after which a waiting chunk starts next, whatever its lane."""

_ORDER = {lane: place for place, lane in enumerate(Lane)}


@dataclass(slots=True, eq=False)
class Job:
    """A chunk and its deliveries; equal chunks share one job, and one answer settles them all."""

    chunk: Chunk
    body: bytes
    lane: Lane
    since: float
    receipts: list[Receipt]
    answer: tuple[str, bytes] | None = None
    refusals: int = 0
    retry_at: float = 0.0

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two chunks the same."""
        c = self.chunk
        return (c.run, c.definition, c.attempt, c.cell, c.first_block, c.blocks)

    @property
    def issue(self) -> tuple[str, bytes, int]:
        """The run, and under which term it was issued; a run taken up again has a later one."""
        return self.chunk.run, self.chunk.definition, self.chunk.attempt >> 32


def next_job(waiting: list[Job], now: float) -> Job:
    """Return the oldest chunk that has aged, else the first of the most urgent lane."""
    oldest = min(waiting, key=lambda job: job.since)
    if now - oldest.since > AGED:
        return oldest
    return min(waiting, key=lambda job: _ORDER[job.lane])
