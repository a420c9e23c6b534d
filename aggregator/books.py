"""The books of one run: merged ranges, exact statistics per segment, and failures; pure.

A segment is what lies between two checkpoints. Nothing here knows brokers, clocks or databases.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from protocol.definition import Definition, Lane
from protocol.errors import MessageRefusedError
from protocol.messages import ChunkScope, Failure, FailureKind, Partial, RefusalReason, RunState
from protocol.ranges import Range, Ranges
from protocol.statistics import Statistics

FAILURE_LIMIT = 3
"""A block that fails in this many different (attempt, host) ends the run."""

MAX_ENGINES = 8
MAX_RANGES = 10_000
"""Merged ranges per cell: an honest scheduler leaves few gaps, and messages must hold them."""

MAX_FAILURES = 200
"""Failures kept per run, of those that are charged and of those that are not."""

MAX_CPU_SECONDS = 1e12
"""What a message may say at most; a sum beyond it could not be told."""

UNCHARGED = frozenset({FailureKind.UNSUPPORTED_MODEL, FailureKind.DECLINED})


class Outcome(StrEnum):
    """What became of an acceptable result."""

    MERGED = "merged"
    DUPLICATE = "duplicate"
    OVERLAP = "overlap"
    LATE = "late"
    RECORDED = "recorded"


@dataclass(slots=True)
class CellBooks:
    """One cell: which blocks are merged, and the sums of each segment."""

    merged: Ranges
    segments: list[Statistics | None]

    def statistics(self) -> Statistics | None:
        """Return all that is merged, None before the first partial."""
        total: Statistics | None = None
        for segment in self.segments:
            if segment is not None:
                total = segment if total is None else total.merge(segment)
        return total


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """One failure that counts, or says who cannot help."""

    cell: int
    first_block: int
    blocks: int
    attempt: int
    host: str
    consumer: str
    kind: FailureKind
    text: str

    @property
    def stop_block(self) -> int:
        """One past the last block."""
        return self.first_block + self.blocks


@dataclass(slots=True)
class RunBooks:
    """One run that has not ended."""

    run: str
    definition: Definition
    pool: str
    lane: Lane
    created: float
    state: RunState = RunState.RUNNING
    term: int = 0
    ended: float | None = None
    cpu_seconds: float = 0.0
    error: str | None = None
    engines: set[str] = field(default_factory=set)
    cells: list[CellBooks] = field(default_factory=list)
    failures: list[FailureRecord] = field(default_factory=list)
    merged_blocks: int = 0

    def __post_init__(self) -> None:
        segments = len(self.definition.checkpoints)
        if not self.cells:
            self.cells = [CellBooks(Ranges(), [None] * segments) for _ in self.definition.cells]
        self.merged_blocks = sum(len(cell.merged) for cell in self.cells)

    @property
    def total_blocks(self) -> int:
        """Blocks of all cells."""
        return self.definition.blocks * len(self.cells)

    @property
    def complete(self) -> bool:
        """Whether every block is merged."""
        return self.merged_blocks == self.total_blocks

    def segment_of(self, scope: ChunkScope) -> int:
        """Return the segment that a chunk lies in.

        Raises
        ------
        MessageRefusedError
            It is another run's, lies outside the run, or crosses a checkpoint.
        """
        check_definition(scope, self.definition.hash)
        if scope.cell >= len(self.cells) or scope.stop_block > self.definition.blocks:
            raise MessageRefusedError(
                RefusalReason.OUT_OF_RANGE,
                f"cell {scope.cell}, blocks {scope.first_block} to {scope.stop_block}; the run has "
                f"{len(self.cells)} cells of {self.definition.blocks} blocks",
            )
        checkpoints = self.definition.checkpoints
        segment = bisect_right(checkpoints, scope.first_block)
        if scope.stop_block > checkpoints[segment]:
            raise MessageRefusedError(
                RefusalReason.CROSSES_CHECKPOINT,
                f"blocks {scope.first_block} to {scope.stop_block} cross {checkpoints[segment]}",
            )
        return segment

    def merge(self, partial: Partial) -> tuple[Outcome, int]:
        """Merge a partial unless its blocks are merged already; return what it was, and where.

        Raises
        ------
        MessageRefusedError
            It does not belong to this run.
        """
        segment = self.segment_of(partial)
        self._check_shape(partial)
        cell = self.cells[partial.cell]
        overlap = cell.merged.overlap(partial.first_block, partial.stop_block)
        if overlap:
            return (Outcome.DUPLICATE if overlap == partial.blocks else Outcome.OVERLAP), segment
        if not cell.merged.touches(partial.first_block, partial.stop_block) and (
            cell.merged.count >= MAX_RANGES
        ):
            raise MessageRefusedError(
                RefusalReason.TOO_FRAGMENTED, f"cell {partial.cell} has {MAX_RANGES} merged ranges"
            )
        present = cell.segments[segment]
        cell.segments[segment] = (
            partial.statistics if present is None else present.merge(partial.statistics)
        )
        cell.merged.add(partial.first_block, partial.stop_block)
        self.merged_blocks += partial.blocks
        self.cpu_seconds = min(self.cpu_seconds + partial.cpu_seconds, MAX_CPU_SECONDS)
        if len(self.engines) < MAX_ENGINES:
            self.engines.add(partial.engine)
        return Outcome.MERGED, segment

    def missing(self, cell: int) -> list[Range]:
        """Return the ranges of a cell that are not merged."""
        return list(self.cells[cell].merged.gaps(0, self.definition.blocks))

    def failed_attempts(self) -> tuple[int, ...]:
        """Return the attempts of the failures that are kept, where something is still missing."""
        return tuple(sorted({f.attempt for f in self.failures if self.is_missing(f)}))

    def record(self, failure: Failure) -> FailureRecord | None:
        """Remember a failure of a chunk that is missing; None when it, or too many, are known.

        Raises
        ------
        MessageRefusedError
            It does not belong to this run.
        """
        self.segment_of(failure)
        if any(self._says_the_same(known, failure) for known in self.failures):
            return None
        record = FailureRecord(
            cell=failure.cell,
            first_block=failure.first_block,
            blocks=failure.blocks,
            attempt=failure.attempt,
            host=failure.host,
            consumer=failure.consumer,
            kind=failure.kind,
            text=failure.text,
        )
        self.failures.append(record)
        return None if self._make_room(record) is record else record

    def _make_room(self, newest: FailureRecord) -> FailureRecord | None:
        """Drop what counts least when too many are kept of one sort, and return it.

        The first blocks are issued again first: their failures are the ones that add up.
        """
        alike = self._alike(newest)
        if len(alike) > MAX_FAILURES:
            self.failures = [known for known in self.failures if self.is_missing(known)]
            alike = self._alike(newest)
        if len(alike) <= MAX_FAILURES:
            return None
        dropped = max(reversed(alike), key=lambda known: (known.cell, known.first_block))
        self.failures.remove(dropped)
        return dropped

    def _alike(self, failure: FailureRecord) -> list[FailureRecord]:
        """Return the failures that are charged, or those that are not, as this one is."""
        uncharged = failure.kind in UNCHARGED
        return [known for known in self.failures if (known.kind in UNCHARGED) is uncharged]

    def verdict(self, live: frozenset[str]) -> str | None:
        """Return why the run has failed, None while it may still succeed.

        Parameters
        ----------
        live
            The consumers alive in the run's pool.
        """
        charged = [f for f in self.failures if f.kind not in UNCHARGED and self._counts(f)]
        for failure in charged:
            times = max(
                self._attempts_at(block, failure.cell, charged) for block in self._at(failure)
            )
            if times >= FAILURE_LIMIT:
                return self._sentence(failure, f"failed {times} times")
        unable = [f for f in self.failures if f.kind in UNCHARGED and self.is_missing(f)]
        if unable and live and live <= {failure.consumer for failure in unable}:
            return self._sentence(unable[0], f"no consumer of pool '{self.pool}' can compute it")
        return None

    def _counts(self, failure: FailureRecord) -> bool:
        """Say whether every earlier segment is complete, so that who ran ahead does not matter."""
        checkpoints = self.definition.checkpoints
        segment = bisect_right(checkpoints, failure.first_block)
        start = checkpoints[segment - 1] if segment else 0
        return self.is_missing(failure) and self.cells[failure.cell].merged.prefix() >= start

    def is_missing(self, failure: Failure | FailureRecord) -> bool:
        """Say whether a block of a failed chunk is missing; the chunk lies within the run."""
        merged = self.cells[failure.cell].merged
        return merged.overlap(failure.first_block, failure.stop_block) < failure.blocks

    def _at(self, failure: FailureRecord) -> list[int]:
        """Return where the number of failures per missing block can be highest: at the gaps."""
        merged = self.cells[failure.cell].merged
        return [start for start, _ in merged.gaps(failure.first_block, failure.stop_block)]

    def _attempts_at(self, block: int, cell: int, failures: list[FailureRecord]) -> int:
        """Return how many different (attempt, host) failed at a block."""
        there = (f for f in failures if f.cell == cell and f.first_block <= block < f.stop_block)
        return len({(failure.attempt, failure.host) for failure in there})

    def _says_the_same(self, known: FailureRecord, failure: Failure) -> bool:
        """Say whether a failure adds nothing: a repetition, or one who is known to be unable."""
        if (known.consumer, known.kind) != (failure.consumer, failure.kind):
            return False
        if known.kind in UNCHARGED:
            return self.is_missing(known)
        scope = (known.attempt, known.host, known.cell, known.first_block, known.blocks)
        return scope == (
            failure.attempt, failure.host, failure.cell, failure.first_block, failure.blocks
        )  # fmt: skip

    def _sentence(self, failure: FailureRecord, what: str) -> str:
        last = failure.first_block + failure.blocks - 1
        where = f"cell {failure.cell}, blocks {failure.first_block} to {last}"
        text = f"{where}: {what}; {failure.kind} on {failure.host}: {failure.text}"
        # It ends on terminals: no line breaks, and no control codes of whoever wrote the text.
        return "".join(c if c.isprintable() else " " for c in text)[:2000]

    def _check_shape(self, partial: Partial) -> None:
        statistics, definition = partial.statistics, self.definition
        expected = (
            partial.blocks,
            partial.blocks * definition.block_size,
            len(definition.reported),
            len(definition.controls),
            len(definition.reported) if definition.quantiles else 0,
        )
        found = (
            statistics.blocks,
            statistics.samples,
            statistics.outputs,
            len(statistics.sums) - statistics.outputs,
            len(statistics.histograms),
        )
        if found != expected:
            raise MessageRefusedError(
                RefusalReason.WRONG_SHAPE,
                f"blocks, samples, outputs, controls and histograms are {found}, "
                f"expected are {expected}",
            )


def check_definition(scope: ChunkScope, expected: bytes) -> None:
    """Refuse what carries another definition than its run.

    Raises
    ------
    MessageRefusedError
        With reason `wrong_definition`.
    """
    if scope.definition != expected:
        raise MessageRefusedError(
            RefusalReason.WRONG_DEFINITION,
            f"definition {scope.definition.hex()[:12]}…, the run has {expected.hex()[:12]}…",
        )


def restored_cells(
    definition: Definition,
    merged: Iterable[tuple[int, Ranges]],
    segments: Iterable[tuple[int, int, Statistics]],
) -> list[CellBooks]:
    """Return the books of all cells from what a store kept: (cell, ranges), (cell, segment, …)."""
    count = len(definition.checkpoints)
    cells = [CellBooks(Ranges(), [None] * count) for _ in definition.cells]
    for cell, ranges in merged:
        cells[cell].merged = ranges
    for cell, segment, statistics in segments:
        cells[cell].segments[segment] = statistics
    return cells
