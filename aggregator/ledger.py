"""The ledger: every run's books, what arrived for them, and what must be written and told; pure.

It never forgets a merged block and never merges one twice. After a batch the caller takes
`changes`, commits them, and only then acknowledges and publishes `events`.
"""

from collections.abc import Iterable
from heapq import nlargest
from operator import attrgetter

from aggregator.books import Outcome, RunBooks
from aggregator.changes import Changes, EndedRun
from aggregator.failures import FailureRecord
from aggregator.fleet import Fleet
from aggregator.history import Recorder
from aggregator.names import Latest, Names
from aggregator.news import Event, News, block_ranges
from aggregator.result import final_headline, result
from protocol.definition import Lane
from protocol.errors import MessageRefusedError, RunIdTakenError, UnknownRunError
from protocol.messages import (
    Chunk,
    ChunkScope,
    Failure,
    Finished,
    Headline,
    Partial,
    RefusalReason,
    RunState,
)
from protocol.rpc_messages import Age, CellMissing, Declare, Missing, RunStatus


class Ledger:
    """All runs: the active ones in full, the ended ones as a summary.

    Parameters
    ----------
    epoch
        The store's epoch under which this ledger writes.
    active, ended, names
        What the store holds.
    """

    def __init__(
        self,
        epoch: int,
        active: Iterable[RunBooks] = (),
        ended: Iterable[EndedRun] = (),
        names: Iterable[Latest] = (),
    ) -> None:
        self.epoch = epoch
        self.names = Names(names)
        self.fleet = Fleet()
        self.active = {books.run: books for books in active}
        self.ended = {run.status.run: run for run in ended}
        self.changes = Changes()
        self._news = News(epoch, self.active)
        self._recorder = Recorder()

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
        if outcome in (Outcome.MERGED, Outcome.OVERSHOOT):
            self.changes.runs[books.run] = books
            self.changes.cells.add((books.run, partial.cell))
        if outcome is Outcome.MERGED:
            self.changes.segments.add((books.run, partial.cell, segment))
            self._recorder.merged(books, partial.cell)
            if books.cells[partial.cell].ending is not None:
                self.changes.ended_cells.add((books.run, partial.cell))
        # A duplicate is news as well: its sender's scheduler has not heard that it is merged.
        self._news.of(books.run).cells.add(partial.cell)
        if books.complete:
            self._end(books, RunState.FINISHED, None, now)
        elif outcome is Outcome.MERGED and books.failures:
            self._judge(books, now, partial.cell)
        return outcome

    def failure(self, failure: Failure, now: float) -> Outcome:
        """Take in a failure.

        Raises
        ------
        MessageRefusedError
            It belongs to no run, or not to the run that it names.
        """
        return self._failed(failure, FailureRecord.of(failure), now)

    def dead_letter(self, chunk: Chunk, now: float) -> Outcome:
        """Take in a chunk past its delivery limit: it counts as one crash.

        Raises
        ------
        MessageRefusedError
            It belongs to no run, or not to the run that it names.
        """
        return self._failed(chunk, FailureRecord.of_dead_letter(chunk), now)

    def _failed(self, scope: ChunkScope, record: FailureRecord, now: float) -> Outcome:
        books = self._books(scope.run, scope.definition, now)
        if books is None:
            return Outcome.LATE
        books.segment_of(scope)
        if not books.failures.is_missing(record):
            self._news.of(books.run).cells.add(record.cell)
            return Outcome.DUPLICATE
        # Its scheduler must hear of every failed attempt, or it would wait for the chunk in vain.
        self._news.of(books.run).failed_attempts.append(record.attempt)
        if not books.failures.add(record):
            return Outcome.DUPLICATE
        self.changes.runs[books.run] = books
        self.changes.failures.append((books.run, record))
        # Who says to be unable may leave failures of any cell to one host.
        self._judge(books, now, record.cell if record.charged else None)
        return Outcome.RECORDED

    def tick(self, now: float) -> None:
        """Notice consumers that fell silent and time limits; call it about once a second."""
        for pool in self.fleet.forget_silent(now):
            self.fleet_changed(pool, now)
        for books in list(self.active.values()):
            if books.pass_time(now):
                every = {(books.run, number) for number in range(len(books.cells))}
                self.changes.cells |= every
                self.changes.ended_cells |= every
                self._end(books, RunState.FINISHED, None, now)
            elif books.failures:
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
                books = RunBooks(
                    run, definition, request.pool, Lane(request.lane), now, name=request.name
                )
                self.names.started(request.name, now)
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
        """Return what is still needed.

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
            CellMissing(
                cell=cell,
                missing=block_ranges(books.missing(cell)),
                cost=books.cells[cell].cost.recent,
            )
            for cell in range(len(books.cells))
            if books.cells[cell].ending is None
        )
        return Missing(
            run=run,
            state=books.state,
            epoch=self.epoch,
            sequence=self._news.sequence(run),
            term=0,
            slots=self.fleet.slots(books.pool),
            busy=self.fleet.busy(books.pool),
            consumers=self.fleet.consumers(books.pool),
            merged_blocks=books.merged_blocks,
            expected_blocks=books.expected_blocks,
            cells=tuple(cells),
            failed_attempts=books.failures.attempts(),
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

    def reopen(self, books: RunBooks, now: float) -> Declare:
        """Take a failed or cancelled run, as the store has it, up again."""
        books.reopen(now)
        self.ended.pop(books.run, None)
        self.active[books.run] = books
        self._news.begin(books.run)
        self.changes.runs[books.run] = books
        self.changes.reopened.add(books.run)
        # All of it is written again: what the store had may have been pruned since it was read.
        for number, cell in enumerate(books.cells):
            self.changes.cells.add((books.run, number))
            self.changes.segments |= {(books.run, number, n) for n in range(len(cell.segments))}
        # Where it ended in this very batch, its end must be neither written nor told.
        self.changes.failures = [kept for kept in self.changes.failures if kept[0] != books.run]
        self.changes.results.pop(books.run, None)
        return declaration(books)

    def status(self, run: str, now: float) -> RunStatus:
        """Return the summary of a run.

        Raises
        ------
        UnknownRunError
            There is no such run.
        """
        if run in self.active:
            return run_status(self.active[run], now)
        if run in self.ended:
            return self.ended[run].status
        raise unknown_run(run)

    def newest(
        self,
        now: float,
        limit: int | None = None,
        state: RunState | None = None,
        older_than: Age | None = None,
        search: str = "",
    ) -> tuple[list[RunStatus], int]:
        """Return the newest runs, the very newest first, and how many there are without the limit.

        Parameters
        ----------
        now
            Seconds since the epoch.
        limit
            How many at most; None for all.
        state, older_than
            Only runs in this state, and before this one in the order; None for any.
        search
            Only runs with this in their id or the name of their model, in any case.
        """
        found: list[RunBooks | RunStatus] = []
        if state in {None, RunState.RUNNING}:
            found += self.active.values()
        if state is not RunState.RUNNING:  # of those that have ended there may be very many
            found += [r.status for r in self.ended.values() if state in {None, r.status.state}]
        if older_than is not None:
            found = [run for run in found if run.age < older_than]
        if search:
            wanted = search.lower()
            found = [
                run for run in found if wanted in run.run.lower() or wanted in run.model.lower()
            ]
        page = nlargest(len(found) if limit is None else limit, found, key=attrgetter("age"))
        told = [run_status(run, now) if isinstance(run, RunBooks) else run for run in page]
        return told, len(found)

    def headline(self, run: RunStatus, now: float) -> Headline | None:
        """Return the estimate so far of a run that goes on, None of any other."""
        books = self.active.get(run.run)
        return None if books is None else self._news.headline(books, now)

    def final_headline(self, run: str) -> Headline | None:
        """Return the first estimate of a run that has ended, None where there is none."""
        ended = self.ended.get(run)
        return None if ended is None else ended.headline

    def last_headline(self, run: str) -> Headline | None:
        """Return the estimate of an active run that was last told, None before there is one."""
        return self._news.last_headline(run)

    # What is told

    def record(self, now: float) -> None:
        """Keep how cells converge; call it once per batch."""
        for new in self._recorder.take(self.active, now):
            self.changes.points.append(new)
            self.changes.runs[new.run] = self.active[new.run]

    def take_changes(self) -> Changes:
        """Return what must be written, and start collecting anew."""
        changes, self.changes = self.changes, Changes()
        return changes

    def take_events(self, now: float) -> list[Event]:
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

    def _judge(self, books: RunBooks, now: float, cell: int | None = None) -> None:
        # Who was not heard yet may be able to compute what those heard so far cannot.
        known = self.fleet.is_known(now)
        verdict = books.verdict(self.fleet.live(books.pool) if known else None, cell)
        if verdict is not None:
            self._end(books, RunState.FAILED, verdict, now)

    def _end(self, books: RunBooks, state: RunState, error: str | None, now: float) -> None:
        books.state, books.error, books.ended = state, error, now
        if state is RunState.FINISHED:
            self.names.succeeded(books.name, now)
        found = result(books, now)
        ended = EndedRun(
            run_status(books, now), books.definition.hash, books.term, final_headline(found)
        )
        del self.active[books.run]
        self.ended[books.run] = ended
        self.changes.runs[books.run] = books
        self.changes.results[books.run] = found
        self._news.end(_finished(ended))

    def _missing_of_ended(self, ended: EndedRun) -> Missing:
        return Missing(
            run=ended.status.run,
            state=ended.status.state,
            epoch=self.epoch,
            sequence=0,
            term=0,
            slots=self.fleet.slots(ended.status.pool),
            busy=self.fleet.busy(ended.status.pool),
            consumers=self.fleet.consumers(ended.status.pool),
            merged_blocks=0,
            expected_blocks=0,
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
        total_samples=books.expected_blocks * books.definition.block_size,
        created=books.created,
        elapsed_seconds=max(0.0, (books.ended or now) - books.created),
        error=books.error,
    )


def declaration(books: RunBooks) -> Declare:
    """Return the request that declares a run."""
    return Declare(
        run=books.run,
        definition=books.definition,
        pool=books.pool,
        lane=books.lane,
        name=books.name,
    )


def unknown_run(run: str) -> UnknownRunError:
    """Return the error for a run that nobody declared."""
    return UnknownRunError(f"run '{run}' is not known to the aggregator")


def _finished(ended: EndedRun) -> Finished:
    return Finished(
        run=ended.status.run,
        definition=ended.definition_hash,
        term=ended.term,
        state=ended.status.state,
    )
