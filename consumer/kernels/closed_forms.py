"""Closed forms that centre control variates, in operations whose bits are the same on every CPU."""

from consumer.kernels.compiled import compiled
from consumer.kernels.elementary import exp, log, normal_cdf

_ROOT_TWO_PI = 2.5066282746310002

Slope = tuple[float, float]
"""A number and its derivative by the volatility."""


@compiled
def exponential(x: float) -> float:
    """Return e**x; for Python, where an inlined function would be compiled in every process."""
    return exp(x)


@compiled
def logarithm(x: float) -> float:
    """Return the natural logarithm; for Python, as `exponential`."""
    return log(x)


@compiled
def exchange(
    sign: float, first: Slope, second: Slope, deviation: Slope
) -> tuple[float, float, float]:
    """Value the right to exchange one lognormal price for another, undiscounted.

    E[max(sign*(X - Y), 0)] = sign*(E[X] N(sign*d1) - E[Y] N(sign*d2)), d1 = log(E[X]/E[Y])/s + s/2,
    d2 = d1 - s, with s the deviation of log(X/Y); Margrabe, Journal of Finance 33 (1978). A
    constant Y gives the formula of Black and Scholes.

    Parameters
    ----------
    sign
        1 for a call on X, -1 for a put.
    first, second
        E[X], positive, and E[Y], positive or 0.
    deviation
        s, positive.

    Returns
    -------
        The value, its derivative by E[X], and its derivative by the volatility.
    """
    s, s_slope = deviation
    d1 = log(first[0] / second[0]) / s + 0.5 * s
    share_first = sign * normal_cdf(sign * d1)
    share_second = sign * normal_cdf(sign * (d1 - s))
    # The derivative by s is E[X] times the density at d1, for calls and puts alike.
    density = exp(-0.5 * (d1 * d1)) / _ROOT_TWO_PI
    value = first[0] * share_first - second[0] * share_second
    slope = first[1] * share_first - second[1] * share_second + first[0] * density * s_slope
    return value, share_first, slope
