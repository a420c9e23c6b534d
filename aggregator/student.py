"""Quantiles of Student's t, rounded so that they are the same number on every machine."""

import math
from functools import lru_cache
from statistics import NormalDist

_SERIES_FROM = 2000
_DIGITS = 12
_TINY = 1e-300
_CONVERGED = 3e-16


@lru_cache(maxsize=4096)
def student_quantile(confidence: float, degrees: int) -> float:
    """Return t with P(-t < T < t) = confidence.

    From 2000 degrees on by the expansion around the normal quantile (Abramowitz and Stegun,
    26.7.5, relative error below 1e-13 there up to a confidence of 0.999999), before that by
    bisecting the tail of the distribution, a regularised incomplete beta function (continued
    fraction: Numerical Recipes, section 6.4). The second uses only + - * / and sqrt; the first the
    platform's log, whose last bits are hidden by rounding to 12 significant digits.

    Parameters
    ----------
    confidence
        In (0, 1).
    degrees
        Degrees of freedom, at least 1.
    """
    outside = 1 - confidence  # exact from a confidence of 0.5 on: all digits of the tail are kept
    if degrees >= _SERIES_FROM:
        quantile = _expansion(-NormalDist().inv_cdf(outside / 2), degrees)
    else:
        quantile = _bisection(outside, degrees)
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


def _bisection(outside: float, degrees: int) -> float:
    ratio = _gamma_ratio(degrees)
    low, high = 0.0, 1.0
    while _tails(high, degrees, ratio) > outside:
        high *= 2
    while (middle := (low + high) / 2) not in (low, high):
        if _tails(middle, degrees, ratio) > outside:
            low = middle
        else:
            high = middle
    return high


def _tails(t: float, degrees: int, ratio: float) -> float:
    """Return P(T <= -t or T >= t)."""
    a, b = degrees / 2, 0.5
    x, y = degrees / (degrees + t * t), t * t / (degrees + t * t)
    if y <= 0:
        return 1.0
    front = ratio * math.sqrt(y) * math.sqrt(x) ** (degrees % 2) * _power(x, degrees // 2)
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(a, b, x) / a
    return 1 - front * _beta_fraction(b, a, y) / b


def _gamma_ratio(degrees: int) -> float:
    """Return 1 / B(degrees/2, 1/2), by the recurrence of the gamma function."""
    odd = degrees % 2
    ratio = 1 / math.pi if odd else 0.5
    for k in range(2 - odd, degrees, 2):
        ratio *= (k + 1) / k
    return ratio


def _power(x: float, exponent: int) -> float:
    """Return x**exponent by squaring: the platform's pow may differ in its last bit."""
    result = 1.0
    while exponent:
        if exponent % 2:
            result *= x
        x *= x
        exponent //= 2
    return result


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
