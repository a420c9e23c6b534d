"""From what a pilot measured to what a run will take: numbers in, plan out; nothing is asked here.

Samples follow from the pilot's variances, core seconds from what blocks cost, and wall time from
Amdahl's law with the serial share as it was measured.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from producer.plan_cell import CellPilot, CellPlan, Range, Rule, Value, chunk_blocks, plan_cell
from producer.plan_limit import cut_cells, ranged, total
from producer.sizing import AIM_SECONDS, FLOOR_SECONDS, LEAST_COST, SHARES

SLOTS = tuple(2**power for power in range(9))
ENOUGH_EFFICIENCY = 0.5
"""More slots are too many where each is used less than this."""

WORTH_SECONDS = 1.0
"""Wall time that distributing must save at least."""

WORTH_SPEEDUP = 2.0
"""How much faster than one core without any of the pipeline the best number of slots must be."""

FORMULA = (
    "seconds(n) = latency + chunks(n) * seconds_per_chunk + stretch * core_seconds / n  "
    "(Amdahl's law)"
)


@dataclass(frozen=True)
class Timing:
    """One run through the pipeline: its wall time, its CPU time, and its chunks."""

    wall: float
    cpu_seconds: float
    chunks: int


@dataclass(frozen=True)
class Overhead:
    """What the pipeline and the machines add, as measured.

    Attributes
    ----------
    latency
        Seconds from submission to result of a run that computes next to nothing.
    chunk
        Seconds by which each further chunk lengthens a run beyond what it computes.
    stretch
        Wall seconds that a slot needs for a CPU second: 1 where it has a core to itself.
    """

    latency: float
    chunk: float
    stretch: float = 1.0

    @classmethod
    def of(cls, latency: float, small: Timing, large: Timing, slots: int) -> "Overhead":
        """Return it from the same work in many small chunks and in few large ones.

        In the large ones next to nothing but computing takes time, which tells the stretch; what
        the small ones take beyond that is theirs. Noise makes neither smaller than it can be.
        """
        stretch = max(1.0, (large.wall - latency) * slots / max(large.cpu_seconds, 1e-9))
        beyond = small.wall - latency - stretch * small.cpu_seconds / slots
        return cls(latency, max(0.0, beyond) / small.chunks, stretch)


class SlotsPlan(Value):
    """What so many slots make of it; the more they are, the smaller the chunks.

    Attributes
    ----------
    samples
        In the result.
    core_seconds
        Computed; where a time limit ends the run, also for what comes after the last checkpoint.
    speedup
        How much more they compute in a second than one slot.
    """

    slots: int
    chunks: int
    samples: Range
    core_seconds: Range
    seconds: Range
    speedup: float
    efficiency: float


class Plan(Value):
    """What a run will take, and with how many slots it is worth while.

    Attributes
    ----------
    samples, core_seconds, cells, cells_short, cells_cut
        On the live slots where there are any, else on one; that matters only under a time limit.
    chunks, serial_seconds, serial_share
        On one slot: its chunks, the latency and the overhead of them all, and their share of time.
    enough_slots
        The most slots, of 256, that are used at least half.
    saved_seconds
        By how much the best number of slots is sooner than one is with as much.
    cells_short, cells_cut
        How many end at the sample limit, or by the time limit, before their target.
    """

    samples: Range
    core_seconds: Range
    chunks: int
    latency: float
    seconds_per_chunk: float
    stretch: float
    serial_seconds: float
    serial_share: float
    formula: str = FORMULA
    slots: tuple[SlotsPlan, ...]
    enough_slots: int
    live: SlotsPlan | None
    saved_seconds: float
    worth_distributing: bool
    cells_short: int
    cells_cut: int
    cells: tuple[CellPlan, ...]

    @property
    def best(self) -> SlotsPlan:
        """The slots that give most samples in least time, the fewest where several do."""
        return _best(self.slots)


def plan(cells: Sequence[CellPilot], rule: Rule, overhead: Overhead, live_slots: int) -> Plan:
    """Predict what a run takes.

    Parameters
    ----------
    cells
        One for each cell of the run.
    rule
        When each of them ends.
    overhead
        Of the pipeline, measured.
    live_slots
        Of the pool, now.
    """
    whole = tuple(plan_cell(cell, rule) for cell in cells)
    forecast = _Forecast(whole, rule, overhead)
    table = tuple(forecast.row(slots) for slots in SLOTS)
    live = forecast.row(live_slots) if live_slots else None
    one, best, told = table[0], _best(table), live or table[0]
    ended = cut_cells(whole, rule, told.core_seconds)
    pairs = list(zip(whole, ended, strict=True))
    saved = forecast.seconds_of_one(best.core_seconds.expected) - best.seconds.expected
    serial = forecast.serial_seconds(one.chunks)
    return Plan(
        samples=told.samples,
        core_seconds=told.core_seconds,
        chunks=one.chunks,
        latency=overhead.latency,
        seconds_per_chunk=overhead.chunk,
        stretch=overhead.stretch,
        serial_seconds=serial,
        serial_share=min(1.0, serial / one.seconds.expected),  # the latency alone may be longer
        slots=table,
        enough_slots=max(
            slots
            for slots in range(1, SLOTS[-1] + 1)
            if slots == 1 or forecast.speedup(slots) >= ENOUGH_EFFICIENCY * slots
        ),
        live=live,
        saved_seconds=saved,
        worth_distributing=(
            saved >= WORTH_SECONDS
            and best.seconds.expected * WORTH_SPEEDUP <= best.core_seconds.expected
        ),
        cells_short=sum(not cell.reaches and cell == end for cell, end in pairs),
        cells_cut=sum(end.samples.expected < cell.samples.expected for cell, end in pairs),
        cells=ended,
    )


def _best(rows: Sequence[SlotsPlan]) -> SlotsPlan:
    return min(rows, key=lambda row: (-row.samples.expected, row.seconds.expected))


class _Forecast:
    """What any number of slots makes of the cells."""

    def __init__(self, cells: tuple[CellPlan, ...], rule: Rule, overhead: Overhead) -> None:
        self._cells, self._rule, self._overhead = cells, rule, overhead
        self._limit = math.inf if rule.seconds is None else rule.seconds
        self._work = total([cell.core_seconds for cell in cells])
        self._kinds = Counter(
            _Kind(cell.samples.expected / rule.block_size, cell.core_seconds.expected, cell.chunks)
            for cell in cells
        )
        self._longest = max(
            min(one.core_seconds, _chunk_seconds(FLOOR_SECONDS, one.block_seconds))
            for one in self._kinds
        )
        self._one = self._progress(1)

    def serial_seconds(self, chunks: int) -> float:
        """Return what no number of slots takes off."""
        return self._overhead.latency + chunks * self._overhead.chunk

    def seconds_of_one(self, core_seconds: float) -> float:
        """Return the wall time in which one slot computes so much of the whole."""
        latency, work = self._overhead.latency, self._work.expected
        full = self._seconds(work, 1, _run_chunks(self._kinds, 1))
        return latency + (full - latency) * (core_seconds / work if work else 1.0)

    def speedup(self, slots: int) -> float:
        """Return how much more so many slots compute in a second than one does."""
        return self._progress(slots) / self._one if self._one else 1.0

    def row(self, slots: int) -> SlotsPlan:
        """Return what so many slots make of it."""
        chunks = _run_chunks(self._kinds, slots)
        full = ranged(lambda which: self._seconds(getattr(self._work, which), slots, chunks))
        computed = ranged(
            lambda which: getattr(self._work, which) * self._share(getattr(full, which))
        )
        speedup = self.speedup(slots)
        return SlotsPlan(
            slots=slots,
            chunks=math.ceil(chunks * self._share(full.expected)),
            samples=total([one.samples for one in cut_cells(self._cells, self._rule, computed)]),
            core_seconds=computed,
            seconds=ranged(lambda which: min(getattr(full, which), self._limit)),
            speedup=speedup,
            efficiency=speedup / slots,
        )

    def _seconds(self, core_seconds: float, slots: int, chunks: int) -> float:
        # No slot takes off a part of a chunk.
        together = max(core_seconds / min(slots, chunks), min(core_seconds, self._longest))
        return self.serial_seconds(chunks) + together * self._overhead.stretch

    def _share(self, seconds: float) -> float:
        """Return how much of a run that takes so long is computed before the limit."""
        if seconds <= self._limit:
            return 1.0
        latency = self._overhead.latency
        return max(0.0, self._limit - latency) / (seconds - latency)

    def _progress(self, slots: int) -> float:
        """Return the share of the run that so many slots compute in a second."""
        seconds = self._seconds(self._work.expected, slots, _run_chunks(self._kinds, slots))
        return self._share(seconds) / min(seconds, self._limit)


@dataclass(frozen=True)
class _Kind:
    """Cells that take the same."""

    blocks: float
    core_seconds: float
    chunks: int

    @property
    def block_seconds(self) -> float:
        return self.core_seconds / self.blocks


def guided_chunks(core_seconds: float, block_seconds: float, slots: int) -> float:
    """Return how many chunks the scheduler makes of work, by the rule of `producer.sizing`.

    While much remains they have the size that is aimed at; then each is a share of what remains,
    which shrinks geometrically; at the end they have the least size.
    """
    shares = SHARES * slots
    most = _chunk_seconds(AIM_SECONDS, block_seconds)
    least = _chunk_seconds(FLOOR_SECONDS, block_seconds)
    begin = min(core_seconds, most * shares)
    end = min(core_seconds, least * shares)
    shrinking = math.log(begin / end) / -math.log1p(-1 / shares)
    return (core_seconds - begin) / most + shrinking + end / least


def _run_chunks(kinds: Counter[_Kind], slots: int) -> int:
    """Return the chunks of all cells; each has its share of them while less and less remains."""
    total = max(LEAST_COST, sum(one.core_seconds * count for one, count in kinds.items()))

    def chunks(one: _Kind) -> float:
        guided = guided_chunks(total, one.block_seconds, slots) * one.core_seconds / total
        return max(one.chunks, min(guided, one.blocks))

    return math.ceil(sum(chunks(one) * count for one, count in kinds.items()) - 1e-6)


def _chunk_seconds(aim: float, block_seconds: float) -> float:
    block_seconds = max(block_seconds, LEAST_COST)
    return chunk_blocks(aim, block_seconds) * block_seconds
