"""Histograms of samples with integer counts: they merge exactly, in any order, into quantiles.

A bin is named by sign, exponent and the upper six bits of the mantissa of its doubles, so that its
middle is within 0.8 % of all of them (as in DDSketch, Masson, Rim and Lee, VLDB 2019, without a
logarithm). Nothing here knows probabilities.
"""

import numpy as np
from numpy.typing import NDArray

from protocol.counted import MAX_BINS, Histogram

__all__ = ["LAST_BIN", "MAX_BINS", "Histogram", "Tally", "bin_edges", "bin_numbers", "of_counts"]

LAST_BIN = 130_944
"""Of the largest double: 2,046 exponents with 64 bins each."""

_SHIFT = np.int64(46)
_MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)
_SUBNORMAL_BINS = 63
_BINS = np.dtype(">i4")
_COUNTS = np.dtype(">u8")
_HALF = 32
_LOW_HALF = np.int64((1 << _HALF) - 1)
_PENDING = 1 << 18
"""Indices that are kept before they are counted."""


def check_order(bins: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    """Make sure that bins ascend within those of doubles, and that each counts something.

    Raises
    ------
    ValueError
        They do not.
    """
    if (np.diff(bins) <= 0).any() or abs(bins[0]) > LAST_BIN or abs(bins[-1]) > LAST_BIN:
        raise ValueError(f"bins do not ascend from -{LAST_BIN} to {LAST_BIN}")
    if not (counts > 0).all():
        raise ValueError("a count is not positive")


def unpacked(histogram: Histogram) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return bins and counts of a histogram."""
    bins = np.frombuffer(histogram.bins, dtype=_BINS).astype(np.int64)
    return bins, np.frombuffer(histogram.counts, dtype=_COUNTS).astype(np.int64)


def total(counts: NDArray[np.int64]) -> int:
    """Return the sum of counts, in halves, so that no forged counts overflow it."""
    return (int((counts >> _HALF).sum()) << _HALF) + int((counts & _LOW_HALF).sum())


def merged(one: Histogram, other: Histogram) -> Histogram:
    """Return the histogram of the samples of both."""
    # Both are in order: looking up the fewer bins is quicker than sorting all of them.
    few, many = sorted((one.arrays(), other.arrays()), key=lambda arrays: len(arrays[0]))
    (more, added), (bins, counts) = few, many
    places = np.searchsorted(bins, more)
    known = bins[np.minimum(places, len(bins) - 1)] == more
    counts[places[known]] += added[known]
    if not known.all():
        new = ~known
        bins = np.insert(bins, places[new], more[new])
        counts = np.insert(counts, places[new], added[new])
    return _packed(bins, counts)


def of_counts(bins: NDArray[np.int64], counts: NDArray[np.int64]) -> Histogram:
    """Return the histogram of bins, in any order and repeated or not, with their counts."""
    distinct, places = np.unique(bins, return_inverse=True)
    sums = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(sums, places, counts)
    return _packed(distinct, sums)


def bin_numbers(samples: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of each finite double, in their order.

    Bin 0 holds zero and all subnormal numbers, bins ±1 the smallest normal ones.
    """
    bits = np.ascontiguousarray(samples).view(np.int64)
    magnitude = np.maximum(((bits & _MAGNITUDE) >> _SHIFT) - _SUBNORMAL_BINS, 0)
    signed: NDArray[np.int64] = np.where(bits < 0, -magnitude, magnitude)
    return signed


def bin_edges(number: int) -> tuple[float, float]:
    """Return the smallest and the largest double of a bin."""
    if number == 0:
        largest = _double((_SUBNORMAL_BINS + 1 << int(_SHIFT)) - 1)
        return -largest, largest
    first = abs(number) + _SUBNORMAL_BINS << int(_SHIFT)
    near, far = _double(first), _double(first + (1 << int(_SHIFT)) - 1)
    return (near, far) if number > 0 else (-far, -near)


class Tally:
    """Counts the samples of a chunk, block after block, into one histogram per output."""

    def __init__(self, outputs: int) -> None:
        empty = np.zeros(0, dtype=np.int64)
        self._counted = [(empty, empty)] * outputs
        self._pending: list[NDArray[np.int64]] = []
        self._size = 0

    def add(self, samples: NDArray[np.float64]) -> None:
        """Count samples of shape (outputs, m), all finite."""
        self._pending.append(bin_numbers(samples))
        self._size += samples.shape[1]
        if self._size >= _PENDING:
            self._count()

    def histograms(self) -> tuple[Histogram, ...]:
        """Return what was counted.

        Raises
        ------
        ValueError
            The samples of an output fall into more bins than a message may hold.
        """
        self._count()
        for bins, _ in self._counted:
            if len(bins) > MAX_BINS:
                raise ValueError(
                    f"the samples of an output fall into {len(bins)} bins, allowed are {MAX_BINS}"
                )
        return tuple(of_counts(bins, counts) for bins, counts in self._counted)

    def _count(self) -> None:
        if not self._pending:
            return
        numbers = np.concatenate(self._pending, axis=1)
        self._pending, self._size = [], 0
        for output, (bins, counts) in enumerate(self._counted):
            new, repeated = np.unique(numbers[output], return_counts=True)
            both = of_counts(np.concatenate((bins, new)), np.concatenate((counts, repeated)))
            self._counted[output] = both.arrays()


def _packed(bins: NDArray[np.int64], counts: NDArray[np.int64]) -> Histogram:
    """Return the histogram of distinct bins in order."""
    return Histogram.model_construct(
        bins=bins.astype(_BINS).tobytes(), counts=counts.astype(_COUNTS).tobytes()
    )


def _double(bits: int) -> float:
    return float(np.array(bits, dtype=np.int64).view(np.float64))
