"""Quantiles of Student's t, rounded so that they are the same number on every machine."""

import math
from functools import lru_cache
from statistics import NormalDist

_SERIES_FROM = 200
_DIGITS = 12
_TINY = 1e-300
_CONVERGED = 1e-16


@lru_cache(maxsize=4096)
def student_quantile(confidence: float, degrees: int) -> float:
    """Return t with P(-t < T < t) = confidence.

    From 200 degrees on by the expansion around the normal quantile (Abramowitz and Stegun,
    26.7.5, error below 1e-13 relative there), before that by bisecting the distribution function,
    a regularised incomplete beta function (continued fraction: Numerical Recipes, section 6.4).
    Both use the platform's exp and log; 12 significant digits hide their last bits.

    Parameters
    ----------
    confidence
        In (0, 1).
    degrees
        Degrees of freedom, at least 1.
    """
    if degrees >= _SERIES_FROM:
        quantile = _expansion(NormalDist().inv_cdf(0.5 + confidence / 2), degrees)
    else:
        quantile = _bisection(confidence, degrees)
    return float(f"{quantile:.{_DIGITS}g}")


def _expansion(x: float, d: int) -> float:
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    total = x
    for power, term in enumerate(terms, start=1):
        total += term / float(d) ** power
    return total


def _bisection(confidence: float, degrees: int) -> float:
    low, high = 0.0, 1.0
    while _inside(high, degrees) < confidence:
        high *= 2
    while (middle := (low + high) / 2) not in (low, high):
        if _inside(middle, degrees) < confidence:
            low = middle
        else:
            high = middle
    return high


def _inside(t: float, degrees: int) -> float:
    """Return P(-t < T < t)."""
    a, b = degrees / 2, 0.5
    x = degrees / (degrees + t * t)
    if x >= 1:
        return 0.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(log_front + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return 1 - front * _beta_fraction(a, b, x) / a
    return front * _beta_fraction(b, a, 1 - x) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Evaluate the continued fraction of the incomplete beta function by Lentz's method."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 500):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + step * d or _TINY)
            c = 1 + step / c or _TINY
            value *= c * d
        if abs(c * d - 1) < _CONVERGED:
            break
    return value
