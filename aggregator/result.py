"""The result of a run, and the digest that proves it, from its books; not the estimates in it."""

import hashlib
from collections.abc import Sequence

from aggregator.books import RunBooks
from aggregator.estimates import estimates, nothing
from protocol.codec import canonical
from protocol.definition import Definition
from protocol.messages import Headline, RunState
from protocol.results import AuditCounts, CellResult, EndedBy, Estimate, Result
from protocol.statistics import Statistics


def digest(definition_hash: bytes, cells: Sequence[Statistics | None]) -> str:
    """Return SHA-256 over a definition and the canonical statistics of its cells, 64 hex digits."""
    maps = [None if cell is None else cell.model_dump() for cell in cells]
    return hashlib.sha256(canonical([definition_hash, maps])).hexdigest()


def result(books: RunBooks, now: float) -> Result:
    """Return the result of a run as it stands; `now` in seconds since the epoch."""
    definition = books.definition
    statistics = [cell.statistics() for cell in books.cells]
    finished = books.state is RunState.FINISHED
    cells = tuple(_cell_result(books, number, cell) for number, cell in enumerate(statistics))
    in_time = all(cell.ended_by is not EndedBy.SECONDS for cell in cells)
    return Result(
        run=books.run,
        state=books.state.value,
        model=definition.model,
        model_version=definition.model_version,
        seed=definition.seed,
        sampling=definition.sampling.method.value,
        control_variates=definition.sampling.control_variates,
        block_size=definition.block_size,
        stop=definition.stop,
        digest=digest(definition.hash, statistics) if finished else None,
        reproducible=finished and in_time,
        elapsed_seconds=max(0.0, (books.ended or now) - books.created),
        cpu_seconds=books.cpu_seconds,
        samples=sum(cell.samples for cell in cells),
        cells=cells,
        engines=tuple(sorted(books.engines)),
        error=books.error,
        audits=AuditCounts(passed=books.audits.passed, skipped=books.audits.skipped),
    )


def _cell_result(books: RunBooks, number: int, statistics: Statistics | None) -> CellResult:
    definition, cell = books.definition, books.cells[number]
    ending = cell.ending
    return CellResult(
        params=dict(definition.cells[number]),
        state=(books.state if ending is None else RunState.FINISHED).value,
        samples=statistics.samples if statistics else 0,
        outputs=dict(zip(definition.reported, _estimates(definition, statistics), strict=True)),
        ended_by=None if ending is None else ending.by,
        checkpoint=None if ending is None else ending.blocks,
        overshoot=cell.overshoot * definition.block_size,
    )


def headline(books: RunBooks) -> Headline | None:
    """Return the estimate so far of the first cell's first output, None before there is one."""
    definition = books.definition
    first = _estimates(definition, books.cells[0].statistics())[0]
    if first.mean is None:
        return None
    return Headline(
        output=definition.outputs[0], mean=first.mean, standard_error=first.standard_error
    )


def final_headline(found: Result) -> Headline | None:
    """Return the first estimate of a result, None where there is none."""
    output, first = next(iter(found.cells[0].outputs.items()))
    if first.mean is None:
        return None
    return Headline(output=output, mean=first.mean, standard_error=first.standard_error)


def _estimates(definition: Definition, statistics: Statistics | None) -> tuple[Estimate, ...]:
    confidence = definition.stop.confidence
    if statistics is None:
        return (nothing(confidence),) * len(definition.reported)
    return estimates(statistics, definition.sampling.method, confidence, definition.quantiles)
