"""What the kernels are measured against: numpy, plain Python loops, QuantLib. No product code.

Each function does its work once; `best_time` times it.
"""

import importlib
import importlib.util
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SPOT, STRIKE, RATE, VOLATILITY, BARRIER = 100.0, 100.0, 0.05, 0.2, 85.0
FIXINGS = 252
TILE = 4096
"""Paths at a time: the fastest of 512 to 16,384 here; the arrays stay in the L2 cache."""

WIDE_TILE = 16_384
"""Histories at a time: more, because a day of few costs numpy's calls rather than arithmetic."""


def missing() -> list[str]:
    """Say in a sentence each which rivals cannot run here, and how to get them."""
    if importlib.util.find_spec("QuantLib") is not None:
        return []
    return ["QuantLib is not installed, so that it has no row: pip install QuantLib"]


def best_time(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the least CPU time of this thread, in seconds: other load only adds to it."""
    found = math.inf
    for _ in range(repeats):
        began = time.thread_time()
        work()
        found = min(found, time.thread_time() - began)
    return found


def numpy_pi(darts: int) -> float:
    """Count darts with numpy, in tiles."""
    rng = np.random.Generator(np.random.SFC64(1))
    x, y = np.empty(TILE), np.empty(TILE)
    hits = 0
    for _ in range(darts // TILE):
        rng.random(out=x)
        rng.random(out=y)
        np.multiply(x, x, out=x)
        np.multiply(y, y, out=y)
        np.add(x, y, out=x)
        hits += int(np.count_nonzero(x < 1.0))
    return 4.0 * hits / darts


def numpy_european(paths: int) -> float:
    """Price a European call with numpy, in tiles."""
    return _numpy_paths(paths, 1, lambda last, _total, _low: last - STRIKE)


def numpy_asian(paths: int) -> float:
    """Price the arithmetic Asian call with numpy, in tiles, everything in place."""
    return _numpy_paths(paths, FIXINGS, lambda _last, total, _low: total / FIXINGS - STRIKE)


def numpy_barrier(paths: int) -> float:
    """Price a down-and-out call at discrete dates with numpy, in tiles."""
    return _numpy_paths(
        paths, FIXINGS, lambda last, _total, low: np.where(low > BARRIER, last - STRIKE, 0.0)
    )


Gain = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _numpy_paths(paths: int, steps: int, gain: Gain) -> float:
    """Return the discounted mean of a gain where positive, from last price, sum and minimum."""
    rng = np.random.Generator(np.random.SFC64(1))  # the fastest of numpy's generators here
    scale = VOLATILITY * math.sqrt(1.0 / steps)
    shift = (RATE - VOLATILITY**2 / 2) / steps
    z, level, price, total, low = (np.empty(TILE) for _ in range(5))
    needs = gain.__code__.co_varnames  # an unused argument is named with an underscore
    paid = 0.0
    for _ in range(paths // TILE):
        level.fill(math.log(SPOT))
        total.fill(0.0)
        low.fill(math.inf)
        for _step in range(steps):
            rng.standard_normal(out=z)
            np.multiply(z, scale, out=z)
            np.add(z, shift, out=z)
            np.add(level, z, out=level)
            if "total" in needs:
                np.exp(level, out=price)
                np.add(total, price, out=total)
            if "low" in needs:
                np.minimum(low, level, out=low)
        paid += np.maximum(gain(np.exp(level), total, np.exp(low)), 0.0).sum()
    return math.exp(-RATE) * paid / paths


def numpy_backtest(
    histories: int, returns: np.ndarray, mean_length: float, periods: float
) -> np.ndarray:
    """Resample daily returns by the stationary bootstrap with numpy, in tiles.

    Returns the means over the histories of annual return, volatility, Sharpe ratio and drawdown.
    """
    rng = np.random.Generator(np.random.SFC64(1))
    length, leave = len(returns), 1.0 / mean_length
    u, change, wealth, low, total, squares = (np.empty(WIDE_TILE) for _ in range(6))
    figures = np.zeros(4)
    for _ in range(histories // WIDE_TILE):
        day = rng.integers(0, length, WIDE_TILE)
        wealth.fill(1.0)
        low.fill(1.0)
        total.fill(0.0)
        squares.fill(0.0)
        for _step in range(length):
            np.take(returns, day, out=change, mode="clip")
            np.add(total, change, out=total)
            np.add(wealth, wealth * change, out=wealth)
            np.minimum(wealth, 1.0, out=wealth)  # relative to the highest so far
            np.minimum(low, wealth, out=low)
            np.multiply(change, change, out=change)
            np.add(squares, change, out=squares)
            rng.random(out=u)
            day += 1
            day[day == length] = 0
            leaves = np.flatnonzero(u < leave)
            day[leaves] = u[leaves] * (length / leave)
        annual = total / length * periods
        volatility = np.sqrt((squares - total * total / length) / (length - 1) * periods)
        rows = (annual, volatility, annual / volatility, 1.0 - low)
        figures += [row.mean() for row in rows]
    return figures / (histories // WIDE_TILE)


def python_path_loop(paths: int) -> float:
    """Price the Asian call with the loop that talks show: one path, one step at a time."""
    step = 1.0 / FIXINGS
    paid = 0.0
    for _ in range(paths):
        spot, total = SPOT, 0.0
        for _step in range(FIXINGS):
            z = np.random.normal()  # noqa: NPY002 - the way it is shown
            drift = (RATE - 0.5 * VOLATILITY**2) * step
            spot = spot * np.exp(drift + VOLATILITY * np.sqrt(step) * z)
            total += spot
        paid += max(total / FIXINGS - STRIKE, 0.0)
    return math.exp(-RATE) * paid / paths


def python_dart_loop(darts: int) -> float:
    """Count darts one at a time."""
    hits = 0
    for _ in range(darts):
        x, y = np.random.rand(), np.random.rand()  # noqa: NPY002 - the way it is shown
        if x**2 + y**2 <= 1:
            hits += 1
    return 4.0 * hits / darts


def quantlib_asian(paths: int) -> float | None:
    """Price the arithmetic Asian call with QuantLib, None where it is not installed."""
    try:
        ql: Any = importlib.import_module("QuantLib")
    except ImportError:
        return None
    today = ql.Date(1, 1, 2025)
    ql.Settings.instance().evaluationDate = today
    days = ql.Actual365Fixed()
    curve = ql.YieldTermStructureHandle(ql.FlatForward(today, RATE, days))
    none = ql.YieldTermStructureHandle(ql.FlatForward(today, 0.0, days))
    surface = ql.BlackVolTermStructureHandle(
        ql.BlackConstantVol(today, ql.NullCalendar(), VOLATILITY, days)
    )
    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(SPOT)), none, curve, surface
    )
    dates = [today + round(i * 365 / FIXINGS) for i in range(1, FIXINGS + 1)]
    option = ql.DiscreteAveragingAsianOption(
        ql.Average.Arithmetic,
        0.0,
        0,
        dates,
        ql.PlainVanillaPayoff(ql.Option.Call, STRIKE),
        ql.EuropeanExercise(dates[-1]),
    )
    engine = ql.MCDiscreteArithmeticAPEngine(
        process, "pseudorandom", requiredSamples=paths, seed=42
    )
    option.setPricingEngine(engine)
    return float(option.NPV())
