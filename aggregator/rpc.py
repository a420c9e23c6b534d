"""Answers requests: one function per method, from request and ledger to reply."""

from collections.abc import Callable, Mapping
from typing import Any

from aggregator.books import RunBooks
from aggregator.ledger import Ledger, declaration, unknown_run
from aggregator.result import result
from aggregator.store.sqlite import Store
from protocol.errors import MontemqError, RunIdTakenError, StoreError, UnknownRunError
from protocol.messages import Message, RunState
from protocol.rpc_messages import (
    CancelRequest,
    Declare,
    ErrorCode,
    ErrorReply,
    MissingRequest,
    Results,
    ResultsRequest,
    ResumeRequest,
    Status,
    StatusRequest,
)

REQUESTS: tuple[type[Message], ...] = (
    Declare, StatusRequest, MissingRequest, ResultsRequest, CancelRequest, ResumeRequest,
)  # fmt: skip


MAX_STATUS_RUNS = 1_000
"""The newest ones: the answer has to fit into a message, and runs are kept for ever."""


class Responder:
    """Carries requests out on a ledger and the store behind it."""

    def __init__(self, ledger: Ledger, store: Store) -> None:
        self._ledger = ledger
        self._store = store
        self._methods: Mapping[type[Message], Callable[[Any, float], Message]] = {
            Declare: ledger.declare,
            StatusRequest: self._status,
            MissingRequest: lambda request, _: ledger.missing(request.run),
            ResultsRequest: self._results,
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
            return ErrorReply(code=_code(error), text=str(error)[:2000])

    def _status(self, request: StatusRequest, now: float) -> Status:
        fleet = self._ledger.fleet
        return Status(
            runs=tuple(self._ledger.status(request.run, now)[:MAX_STATUS_RUNS]),
            slots=fleet.slots(),
            consumers=fleet.consumers(),
            clock=now,
            store=self._store.id,
        )

    def _results(self, request: ResultsRequest, now: float) -> Results:
        books = self._ledger.active.get(request.run)
        if books is not None:
            return Results(result=result(books, now))
        # A run that ended in this very batch is not in the store yet.
        found = self._ledger.changes.results.get(request.run) or self._store.result(request.run)
        if found is None:
            raise unknown_run(request.run)
        return Results(result=found)

    def _resume(self, request: ResumeRequest, now: float) -> Message:
        status = self._ledger.status(request.run, now)[0]
        if status.state in (RunState.FAILED, RunState.CANCELLED):
            return self._ledger.reopen(self._known_books(request.run))
        return declaration(self._known_books(request.run))

    def _known_books(self, run: str) -> RunBooks:
        """Return the books of any run, from memory where they are newer than the store."""
        ledger = self._ledger
        books = ledger.active.get(run) or ledger.changes.runs.get(run) or self._store.books(run)
        if books is None:
            raise unknown_run(run)
        return books


def _code(error: MontemqError) -> ErrorCode:
    if isinstance(error, RunIdTakenError):
        return ErrorCode.RUN_ID_TAKEN
    return ErrorCode.UNKNOWN_RUN if isinstance(error, UnknownRunError) else ErrorCode.INVALID
