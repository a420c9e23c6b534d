"""Which order statistics enclose a quantile: binomial ranks, the same on every machine."""

import math
from functools import lru_cache
from statistics import NormalDist

_EXACT_VARIANCE = 10_000
"""Above it the expansion is off by less than the one rank by which it is widened."""

_NEGLIGIBLE = 1e-25


@lru_cache(maxsize=4096)
def enclosing_ranks(samples: int, probability: float, confidence: float) -> tuple[int, int]:
    """Return ranks (l, u), counted from 1, of samples between which the quantile lies.

    The number K of n independent samples below the quantile is binomial; X_(l) <= q <= X_(u) fails
    with at most (1 - confidence) / 2 on each side (Conover, Practical Nonparametric Statistics,
    section 3.2). l = 0 or u = n + 1 where no sample bounds that side.

    Parameters
    ----------
    samples
        n, at least 1.
    probability
        Of the quantile, in (0, 1).
    confidence
        In (0, 1).
    """
    outside = (1 - confidence) / 2
    if samples * probability * (1 - probability) > _EXACT_VARIANCE:
        return _expanded(samples, probability, outside)
    first, weights = _weights(samples, probability)
    total = math.fsum(weights)
    # P(K <= l - 1) <= outside, and P(K >= u) <= outside.
    lower = _reach(weights, outside * total)
    upper = _reach(weights[::-1], outside * total)
    return first + lower, first + len(weights) - upper


def _reach(weights: list[float], limit: float) -> int:
    """Return how many of the first weights have a sum of at most the limit."""
    sum_ = 0.0
    for count, weight in enumerate(weights):
        sum_ += weight
        if sum_ > limit:
            return count
    return len(weights)


def _weights(n: int, p: float) -> tuple[int, list[float]]:
    """Return a first value and the probabilities from there on, up to a factor, where they count.

    By the ratio of neighbours, outwards from the mode: only + - * / are needed.
    """
    mode = min(n, int((n + 1) * p))
    odds = p / (1 - p)
    down, up = [1.0], [1.0]
    k = mode
    while k > 0 and down[-1] > _NEGLIGIBLE:
        down.append(down[-1] * k / ((n - k + 1) * odds))
        k -= 1
    first = k
    k = mode
    while k < n and up[-1] > _NEGLIGIBLE:
        up.append(up[-1] * (n - k) * odds / (k + 1))
        k += 1
    return first, down[:0:-1] + up


def _expanded(n: int, p: float, outside: float) -> tuple[int, int]:
    """Return the ranks by Cornish and Fisher's expansion, one wider on each side."""
    z = NormalDist().inv_cdf(1 - outside)
    centre = n * p + (1 - 2 * p) * (z * z - 1) / 6
    half = z * math.sqrt(n * p * (1 - p))
    return max(0, math.floor(centre - half) - 1), min(n + 1, math.ceil(centre + half) + 2)
