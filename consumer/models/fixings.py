"""Fixing times, and the moments of Brownian motion averaged over them; no randomness.

Everything is plain double arithmetic in a fixed order: Python's own `sum` compensates rounding in
some versions and not in others, so that it is not used.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Fixings:
    """The dates of an average.

    Attributes
    ----------
    times
        Increasing, in years, all after 0.
    with_spot
        Whether the spot at time 0 is one more fixing.
    """

    times: tuple[float, ...]
    with_spot: bool

    @property
    def count(self) -> int:
        """Number of prices averaged."""
        return len(self.times) + self.with_spot

    @cached_property
    def mean_time(self) -> float:
        """Mean of the fixing times; also the covariance of the average with W at maturity."""
        total = 0.0
        for time in self.times:
            total += time
        return total / self.count

    @cached_property
    def covariances(self) -> tuple[float, ...]:
        """Covariances of W at each of the times with the average of W over all fixings.

        Cov(W(s), W(t)) = min(s, t), so that of N fixings the i-th of n times has
        (t_1 + ... + t_(i-1) + (n-i+1) t_i) / N.
        """
        earlier, found = 0.0, []
        for number, time in enumerate(self.times):
            found.append((earlier + (len(self.times) - number) * time) / self.count)
            earlier += time
        return tuple(found)

    @cached_property
    def variance(self) -> float:
        """Variance of the average of W over all fixings."""
        total = 0.0
        for covariance in self.covariances:
            total += covariance
        return total / self.count

    @cached_property
    def responses(self) -> NDArray[np.float64]:
        """By how much W moves at each of the times when its average moves by one deviation.

        The path is a multiple of these responses, the standardised average, plus a part that is
        independent of the average.
        """
        return np.array(self.covariances) / math.sqrt(self.variance)
