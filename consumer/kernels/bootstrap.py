"""The stationary bootstrap of a series of daily net returns, and the four figures of a series.

Politis and Romano, "The stationary bootstrap", Journal of the American Statistical Association 89
(1994): runs of days of geometric length that begin anywhere; the last day is followed by the first.
Which length is best is in `block_length`, where the series comes from in `strategy`.
"""

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.compiled import compiled
from consumer.kernels.draws import Counters, fill_uniforms

Doubles = NDArray[np.float64]
Days = NDArray[np.int64]

ANNUAL_RETURN, VOLATILITY, SHARPE, MAX_DRAWDOWN = range(4)
"""Rows of the figures."""

_WEALTH, _LOWEST, _SUM, _SQUARES = range(4)
"""Rows of a sample's state: wealth ÷ its highest so far, the least of that, and two sums."""

_TILE_PAIRS = 64
_NOISE = 2.0**-52


@compiled
def history_figures(returns: Doubles, periods: float) -> Doubles:
    """Return the figures of the series itself, shape (4, 1); parameters as in `bootstrap`."""
    centre = _mean(returns)
    state = _fresh(1)
    days = np.zeros(1, np.int64)
    for day in range(returns.size):
        days[0] = day
        _live_through(state, days, returns, centre)
    result = np.zeros((4, 1))
    _figures(result, state, returns.size, centre, periods)
    return result


@compiled
def bootstrap(
    counters: Counters, size: int, returns: Doubles, mean_length: float, periods: float
) -> Doubles:
    """Return the figures of resampled series: even samples first, then the odd ones, (4, size).

    Parameters
    ----------
    counters
        The block's; dimension i is for the i-th day of the samples.
    size
        Samples, even.
    returns
        The history, at least two days; every sample has as many.
    mean_length
        Mean length of a run of days, at least 1.
    periods
        Days of a year.
    """
    result = np.zeros((4, size))
    half = size // 2
    centre, leave = _mean(returns), 1.0 / mean_length
    for first in range(0, half, _TILE_PAIRS):
        pairs = min(_TILE_PAIRS, half - first)
        tile = _tile(counters, first, pairs, returns, leave, centre, periods)
        # Written out: an assignment of slices takes numba seconds to compile.
        for row in range(4):
            for i in range(pairs):
                result[row, first + i] = tile[row, i]
                result[row, half + first + i] = tile[row, pairs + i]
    return result


@compiled
def resampled_days(counters: Counters, size: int, length: int, leave: float) -> Days:
    """Return which days of the history the samples of a block live through, (length, size).

    Order and parameters as in `bootstrap`, which keeps only one row of this at a time.
    """
    result = np.zeros((length, size), np.int64)
    half = size // 2
    days, uniforms = np.full(size, -1, np.int64), np.zeros(size)
    for step in range(length):
        fill_uniforms(counters, step, 0, uniforms[:half], uniforms[half:])
        _next_days(days, uniforms, length, leave)
        result[step] = days
    return result


@compiled
def _tile(
    counters: Counters,
    first: int,
    pairs: int,
    returns: Doubles,
    leave: float,
    centre: float,
    periods: float,
) -> Doubles:
    """Return the figures of a few sample pairs, whose state stays in the cache."""
    state = _fresh(2 * pairs)
    days, uniforms = np.full(2 * pairs, -1, np.int64), np.zeros(2 * pairs)
    even, odd = uniforms[:pairs], uniforms[pairs:]
    for step in range(returns.size):
        fill_uniforms(counters, step, first, even, odd)
        _next_days(days, uniforms, returns.size, leave)
        _live_through(state, days, returns, centre)
    result = np.zeros((4, 2 * pairs))
    _figures(result, state, returns.size, centre, periods)
    return result


@compiled
def _fresh(size: int) -> Doubles:
    """Return the state of samples before their first day."""
    state = np.zeros((4, size))
    for i in range(size):
        state[_WEALTH, i] = 1.0
        state[_LOWEST, i] = 1.0
    return state


@compiled
def _next_days(days: Days, uniforms: Doubles, length: int, leave: float) -> None:
    """Move every sample on to its next day of the history, in place; -1 before its first.

    One uniform does both: with probability `leave` it falls below it, and then, divided by it, is
    uniform again and says where the next run begins.
    """
    jump = length / leave
    for i in range(days.size):
        ahead = days[i] + 1
        day = ahead if ahead < length else 0
        # A product that rounds up to the length means the last day.
        if days[i] < 0:
            day = min(np.int64(uniforms[i] * length), length - 1)
        elif uniforms[i] < leave:
            day = min(np.int64(uniforms[i] * jump), length - 1)
        days[i] = day


@compiled
def _live_through(state: Doubles, days: Days, returns: Doubles, centre: float) -> None:
    """Add one day to every sample's state.

    Sums are of what exceeds `centre`, a number near the mean of the returns: they round well.
    """
    for i in range(days.size):
        change = returns[days[i]]
        wealth = state[_WEALTH, i] * (1.0 + change)
        wealth = min(max(wealth, 0.0), 1.0)  # from 0 on all is lost; above 1 is a new high
        state[_WEALTH, i] = wealth
        state[_LOWEST, i] = min(state[_LOWEST, i], wealth)
        excess = change - centre
        state[_SUM, i] += excess
        state[_SQUARES, i] += excess * excess


@compiled
def _figures(result: Doubles, state: Doubles, length: int, centre: float, periods: float) -> None:
    """Write annual return, volatility, Sharpe ratio and maximum drawdown of every sample.

    The annual return is the mean net return of a day times the days of a year; the volatility is
    the standard deviation of a day's net return times the square root of that; the Sharpe ratio is
    their quotient, 0 where the returns do not vary beyond their rounding; the drawdown is the
    largest loss from a high, as a fraction, of wealth that earns the returns one after another.
    """
    for i in range(state.shape[1]):
        total, squares = state[_SUM, i], state[_SQUARES, i]
        annual = (centre + total / length) * periods
        scatter = squares - total * total / length
        volatility, sharpe = 0.0, 0.0
        if scatter > (squares + centre * centre * length) * (length * _NOISE):
            volatility = np.sqrt(scatter / (length - 1) * periods)
            sharpe = annual / volatility
        result[ANNUAL_RETURN, i] = annual
        result[VOLATILITY, i] = volatility
        result[SHARPE, i] = sharpe
        result[MAX_DRAWDOWN, i] = 1.0 - state[_LOWEST, i]


@compiled
def _mean(values: Doubles) -> float:
    total = 0.0
    for value in values:
        total += value
    return total / values.size
