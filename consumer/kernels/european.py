"""The European option's arithmetic: one step, four outputs, one control."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.closed_forms import exponential
from consumer.kernels.compiled import compiled
from consumer.kernels.elementary import exp
from consumer.kernels.intrinsics import fma
from consumer.kernels.paths import Plan, Times, increment, lanes, store, times, workspace
from consumer.kernels.payoff import Columns, Payoff, Rows, payoff, store_outputs
from consumer.models.market import Market

Doubles = NDArray[np.float64]


class Terms(NamedTuple):
    """A contract and its market, as compiled functions take them.

    Attributes
    ----------
    payoff
        What is paid.
    scale, shift
        log(S(maturity)/spot) is z * scale + shift.
    root
        Square root of the maturity.
    forward
        Expectation of the discounted spot at maturity.
    """

    payoff: Payoff
    scale: float
    shift: float
    root: float
    forward: float


@dataclass(frozen=True)
class EuropeanCell:
    """What all blocks of a cell have in common."""

    terms: Terms
    times: Times


def prepare(market: Market) -> EuropeanCell:
    """Compute what all blocks of a cell have in common."""
    root = math.sqrt(market.maturity)
    terms = Terms(
        payoff=payoff(market, market.strike),
        scale=market.volatility * root,
        shift=market.drift * market.maturity,
        root=root,
        forward=market.spot * exponential(-market.dividend_yield * market.maturity),
    )
    return EuropeanCell(terms, times(np.array([market.maturity])))


@compiled
def european(plan: Plan, terms: Terms, columns: Columns, out: Doubles) -> None:
    """Write the samples of one block, shape (columns, m), to `out`.

    Gamma is likelihood ratio times pathwise: the mean of S/spot**2 * (z/(volatility*sqrt(maturity))
    - 1) where paid; Glasserman, Monte Carlo Methods in Financial Engineering (2003), section 7.3.
    """
    room = workspace(plan)
    rows = Rows(lanes(plan), lanes(plan), lanes(plan), lanes(plan))
    for first in range(0, plan.pairs, plan.tile):
        z = increment(plan, first, 0, room)
        for j in range(plan.lanes):
            price = exp(fma(z[j], terms.scale, terms.shift))
            rows.price[j] = price
            # d log S / d volatility = W - volatility * maturity
            rows.slope[j] = price * (terms.root * (z[j] - terms.scale))
            rows.weight[j] = price * (z[j] / terms.scale - 1.0)
        store_outputs(plan, first, terms.payoff, columns, rows, out)
        if columns.controls >= 0:
            scale = terms.payoff.discount * terms.payoff.spot
            for j in range(plan.lanes):
                rows.column[j] = fma(scale, rows.price[j], -terms.forward)
            store(plan, first, rows.column, out[columns.controls])
