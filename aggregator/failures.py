"""The failures of one run: which are kept, and whether the run has failed by them; pure."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

from aggregator.cells import CellBooks
from protocol.definition import Definition
from protocol.messages import ChunkScope, Failure, FailureKind, Telemetry

FAILURE_LIMIT = 3
"""A block that fails in this many different (attempt, host) ends the run, unless one broken host
may be the reason."""

HOST_LIMIT = 10
"""One that fails in so many ends the run whatever the reason: who might compute it may never do so.

With the rests that a consumer takes after failures in a row, that is about a minute.
"""

BROKER = "the broker"
"""Stands for host and consumer where a chunk came back as a dead letter; nobody can have that name.
"""

MAX_FAILURES = 200
"""Failures kept per run, of those that are charged and of those that are not."""

UNCHARGED = frozenset({FailureKind.UNSUPPORTED_MODEL, FailureKind.DECLINED})

Pair = tuple[int, str]
"""Attempt and host."""


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

    @classmethod
    def of(cls, failure: Failure) -> Self:
        """Return what is kept of a failure."""
        return cls(
            failure.cell, failure.first_block, failure.blocks, failure.attempt, failure.host,
            failure.consumer, failure.kind, failure.text,
        )  # fmt: skip

    @classmethod
    def of_dead_letter(cls, chunk: ChunkScope) -> Self:
        """Return what is kept of a chunk past its delivery limit: a crash of no host."""
        return cls(
            chunk.cell, chunk.first_block, chunk.blocks, chunk.attempt, BROKER, BROKER,
            FailureKind.CRASH, "the chunk came back to the broker too often without an answer",
        )  # fmt: skip

    @property
    def stop_block(self) -> int:
        """One past the last block."""
        return self.first_block + self.blocks

    @property
    def charged(self) -> bool:
        """Whether it is held against the run."""
        return self.kind not in UNCHARGED

    def says_the_same(self, other: "FailureRecord") -> bool:
        """Say whether another one adds nothing: told again, or known to be unable."""
        if not self.charged:
            return (self.consumer, self.kind) == (other.consumer, other.kind)
        return other.charged and self.event == other.event

    @property
    def event(self) -> tuple[int, str, int, int, int]:
        """What happened, whoever told of it and however it failed."""
        return self.attempt, self.host, self.cell, self.first_block, self.blocks


@dataclass(slots=True)
class Failures(Collection[FailureRecord]):
    """The failures of a run that are kept, in the order in which they came.

    Parameters
    ----------
    definition, cells
        The run's; failures of what the cells have merged say nothing any more.
    """

    definition: Definition = field(repr=False, compare=False)
    cells: Sequence[CellBooks] = field(repr=False, compare=False)
    _kept: list[FailureRecord] = field(default_factory=list, init=False)

    def __iter__(self) -> Iterator[FailureRecord]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, failure: object) -> bool:
        return failure in self._kept

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def attempts(self) -> set[int]:
        """Return the attempts of those where something is still missing."""
        return {known.attempt for known in self._kept if self.is_missing(known)}

    def is_missing(self, failure: FailureRecord) -> bool:
        """Say whether a block of a failed chunk is still needed; it lies within the run."""
        return self.cells[failure.cell].needs(failure.first_block, failure.stop_block)

    def add(self, newest: FailureRecord) -> bool:
        """Keep a failure of a chunk that is missing; say whether it adds something and has room."""
        if any(known.says_the_same(newest) and self.is_missing(known) for known in self._kept):
            return False
        self._kept.append(newest)
        return self._make_room(newest) is not newest

    def _make_room(self, newest: FailureRecord) -> FailureRecord | None:
        """Drop what counts least when too many are kept of one sort, and return it.

        The first blocks are issued again first: their failures are the ones that add up. Those of
        the host with most of them tell least.
        """
        alike = self._alike(newest)
        if len(alike) > MAX_FAILURES:
            self._kept = [known for known in self._kept if self.is_missing(known)]
            alike = self._alike(newest)
        if len(alike) <= MAX_FAILURES:
            return None
        crowd = Counter(known.host for known in alike)
        dropped = max(
            reversed(alike), key=lambda known: (known.cell, known.first_block, crowd[known.host])
        )
        self._kept.remove(dropped)
        return dropped

    def _alike(self, failure: FailureRecord) -> list[FailureRecord]:
        """Return the failures that are charged, or those that are not, as this one is."""
        return [known for known in self._kept if known.charged is failure.charged]

    def verdict(
        self, pool: str, live: Mapping[str, Telemetry] | None, cell: int | None = None
    ) -> str | None:
        """Return why the run has failed, None while it may still succeed.

        Parameters
        ----------
        pool
            The run's.
        live
            The consumers alive in that pool, by name; None while some of them may not have been
            heard yet.
        cell
            The only one whose blocks or charged failures have changed since the last verdict; None
            where anything may have.
        """
        unable = [known for known in self._kept if not known.charged and self.is_missing(known)]
        names = {failure.consumer for failure in unable}
        able = None if live is None else _able_hosts(live.values(), names)
        for charged in self._charged_by_cell(cell):
            if sentence := self._verdict_on_cell(charged, able):
                return sentence
        if unable and live and live.keys() <= names:
            return _sentence(unable[0], f"no consumer of pool '{pool}' can compute it")
        return None

    def _charged_by_cell(self, cell: int | None) -> Iterable[list[FailureRecord]]:
        by_cell: dict[int, list[FailureRecord]] = {}
        for known in self._kept:
            if known.charged and cell in {None, known.cell}:
                by_cell.setdefault(known.cell, []).append(known)
        return by_cell.values()

    def _verdict_on_cell(self, charged: list[FailureRecord], able: set[str] | None) -> str | None:
        """Return why the failures of one cell end the run, None where they do not."""
        if len(charged) < FAILURE_LIMIT:
            return None
        counting = [failure for failure in charged if self._counts(failure)]
        worst = worst_at = 0
        for start, stop, pairs in _stretches(counting):
            if (
                len(pairs) > worst
                and self.cells[counting[0].cell].needs(start, stop)
                and _tell_of_the_run(pairs, able)
            ):
                worst, worst_at = len(pairs), start
        if not worst:
            return None
        first = next(f for f in counting if f.first_block <= worst_at < f.stop_block)
        return _sentence(first, f"failed {worst} times")

    def _counts(self, failure: FailureRecord) -> bool:
        """Say whether every earlier segment is complete, so that who ran ahead does not matter."""
        checkpoints = self.definition.checkpoints
        segment = bisect_right(checkpoints, failure.first_block)
        start = checkpoints[segment - 1] if segment else 0
        return self.is_missing(failure) and self.cells[failure.cell].merged.prefix() >= start


def _able_hosts(live: Iterable[Telemetry], unable: Collection[str]) -> set[str]:
    """Return the hosts with a consumer that takes chunks and has not said that it is unable."""
    return {one.host for one in live if one.slots and one.consumer not in unable}


def _tell_of_the_run(failed: Collection[Pair], able: set[str] | None) -> bool:
    """Say whether failures at a block are the run's own, and not those of one broken host.

    Whoever says so of some failures says it of more.

    Parameters
    ----------
    failed
        The different (attempt, host) that failed there.
    able
        The hosts that may compute it; None where they are not known.
    """
    if not FAILURE_LIMIT <= len(failed) < HOST_LIMIT:
        return len(failed) >= HOST_LIMIT
    hosts = Counter(host for _, host in failed)
    dead_letters = hosts.pop(BROKER, 0)
    if dead_letters >= FAILURE_LIMIT or len(hosts) > 1:
        return True
    return able is not None and able <= hosts.keys()


def _stretches(
    failures: Iterable[FailureRecord],
) -> Iterator[tuple[int, int, Collection[Pair]]]:
    """Yield each stretch [start, stop) of blocks with the same failures, and their pairs.

    All are of one cell. The pairs are those of the moment: they change with the next stretch.
    """
    edges = sorted(
        edge
        for failure in failures
        for edge in (
            (failure.first_block, 1, (failure.attempt, failure.host)),
            (failure.stop_block, -1, (failure.attempt, failure.host)),
        )
    )
    there: Counter[Pair] = Counter()
    for (start, sign, pair), (stop, _, _) in pairwise(edges):
        there[pair] += sign
        if not there[pair]:
            del there[pair]
        if start < stop:
            yield start, stop, there.keys()


def _sentence(failure: FailureRecord, what: str) -> str:
    first, last = failure.first_block, failure.stop_block - 1
    blocks = f"blocks {first} to {last}" if first < last else f"block {first}"
    text = (
        f"cell {failure.cell}, {blocks}: {what}; {failure.kind} on {failure.host}: {failure.text}"
    )
    # It ends on terminals: no line breaks, and no control codes of whoever wrote the text.
    return "".join(c if c.isprintable() else " " for c in text)[:2000]
