"""Quantiles of an output from its histogram, each with the interval of its order statistics."""

import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from aggregator.binomial import enclosing_ranks
from protocol.histogram import Histogram, bin_edges
from protocol.results import Quantile


def quantiles(
    histogram: Histogram,
    extremes: tuple[float, float],
    probabilities: Iterable[float],
    confidence: float | None,
) -> tuple[Quantile, ...]:
    """Return the quantiles of the samples that a histogram counts.

    The value is the middle of the bin of the sample with rank ⌈np⌉, within 0.8 % of it; the
    interval reaches from the lower edge to the upper edge of the bins of the enclosing samples.

    Parameters
    ----------
    histogram
        Of all samples.
    extremes
        The smallest and the largest sample: no number reported lies beyond them.
    probabilities
        Of the quantiles, each in (0, 1).
    confidence
        Of the intervals, None where samples are not independent.
    """
    bins, counts = histogram.arrays()
    upto = np.cumsum(counts)
    samples = int(upto[-1])
    low, high = extremes

    def edges(rank: int) -> tuple[float, float]:
        at = int(np.searchsorted(upto, rank))
        if bins[at] == 0:  # 0 stands for numbers so small: a payoff of 0 is 0
            return 0.0, 0.0
        first, last = bin_edges(int(bins[at]))
        return max(first, low), min(last, high)

    found = []
    for probability in probabilities:
        first, last = edges(max(1, math.ceil(samples * Fraction(probability))))
        lower, upper = (
            (0, samples + 1)
            if confidence is None
            else enclosing_ranks(samples, probability, confidence)
        )
        found.append(
            Quantile(
                probability=probability,
                value=first + (last - first) / 2,
                ci_low=edges(lower)[0] if lower >= 1 else None,
                ci_high=edges(upper)[1] if upper <= samples else None,
            )
        )
    return tuple(found)
