"""Whether a cell's error is small enough, and known well enough, to stop at; pure and exact.

Not when it is asked: that is at checkpoints only, so that the answer does not depend on chance.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from aggregator.regression import Fit, fit
from aggregator.scatter import scatter
from protocol.definition import Method
from protocol.statistics import Statistics

RELIABLE_VARIANCE = Fraction(1, 10)
"""Largest relative error of the variance itself at which a standard error is believed."""


@dataclass(frozen=True, slots=True)
class Target:
    """The error to stop at; where both are given, both must be reached.

    Attributes
    ----------
    standard_error
        In the unit of the output.
    relative_error
        Standard error divided by the absolute value of the mean.
    """

    standard_error: float | None = None
    relative_error: float | None = None


def reached(
    statistics: Statistics, method: Method, target: Target, outputs: Iterable[int] = (0,)
) -> bool:
    """Say whether every output has a reliable error within its target.

    Variances are compared with the square of the target as rationals, so that no rounding decides.

    Parameters
    ----------
    statistics
        All blocks up to a checkpoint.
    method
        How they were drawn.
    target
        At least one of its errors is given.
    outputs
        Numbers of the outputs that it applies to.
    """
    fits = fit(scatter(statistics, method))
    return all(
        error_is_reliable(statistics, method, output, fits[output])
        and _within(fits[output], target)
        for output in outputs
    )


def error_is_reliable(statistics: Statistics, method: Method, output: int, found: Fit) -> bool:
    """Say whether an output's standard error may be believed.

    The variance must be positive, after control variates more than rounding leaves, and the
    variance within blocks known to 10 %; see `variance_is_known`. Under Sobol, too: what blocks
    hardly ever hit, their means cannot show either. But there the error comes from the block means
    alone, whose own variance has to be known as well: of d degrees of freedom the relative error
    is √(2/d), so that d must be at least 200. With fewer, runs that stop at their target stop too
    often where chance made the error small: a nominal 95 % was 91 % for a European call in
    64 blocks, because the block means of an unbounded payoff are skewed.
    """
    positive = found.variance is not None and found.variance > 0 and not found.explained
    return (
        positive
        and (method is not Method.SOBOL or Fraction(2, found.degrees) <= RELIABLE_VARIANCE**2)
        and variance_is_known(statistics, output)
    )


def variance_is_known(statistics: Statistics, output: int) -> bool:
    """Say whether the relative error of the variance within blocks is at most 10 %.

    It is √(B/(B-1)·Σ(q_b-q̄)²)/Σq_b, compared here squared and exactly; one block cannot tell.
    """
    blocks = statistics.blocks
    total = statistics.left[output].fraction()
    if blocks == 1 or total <= 0:
        return False
    spread = statistics.fourth[output].fraction() - total * total / blocks
    return spread * blocks / (blocks - 1) <= (RELIABLE_VARIANCE * total) ** 2


def _within(found: Fit, target: Target) -> bool:
    if found.variance is None:
        return False
    limits = []
    if target.standard_error is not None:
        limits.append(Fraction(target.standard_error))
    if target.relative_error is not None:
        limits.append(Fraction(target.relative_error) * found.mean)
    return all(found.variance <= limit * limit for limit in limits)
