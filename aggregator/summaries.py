"""What the ledger tells of runs: values from their books; nothing is decided here."""

from collections.abc import Collection

from aggregator.books import RunBooks
from aggregator.changes import EndedRun
from aggregator.fleet import Fleet
from aggregator.news import block_ranges
from protocol.errors import UnknownRunError
from protocol.messages import Finished, WantedAudits
from protocol.rpc_messages import CellMissing, Declare, Missing, RunStatus


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


def finished(ended: EndedRun) -> Finished:
    """Return the event that tells of the end of a run."""
    return Finished(
        run=ended.status.run,
        definition=ended.definition_hash,
        term=ended.term,
        state=ended.status.state,
    )


def missing_of(
    books: RunBooks,
    epoch: int,
    sequence: int,
    fleet: Fleet,
    audits: WantedAudits | None,
    fruitless: Collection[int],
) -> Missing:
    """Return what is still needed of a run that goes on.

    Its failed attempts are those whose failures are kept, and others that came back.
    """
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
        run=books.run,
        state=books.state,
        epoch=epoch,
        sequence=sequence,
        term=0,
        slots=fleet.slots(books.pool),
        busy=fleet.busy(books.pool),
        consumers=fleet.consumers(books.pool),
        merged_blocks=books.merged_blocks,
        expected_blocks=books.expected_blocks,
        cells=tuple(cells),
        failed_attempts=tuple(sorted(books.failures.attempts() | {*fruitless})),
        audits=audits,
    )


def missing_of_ended(ended: EndedRun, epoch: int, fleet: Fleet) -> Missing:
    """Return that nothing is needed of a run that has ended."""
    return Missing(
        run=ended.status.run,
        state=ended.status.state,
        epoch=epoch,
        sequence=0,
        term=0,
        slots=fleet.slots(ended.status.pool),
        busy=fleet.busy(ended.status.pool),
        consumers=fleet.consumers(ended.status.pool),
        merged_blocks=0,
        expected_blocks=0,
        cells=(),
        failed_attempts=(),
    )
