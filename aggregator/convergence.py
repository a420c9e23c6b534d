"""What is told of how a run came to its result: points, bars of samples, failures; pure."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from aggregator.failures import FailureRecord
from aggregator.history import Point
from protocol.errors import UsageError
from protocol.histogram import Histogram, bin_edges
from protocol.results import Result
from protocol.rpc_messages import Bars, History, HistoryPoint, KeptFailure, RunStatus
from protocol.statistics import Statistics

BARS = 60
TAIL = 0.001
"""This share of the samples is left out at either end: a few far ones would squeeze all others."""


def history(
    status: RunStatus,
    result: Result,
    cell: int,
    points: Sequence[Point],
    statistics: Statistics | None,
) -> History:
    """Return how a cell converged, up to where it is now.

    Parameters
    ----------
    status, result
        The run's, of the same moment.
    cell
        One of the result's.
    points
        What the store has of it, ascending.
    statistics
        All that counts of the cell, where its run counts histograms.
    """
    now = result.cells[cell]
    last = Point(
        now.samples,
        status.created + status.elapsed_seconds,
        tuple((one.mean, one.standard_error) for one in now.outputs.values()),
    )
    known = [point for point in points if point.samples < last.samples]
    bars: list[Bars | None] = [None] * len(now.outputs)
    if statistics is not None:
        extremes = zip(statistics.minimum, statistics.maximum, strict=True)
        for output, (histogram, ends) in enumerate(zip(statistics.histograms, extremes)):  # noqa: B905 - there may be no histograms
            bars[output] = _bars(histogram, ends)
    return History(
        run=result.run,
        cell=cell,
        created=status.created,
        outputs=tuple(now.outputs),
        points=tuple(
            HistoryPoint(samples=point.samples, at=point.at, estimates=point.estimates)
            for point in (*known, *([last] if last.samples else []))
        ),
        bars=tuple(bars),
    )


def check_cell(result: Result, cell: int) -> None:
    """Make sure that a run has a cell.

    Raises
    ------
    UsageError
        It has not.
    """
    if cell >= len(result.cells):
        raise UsageError(
            f"cell = {cell} is not allowed: run '{result.run}' has cells 0 to "
            f"{len(result.cells) - 1}"
        )


def has_bars(result: Result) -> bool:
    """Say whether a run counts histograms of its samples."""
    return any(one.quantiles for cell in result.cells for one in cell.outputs.values())


def kept_failure(record: FailureRecord) -> KeptFailure:
    """Return what is told of a failure."""
    return KeptFailure(
        cell=record.cell,
        first_block=record.first_block,
        blocks=record.blocks,
        attempt=record.attempt,
        kind=record.kind,
        text=record.text,
        consumer=record.consumer,
        host=record.host,
    )


def _bars(histogram: Histogram, extremes: tuple[float, float]) -> Bars | None:
    """Return a histogram in bars of equal width, as if samples were spread evenly in its bins.

    None where the samples reach so far that doubles cannot tell widths.
    """
    bins, counts = histogram.arrays()
    edges = np.clip([bin_edges(int(number)) for number in bins], *extremes)
    lower, upper = edges[:, 0], np.maximum(edges[:, 1], np.nextafter(edges[:, 0], np.inf))
    upto = np.cumsum(counts)
    first, last = np.searchsorted(upto, [TAIL * upto[-1], (1 - TAIL) * upto[-1]])
    low, high = float(lower[first]), float(upper[last])
    with np.errstate(all="ignore"):
        within = [
            float(counts @ np.clip((edge - lower) / (upper - lower), 0.0, 1.0))
            for edge in np.linspace(low, high, BARS + 1)
        ]
    if not all(map(math.isfinite, (high, *within))):
        return None
    return Bars(
        low=low,
        high=high,
        counts=tuple(max(0.0, after - before) for before, after in pairwise(within)),
        outside=max(0.0, int(upto[-1]) - (within[-1] - within[0])),
    )
