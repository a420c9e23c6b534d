"""What the page shows, as JSON: numbers as they are, beside them the texts that people read.

The texts are those of the command line, made by the same functions.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from aggregator.hosts import ConsumerView
from aggregator.student import student_quantile
from protocol.definition import Method
from protocol.messages import Headline, RunState
from protocol.rate import clock_text, seconds_left, short_number
from protocol.resampled import is_resampled
from protocol.result_texts import about, footnotes, result_texts, setting_text, with_error
from protocol.results import EndedBy, Result
from protocol.rpc_messages import Failures, History, RunStatus

MAX_ROWS = 20_000
"""Rows of one run's table: a browser is to stay quick."""


def run_line(
    run: RunStatus, headline: Headline | None, rate: float | None, waits: str | None
) -> dict[str, Any]:
    """Return one line of the list of runs; `waits` says what it waits for, where it does."""
    going_on = run.state is RunState.RUNNING
    missing = max(0, run.total_samples - run.samples)
    left = seconds_left(missing, rate) if going_on else None
    return run.model_dump(mode="json") | {
        "share": min(1.0, run.samples / run.total_samples) if run.total_samples else 1.0,
        "samples_per_second": rate,
        "seconds_left": left,
        "estimate": estimate_text(run, headline),
        "waits": waits,
        "texts": {
            "samples": f"{run.samples:,}",
            "rate": _rate_text(rate, going_on=going_on),
            "left": clock_text(left) if going_on else "",
            "elapsed": clock_text(run.elapsed_seconds),
        },
    }


def _rate_text(rate: float | None, *, going_on: bool) -> str:
    """Return samples per second, a dash where they are not known, nothing of what is over."""
    known = "—" if rate is None else short_number(rate).strip()
    return known if going_on else ""


def estimate_text(run: RunStatus, headline: Headline | None) -> str:
    """Return the first estimate of a run; none where its error is no accuracy."""
    if headline is None or is_resampled(run.model):
        return ""
    more = f" (cell 0 of {run.cells:,})" if run.cells > 1 else ""
    return f"{headline.output} {with_error(headline.mean, headline.standard_error)}{more}"


def run_view(result: Result, failures: Failures) -> dict[str, Any]:
    """Return all that is told of one run, but for its plots."""
    table = result_texts(result)
    hidden = len(table.rows) - MAX_ROWS
    more = f"{hidden:,} more rows: see the downloads" if hidden > 0 else None
    return {
        "run": result.run,
        "state": result.state,
        "about": about(result),
        "ended": ended_text(result),
        "notes": footnotes(result, more),
        "digest": result.digest,
        "error": result.error,
        "definition": definition_of(result),
        "columns": [asdict(column) for column in table.columns],
        "rows": [asdict(row) for row in table.rows[:MAX_ROWS]],
        "outputs": list(result.cells[0].outputs),
        "cells": [cell_name(result, number) for number in range(len(result.cells))],
        "failures": [failure.model_dump(mode="json") for failure in failures.failures],
        "has_errors": not is_resampled(result.model),
    }


_ENDINGS = {
    EndedBy.ERROR: "reached the error asked for",
    EndedBy.SAMPLES: "reached the limit of samples",
    EndedBy.SECONDS: "came to the time limit",
}


def ended_text(result: Result) -> str:
    """Say what ended a run's cells; empty while none has ended."""
    ended = Counter(cell.ended_by for cell in result.cells if cell.ended_by is not None)
    if len(result.cells) == 1:
        return "".join(_ENDINGS[by] for by in ended)
    told = (f"{ended[by]:,} {_ENDINGS[by]}" for by in EndedBy if ended[by])
    return f"of {len(result.cells):,} cells, {', '.join(told)}" if ended else ""


def definition_of(result: Result) -> list[tuple[str, str]]:
    """Return what a run's answer depends on, as names and texts."""
    stop = result.stop
    pairs: list[tuple[str, object]] = [
        ("model", f"{result.model}, version {result.model_version}"),
        ("seed", result.seed),
        ("sampling", result.sampling),
        ("control variates", "yes" if result.control_variates else "no"),
        ("block size", f"{result.block_size:,} samples"),
        ("cells", f"{len(result.cells):,}"),
        ("samples", f"at most {stop.samples:,} of each cell, rounded up to whole blocks"),
    ]
    targets = (("standard error", stop.standard_error), ("relative error", stop.relative_error))
    for name, target in targets:
        if target is not None:
            pairs.append((name, f"{target:g} of {', '.join(stop.outputs)}"))
    if stop.seconds is not None:
        pairs.append(("time limit", f"{stop.seconds:g} s"))
    pairs.append(("confidence", f"{stop.confidence:g}"))
    shared = [
        (name, value)
        for name, value in result.cells[0].params.items()
        if all(cell.params.get(name) == value for cell in result.cells)
    ]
    pairs += [(name, setting_text(value)) for name, value in shared]
    return [(name, str(value)) for name, value in pairs]


def cell_name(result: Result, number: int) -> str:
    """Return the number of a cell, and in what it differs from the others."""
    cell = result.cells[number]
    own = [
        f"{name} {setting_text(value)}"
        for name, value in cell.params.items()
        if any(other.params.get(name) != value for other in result.cells[:MAX_COMPARED])
    ]
    return " · ".join([f"cell {number}", *own])


MAX_COMPARED = 50
"""Cells that a name is compared with: names of very many cells are to cost little."""


def plot_data(result: Result, history: History, output: str) -> dict[str, Any]:
    """Return what is plotted of one output of a cell.

    Raises
    ------
    KeyError
        The run does not report this output.
    """
    estimate = result.cells[history.cell].outputs[output]
    at = history.outputs.index(output)
    points = [(point, *point.estimates[at]) for point in history.points]
    intervals = [
        _interval(mean, error, _width(result, point.samples, estimate.confidence))
        for point, mean, error in points
    ]
    stop = result.stop
    is_target = output in stop.outputs
    bars = history.bars[at]
    return {
        "run": history.run,
        "cell": history.cell,
        "output": output,
        "confidence": estimate.confidence,
        "final": result.cells[history.cell].ended_by is not None,
        "text": with_error(estimate.mean, estimate.standard_error),
        "samples": [point.samples for point, _, _ in points],
        "seconds": [max(0.0, point.at - history.created) for point, _, _ in points],
        "mean": [mean for _, mean, _ in points],
        "standard_error": [error for _, _, error in points],
        "low": [low for low, _ in intervals],
        "high": [high for _, high in intervals],
        "target": {
            "standard_error": stop.standard_error if is_target else None,
            "relative_error": stop.relative_error if is_target else None,
        },
        "bars": None if bars is None else bars.model_dump(mode="json"),
        "has_errors": not is_resampled(result.model),
    }


def _width(result: Result, samples: int, confidence: float) -> float:
    """Return how many standard errors an interval reaches, as if there were no controls."""
    count = samples // result.block_size if result.sampling == Method.SOBOL else samples
    return student_quantile(confidence, max(1, count - 1))


def _interval(
    mean: float | None, error: float | None, width: float
) -> tuple[float | None, float | None]:
    """Return the ends of a point's interval, None where there is none that JSON can tell."""
    if mean is None or error is None:
        return None, None
    low, high = mean - width * error, mean + width * error
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)


def fleet_view(consumers: Sequence[ConsumerView], now: float) -> list[dict[str, Any]]:
    """Return the consumers as the page lists them: first those that not all is well with."""
    lines = [
        {
            "consumer": one.telemetry.consumer,
            "host": one.telemetry.host,
            "pool": one.telemetry.pool,
            "version": one.telemetry.version,
            "slots": one.telemetry.slots,
            "busy": one.telemetry.busy,
            "state": one.condition.value,
            "reason": one.reason,
            "samples_per_second": one.rate,
            "texts": {
                "busy": "" if one.condition.is_departed else f"{one.telemetry.busy:,}",
                "rate": _rate_text(one.rate, going_on=not one.condition.is_departed),
            },
            "silent_seconds": max(0.0, now - one.last_seen),
        }
        for one in consumers
    ]
    return sorted(lines, key=lambda line: (line["state"] == "running", line["consumer"]))
