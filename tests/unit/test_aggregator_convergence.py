"""What is told of how a run came to its result: bars of samples, and points up to now."""

import numpy as np
import pytest
from numpy.typing import NDArray

from aggregator.books import RunBooks
from aggregator.convergence import BARS, check_cell, has_bars, history
from aggregator.history import Point
from aggregator.ledger import run_status
from aggregator.result import result
from protocol.definition import Lane
from protocol.errors import UsageError
from protocol.histogram import Tally
from protocol.rpc_messages import Bars, History
from tests.support.run_values import RUN, definition, partial

NOW = 1_000.0


def told(samples: NDArray[np.float64], points: tuple[Point, ...] = ()) -> History:
    """Return the history of a run whose histogram counts these samples."""
    books = RunBooks(RUN, definition(), "default", Lane.NORMAL, NOW)
    books.merge(partial(books.definition, 0, 4))
    found = books.cells[0].statistics()
    assert found is not None
    tally = Tally(1)
    tally.add(samples[np.newaxis])
    counted = found.model_copy(
        update={
            "histograms": tally.histograms(),
            "minimum": (float(samples.min()),),
            "maximum": (float(samples.max()),),
        }
    )
    now = run_status(books, NOW + 5)
    return history(now, result(books, NOW + 5), 0, points, counted)


def bars(samples: NDArray[np.float64]) -> Bars:
    [found] = told(samples).bars
    assert found is not None
    return found


def test_bars_count_all_samples_and_lie_where_these_do() -> None:
    samples = 100 + 10 * np.random.default_rng(1).standard_normal(100_000)
    found = bars(samples)
    assert sum(found.counts) + found.outside == pytest.approx(len(samples))
    assert found.outside < 300
    expected, _ = np.histogram(samples, np.linspace(found.low, found.high, BARS + 1))
    # A bin of the histogram is wider than a bar here: neighbours share its samples.
    assert np.abs(np.array(found.counts) - expected).max() < 0.1 * expected.max()


def test_samples_of_few_values_stand_at_these() -> None:
    found = bars(np.array([0.0] * 300 + [4.0] * 700))
    assert (found.counts[0], found.counts[-1], found.outside) == (300, 700, 0)
    assert sum(found.counts[1:-1]) == 0
    assert sum(bars(np.full(50, -3.0)).counts) == 50


def test_samples_that_reach_as_far_as_doubles_do_have_no_bars() -> None:
    largest = np.finfo(np.float64).max
    assert told(np.array([-largest, largest] * 10)).bars == (None,)


def test_points_end_with_where_the_cell_is_now_and_none_lies_beyond() -> None:
    points = tuple(Point(n, NOW + n / 1024, ((1.0, None),)) for n in (1024, 4096, 9999))
    found = told(np.ones(3), points).points
    assert [point.samples for point in found] == [1024, 4096]
    assert (found[0].at, found[1].at) == (NOW + 1, NOW + 5)
    assert found[1].estimates != points[1].estimates


def test_a_cell_that_the_run_does_not_have_is_refused_in_a_sentence() -> None:
    books = RunBooks(RUN, definition(cells=2), "default", Lane.NORMAL, NOW)
    found = result(books, NOW)
    assert not has_bars(found)
    check_cell(found, 1)
    with pytest.raises(UsageError, match=f"cell = 2 is not allowed: run '{RUN}' has cells 0 to 1"):
        check_cell(found, 2)
