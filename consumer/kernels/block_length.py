"""How long the stationary bootstrap's runs should be on average for a given series.

Politis and White, "Automatic block-length selection for the dependent bootstrap", Econometric
Reviews 23 (2004), with the correction of Patton, Politis and White, Econometric Reviews 28 (2009).
"""

import math
from decimal import Context, Decimal

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.compiled import compiled

Doubles = NDArray[np.float64]


def automatic_block_length(values: Doubles) -> float:
    """Return the mean run length that estimates the variance of the mean best; at least 1.

    With autocovariances R(k) and the flat-top window λ of half-width M, G = Σ λ(k/M) |k| R(k) and
    g = Σ λ(k/M) R(k), both over all k from -M to M, it is (2 G² / (2 g²))^(1/3) N^(1/3), at most
    min(3 √N, N/3). M is twice the lag after which some autocorrelations in a row are negligible.

    Parameters
    ----------
    values
        The series, oldest first.
    """
    size = values.size
    # The decimal module rounds a logarithm correctly, math.log10 as the platform likes.
    digits = float(Decimal(size).log10(Context(prec=28)))
    run = max(5, math.ceil(math.sqrt(digits)))
    lags = min(math.ceil(math.sqrt(size)) + run, size - 1)
    covariances = _autocovariances(values, lags)
    half_width = min(2 * _last_lag(covariances, run, 2.0 * math.sqrt(digits / size)), lags)
    longest = math.ceil(min(3.0 * math.sqrt(size), size / 3))
    return _best(covariances, half_width, size, longest)


@compiled
def _autocovariances(values: Doubles, lags: int) -> Doubles:
    """Return R(0) to R(lags), each a sum over the series divided by its length."""
    total = 0.0
    for value in values:
        total += value
    mean = total / values.size
    result = np.zeros(lags + 1)
    for lag in range(lags + 1):
        total = 0.0
        for i in range(lag, values.size):
            total += (values[i] - mean) * (values[i - lag] - mean)
        result[lag] = total / values.size
    return result


def _last_lag(covariances: Doubles, run: int, limit: float) -> int:
    """Return the smallest lag with `run` negligible autocorrelations after it, but at least 1.

    Where there is none, the largest lag that is not negligible, as in Patton's implementation.
    """
    large = [abs(value) >= limit * covariances[0] for value in covariances.tolist()]
    for lag in range(len(large) - run):
        if not any(large[lag + 1 : lag + 1 + run]):
            return max(lag, 1)
    return max((lag for lag in range(1, len(large)) if large[lag]), default=1)


@compiled
def _best(covariances: Doubles, half_width: int, size: int, longest: float) -> float:
    slope, level = 0.0, covariances[0]
    for lag in range(1, half_width + 1):
        share = lag / half_width
        window = 1.0 if share <= 0.5 else 2.0 * (1.0 - share)
        slope += 2.0 * window * lag * covariances[lag]
        level += 2.0 * window * covariances[lag]
    if covariances[0] <= 0.0:  # it does not vary: any length is as good
        return 1.0
    length = _cube_root(slope * slope / (level * level) * size)
    return min(max(length, 1.0), longest)


@compiled
def _cube_root(value: float) -> float:
    """Return the cube root of a number >= 0 by Newton's steps from above, until they end."""
    root = max(value, 1.0)
    while True:
        lower = (2.0 * root + value / (root * root)) / 3.0
        if not lower < root:
            return root
        root = lower
