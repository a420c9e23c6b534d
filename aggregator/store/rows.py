"""Between the ledger's values and the store's rows."""

from collections.abc import Iterator, Mapping
from typing import Any

from aggregator.books import FailureRecord, RunBooks, restored_cells
from aggregator.ledger import Changes, EndedRun
from protocol.codec import canonical, pack, unpack
from protocol.definition import Definition, Lane
from protocol.messages import FailureKind, RunState
from protocol.ranges import Ranges
from protocol.rpc_messages import RunStatus
from protocol.statistics import Statistics

Row = Mapping[str, Any]

MAX_BLOB = 1 << 26
"""Far above any row: the limit guards against a damaged file."""


def run_row(books: RunBooks, result: str | None) -> Row:
    """Return what changes of a run; `result` as JSON once it has ended."""
    return {
        "run": books.run,
        "pool": books.pool,
        "lane": books.lane.value,
        "state": books.state.value,
        "term": books.term,
        "ended": books.ended,
        "samples": books.merged_blocks * books.definition.block_size,
        "cpu_seconds": books.cpu_seconds,
        "engines": " ".join(sorted(books.engines)),
        "error": books.error,
        "result": result,
    }


def definition_row(books: RunBooks) -> Row:
    """Return what never changes of a run."""
    return {
        "definition_hash": books.definition.hash,
        "definition": canonical(books.definition.model_dump(mode="python")),
        "model": books.definition.model,
        "created": books.created,
        "cells": len(books.cells),
        "total_samples": books.total_blocks * books.definition.block_size,
    }


def cell_rows(changes: Changes) -> Iterator[Row]:
    """Yield the rows of the cells that changed."""
    for run, cell in changes.cells:
        merged = [list(span) for span in changes.runs[run].cells[cell].merged]
        yield {"run": run, "cell": cell, "merged": pack(merged)}


def segment_rows(changes: Changes) -> Iterator[Row]:
    """Yield the rows of the segments that changed."""
    for run, cell, segment in changes.segments:
        statistics = changes.runs[run].cells[cell].segments[segment]
        assert statistics is not None  # noqa: S101 - a changed segment has something merged
        blob = pack(statistics.model_dump(mode="python"))
        yield {"run": run, "cell": cell, "segment": segment, "statistics": blob}


def failure_row(run: str, failure: FailureRecord) -> Row:
    """Return the row of a failure."""
    return {
        "run": run,
        "cell": failure.cell,
        "first_block": failure.first_block,
        "blocks": failure.blocks,
        "attempt": str(failure.attempt),
        "host": failure.host,
        "consumer": failure.consumer,
        "kind": failure.kind.value,
        "text": failure.text,
    }


def books_from(row: Row, cells: list[Row], segments: list[Row], failures: list[Row]) -> RunBooks:
    """Return a run's books from its rows."""
    definition = Definition.model_validate(unpack(row["definition"], MAX_BLOB))
    return RunBooks(
        run=row["run"],
        definition=definition,
        pool=row["pool"],
        lane=Lane(row["lane"]),
        created=row["created"],
        state=RunState(row["state"]),
        term=row["term"],
        ended=row["ended"],
        cpu_seconds=row["cpu_seconds"],
        error=row["error"],
        engines=set(row["engines"].split()),
        cells=restored_cells(
            definition,
            ((r["cell"], Ranges(unpack(r["merged"], MAX_BLOB))) for r in cells),
            (
                (
                    r["cell"],
                    r["segment"],
                    # Merged histograms are longer than those of any message.
                    Statistics.model_validate(unpack(r["statistics"], MAX_BLOB, max_text=MAX_BLOB)),
                )
                for r in segments
            ),
        ),
        failures=[
            FailureRecord(
                cell=r["cell"],
                first_block=r["first_block"],
                blocks=r["blocks"],
                attempt=int(r["attempt"]),
                host=r["host"],
                consumer=r["consumer"],
                kind=FailureKind(r["kind"]),
                text=r["text"],
            )
            for r in failures
        ],
    )


def ended_from(row: Row) -> EndedRun:
    """Return the summary of an ended run from its row."""
    return EndedRun(
        status=RunStatus(
            run=row["run"],
            state=RunState(row["state"]),
            model=row["model"],
            pool=row["pool"],
            lane=Lane(row["lane"]),
            cells=row["cells"],
            samples=row["samples"],
            total_samples=row["total_samples"],
            created=row["created"],
            elapsed_seconds=max(0.0, row["ended"] - row["created"]),
            error=row["error"],
        ),
        definition_hash=row["definition_hash"],
        term=row["term"],
    )
