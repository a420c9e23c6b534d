"""Fixed seeds; a bound of 4.5 standard errors has a false alarm in 150,000 for one comparison.

A test of goodness of fit has one in 100,000.
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from consumer.kernels import bootstrap as kernel
from consumer.kernels.block_length import automatic_block_length
from consumer.kernels.draws import counters
from consumer.models.backtest import Backtest
from protocol.definition import Sampling
from protocol.model import validated
from protocol.streams import BlockStream
from tests.support import plain_backtest as plain

Doubles = NDArray[np.float64]
FALSE_ALARM = 1e-5


def ar1(phi: float, size: int, seed: int) -> Doubles:
    noise = np.random.default_rng(seed).standard_normal(size + 200)
    values = np.zeros(size + 200)
    for i in range(1, size + 200):
        values[i] = phi * values[i - 1] + noise[i]
    return 0.01 * values[200:]


def figures(values: Doubles, mean_length: float, size: int, block: int = 0) -> Doubles:
    stream = counters(BlockStream(11, 0, block, size))
    return np.asarray(kernel.bootstrap(stream, size, values, mean_length, 256.0))


def days(size: int, length: int, mean_length: float) -> NDArray[np.int64]:
    stream = counters(BlockStream(12, 0, 0, size))
    return np.asarray(kernel.resampled_days(stream, size, length, 1 / mean_length))


@pytest.mark.parametrize("mean_length", [1.0, 7.5])
def test_samples_agree_with_a_plain_stationary_bootstrap_of_the_same_uniforms(
    mean_length: float,
) -> None:
    values = ar1(0.3, 500, 1)
    size = 300  # more than two tiles of pairs
    found = figures(values, mean_length, size, block=9)
    even, odd = BlockStream(11, 0, 9, size).uniform_pairs(0, 500)
    for i in (0, 1, 63, 64, 149):
        for column, uniforms in ((i, even[:, i]), (size // 2 + i, odd[:, i])):
            lived = values[plain.resampled(uniforms.tolist(), mean_length)]
            assert found[:, column] == pytest.approx(plain.figures(lived), rel=1e-9)


def test_the_lengths_of_runs_are_geometric() -> None:
    length, mean_length = 1000, 8.0
    lived = days(400, length, mean_length)
    jumps = np.diff(lived, axis=0) % length != 1
    # The first 20 runs of every sample, which end long before the sample does.
    runs = [np.diff(np.flatnonzero(column), prepend=-1)[:20] for column in jumps.T]
    counts = np.bincount(np.concatenate(runs))[1:]
    leave = 1 / mean_length * (1 - 1 / length)  # a run that begins where the last ended adds to it
    expected = stats.geom.pmf(np.arange(1, 31), leave) * counts.sum()
    observed = np.append(counts[:30], counts[30:].sum())
    tail = stats.geom.sf(30, leave) * counts.sum()
    assert stats.chisquare(observed, np.append(expected, tail)).pvalue > FALSE_ALARM


def test_runs_begin_on_every_day_alike_and_the_last_day_is_followed_by_the_first() -> None:
    lived = days(2000, 50, 5.0)
    assert stats.chisquare(np.bincount(lived[0], minlength=50)).pvalue > FALSE_ALARM
    steps = np.diff(lived, axis=0)
    ahead = (steps == 1) | (steps == -49)
    begun = lived[1:][~ahead]
    assert stats.chisquare(np.bincount(begun, minlength=50)).pvalue > FALSE_ALARM
    after_last = lived[1:][lived[:-1] == 49]
    share = (after_last == 0).mean()
    expected = 0.8 + 0.2 / 50
    assert abs(share - expected) < 4.5 * np.sqrt(expected * (1 - expected) / after_last.size)


@pytest.mark.parametrize("mean_length", [1.0, 12.0])
def test_the_spread_of_the_mean_is_what_politis_and_romano_derive(mean_length: float) -> None:
    # Lemma 1: Var*(mean) = [R(0) + 2 sum of (1 - i/n) (1 - p)^i R(i)] / n, R circular. The
    # variance of 40,000 samples has the relative standard error sqrt(2 / 40,000) = 0.7 %.
    n, size = 600, 40_000
    values = ar1(0.6, n, 2)
    excess = values - values.mean()
    circular = [float(np.dot(excess, np.roll(excess, -i))) / n for i in range(n)]
    weights = [(1 - i / n) * (1 - 1 / mean_length) ** i for i in range(n)]
    variance = (2 * np.dot(weights, circular) - circular[0]) / n
    means = figures(values, mean_length, size)[kernel.ANNUAL_RETURN] / 256
    assert means.var(ddof=1) / variance == pytest.approx(1, abs=4.5 * np.sqrt(2 / size))
    assert abs(means.mean() - values.mean()) < 4.5 * np.sqrt(variance / size)


def test_the_standard_error_of_the_mean_of_an_ar1_agrees_with_theory() -> None:
    # Of x_t = 0.5 x_{t-1} + e_t it is sd(e) / (1 - 0.5) / sqrt(n). The bootstrap's is short of that
    # by phi / (1 - phi^2) / b, 3.5 % with the optimal b = 19.2 (Politis and White). One series
    # scatters by 6 %, so the average of 40 by 1 %; single days would give about half.
    n = 4000
    theory = 0.01 / (1 - 0.5) / np.sqrt(n)
    ratios = []
    for seed in range(40):
        values = ar1(0.5, n, 100 + seed)
        found = figures(values, automatic_block_length(values), 400, seed)
        ratios.append(found[kernel.ANNUAL_RETURN].std(ddof=1) / 256 / theory)
    assert np.mean(ratios) == pytest.approx(0.965, abs=0.045)


@pytest.mark.parametrize(("phi", "n"), [(0.0, 500), (0.3, 2000), (0.8, 1000), (-0.5, 64)])
def test_the_automatic_block_length_is_politis_and_whites(phi: float, n: int) -> None:
    for seed in range(5):
        values = ar1(phi, n, seed)
        expected = plain.block_length(values)
        assert automatic_block_length(values) == pytest.approx(expected, rel=1e-9)


def test_the_automatic_block_length_of_an_ar1_is_near_its_optimum() -> None:
    # ((2 phi / (1 - phi^2))^2 n)^(1/3) = 19.2; a single choice scatters by a tenth and is a little
    # short, because the window cuts the largest lags.
    chosen = [automatic_block_length(ar1(0.5, 4000, seed)) for seed in range(60)]
    assert np.mean(chosen) == pytest.approx((16 / 9 * 4000) ** (1 / 3), rel=0.15)


def test_all_legs_of_a_portfolio_live_through_the_same_days() -> None:
    # The annual return is linear in the returns, so it adds up sample by sample, or else not.
    legs, weights = ["EURUSD", "GBPJPY"], [0.5, -2.0]
    stream = BlockStream(5, 0, 0, 64)
    alone = [
        validated(Backtest, {"pair": leg, "mean_block_length": 9.0}).samples(
            stream, Sampling(), ("annual_return",)
        )[0]
        for leg in legs
    ]
    mixed = validated(Backtest, {"legs": legs, "weights": weights, "mean_block_length": 9.0})
    found = mixed.samples(stream, Sampling(), ("annual_return",))[0]
    assert found == pytest.approx(0.5 * alone[0] - 2.0 * alone[1], rel=1e-9, abs=1e-15)


def test_a_loss_of_everything_is_a_drawdown_of_1_and_no_more() -> None:
    values = np.array([0.1, -1.5, 5.0, 0.2] * 10)
    assert kernel.history_figures(values, 256.0)[kernel.MAX_DRAWDOWN, 0] == 1.0
    drawdowns = figures(values, 3.0, 64)[kernel.MAX_DRAWDOWN]
    assert drawdowns.min() >= 0
    assert drawdowns.max() == 1.0


def test_a_sample_that_misses_all_that_happened_has_volatility_and_sharpe_ratio_0() -> None:
    values = np.zeros(211)
    values[77] = 0.3
    found = figures(values, 50.0, 256)
    missed = found[kernel.MAX_DRAWDOWN] + np.abs(found[kernel.ANNUAL_RETURN]) < 1e-9
    assert 10 < missed.sum() < 246
    assert not found[kernel.VOLATILITY, missed].any()
    assert not found[kernel.SHARPE, missed].any()
    assert (found[kernel.SHARPE, ~missed] > 0.1).all()


def test_returns_that_do_not_vary_have_volatility_and_sharpe_ratio_0() -> None:
    for value in (0.0, 0.1, -1e-3, 1 / 3):
        found = figures(np.full(100, value), 5.0, 8)
        assert found[kernel.VOLATILITY].tolist() == [0.0] * 8
        assert found[kernel.SHARPE].tolist() == [0.0] * 8
        assert found[kernel.ANNUAL_RETURN] == pytest.approx([value * 256] * 8)
