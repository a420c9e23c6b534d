"""The books of one run: its cells, and what may enter them; pure.

A segment is what lies between two checkpoints. Nothing here knows brokers, clocks or databases.
"""

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import InitVar, dataclass, field
from enum import StrEnum

from aggregator.audits import Audits
from aggregator.cells import CellBooks, Ending, StoppingRule, Trace
from aggregator.failures import FailureRecord, Failures
from protocol.definition import Definition, Lane
from protocol.errors import MessageRefusedError
from protocol.messages import ChunkScope, Partial, RefusalReason, RunState, Telemetry
from protocol.ranges import Range, Ranges
from protocol.results import EndedBy
from protocol.rpc_messages import Age
from protocol.statistics import Statistics

MAX_ENGINES = 8
MAX_RANGES = 10_000
"""Merged ranges per cell: an honest scheduler leaves few gaps, and messages must hold them."""

MAX_CPU_SECONDS = 1e12
"""What a message may say at most; a sum beyond it could not be told."""


Contributor = tuple[int, int, str]
"""Cell, segment and host."""


class Outcome(StrEnum):
    """What became of an acceptable result."""

    MERGED = "merged"
    DUPLICATE = "duplicate"
    OVERLAP = "overlap"
    OVERSHOOT = "overshoot"
    LATE = "late"
    RECORDED = "recorded"
    AUDITED = "audited"
    REFUSED = "refused"


@dataclass(slots=True)
class RunBooks:
    """One run that has not ended.

    Attributes
    ----------
    created, opened, ended
        Seconds since the epoch; the time limit counts from when it was opened.
    name
        What it has in common with runs of its kind; None where it is the only one.
    merged_blocks
        Those that count.
    completed
        When every cell had ended; None while one goes on, and before anybody looked.
    due_blocks
        With a time limit, blocks that are expected until then; None before that can be told.
    """

    run: str
    definition: Definition
    pool: str
    lane: Lane
    created: float
    state: RunState = RunState.RUNNING
    term: int = 0
    opened: float = 0.0
    ended: float | None = None
    cpu_seconds: float = 0.0
    error: str | None = None
    name: str | None = None
    engines: set[str] = field(default_factory=set)
    cells: list[CellBooks] = field(default_factory=list)
    audits: Audits = field(default_factory=Audits)
    kept_failures: InitVar[Iterable[FailureRecord]] = ()
    failures: Failures = field(init=False)
    merged_blocks: int = field(default=0, init=False)
    due_blocks: int | None = field(default=None, init=False, compare=False)
    completed: float | None = field(default=None, init=False, compare=False)
    _new_contributors: set[Contributor] = field(default_factory=set, init=False, compare=False)
    _rule: StoppingRule = field(init=False, repr=False, compare=False)
    _going_on: int = field(init=False, repr=False)
    _foreseen: int = field(init=False, repr=False)
    _foreseen_blocks: int = field(init=False, repr=False)

    def __post_init__(self, kept_failures: Iterable[FailureRecord]) -> None:
        self.opened = self.opened or self.created
        self._rule = StoppingRule(self.definition)
        if not self.cells:
            self.cells = [self._rule.fresh_cell() for _ in self.definition.cells]
        self.merged_blocks = self._going_on = self._foreseen = self._foreseen_blocks = 0
        for cell in self.cells:
            self._tally(cell, 1)
        self.failures = Failures(self.definition, self.cells)
        for failure in kept_failures:
            if self.failures.is_missing(failure):
                self.failures.add(failure)

    @property
    def age(self) -> Age:
        """Its place among runs: the newest has the highest."""
        return self.created, self.run

    @property
    def model(self) -> str:
        """The name of its model."""
        return self.definition.model

    @property
    def complete(self) -> bool:
        """Whether every cell has ended."""
        return not self._going_on

    @property
    def expected_blocks(self) -> int:
        """Blocks that the run is expected to take, those that count already included.

        Cells of which nothing can be foreseen are expected to take what the others do.
        """
        known, total = self._foreseen, self._foreseen_blocks
        usual = self._rule.first_checkpoint
        if known:
            usual = max(usual, -(-total // known))
        total += (len(self.cells) - known) * usual
        if self.due_blocks is not None:
            total = min(total, self.due_blocks)
        return max(total, self.merged_blocks)

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
        self._tally(cell, -1)
        outcome = self._enter(cell, segment, partial)
        self._tally(cell, 1)
        cell.cost.learn(partial.cpu_seconds, partial.blocks)
        self.charge(partial.cpu_seconds)
        return outcome, segment

    def charge(self, cpu_seconds: float) -> None:
        """Add to what the run has cost."""
        self.cpu_seconds = min(self.cpu_seconds + cpu_seconds, MAX_CPU_SECONDS)

    def _enter(self, cell: CellBooks, segment: int, partial: Partial) -> Outcome:
        before = cell.merged.prefix()
        cell.merged.add(partial.first_block, partial.stop_block)
        if cell.ending is not None:
            return Outcome.OVERSHOOT
        present = cell.segments[segment]
        cell.segments[segment] = (
            partial.statistics if present is None else present.merge(partial.statistics)
        )
        hosts = cell.contributors.setdefault(segment, set())
        if partial.host not in hosts:
            hosts.add(partial.host)
            self._new_contributors.add((partial.cell, segment, partial.host))
        if len(self.engines) < MAX_ENGINES:
            self.engines.add(partial.engine)
        self._rule.decide(cell, before)
        self._drop_audits_beyond(partial.cell, cell)
        return Outcome.MERGED

    def take_contributors(self) -> set[Contributor]:
        """Return the contributors that a store does not know yet, and start collecting anew."""
        new, self._new_contributors = self._new_contributors, set()
        return new

    def pass_time(self, now: float) -> bool:
        """End the cells that go on once the time limit is over; say whether that is so now."""
        seconds = self.definition.stop.seconds
        if seconds is None:
            return False
        passed = now - self.opened
        if passed < seconds:
            if passed > 0 and self.merged_blocks:
                self.due_blocks = math.ceil(self.merged_blocks * seconds / passed)
            return False
        for number, cell in enumerate(self.cells):
            if cell.ending is None:
                self._tally(cell, -1)
                self._rule.end_by_time(cell)
                self._tally(cell, 1)
                self._drop_audits_beyond(number, cell)
        return True

    def empty(self, hosts: Collection[str]) -> set[int]:
        """Empty every segment that one of these hosts contributed to; return the cells of these."""
        for host in hosts:
            self.audits.withdraw(host)
        changed = set()
        for number, cell in enumerate(self.cells):
            tainted = [n for n, who in cell.contributors.items() if not who.isdisjoint(hosts)]
            if not tainted:
                continue
            changed.add(number)
            self._tally(cell, -1)
            self._rule.empty(cell, tainted)
            self._tally(cell, 1)
            for segment in tainted:
                start, stop = self._bounds(segment)
                self.audits.drop(self.audits.within(number, start, stop))
        if changed:
            self.completed = None
        return changed

    def reopen(self, now: float) -> None:
        """Take the run up again; what has ended in it stays ended, failures are forgotten."""
        self.state, self.error, self.ended = RunState.RUNNING, None, None
        self.opened, self.due_blocks, self.completed = now, None, None
        self.failures.clear()

    def samples_of(self, cell: int) -> int:
        """Return the samples of a cell that count."""
        return self.cells[cell].counted * self.definition.block_size

    def kept_segments(self, cell: int) -> int:
        """Return how many segments of a cell that has ended count."""
        ending = self.cells[cell].ending
        assert ending is not None  # noqa: S101 - the caller knows
        return self._rule.kept_segments(ending)

    def settled(self, cell: int) -> list[Range]:
        """Return the ranges of a cell that nobody needs any more; all once it has ended."""
        books = self.cells[cell]
        return list(books.merged) if books.ending is None else [(0, self.definition.blocks)]

    def missing(self, cell: int) -> list[Range]:
        """Return the ranges of a cell that are still needed."""
        return self.cells[cell].missing(0, self.definition.blocks)

    def _drop_audits_beyond(self, number: int, cell: CellBooks) -> None:
        """Forget the audits of what counts no more, where a cell has ended."""
        if cell.ending is not None and self.audits.pending:
            beyond = self.audits.within(number, cell.ending.blocks, self.definition.blocks)
            self.audits.drop(beyond)

    def _bounds(self, segment: int) -> Range:
        checkpoints = self.definition.checkpoints
        return (checkpoints[segment - 1] if segment else 0), checkpoints[segment]

    def _tally(self, cell: CellBooks, sign: int) -> None:
        """Count a cell in the run's sums, or take it out of them before it changes."""
        self.merged_blocks += sign * cell.counted
        self._going_on += sign * (cell.ending is None)
        if cell.expected is not None:
            self._foreseen += sign
            self._foreseen_blocks += sign * cell.expected

    def verdict(self, live: Mapping[str, Telemetry] | None, cell: int | None = None) -> str | None:
        """Return why the run has failed, None while it may still succeed; see `Failures`."""
        return self.failures.verdict(self.pool, live, cell)

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


@dataclass(frozen=True, slots=True)
class KeptCell:
    """What a store kept of a cell, but for its segments."""

    cell: int
    merged: Ranges
    ending: Ending | None
    expected: int | None
    trace: Trace


def restored_cells(
    definition: Definition,
    kept: Iterable[KeptCell],
    segments: Iterable[tuple[int, int, Statistics]],
    contributors: Iterable[Contributor] = (),
) -> list[CellBooks]:
    """Return the books of all cells from what a store kept; segments as (cell, segment, …)."""
    rule = StoppingRule(definition)
    cells = [rule.fresh_cell() for _ in definition.cells]
    for one in kept:
        cell = cells[one.cell]
        cell.merged, cell.ending, cell.trace = one.merged, one.ending, one.trace
        if one.expected is not None:
            cell.expected = one.expected
        if cell.ending is None and not cell.missing(0, definition.blocks):
            # Written before cells could end anywhere else.
            cell.ending = Ending(EndedBy.SAMPLES, definition.blocks)
    for number, segment, statistics in segments:
        cells[number].segments[segment] = statistics
    for number, segment, host in contributors:
        cells[number].contributors.setdefault(segment, set()).add(host)
    return cells
