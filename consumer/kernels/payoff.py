"""From prices at the ends of paths to columns of samples: discounted payoff, delta, vega, gamma.

The price that is compared with the strike may be a spot, an average, or the spot minus an average;
how it came about, and its derivatives, is the business of each model's kernel.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from consumer.kernels import paths
from consumer.kernels.closed_forms import exponential
from consumer.kernels.compiled import compiled, inlined
from consumer.kernels.intrinsics import fma
from consumer.kernels.paths import Plan, Times, store
from consumer.models.market import Market
from protocol.definition import Method, Sampling
from protocol.model import Model
from protocol.streams import BlockStream

Doubles = NDArray[np.float64]


LANES = 1024
"""Most lanes of a tile: a few rows of them stay in a core's first cache."""

BOUND = 700.0
"""Of logarithms that the faster exponential takes."""


class Payoff(NamedTuple):
    """What is paid for a price P: discount * max(sign * (spot * P - strike), 0)."""

    sign: float
    spot: float
    strike: float
    discount: float


class Columns(NamedTuple):
    """Which row of the samples each output takes, -1 for none; and the first control."""

    price: int
    delta: int
    vega: int
    gamma: int
    controls: int


class Rows(NamedTuple):
    """A tile's prices over the spot, and what follows from them; one value per lane each.

    Attributes
    ----------
    price
        P, proportional to the spot.
    slope
        Its derivative by the volatility.
    weight
        What gamma * spot / discount is the mean of where paid, for a call.
    column
        Room for an output.
    """

    price: Doubles
    slope: Doubles
    weight: Doubles
    column: Doubles


def payoff(market: Market, strike: float) -> Payoff:
    """Return what a market's option pays against this strike."""
    discount = exponential(-market.rate * market.maturity)
    return Payoff(market.sign, market.spot, strike, discount)


def plan(stream: BlockStream, method: Method, times: Times) -> Plan:
    """Return how to draw one block in tiles of at most `LANES` lanes; see `paths.plan`."""
    return paths.plan(stream, method, times, LANES // (4 if method is Method.ANTITHETIC else 2))


def room(
    model: Model, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
) -> tuple[Columns, Doubles]:
    """Return where the outputs and controls of a block go, and room for them."""
    rows = {name: outputs.index(name) if name in outputs else -1 for name in model.outputs}
    controls = model.controls if sampling.control_variates else ()
    columns = Columns(
        price=rows.get("price", -1),
        delta=rows.get("delta", -1),
        vega=rows.get("vega", -1),
        gamma=rows.get("gamma", -1),
        controls=len(outputs) if controls else -1,
    )
    return columns, np.empty((len(outputs) + len(controls), stream.size))


@compiled
def store_outputs(
    plan: Plan, first: int, payoff: Payoff, columns: Columns, rows: Rows, out: Doubles
) -> None:
    """Store the outputs of a tile that are asked for; delta and vega are pathwise derivatives.

    Broadie and Glasserman, "Estimating security price derivatives using simulation", Management
    Science 42 (1996).
    """
    paid = payoff.discount * payoff.sign
    if columns.price >= 0:
        discounted(payoff, rows.price, 0.0, rows.column)
        store(plan, first, rows.column, out[columns.price])
    if columns.delta >= 0:
        where_paid(payoff, rows.price, rows.price, paid, 0.0, rows.column)
        store(plan, first, rows.column, out[columns.delta])
    if columns.vega >= 0:
        where_paid(payoff, rows.price, rows.slope, paid * payoff.spot, 0.0, rows.column)
        store(plan, first, rows.column, out[columns.vega])
    if columns.gamma >= 0:
        where_paid(payoff, rows.price, rows.weight, paid / payoff.spot, 0.0, rows.column)
        store(plan, first, rows.column, out[columns.gamma])


@compiled
def discounted(payoff: Payoff, price: Doubles, centre: float, column: Doubles) -> None:
    """Write the discounted payoff minus a centre."""
    for j in range(column.shape[0]):
        value = _gain(payoff, price[j])
        # A NaN is not at most 0, and stays.
        column[j] = payoff.discount * (0.0 if value <= 0.0 else value) - centre


@compiled
def where_paid(
    payoff: Payoff, price: Doubles, values: Doubles, factor: float, centre: float, column: Doubles
) -> None:
    """Write values times a factor where something is paid, else 0, minus a centre."""
    for j in range(column.shape[0]):
        value = factor * values[j]
        column[j] = (0.0 if _gain(payoff, price[j]) <= 0.0 else value) - centre


@inlined
def _gain(payoff: Payoff, price: float) -> float:
    return payoff.sign * fma(payoff.spot, price, -payoff.strike)
