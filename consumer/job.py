"""A chunk on its way through the agent, and which one starts next."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from consumer.events import Receipt
from protocol.definition import Lane
from protocol.messages import Chunk

AGED = 8.0
"""Seconds after which a waiting chunk starts next, whatever its lane: before it would go back."""


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
    alone: bool = False
    """Whether it is computed with nothing before or behind it in its slot: one of several chunks
    that were in a slot when that died."""

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two chunks the same."""
        c = self.chunk
        return (c.run, c.definition, c.attempt, c.cell, c.first_block, c.blocks)

    @property
    def issue(self) -> tuple[str, bytes, int]:
        """The run, and under which term it was issued; a run taken up again has a later one."""
        return self.chunk.run, self.chunk.definition, self.chunk.attempt >> 32


class Waiting:
    """Chunks without a slot, by lane and in the order in which they came."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, OrderedDict[int, Job]] = {lane: OrderedDict() for lane in Lane}

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __iter__(self) -> Iterator[Job]:
        return (job for lane in self._lanes.values() for job in lane.values())

    def add(self, job: Job) -> None:
        """Add a chunk behind those that wait."""
        self._lanes[job.lane][id(job)] = job

    def discard(self, job: Job) -> None:
        """Take a chunk out, if it waits."""
        self._lanes[job.lane].pop(id(job), None)

    def first(self, now: float) -> Job | None:
        """Return the oldest chunk that has aged, else the first of the most urgent lane."""
        heads = [next(iter(lane.values())) for lane in self._lanes.values() if lane]
        if not heads:
            return None
        oldest = min(heads, key=lambda job: job.since)
        return oldest if now - oldest.since > AGED else heads[0]
