"""Between the ledger's values and the store's rows."""

import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from aggregator.audits import Audit, Audits
from aggregator.books import KeptCell, RunBooks, restored_cells
from aggregator.cells import Ending, Trace
from aggregator.changes import Changes, EndedRun
from aggregator.failures import FailureRecord
from aggregator.history import NewPoint, Point
from aggregator.result import final_headline
from protocol.codec import pack, unpack
from protocol.definition import Definition, Lane
from protocol.messages import FailureKind, Headline, RunState
from protocol.ranges import Ranges
from protocol.results import EndedBy, Result
from protocol.rpc_messages import RunStatus
from protocol.statistics import Statistics

Row = Mapping[str, Any]

MAX_BLOB = 1 << 26
"""Far above any row: the limit guards against a damaged file."""


def run_row(books: RunBooks, result: Result | None) -> Row:
    """Return what changes of a run; it has a result once it has ended."""
    headline = result and final_headline(result)
    return {
        "run": books.run,
        "pool": books.pool,
        "lane": books.lane.value,
        "state": books.state.value,
        "term": books.term,
        "opened": books.opened,
        "ended": books.ended,
        "samples": books.merged_blocks * books.definition.block_size,
        "total_samples": books.expected_blocks * books.definition.block_size,
        "cpu_seconds": books.cpu_seconds,
        "engines": " ".join(sorted(books.engines)),
        "error": books.error,
        "result": result and result.model_dump_json(),
        "output": headline and headline.output,
        "mean": headline and headline.mean,
        "standard_error": headline and headline.standard_error,
        "audits_passed": books.audits.passed,
        "audits_skipped": books.audits.skipped,
    }


def definition_row(books: RunBooks) -> Row:
    """Return what never changes of a run."""
    return {
        "definition_hash": books.definition.hash,
        "definition": books.definition.canonical,
        "model": books.definition.model,
        "created": books.created,
        "cells": len(books.cells),
        "name": books.name,
    }


def cell_rows(changes: Changes) -> Iterator[Row]:
    """Yield the rows of the cells that changed."""
    for run, number in changes.cells:
        cell = changes.runs[run].cells[number]
        yield {
            "run": run,
            "cell": number,
            "merged": pack([list(span) for span in cell.merged]),
            "ended_by": None if cell.ending is None else cell.ending.by.value,
            "ended_blocks": None if cell.ending is None else cell.ending.blocks,
            "expected": cell.expected,
        }


def segment_rows(changes: Changes) -> Iterator[Row]:
    """Yield the rows of the segments that changed, but for those that count no more."""
    for run, cell, segment in changes.segments:
        statistics = changes.runs[run].cells[cell].segments[segment]
        if statistics is not None:
            yield {"run": run, "cell": cell, "segment": segment, "statistics": pack(statistics)}


def discarded_rows(changes: Changes) -> Iterator[Row]:
    """Yield, for each cell that ended, the first segment that counts no more."""
    for run, cell in changes.ended_cells:
        yield {"run": run, "cell": cell, "segment": changes.runs[run].kept_segments(cell)}


def ended_cell_rows(changes: Changes) -> Iterator[Row]:
    """Yield, for each cell that ended, the samples that count."""
    for run, cell in changes.ended_cells:
        yield {"run": run, "cell": cell, "samples": changes.runs[run].samples_of(cell)}


def point_row(new: NewPoint) -> Row:
    """Return the row of a point of a cell's history."""
    numbers = [math.nan if n is None else n for pair in new.point.estimates for n in pair]
    return {
        "run": new.run,
        "cell": new.cell,
        "samples": new.point.samples,
        "at": new.point.at,
        "estimates": struct.pack(f"<{len(numbers)}d", *numbers),
    }


def point_from(row: Row) -> Point:
    """Return a point of a cell's history from its row."""
    numbers = [None if math.isnan(n) else n for (n,) in struct.iter_unpack("<d", row["estimates"])]
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return Point(row["samples"], row["at"], tuple(pairs))


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


def emptied_rows(changes: Changes) -> Iterator[Row]:
    """Yield the cells that lost segments; what is left of them is written anew."""
    for run, cell in changes.emptied:
        yield {"run": run, "cell": cell, "segment": 0}


def contributor_rows(changes: Changes) -> Iterator[Row]:
    """Yield the hosts that are new among those that contributed to segments that count."""
    for run, cell, segment, host in changes.contributors:
        if host in changes.runs[run].cells[cell].contributors.get(segment, ()):
            yield {"run": run, "cell": cell, "segment": segment, "host": host}


def audit_rows(changes: Changes) -> tuple[list[Row], list[Row]]:
    """Return the rows of the audits that changed, and of those that are over."""
    saved: list[Row] = []
    gone: list[Row] = []
    for run, key in changes.audits:
        audit = changes.runs[run].audits.pending.get(key)
        row: Row = dict(zip(("run", "cell", "first_block", "blocks"), (run, *key), strict=True))
        if audit is None:
            gone.append(row)
        else:
            answers = pack([list(answer) for answer in audit.answers.items()])
            saved.append({**row, "engine": audit.engine, "answers": answers})
    return saved, gone


def audit_from(row: Row) -> Audit:
    """Return an audit from its row."""
    answers = dict(unpack(row["answers"], MAX_BLOB))
    return Audit((row["cell"], row["first_block"], row["blocks"]), row["engine"], answers)


def books_from(
    row: Row,
    cells: list[Row],
    segments: list[Row],
    failures: list[Row],
    contributors: list[Row],
    audits: list[Row],
) -> RunBooks:
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
        opened=row["opened"],
        ended=row["ended"],
        cpu_seconds=row["cpu_seconds"],
        error=row["error"],
        name=row["name"],
        engines=set(row["engines"].split()),
        cells=restored_cells(
            definition,
            map(_kept_cell, cells),
            ((r["cell"], r["segment"], statistics_from(r)) for r in segments),
            ((r["cell"], r["segment"], r["host"]) for r in contributors),
        ),
        audits=Audits(
            {audit.key: audit for audit in map(audit_from, audits)},
            row["audits_passed"],
            row["audits_skipped"],
        ),
        kept_failures=[failure_from(r) for r in failures],
    )


def statistics_from(row: Row) -> Statistics:
    """Return the statistics of a segment from its row."""
    # Merged histograms are longer than those of any message.
    return Statistics.model_validate(unpack(row["statistics"], MAX_BLOB, max_text=MAX_BLOB))


def failure_from(row: Row) -> FailureRecord:
    """Return a failure from its row."""
    return FailureRecord(
        cell=row["cell"],
        first_block=row["first_block"],
        blocks=row["blocks"],
        attempt=int(row["attempt"]),
        host=row["host"],
        consumer=row["consumer"],
        kind=FailureKind(row["kind"]),
        text=row["text"],
    )


def _kept_cell(row: Row) -> KeptCell:
    by, blocks = row["ended_by"], row["ended_blocks"]
    return KeptCell(
        cell=row["cell"],
        merged=Ranges(unpack(row["merged"], MAX_BLOB)),
        ending=None if by is None else Ending(EndedBy(by), blocks),
        expected=row["expected"],
        trace=Trace(row["points"], row["last_samples"]),
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
        headline=None
        if row["mean"] is None
        else Headline(output=row["output"], mean=row["mean"], standard_error=row["standard_error"]),
    )
