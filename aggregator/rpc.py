"""Answers requests: one function per method, from request and ledger to reply."""

from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Any

from aggregator.books import RunBooks
from aggregator.convergence import check_cell, has_bars, history, kept_failure
from aggregator.hosts import Hosts
from aggregator.ledger import Ledger
from aggregator.result import result
from aggregator.store.sqlite import Store
from aggregator.summaries import declaration, unknown_run
from aggregator.watch import Watch
from protocol.errors import (
    MontemqError,
    ResultTooLargeError,
    RunIdTakenError,
    StoreError,
    UnknownRunError,
)
from protocol.messages import Message, RunState, encode
from protocol.results import Result
from protocol.rpc_messages import (
    CancelRequest,
    DeclarationRequest,
    Declare,
    ErrorCode,
    ErrorReply,
    Failures,
    FailuresRequest,
    Fleet,
    FleetRequest,
    History,
    HistoryRequest,
    MissingRequest,
    Results,
    ResultsRequest,
    ResumeRequest,
    Status,
    StatusRequest,
)
from protocol.statistics import Statistics

REQUESTS: tuple[type[Message], ...] = (
    Declare, StatusRequest, FleetRequest, MissingRequest, ResultsRequest, HistoryRequest,
    FailuresRequest, DeclarationRequest, CancelRequest, ResumeRequest,
)  # fmt: skip


class Responder:
    """Carries requests out on a ledger, what is known besides, and the store behind it."""

    def __init__(self, ledger: Ledger, hosts: Hosts, watch: Watch, store: Store) -> None:
        self._ledger = ledger
        self._hosts = hosts
        self._watch = watch
        self._store = store
        self._methods: Mapping[type[Message], Callable[[Any, float], Message]] = {
            Declare: ledger.declare,
            StatusRequest: self._status,
            FleetRequest: self._fleet,
            MissingRequest: lambda request, _: ledger.missing(request.run),
            ResultsRequest: self._results,
            HistoryRequest: self._history,
            FailuresRequest: self._failures,
            DeclarationRequest: lambda request, _: declaration(self._known_books(request.run)),
            CancelRequest: lambda request, now: ledger.cancel(request.run, now),
            ResumeRequest: self._resume,
        }

    def answer(self, request: Message, now: float) -> Message:
        """Return the reply to a request; what the user did wrong is a reply as well.

        Raises
        ------
        StoreError
            The store cannot be read; that is nothing the user could put right.
        """
        try:
            return self._methods[type(request)](request, now)
        except StoreError:
            raise
        except MontemqError as error:
            code = _CODES.get(type(error), ErrorCode.INVALID)
            return ErrorReply(code=code, text=str(error)[:2000])

    def _status(self, request: StatusRequest, now: float) -> Status:
        ledger, fleet = self._ledger, self._ledger.fleet
        if request.run is None:
            runs, total = ledger.newest(now, request.newest, request.state, request.older_than)
        else:
            one = ledger.status(request.run, now)
            runs = [one] if request.state in {None, one.state} else []
            total = len(runs)
        return Status(
            runs=tuple(runs),
            headlines=tuple(map(ledger.headline, runs, repeat(now))) if request.headlines else None,
            rates=tuple(self._watch.rate(one.run) for one in runs) if request.headlines else None,
            total=total,
            slots=fleet.slots(),
            consumers=fleet.consumers(),
            clock=now,
            store=self._store.id,
        )

    def _fleet(self, request: FleetRequest, now: float) -> Fleet:
        found = {
            one.telemetry.consumer: one
            for one in self._hosts.consumers(now)
            if request.pool in {None, one.telemetry.pool}
            and (request.departed or not one.condition.is_departed)
        }
        after = request.after or ""
        page = sorted(name for name in found if name > after)[: request.first]
        members = tuple(found[name].member for name in page)
        return Fleet(consumers=members, total=len(found), clock=now)

    def _results(self, request: ResultsRequest, now: float) -> Results:
        found = Results(result=self._result(request.run, now))
        if (size := len(encode(found))) > Results.limit:
            raise ResultTooLargeError(
                f"the result of run {request.run!r} takes {size} bytes, allowed in a reply are "
                f"{Results.limit}; the aggregator's page has it, at /api/runs/{request.run}"
            )
        return found

    def _result(self, run: str, now: float) -> Result:
        books = self._ledger.active.get(run)
        if books is not None:
            return result(books, now)
        # A run that ended in this very batch is not in the store yet.
        found = self._ledger.changes.results.get(run) or self._store.result(run)
        if found is None:
            raise unknown_run(run)
        return found

    def _history(self, request: HistoryRequest, now: float) -> History:
        status = self._ledger.status(request.run, now)
        found = self._result(request.run, now)
        check_cell(found, request.cell)
        points = self._store.history(request.run, request.cell)
        counted = self._statistics(request.run, request.cell) if has_bars(found) else None
        return history(status, found, request.cell, points, counted)

    def _statistics(self, run: str, cell: int) -> Statistics | None:
        books = self._ledger.active.get(run) or self._ledger.changes.runs.get(run)
        return books.cells[cell].statistics() if books else self._store.statistics(run, cell)

    def _failures(self, request: FailuresRequest, now: float) -> Failures:
        run = request.run
        self._ledger.status(run, now)  # refuses one that is not known
        books = self._ledger.active.get(run) or self._ledger.changes.runs.get(run)
        kept = books.failures if books else self._store.failures(run)
        return Failures(run=run, failures=tuple(map(kept_failure, kept)))

    def _resume(self, request: ResumeRequest, now: float) -> Message:
        status = self._ledger.status(request.run, now)
        if status.state in (RunState.FAILED, RunState.CANCELLED) or (
            status.state is RunState.FINISHED and self._store.suspects(request.run)
        ):
            return self._ledger.reopen(self._known_books(request.run), now)
        return declaration(self._known_books(request.run))

    def _known_books(self, run: str) -> RunBooks:
        """Return the books of any run, from memory where they are newer than the store."""
        ledger = self._ledger
        books = ledger.active.get(run) or ledger.changes.runs.get(run) or self._store.books(run)
        if books is None:
            raise unknown_run(run)
        return books


_CODES: Mapping[type[MontemqError], ErrorCode] = {
    UnknownRunError: ErrorCode.UNKNOWN_RUN,
    RunIdTakenError: ErrorCode.RUN_ID_TAKEN,
    ResultTooLargeError: ErrorCode.TOO_LARGE,
}
