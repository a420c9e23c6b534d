"""The ledger: every run's books, what arrived for them, and what must be written and told; pure.

It never forgets a merged block and never merges one twice. After a batch the caller takes
`changes`, commits them, and only then acknowledges and publishes `events`.
"""

from collections.abc import Collection, Iterable

from aggregator.auditor import Auditor
from aggregator.books import Outcome, RunBooks
from aggregator.changes import Changes, EndedRun
from aggregator.failures import FailureRecord
from aggregator.fleet import Fleet
from aggregator.history import Recorder
from aggregator.names import Latest, Names
from aggregator.news import Event, News
from aggregator.register import Register
from aggregator.result import final_headline, result
from aggregator.standings import Standings
from aggregator.summaries import (
    declaration,
    finished,
    missing_of,
    missing_of_ended,
    run_status,
    unknown_run,
)
from protocol.definition import Lane
from protocol.errors import MessageRefusedError, RunIdTakenError
from protocol.messages import (
    Chunk,
    ChunkScope,
    ConsumerOutdated,
    Failure,
    FailureKind,
    Headline,
    HostRefused,
    Partial,
    RefusalReason,
    RunState,
    Telemetry,
)
from protocol.origin import release_of
from protocol.rpc_messages import Declare, Missing, RunStatus


class Ledger(Register):
    """All runs: the active ones in full, the ended ones as a summary.

    Parameters
    ----------
    epoch
        The store's epoch under which this ledger writes.
    active, ended, names
        What the store holds.
    standings
        What is known of hosts, and which of their chunks are audited: none unless it says so.
    oldest
        The version that consumers must have at least; any if empty.
    """

    def __init__(
        self,
        epoch: int,
        active: Iterable[RunBooks] = (),
        ended: Iterable[EndedRun] = (),
        names: Iterable[Latest] = (),
        standings: Standings | None = None,
        oldest: str = "",
    ) -> None:
        super().__init__(active, ended)
        self.epoch = epoch
        self.names = Names(names)
        self.fleet = Fleet()
        self.changes = Changes()
        self.standings = standings or Standings()
        self._oldest = oldest
        self._auditor = Auditor(self.standings, self.fleet)
        self._news = News(epoch, self.active, self._auditor.wanted)
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
        if self.standings.refuses(partial.host):
            return self._drop(partial, now)
        if books is None:
            return Outcome.LATE
        outcome, segment = books.merge(partial)
        if outcome in (Outcome.MERGED, Outcome.OVERSHOOT):
            self.changes.runs[books.run] = books
            self.changes.cells.add((books.run, partial.cell))
        if outcome is Outcome.MERGED:
            self.changes.segments.add((books.run, partial.cell, segment))
            self._recorder.merged(books, partial.cell)
            self._auditor.merged(books, partial, self.changes)
            if books.cells[partial.cell].ending is not None:
                self.changes.ended_cells.add((books.run, partial.cell))
        elif outcome is Outcome.DUPLICATE:
            wrong = self._auditor.answered(books, partial, self.changes)
            if wrong is not None:
                outcome = Outcome.AUDITED
                self._convict(wrong, now)
        # A duplicate is news as well: its sender's scheduler has not heard that it is merged.
        self._news.of(books.run).cells.add(partial.cell)
        if books.complete:
            self._finish(books, now)
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
        books = self._books(failure.run, failure.definition, now)
        if self.standings.refuses(failure.host):
            return self._drop(failure, now)
        if books is not None:
            books.segment_of(failure)
            wanted = self._auditor.failed(books, failure)
            if wanted or failure.kind is FailureKind.DECLINED:  # only audits are ever declined
                self._news.gave_nothing(books.run, failure.attempt)
                return Outcome.RECORDED
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
                self.changes.runs[books.run] = books
                self.changes.cells |= every
                self.changes.ended_cells |= every
                self._finish(books, now)
            elif books.complete:
                self._finish(books, now)
            elif books.failures:
                self._judge(books, now)

    def heartbeat(self, telemetry: Telemetry, now: float) -> None:
        """Take in a consumer's word; one that is refused hears that, and is not counted."""
        if self.standings.refuses(telemetry.host):
            self._news.refuse(HostRefused(host=telemetry.host), now)
        elif self._oldest and release_of(telemetry.version) < release_of(self._oldest):
            outdated = ConsumerOutdated(
                consumer=telemetry.consumer, host=telemetry.host, oldest=self._oldest
            )
            self._news.refuse(outdated, now)
        elif self.fleet.hear(telemetry, now):
            self.fleet_changed(telemetry.pool, now)

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
            return missing_of_ended(ended, self.epoch, self.fleet)
        sequence, wanted = self._news.sequence(run), self._auditor.wanted(books)
        fruitless = self._news.fruitless(run)
        return missing_of(books, self.epoch, sequence, self.fleet, wanted, fruitless)

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
        """Take a run that has ended, as the store has it, up again.

        It is without the part of hosts that were found wrong since, readmitted or not.
        """
        wrong = self.standings.wrong_since(books.ended or 0.0)
        books.reopen(now)
        self.ended.pop(books.run, None)
        self.active[books.run] = books
        self._news.begin(books.run)
        self.changes.reopened.add(books.run)
        self._empty(books, wrong)
        # All of it is written again: what the store had may have been pruned since it was read.
        self.changes.rewrite(books, range(len(books.cells)))
        self.changes.audits |= {(books.run, key) for key in books.audits.pending}
        # Where it ended in this very batch, its end must be neither written nor told.
        self.changes.failures = [kept for kept in self.changes.failures if kept[0] != books.run]
        self.changes.results.pop(books.run, None)
        return declaration(books)

    def headline(self, run: RunStatus, now: float) -> Headline | None:
        """Return the estimate so far of a run that goes on, None of any other."""
        books = self.active.get(run.run)
        return None if books is None else self._news.headline(books, now)

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
        for run, books in changes.runs.items():
            changes.audits |= {(run, key) for key in books.audits.take_changed()}
            changes.contributors |= {(run, *one) for one in books.take_contributors()}
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
        self._news.remind(finished(ended), now)
        return None

    def _judge(self, books: RunBooks, now: float, cell: int | None = None) -> None:
        # Who was not heard yet may be able to compute what those heard so far cannot.
        known = self.fleet.is_known(now)
        verdict = books.verdict(self.fleet.live(books.pool) if known else None, cell)
        if verdict is not None:
            self._end(books, RunState.FAILED, verdict, now)

    def _finish(self, books: RunBooks, now: float) -> None:
        """End a run of which every cell has ended, unless audits are to be waited for."""
        readiness = self._auditor.readiness(books, self.changes, now)
        if readiness.error is not None:
            self._end(books, RunState.FAILED, readiness.error, now)
        elif readiness.ends:
            self._end(books, RunState.FINISHED, None, now)
        else:
            self._news.of(books.run)  # a leader may not have heard of an audit

    def _drop(self, answer: Partial | Failure, now: float) -> Outcome:
        """Take nothing from a refused host, and have others compute what it was given."""
        self._news.refuse(HostRefused(host=answer.host), now)
        if answer.run in self.active:
            self._news.gave_nothing(answer.run, answer.attempt)
        return Outcome.REFUSED

    def _convict(self, hosts: list[str], now: float) -> None:
        """Refuse hosts that were wrong, and forget all that they contributed to runs that go on."""
        for host in hosts:
            self._auditor.convict(host, self.changes, now)
            self._news.refuse(HostRefused(host=host), now)
        for books in self.active.values() if hosts else ():
            self._empty(books, hosts)
            self._news.of(books.run)  # fewer slots

    def _empty(self, books: RunBooks, hosts: Collection[str]) -> None:
        if cells := books.empty(hosts):
            self.changes.empty(books, cells)
            self._news.emptied(books.run)
        self.changes.runs[books.run] = books

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
        self._news.end(finished(ended))
