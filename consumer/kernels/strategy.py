"""Trading rules: from prices to positions, and from positions to daily net returns.

Compiled loops of + - * / sqrt and comparisons in a fixed order, so that the bits are the same on
every CPU. A position held on a day depends on the prices of earlier days only.
"""

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.compiled import compiled

Doubles = NDArray[np.float64]


@compiled
def crossover(prices: Doubles, fast: int, slow: int) -> Doubles:
    """Return the position at the end of each day by two moving averages.

    Long (1) where the mean of the last `fast` prices is above that of the last `slow`, short (-1)
    where it is below, 0 where they are equal or `slow` prices are not known yet.
    """
    positions = np.zeros(prices.size)
    for day in range(slow - 1, prices.size):
        # Sums of differences to the day's price are exactly 0 where the price stands still.
        total = 0.0
        for age in range(fast):
            total += prices[day - age] - prices[day]
        short_total = total
        for age in range(fast, slow):
            total += prices[day - age] - prices[day]
        gap = short_total * slow - total * fast
        positions[day] = 1.0 if gap > 0.0 else (-1.0 if gap < 0.0 else 0.0)
    return positions


@compiled
def momentum(prices: Doubles, look_back: int) -> Doubles:
    """Return the position at the end of each day by time-series momentum.

    Long (1) where the price is above that of `look_back` days before, short (-1) where it is
    below, 0 where they are equal or there is no such day; Moskowitz, Ooi and Pedersen, "Time
    series momentum", Journal of Financial Economics 104 (2012).
    """
    positions = np.zeros(prices.size)
    for day in range(look_back, prices.size):
        gap = prices[day] - prices[day - look_back]
        positions[day] = 1.0 if gap > 0.0 else (-1.0 if gap < 0.0 else 0.0)
    return positions


@compiled
def daily_returns(prices: Doubles) -> Doubles:
    """Return each day's price divided by that of the day before, less 1; 0 on the first day."""
    returns = np.zeros(prices.size)
    for day in range(1, prices.size):
        returns[day] = prices[day] / prices[day - 1] - 1.0
    return returns


@compiled
def at_volatility(
    positions: Doubles,
    returns: Doubles,
    look_back: int,
    target: float,
    most: float,
    periods: float,
) -> Doubles:
    """Return positions scaled by target ÷ volatility of the last `look_back` days.

    Parameters
    ----------
    positions, returns
        One number per day.
    look_back
        At least 2 days.
    target
        Volatility that is aimed at, of a year.
    most
        Largest factor. Where the price stands still there is no volatility, and the position is 0.
    periods
        Days of a year.
    """
    scaled = np.zeros(positions.size)
    for day in range(look_back, positions.size):
        total = 0.0
        for age in range(look_back):
            total += returns[day - age]
        mean = total / look_back
        squares = 0.0
        for age in range(look_back):
            excess = returns[day - age] - mean
            squares += excess * excess
        if squares > 0.0:
            factor = target / np.sqrt(squares / (look_back - 1) * periods)
            scaled[day] = positions[day] * (min(most, factor))
    return scaled


@compiled
def add_net_returns(
    total: Doubles, weight: float, positions: Doubles, returns: Doubles, cost: float
) -> None:
    """Add a leg's weighted net returns to those of a portfolio.

    A day's net return is the position of the evening before times the day's return, less the cost
    of having changed to that position; before the first position there is none.

    Parameters
    ----------
    total
        Of the last days, as many as are evaluated; changed in place.
    weight
        Of this leg.
    positions, returns
        One number per day.
    cost
        Of a change of position by 1, as a fraction.
    """
    first = returns.size - total.size
    before = 0.0
    for day in range(first, returns.size):
        position = positions[day - 1]
        net = position * returns[day] - cost * abs(position - before)
        total[day - first] += weight * net
        before = position
