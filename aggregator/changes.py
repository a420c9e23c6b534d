"""What a batch changed in the ledger, for the store to write; values only."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from aggregator.audits import AuditOutcome, Key
from aggregator.books import RunBooks
from aggregator.failures import FailureRecord
from aggregator.history import NewPoint
from aggregator.standings import Standing
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
    """What a batch changed, to be written in one transaction.

    Attributes
    ----------
    emptied
        Cells that lost segments: what is left of them is among the other changes.
    audited
        What became of audits, to be counted.
    """

    runs: dict[str, RunBooks] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    reopened: set[str] = field(default_factory=set)
    cells: set[tuple[str, int]] = field(default_factory=set)
    segments: set[tuple[str, int, int]] = field(default_factory=set)
    ended_cells: set[tuple[str, int]] = field(default_factory=set)
    failures: list[tuple[str, FailureRecord]] = field(default_factory=list)
    points: list[NewPoint] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)
    emptied: set[tuple[str, int]] = field(default_factory=set)
    contributors: set[tuple[str, int, int, str]] = field(default_factory=set)
    audits: set[tuple[str, Key]] = field(default_factory=set)
    standings: dict[str, Standing] = field(default_factory=dict)
    audited: Counter[AuditOutcome] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        return bool(self.runs)

    def rewrite(self, books: RunBooks, cells: Iterable[int]) -> None:
        """Have all that is left of these cells written again."""
        run = books.run
        self.runs[run] = books
        for number in cells:
            contributors = books.cells[number].contributors
            self.cells.add((run, number))
            self.segments |= {(run, number, n) for n in range(len(books.cells[number].segments))}
            self.contributors |= {
                (run, number, n, host) for n, hosts in contributors.items() for host in hosts
            }

    def empty(self, books: RunBooks, cells: Collection[int]) -> None:
        """Have what these cells held forgotten, and what is left of them written again."""
        self.emptied |= {(books.run, number) for number in cells}
        self.ended_cells -= {(books.run, number) for number in cells}
        self.rewrite(books, cells)
