"""What a batch changed in the ledger, for the store to write; values only."""

from dataclasses import dataclass, field

from aggregator.books import RunBooks
from aggregator.failures import FailureRecord
from aggregator.history import NewPoint
from protocol.messages import Headline
from protocol.results import Result
from protocol.rpc_messages import RunStatus


@dataclass(frozen=True, slots=True)
class EndedRun:
    """What is kept in memory of a run that has ended."""

    status: RunStatus
    definition_hash: bytes
    term: int
    headline: Headline | None = None


@dataclass(slots=True)
class Changes:
    """What a batch changed, to be written in one transaction."""

    runs: dict[str, RunBooks] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    reopened: set[str] = field(default_factory=set)
    cells: set[tuple[str, int]] = field(default_factory=set)
    segments: set[tuple[str, int, int]] = field(default_factory=set)
    ended_cells: set[tuple[str, int]] = field(default_factory=set)
    failures: list[tuple[str, FailureRecord]] = field(default_factory=list)
    points: list[NewPoint] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.runs)
