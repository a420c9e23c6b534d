"""The simulation error of a bootstrapped back-test covers as often as it says.

The truth is the expectation over the bootstrap, given the history. Every day of a sample is any
day of the history alike, so that the annual return's is the history's own. The others come from
2**25 samples of a seed of its own, whose standard error is a 30th of that at which the counted
runs stop: it moves the share of intervals by 0.02 % at most. What is allowed, and the chance of a
false alarm, is in `stopped_runs`; the seeds are fixed.
"""

from typing import Any

import pytest

from consumer.models.backtest import FIGURES, Backtest
from ops.bench.direct import run
from protocol.definition import Sampling
from protocol.model import validated
from protocol.streams import BlockStream
from tests.support.stopped_runs import FEW_RUNS, RUNS, Case, outside

RULE: dict[str, Any] = {
    "legs": ["EURUSD", "GBPJPY"], "strategy": "momentum", "look_back": 40,
    "volatility_target": 0.1, "volatility_look_back": 20, "mean_block_length": 5.0,
}  # fmt: skip
RECORDED = {
    "1999-05-31": {
        "volatility": 0.07140768300697206,
        "sharpe": 0.7412832118276116,
        "max_drawdown": 0.03168037548175494,
    },
    "1999-12-31": {
        "volatility": 0.07468766216907018,
        "sharpe": 0.6567369931937957,
        "max_drawdown": 0.057292001290906995,
    },
}
"""Expectations by the last day of the history; `test_the_recorded_expectations...` checks them."""


def case_of(last_date: str) -> Case:
    cell = validated(Backtest, RULE | {"last_date": last_date})
    one = BlockStream(0, 0, 0, 2)
    [annual_return, _] = cell.samples(one, Sampling(), ("history_annual_return",))[0]
    truths = {"annual_return": float(annual_return)} | RECORDED[last_date]
    return Case(f"backtest-{last_date}", cell, truths, block_size=256)


SHORT, LONG = (case_of(last_date) for last_date in RECORDED)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", [SHORT, LONG], ids=RECORDED)
def test_intervals_of_stopped_runs_cover_the_truth(case: Case) -> None:
    assert tuple(case.truths) == FIGURES
    assert outside(case, RUNS) == {}


def test_intervals_of_fewer_stopped_runs_cover_the_truth() -> None:
    assert outside(SHORT, FEW_RUNS) == {}


@pytest.mark.parametrize("scale", [0.8, 1.25])
def test_fewer_runs_would_show_intervals_that_are_too_narrow_or_too_wide(scale: float) -> None:
    # The same runs as above; of right intervals, scaled, one output in 90 would not show.
    assert outside(SHORT, FEW_RUNS, scale).keys() == SHORT.truths.keys()


@pytest.mark.parametrize("case", [SHORT, LONG], ids=RECORDED)
def test_the_recorded_expectations_are_those_of_the_bootstrap(case: Case) -> None:
    # Their own error is a fifth of this one's; 4.5 standard errors are exceeded with 7e-6.
    assert isinstance(case.cell, Backtest)
    found = run(case.cell, Sampling(), 2**20, FIGURES, 4096, seed=2**41).outputs
    for name, truth in case.truths.items():
        mean, error = found[name].mean, found[name].standard_error
        assert mean is not None
        assert error is not None
        assert abs(mean - truth) < 4.5 * error, name
