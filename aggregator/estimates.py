"""From exact statistics to numbers for people: the one place where anything is rounded."""

import math
from fractions import Fraction

from aggregator.quantiles import quantiles
from aggregator.regression import Fit, fit
from aggregator.scatter import Scatter, of_samples, scatter
from aggregator.stopping import error_is_reliable
from aggregator.student import student_quantile
from protocol.definition import Method
from protocol.exact import rounded_sqrt
from protocol.results import Estimate
from protocol.statistics import Statistics


def estimates(
    statistics: Statistics,
    method: Method,
    confidence: float,
    probabilities: tuple[float, ...] = (),
) -> tuple[Estimate, ...]:
    """Estimate every output of a cell.

    The interval is Student's, around the mean corrected by the controls, with the degrees of
    freedom of the regression; `Fit` and `Scatter` have the formulas.

    Parameters
    ----------
    statistics
        All merged blocks of the cell.
    method
        How they were drawn.
    confidence
        Probability that an interval covers the truth.
    probabilities
        Of quantiles; there are histograms where it is not empty.
    """
    independent = scatter(statistics, method)
    plain = of_samples(statistics) if method is Method.SOBOL else independent
    found = [
        _estimate(statistics, output, one, method, plain, confidence)
        for output, one in enumerate(fit(independent))
    ]
    if probabilities:
        of_one = confidence if method is Method.PSEUDO else None
        for output, histogram in enumerate(statistics.histograms):
            extremes = statistics.minimum[output], statistics.maximum[output]
            values = quantiles(histogram, extremes, probabilities, of_one)
            found[output] = found[output].model_copy(update={"quantiles": values})
    return tuple(found)


def estimate(
    statistics: Statistics | None,
    output: int,
    confidence: float,
    method: Method = Method.PSEUDO,
) -> Estimate:
    """Estimate one output; statistics are None where nothing is merged."""
    if statistics is None:
        return nothing(confidence)
    return estimates(statistics, method, confidence)[output]


def nothing(confidence: float, mean: float | None = None) -> Estimate:
    """Return the estimate of an output of which no error can be told."""
    return Estimate(
        mean=mean,
        standard_error=None,
        ci_low=None,
        ci_high=None,
        confidence=confidence,
        error_reliable=False,
    )


def _estimate(
    statistics: Statistics,
    output: int,
    found: Fit,
    method: Method,
    plain: Scatter,
    confidence: float,
) -> Estimate:
    mean = _rounded(found.mean)
    error = None if found.variance is None else _root(found.variance)
    if mean is None or error is None:
        return nothing(confidence, mean)
    half = student_quantile(confidence, found.degrees) * error
    return Estimate(
        mean=mean,
        standard_error=error,
        ci_low=_finite(mean - half),
        ci_high=_finite(mean + half),
        confidence=confidence,
        error_reliable=error_is_reliable(statistics, method, output, found),
        standard_deviation=_root(plain.variance(output)),
        variance_reduction=_reduction(found, plain, output, method),
    )


def _reduction(found: Fit, plain: Scatter, output: int, method: Method) -> float | None:
    """Return by which factor the variance of the mean is smaller than without the method.

    Against as many plain samples; with antithetic pairs, against as many pairs without controls,
    because the average of a pair does not tell how a single sample varies.
    """
    if (
        not found.variance
        or found.explained
        or (method is Method.ANTITHETIC and not plain.controls)
    ):
        return None
    return _rounded(plain.variance(output) / plain.count / found.variance)


def _rounded(value: Fraction) -> float | None:
    """Return the nearest double, None beyond the largest one."""
    try:
        return float(value)
    except OverflowError:
        return None


def _root(value: Fraction) -> float | None:
    """Return the double nearest to the square root, None beyond the largest one."""
    try:
        return rounded_sqrt(value)
    except OverflowError:
        return None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
