"""Back-tests in plain numpy and Python, from the definitions: the model must agree with them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def crossover(prices: Doubles, fast: int, slow: int) -> Doubles:
    held = np.zeros(len(prices))
    for day in range(slow - 1, len(prices)):
        held[day] = np.sign(
            prices[day - fast + 1 : day + 1].mean() - prices[day - slow + 1 : day + 1].mean()
        )
    return held


def momentum(prices: Doubles, look_back: int) -> Doubles:
    held = np.zeros(len(prices))
    held[look_back:] = np.sign(prices[look_back:] - prices[:-look_back])
    return held


def at_volatility(
    held: Doubles, prices: Doubles, look_back: int, target: float, most: float
) -> Doubles:
    returns = prices[1:] / prices[:-1] - 1
    scaled = np.zeros(len(prices))
    for day in range(look_back, len(prices)):
        volatility = returns[day - look_back : day].std(ddof=1) * 16
        scaled[day] = held[day] * min(target / volatility, most)
    return scaled


def net_returns(prices: Doubles, held: Doubles, warm_up: int, basis_points: float) -> Doubles:
    returns = prices[warm_up + 1 :] / prices[warm_up:-1] - 1
    position = held[warm_up:-1]
    turnover = np.abs(np.diff(position, prepend=0.0))
    return np.asarray(position * returns - basis_points / 10_000 * turnover)


def resampled(uniforms: Sequence[float], mean_length: float) -> list[int]:
    """Return the days that a sample lives through: one uniform a day, as the protocol draws it."""
    length, leave = len(uniforms), 1 / mean_length
    days: list[int] = []
    for u in uniforms:
        if not days:
            days.append(int(u * length))
        elif u < leave:
            days.append(int(u / leave * length))
        else:
            days.append((days[-1] + 1) % length)
    return days


def figures(net: Doubles) -> list[float]:
    """Return annual return, volatility, Sharpe ratio and maximum drawdown, at 256 days a year."""
    annual, volatility = net.mean() * 256, net.std(ddof=1) * 16
    wealth = np.concatenate(([1.0], np.cumprod(1 + net)))
    drawdown = (1 - wealth / np.maximum.accumulate(wealth)).max()
    return [annual, volatility, annual / volatility, drawdown]


def block_length(values: Doubles) -> float:
    """Politis and White's rule with the correction of 2009, lag by lag from the paper."""
    n = len(values)
    excess = values - values.mean()
    covariance = [float(np.dot(excess[k:], excess[: n - k]) / n) for k in range(n // 2)]
    run = max(5, int(np.ceil(np.sqrt(np.log10(n)))))
    most = int(np.ceil(np.sqrt(n))) + run
    small = [abs(c / covariance[0]) < 2 * np.sqrt(np.log10(n) / n) for c in covariance[: most + 1]]
    fits = [m for m in range(most - run + 1) if all(small[m + 1 : m + 1 + run])]
    lag = max(fits[0], 1) if fits else max(k for k in range(1, most + 1) if not small[k])
    half_width = min(2 * lag, most)
    window = [min(1.0, 2 * (1 - k / half_width)) for k in range(half_width + 1)]
    slope = 2 * sum(window[k] * k * covariance[k] for k in range(1, half_width + 1))
    level = covariance[0] + 2 * sum(window[k] * covariance[k] for k in range(1, half_width + 1))
    best = (2 * slope**2 / (2 * level**2)) ** (1 / 3) * n ** (1 / 3)
    return float(np.clip(best, 1, np.ceil(min(3 * np.sqrt(n), n / 3))))
