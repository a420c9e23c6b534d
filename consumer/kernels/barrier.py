"""The barrier option's arithmetic: distance to the barrier along the paths, then two outputs."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.closed_forms import exchange, exponential, logarithm
from consumer.kernels.compiled import compiled
from consumer.kernels.elementary import exp
from consumer.kernels.intrinsics import fma
from consumer.kernels.paths import Plan, Times, increment, lanes, store, times, workspace
from consumer.kernels.payoff import Payoff, discounted, payoff
from consumer.models.market import Market

Doubles = NDArray[np.float64]


class Terms(NamedTuple):
    """A contract and its market, as compiled functions take them.

    Attributes
    ----------
    payoff
        What a living option pays.
    out
        Whether touching the barrier ends the option.
    continuous
        Whether the barrier is watched between the dates, too.
    side
        1 if the barrier is above the spot, -1 below.
    barrier
        log(barrier / spot).
    rebate
        What is paid instead, discounted.
    """

    payoff: Payoff
    out: bool
    continuous: bool
    side: float
    barrier: float
    rebate: float


class Columns(NamedTuple):
    """Which row of the samples each output takes, and the control; -1 for none."""

    price: int
    hit_probability: int
    control: int


@dataclass(frozen=True)
class BarrierCell:
    """What all blocks of a cell have in common; see `barrier` for the steps."""

    terms: Terms
    times: Times
    steps: Doubles
    vanilla: float


def prepare(
    market: Market, barrier: float, rebate: float, fixings: int, *, out: bool, continuous: bool
) -> BarrierCell:
    """Compute what all blocks of a cell have in common.

    Parameters
    ----------
    market
        The contract and its market.
    barrier, rebate, fixings
        As in the model.
    out
        Whether touching the barrier ends the option.
    continuous
        Whether the barrier is watched between the dates, too.
    """
    grid = np.arange(1, fixings + 1) * market.maturity / fixings
    path = times(grid)
    volatility = market.volatility
    steps = np.stack(
        [
            volatility * path.roots,
            market.drift * path.lengths,
            -2.0 / (volatility * volatility * path.lengths),
        ],
        axis=1,
    )
    paid = payoff(market, market.strike)
    terms = Terms(
        payoff=paid,
        out=out,
        continuous=continuous,
        side=1.0 if barrier > market.spot else -1.0,
        barrier=logarithm(barrier / market.spot),
        rebate=paid.discount * rebate,
    )
    root = float(np.sqrt(market.maturity))
    growth = exponential((market.rate - market.dividend_yield) * market.maturity)
    value, _, _ = exchange(
        paid.sign, (market.spot * growth, 0.0), (market.strike, 0.0), (volatility * root, root)
    )
    return BarrierCell(terms, path, steps, paid.discount * value)


@compiled
def barrier(
    plan: Plan, terms: Terms, columns: Columns, steps: Doubles, vanilla: float, out: Doubles
) -> None:
    """Write the samples of one block.

    Parameters
    ----------
    plan
        The block's.
    terms, columns
        What is paid, and what is asked for.
    steps
        For each step: standard deviation and mean of the logarithmic return, and -2 over the
        variance; shape (steps, 3).
    vanilla
        Price of the option without a barrier.
    out
        The samples, shape (columns, m).
    """
    room = workspace(plan)
    level, alive, column = lanes(plan), lanes(plan), lanes(plan)
    for first in range(0, plan.pairs, plan.tile):
        level[:] = 0.0
        alive[:] = 1.0 if terms.continuous else terms.side * terms.barrier
        for step in range(plan.steps):
            z = increment(plan, first, step, room)
            if terms.continuous:
                _survive(terms, steps[step], z, level, alive)
            else:
                _approach(terms, steps[step], z, level, alive)
        if not terms.continuous:
            _judge(alive)
        if columns.hit_probability >= 0:
            for j in range(plan.lanes):
                column[j] = 1.0 - alive[j]
            store(plan, first, column, out[columns.hit_probability])
        for j in range(plan.lanes):
            level[j] = exp(level[j])
        if columns.price >= 0:
            discounted(terms.payoff, level, 0.0, column)
            _pay(terms, alive, column)
            store(plan, first, column, out[columns.price])
        if columns.control >= 0:
            discounted(terms.payoff, level, vanilla, column)
            store(plan, first, column, out[columns.control])


@compiled
def _survive(terms: Terms, step: Doubles, z: Doubles, level: Doubles, alive: Doubles) -> None:
    """Move the paths, and multiply by the probability that the barrier was not touched meanwhile.

    Given both ends of a step, at distances a and b from the barrier and on the same side, a
    Brownian bridge of variance v touches it with probability exp(-2 a b / v). A path that comes
    back from the other side is dead already; 0 times its factor, which is finite, is still 0.
    """
    scale, shift, rate = step[0], step[1], step[2]
    for j in range(level.shape[0]):
        before = terms.side * (terms.barrier - level[j])
        x = level[j] + fma(z[j], scale, shift)
        after = terms.side * (terms.barrier - x)
        crossed = exp(rate * before * after)
        level[j] = x
        alive[j] *= 0.0 if after <= 0.0 else 1.0 - crossed


@compiled
def _approach(terms: Terms, step: Doubles, z: Doubles, level: Doubles, nearest: Doubles) -> None:
    """Move the paths, and keep the least signed distance to the barrier at the dates."""
    scale, shift = step[0], step[1]
    for j in range(level.shape[0]):
        x = level[j] + fma(z[j], scale, shift)
        distance = terms.side * (terms.barrier - x)
        level[j] = x
        nearest[j] = nearest[j] if distance > nearest[j] else distance


@compiled
def _judge(nearest: Doubles) -> None:
    """Replace distances by 1 where the barrier was never touched, 0 where it was."""
    for j in range(nearest.shape[0]):
        nearest[j] = 0.0 if nearest[j] <= 0.0 else 1.0


@compiled
def _pay(terms: Terms, alive: Doubles, column: Doubles) -> None:
    """Turn the discounted payoff of the option without barrier into that of the option."""
    for j in range(column.shape[0]):
        lives = alive[j] if terms.out else 1.0 - alive[j]
        column[j] = fma(lives, column[j], (1.0 - lives) * terms.rebate)
