"""What the Asian option's kernel is told: terms, steps and centres, computed once per cell.

Plain double arithmetic in a fixed order, and compiled closed forms; no randomness.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.closed_forms import Slope, exchange, exponential
from consumer.kernels.paths import Times, times
from consumer.kernels.payoff import BOUND, Columns, Payoff, payoff
from consumer.models.fixings import Fixings
from consumer.models.market import Market

Doubles = NDArray[np.float64]

PRICES, SLOPES, ALL, GEOMETRIC = range(4)
"""What is summed along a path: prices; what vega and the controls need too; what gamma needs too;
or logarithms alone."""


class Terms(NamedTuple):
    """A contract and its market, as compiled functions take them; relative prices are S / spot.

    Attributes
    ----------
    sums
        One of `PRICES` to `GEOMETRIC`.
    geometric
        Whether the average is geometric.
    against_spot
        Whether the spot at maturity stands against the average; then strike is 0.
    bounded
        Whether no logarithm of a relative price can leave ±700.
    payoff
        What is paid.
    volatility
        Of the underlying.
    known
        Sum of the relative prices that are known: 1 if the spot is a fixing, else 0.
    fixings
        Number of prices averaged.
    carry, drift
        rate - dividend_yield ± volatility²/2: carry with +, drift with -.
    mean_time, deviation
        Mean of the fixing times; standard deviation of the average of W over the fixings.
    maturity
        Time at which it pays.
    """

    sums: int
    geometric: bool
    against_spot: bool
    bounded: bool
    payoff: Payoff
    volatility: float
    known: float
    fixings: float
    carry: float
    drift: float
    mean_time: float
    deviation: float
    maturity: float


@dataclass(frozen=True)
class AsianCell:
    """What all blocks of a cell have in common; see the kernel for steps and centres."""

    terms: Terms
    times: Times
    steps: Doubles
    centres: Doubles


def prepare(market: Market, dates: Fixings, *, geometric: bool, against_spot: bool) -> AsianCell:
    """Compute what all blocks of a cell share.

    Parameters
    ----------
    market
        The contract and its market.
    dates
        When the price is fixed.
    geometric
        Whether the average is geometric.
    against_spot
        Whether the average is the strike for the spot at maturity.
    """
    ends, at_fixing = list(dates.times), [1.0] * len(dates.times)
    responses = dates.responses.tolist()
    if against_spot and (not ends or ends[-1] < market.maturity):
        ends.append(market.maturity)
        at_fixing.append(0.0)
        responses.append(0.0)
    path = times(np.array(ends))
    steps = np.stack(
        [
            market.volatility * path.roots,
            market.drift * path.lengths,
            ends,
            responses,
            at_fixing,
        ],
        axis=1,
    )
    terms = Terms(
        sums=PRICES,
        geometric=geometric,
        against_spot=against_spot,
        bounded=abs(market.drift) * ends[-1] + market.volatility * path.reach < BOUND,
        payoff=payoff(market, 0.0 if against_spot else market.strike),
        volatility=market.volatility,
        known=float(dates.with_spot),
        fixings=float(dates.count),
        carry=market.drift + market.volatility * market.volatility,
        drift=market.drift,
        mean_time=dates.mean_time,
        deviation=math.sqrt(dates.variance),
        maturity=market.maturity,
    )
    centres = _centres_against_spot if against_spot else _centres
    return AsianCell(terms, path, steps, np.array(centres(market, dates, terms)))


def sums(terms: Terms, columns: Columns) -> int:
    """Return the least that must be summed along the paths for these columns."""
    if terms.geometric:
        return GEOMETRIC
    if columns.gamma >= 0 and not terms.against_spot:
        return ALL
    return SLOPES if columns.vega >= 0 or columns.controls >= 0 else PRICES


def _centres(market: Market, dates: Fixings, terms: Terms) -> tuple[float, float, float]:
    """Return price, delta and vega of the geometric average price option; Kemna and Vorst."""
    value, share, slope = exchange(
        terms.payoff.sign,
        _average(market, dates),
        (terms.payoff.strike, 0.0),
        _spread(market, dates.variance),
    )
    forward = _average(market, dates)[0]
    scale = terms.payoff.discount
    return scale * value, scale * share * forward / terms.payoff.spot, scale * slope


def _centres_against_spot(
    market: Market, dates: Fixings, terms: Terms
) -> tuple[float, float, float]:
    """Return price, 0 and vega of the spot at maturity against the geometric average.

    The delta, price / spot, would be the first control again.
    """
    growth = exponential((market.rate - market.dividend_yield) * market.maturity)
    variance = market.maturity - 2.0 * dates.mean_time + dates.variance
    value, _, slope = exchange(
        terms.payoff.sign,
        (market.spot * growth, 0.0),
        _average(market, dates),
        _spread(market, variance),
    )
    return terms.payoff.discount * value, 0.0, terms.payoff.discount * slope


def _average(market: Market, dates: Fixings) -> Slope:
    """Return the expectation of the geometric average, and its derivative by the volatility."""
    volatility = market.volatility
    exponent = market.drift * dates.mean_time + 0.5 * volatility * volatility * dates.variance
    mean = market.spot * exponential(exponent)
    return mean, mean * volatility * (dates.variance - dates.mean_time)


def _spread(market: Market, variance: float) -> Slope:
    root = math.sqrt(variance)
    return market.volatility * root, root
