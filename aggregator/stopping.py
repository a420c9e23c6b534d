"""Whether a cell's error is small enough, and known well enough, to stop at; pure and exact.

Not when it is asked: that is at checkpoints only, so that the answer does not depend on chance;
see `aggregator.cells`.
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
    needed = growth_needed(statistics, method, target, outputs)
    return needed is not None and needed <= 1


def growth_needed(
    statistics: Statistics, method: Method, target: Target, outputs: Iterable[int] = (0,)
) -> Fraction | None:
    """Return by which factor the blocks must grow until `reached` is expected to hold.

    Exactly where it holds already, that is at most 1. Elsewhere it is a forecast: the variance of
    a mean falls as 1/B, and so does the squared relative error of the variance itself. None where
    nothing can be foreseen, because there is no variance yet or a mean is 0.

    Parameters are those of `reached`.
    """
    fits = fit(scatter(statistics, method))
    factors = []
    for output in outputs:
        doubt = _doubt(statistics, method, output, fits[output])
        excess = _excess(fits[output], target)
        if doubt is None or excess is None:
            return None
        factors += [doubt, excess]
    return max(factors)


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
    doubt = _doubt(statistics, method, output, found)
    return doubt is not None and doubt <= 1


def variance_is_known(statistics: Statistics, output: int) -> bool:
    """Say whether the relative error of the variance within blocks is at most 10 %.

    It is √(B/(B-1)·Σ(q_b-q̄)²)/Σq_b, compared here squared and exactly; one block cannot tell.
    """
    spread = _spread(statistics, output)
    return spread is not None and spread <= RELIABLE_VARIANCE**2


def _doubt(statistics: Statistics, method: Method, output: int, found: Fit) -> Fraction | None:
    """Return the squared relative error of the variance, in units of the largest one believed."""
    spread = _spread(statistics, output)
    if not found.variance or found.variance < 0 or found.explained or spread is None:
        return None
    if method is Method.SOBOL:
        spread = max(spread, Fraction(2, found.degrees))
    return spread / RELIABLE_VARIANCE**2


def _spread(statistics: Statistics, output: int) -> Fraction | None:
    """Return the squared relative error of the variance within blocks, None where it is unknown."""
    blocks = statistics.blocks
    total = statistics.left[output].fraction()
    if blocks == 1 or total <= 0:
        return None
    ratio = statistics.fourth[output].fraction() / (total * total)
    return (ratio * blocks - 1) / (blocks - 1)


def _excess(found: Fit, target: Target) -> Fraction | None:
    """Return the variance in units of the square of the narrower target, None without both."""
    limits = []
    if target.standard_error is not None:
        limits.append(Fraction(target.standard_error))
    if target.relative_error is not None:
        limits.append(Fraction(target.relative_error) * found.mean)
    narrowest = min(limit * limit for limit in limits)
    return found.variance / narrowest if found.variance is not None and narrowest else None
