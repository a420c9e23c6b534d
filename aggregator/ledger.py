"""The ledger: every run's books, what arrived for them, and what must be written and told; pure.

It never forgets a merged block and never merges one twice. After a batch the caller takes
`changes`, commits them, and only then acknowledges and publishes `events`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from aggregator.books import FailureRecord, Outcome, RunBooks
from aggregator.fleet import Fleet
from aggregator.news import News, counted
from aggregator.result import result
from protocol.definition import Lane
from protocol.errors import MessageRefusedError, RunIdTakenError, UnknownRunError
from protocol.messages import (
    Chunk,
    Failure,
    FailureKind,
    Finished,
    Partial,
    Progress,
    RefusalReason,
    RunState,
)
from protocol.results import Result
from protocol.rpc_messages import CellMissing, Declare, Missing, RunStatus

BROKER = "broker"
"""Stands for host and consumer where a chunk came back as a dead letter."""


@dataclass(frozen=True, slots=True)
class EndedRun:
    """What is kept in memory of a run that has ended."""

    status: RunStatus
    definition_hash: bytes
    term: int


@dataclass(slots=True)
class Changes:
    """What a batch changed, to be written in one transaction."""

    runs: dict[str, RunBooks] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    reopened: set[str] = field(default_factory=set)
    cells: set[tuple[str, int]] = field(default_factory=set)
    segments: set[tuple[str, int, int]] = field(default_factory=set)
    failures: list[tuple[str, FailureRecord]] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.runs)


class Ledger:
    """All runs: the active ones in full, the ended ones as a summary.

    Parameters
    ----------
    epoch
        The store's epoch under which this ledger writes.
    active, ended
        What the store holds.
    """

    def __init__(
        self, epoch: int, active: Iterable[RunBooks] = (), ended: Iterable[EndedRun] = ()
    ) -> None:
        self.epoch = epoch
        self.fleet = Fleet()
        self.active = {books.run: books for books in active}
        self.ended = {run.status.run: run for run in ended}
        self.changes = Changes()
        self._news = News(epoch, self.active)

    # What arrives

    def partial(self, partial: Partial, now: float) -> Outcome:
        """Take in a partial.

        Raises
        ------
        MessageRefusedError
            It belongs to no run, or not to the run that it names.
        """
        books = self._books(partial.run, partial.definition, now)
        if books is None:
            return Outcome.LATE
        outcome, segment = books.merge(partial)
        if outcome is Outcome.MERGED:
            self.changes.runs[books.run] = books
            self.changes.cells.add((books.run, partial.cell))
            self.changes.segments.add((books.run, partial.cell, segment))
        # A duplicate is news as well: its sender's scheduler has not heard that it is merged.
        self._news.of(books.run).cells.add(partial.cell)
        if books.complete:
            self._end(books, RunState.FINISHED, None, now)
        elif books.failures:
            self._judge(books, now)
        return outcome

    def failure(self, failure: Failure, now: float) -> Outcome:
        """Take in a failure.

        Raises
        ------
        MessageRefusedError
            It belongs to no run, or not to the run that it names.
        """
        books = self._books(failure.run, failure.definition, now)
        if books is None:
            return Outcome.LATE
        books.segment_of(failure)
        if not books.is_missing(failure):
            self._news.of(books.run).cells.add(failure.cell)
            return Outcome.DUPLICATE
        # Its scheduler must hear of every failed attempt, or it would wait for the chunk in vain.
        self._news.of(books.run).failed_attempts.append(failure.attempt)
        record = books.record(failure)
        if record is None:
            return Outcome.DUPLICATE
        self.changes.runs[books.run] = books
        self.changes.failures.append((books.run, record))
        self._judge(books, now)
        return Outcome.RECORDED

    def dead_letter(self, chunk: Chunk, now: float) -> Outcome:
        """Take in a chunk past its delivery limit: it counts as one crash.

        Raises
        ------
        MessageRefusedError
            It belongs to no run, or not to the run that it names.
        """
        scope = {name: getattr(chunk, name) for name in _SCOPE}
        return self.failure(
            Failure(
                **scope,
                kind=FailureKind.CRASH,
                text="the chunk came back to the broker too often without an answer",
                consumer=BROKER,
                host=BROKER,
            ),
            now,
        )

    def tick(self, now: float) -> None:
        """Notice consumers that fell silent; call it about once a second."""
        for pool in self.fleet.forget_silent(now):
            self.fleet_changed(pool, now)
        for books in list(self.active.values()):
            if books.failures:
                self._judge(books, now)

    def fleet_changed(self, pool: str, now: float) -> None:
        """Tell the pool's runs how many slots there are now."""
        for books in list(self.active.values()):
            if books.pool == pool:
                self._news.of(books.run)
                if books.failures:
                    self._judge(books, now)

    # What is asked

    def declare(self, request: Declare, now: float) -> Missing:
        """Create a run or find it again, and give its scheduler a fresh term of attempts.

        Raises
        ------
        RunIdTakenError
            The id names another definition.
        """
        run, definition = request.run, request.definition
        ended = self.ended.get(run)
        books = self.active.get(run)
        if ended is not None:
            known = ended.definition_hash
        else:
            known = books.definition.hash if books is not None else definition.hash
        if known != definition.hash:
            raise RunIdTakenError(
                f"run id '{run}' names another definition ({known.hex()[:12]}…, "
                f"this one is {definition.hash.hex()[:12]}…); choose another id"
            )
        if ended is None:
            if books is None:
                books = RunBooks(run, definition, request.pool, Lane(request.lane), now)
                self.active[run] = books
                self._news.begin(run)
                self.changes.declared.add(run)
            books.pool, books.lane = request.pool, Lane(request.lane)  # a run may be moved
            books.term += 1
            self.changes.runs[run] = books
            # Attempts carry the term: it goes to whoever declared, and to nobody else.
            return self.missing(run).model_copy(update={"term": books.term})
        return self.missing(run)

    def missing(self, run: str) -> Missing:
        """Return what is not merged.

        Raises
        ------
        UnknownRunError
            There is no such run.
        """
        books, ended = self.active.get(run), self.ended.get(run)
        if books is None:
            if ended is None:
                raise unknown_run(run)
            return self._missing_of_ended(ended)
        cells = (
            CellMissing(cell=cell, missing=counted(books.missing(cell)))
            for cell in range(len(books.cells))
            if len(books.cells[cell].merged) < books.definition.blocks
        )
        return Missing(
            run=run,
            state=books.state,
            epoch=self.epoch,
            sequence=self._news.sequence(run),
            term=0,
            slots=self.fleet.slots(books.pool),
            consumers=self.fleet.consumers(books.pool),
            merged_blocks=books.merged_blocks,
            cells=tuple(cells),
            failed_attempts=books.failed_attempts(),
        )

    def cancel(self, run: str, now: float) -> Missing:
        """End a run; one that has ended stays as it is.

        Raises
        ------
        UnknownRunError
            There is no such run.
        """
        books = self.active.get(run)
        if books is not None:
            self._end(books, RunState.CANCELLED, None, now)
        return self.missing(run)

    def reopen(self, books: RunBooks) -> Declare:
        """Take a failed or cancelled run, as the store has it, up again."""
        books.state, books.error, books.ended = RunState.RUNNING, None, None
        books.failures.clear()
        self.ended.pop(books.run, None)
        self.active[books.run] = books
        self._news.begin(books.run)
        self.changes.runs[books.run] = books
        self.changes.reopened.add(books.run)
        # Where it ended in this very batch, its end must be neither written nor told.
        self.changes.failures = [kept for kept in self.changes.failures if kept[0] != books.run]
        self.changes.results.pop(books.run, None)
        return declaration(books)

    def status(self, run: str | None, now: float) -> list[RunStatus]:
        """Return one run, or all of them with the newest first.

        Raises
        ------
        UnknownRunError
            There is no such run.
        """
        if run is None:
            running = [run_status(books, now) for books in self.active.values()]
            ended = [run.status for run in self.ended.values()]
            return sorted(running + ended, key=lambda status: -status.created)
        if run in self.active:
            return [run_status(self.active[run], now)]
        if run in self.ended:
            return [self.ended[run].status]
        raise unknown_run(run)

    # What is told

    def take_changes(self) -> Changes:
        """Return what must be written, and start collecting anew."""
        changes, self.changes = self.changes, Changes()
        return changes

    def take_events(self, now: float) -> list[Progress | Finished]:
        """Return what must be published once the changes are committed."""
        return self._news.take(self.active, self.fleet, now)

    # Within

    def _books(self, run: str, definition: bytes, now: float) -> RunBooks | None:
        """Return the books of an active run, None for an ended one."""
        books = self.active.get(run)
        if books is not None:
            return books
        ended = self.ended.get(run)
        if ended is None:
            raise MessageRefusedError(RefusalReason.UNKNOWN_RUN, f"run '{run}' is not known")
        if definition != ended.definition_hash:
            text = f"run '{run}' has another definition"
            raise MessageRefusedError(RefusalReason.WRONG_DEFINITION, text)
        self._news.remind(_finished(ended), now)
        return None

    def _judge(self, books: RunBooks, now: float) -> None:
        # Who was not heard yet may be able to compute what those heard so far cannot.
        known = self.fleet.is_known(now)
        verdict = books.verdict(self.fleet.live(books.pool) if known else frozenset())
        if verdict is not None:
            self._end(books, RunState.FAILED, verdict, now)

    def _end(self, books: RunBooks, state: RunState, error: str | None, now: float) -> None:
        books.state, books.error, books.ended = state, error, now
        ended = EndedRun(run_status(books, now), books.definition.hash, books.term)
        del self.active[books.run]
        self.ended[books.run] = ended
        self.changes.runs[books.run] = books
        self.changes.results[books.run] = result(books, now)
        self._news.end(_finished(ended))

    def _missing_of_ended(self, ended: EndedRun) -> Missing:
        return Missing(
            run=ended.status.run,
            state=ended.status.state,
            epoch=self.epoch,
            sequence=0,
            term=0,
            slots=self.fleet.slots(ended.status.pool),
            consumers=self.fleet.consumers(ended.status.pool),
            merged_blocks=0,
            cells=(),
            failed_attempts=(),
        )


def run_status(books: RunBooks, now: float) -> RunStatus:
    """Return the summary of a run; `now` in seconds since the epoch."""
    return RunStatus(
        run=books.run,
        state=books.state,
        model=books.definition.model,
        pool=books.pool,
        lane=books.lane,
        cells=len(books.cells),
        samples=books.merged_blocks * books.definition.block_size,
        total_samples=books.total_blocks * books.definition.block_size,
        created=books.created,
        elapsed_seconds=max(0.0, (books.ended or now) - books.created),
        error=books.error,
    )


def declaration(books: RunBooks) -> Declare:
    """Return the request that declares a run."""
    return Declare(run=books.run, definition=books.definition, pool=books.pool, lane=books.lane)


def unknown_run(run: str) -> UnknownRunError:
    """Return the error for a run that nobody declared."""
    return UnknownRunError(f"run '{run}' is not known to the aggregator")


_SCOPE = ("run", "definition", "attempt", "cell", "first_block", "blocks")


def _finished(ended: EndedRun) -> Finished:
    return Finished(
        run=ended.status.run,
        definition=ended.definition_hash,
        term=ended.term,
        state=ended.status.state,
    )
