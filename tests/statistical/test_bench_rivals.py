"""What the kernels are compared with computes the same prices: a race needs the same course.

Each mean lies within 4.5 standard errors, a chance of 7e-6; the deviations of a sample are known
roughly, from above. The plain loops draw from numpy's global generator, which is seeded here.
"""

import math
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder

import numpy as np
import pytest

from consumer.backtest.history import net_returns
from consumer.models.backtest import FIGURES, Backtest
from ops.bench import rivals
from ops.bench.direct import run
from protocol.definition import Sampling
from tests.support.barrier_recursion import discrete_barrier
from tests.support.closed_forms import Market

BARRIER, _ = discrete_barrier(Market(), 85.0, "down_and_out", call=True, rebate=0.0, fixings=252)


@pytest.mark.parametrize(
    ("work", "size", "truth", "deviation"),
    [
        (rivals.numpy_pi, 1 << 20, math.pi, 1.65),
        (rivals.numpy_european, 1 << 20, 10.450583572186, 15.0),
        (rivals.numpy_asian, 1 << 14, 5.7818244079, 8.2),
        (rivals.numpy_barrier, 1 << 14, BARRIER, 15.0),
        (rivals.python_dart_loop, 20_000, math.pi, 1.65),
        (rivals.python_path_loop, 400, 5.7818244079, 8.2),
    ],
)
def test_a_rival_computes_the_right_price(
    work: Callable[[int], float], size: int, truth: float, deviation: float
) -> None:
    np.random.seed(1)  # noqa: NPY002 - the loops draw the way it is shown
    assert abs(work(size) - truth) < 4.5 * deviation / math.sqrt(size)


def test_numpy_resamples_histories_as_the_kernels_do() -> None:
    model = Backtest.model_validate({"last_date": "2002-12-31", "mean_block_length": 20.0})
    returns, size = net_returns(model), rivals.WIDE_TILE
    theirs = rivals.numpy_backtest(size, returns, 20.0, model.days_per_year)
    ours = run(model, Sampling(), size)
    for name, found in zip(FIGURES, theirs, strict=True):
        estimate = ours.outputs[name]
        assert estimate.mean is not None
        assert estimate.standard_error is not None
        # As many histories on both sides: the difference varies twice as much as either.
        assert abs(found - estimate.mean) < 4.5 * math.sqrt(2) * estimate.standard_error, name


def test_quantlib_that_is_not_installed_is_missed_with_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [PathFinder])
    monkeypatch.delitem(sys.modules, "QuantLib", raising=False)
    (sentence,) = rivals.missing()
    assert "pip install QuantLib" in sentence


def test_quantlib_computes_the_right_price() -> None:
    pytest.importorskip("QuantLib")
    found = rivals.quantlib_asian(4096)
    assert found is not None
    # Its dates are whole days: that moves the price by less than the error of so few paths.
    assert abs(found - 5.7818244079) < 4.5 * 8.2 / 64
