"""Statistical tests of blocks, on plain arrays; no model is here.

Each returns a z-score, about standard normal where nothing is wrong, or None where the data vary
too little for it to be.
"""

import math

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

LARGEST_KURTOSIS = 4.0
"""Of ranks: one block in six differs from the others. Ranks without ties have 1.8."""
LARGEST_MEAN_KURTOSIS = 6.0
"""Of block means: beyond it their variance is too uncertain to be compared."""
IMPOSSIBLE = 1e6
"""Independent samples of no distribution let variances differ so much, from 32 blocks on."""
ROUNDING = 1e-12
ENOUGH = 4096
"""Samples of a block that are looked at to tell whether it can be mistaken for another."""


def serial_z(values: Doubles) -> float | None:
    """Test a sequence for correlation of neighbours, the last and the first included.

    Ranks (ties shared) make it hold for any distribution. Mean and variance of the circular serial
    sum over all permutations are from Wald and Wolfowitz, "An exact test for randomness in the
    non-parametric case based on serial correlation", Annals of Mathematical Statistics 14 (1943).

    Parameters
    ----------
    values
        Shape (n,), n at least 3.
    """
    n = len(values)
    d = _ranks(values) - (n - 1) / 2
    s2, s4 = float(np.sum(d**2)), float(np.sum(d**4))
    if n < 3 or s2 == 0 or n * s4 / s2**2 > LARGEST_KURTOSIS:  # noqa: PLR2004
        return None
    mean = -s2 / (n - 1)
    variance = (s2**2 - s4) / (n - 1) + (s2**2 - 2 * s4) / ((n - 1) * (n - 2)) - mean**2
    return (float(np.sum(d * np.roll(d, 1))) - mean) / math.sqrt(variance)


def dispersion(means: Doubles, variances: Doubles, size: int) -> tuple[float, float] | None:
    """Compare how much block means vary with what independent samples would make them vary.

    The cube root makes an F ratio nearly normal: Paulson, "An approximate normalization of the
    analysis of variance distribution", Annals of Mathematical Statistics 13 (1942). The degrees of
    freedom between blocks follow the kurtosis of the block means.

    Parameters
    ----------
    means, variances
        Of each block, shape (blocks,); the variances divided by size - 1.
    size
        Samples per block, at least 2.

    Returns
    -------
        The z-score, and the ratio of the variances, 1 for independent samples.
    """
    blocks = len(means)
    noise = (ROUNDING * float(np.max(np.abs(means)))) ** 2
    within, between = (
        0.0 if found <= noise else found
        for found in (float(np.mean(variances)), size * float(np.var(means, ddof=1)))
    )
    if not within and not between:
        return None
    ratio = between / within if within else math.inf
    if not 1 / IMPOSSIBLE < ratio < IMPOSSIBLE:
        return math.copysign(math.inf, ratio - 1), ratio
    kurtosis = _kurtosis(means)
    if kurtosis > LARGEST_MEAN_KURTOSIS:
        return None
    a = 2 / (9 * (2 * blocks / (max(kurtosis, 3.0) - 1)))
    b = 2 / (9 * blocks * (size - 1))
    root = ratio ** (1 / 3)
    return ((1 - b) * root - (1 - a)) / math.sqrt(b * root**2 + a), ratio


def centred_z(means: Doubles) -> float | None:
    """Test whether block means, shape (blocks,), have expectation 0."""
    deviation = float(np.std(means, ddof=1))
    if deviation == 0:
        return None if float(means[0]) == 0 else math.inf
    return float(np.mean(means)) / deviation * math.sqrt(len(means))


def bits(samples: Doubles) -> float:
    """Return how unlikely it is, in bits, that another block gives exactly these samples.

    Only which of them differ from the most common value is counted, so that it holds for any
    distribution: with c such among m there are m! / (c! (m - c)!) places for them.

    Parameters
    ----------
    samples
        Shape (columns, m).
    """
    found = 0.0
    for row in samples[:, :ENOUGH]:
        counts = np.unique(row, return_counts=True)[1]
        m, most = len(row), int(counts.max())
        # All different: any order of them was as likely.
        ways = math.lgamma(m + 1)
        if len(counts) < m:
            ways -= math.lgamma(most + 1) + math.lgamma(m - most + 1)
        found = max(found, ways / math.log(2))
    return found


def _ranks(values: Doubles) -> Doubles:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Doubles = (last - 1 - (counts - 1) / 2)[inverse]
    return shared


def _kurtosis(values: Doubles) -> float:
    d = values - values.mean()
    d /= np.max(np.abs(d))
    return len(values) * float(np.sum(d**4)) / float(np.sum(d**2)) ** 2
