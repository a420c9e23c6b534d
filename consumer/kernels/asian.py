"""The Asian option's arithmetic, tile by tile: sums along the paths, then the output columns.

Where normals come from is the business of `paths`; times, moments and closed forms are the
model's. The rows of a tile's state stand in one array at constant distances, so that the compiler
sees that they do not overlap and vectorises every loop without checks at run time.
"""

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.asian_terms import ALL, PRICES, SLOPES, Terms
from consumer.kernels.compiled import compiled, inlined
from consumer.kernels.elementary import exp, exp_bounded
from consumer.kernels.intrinsics import fma
from consumer.kernels.paths import Plan, increment, store, workspace
from consumer.kernels.payoff import (
    LANES,
    Columns,
    Rows,
    discounted,
    store_outputs,
    where_paid,
)

Doubles = NDArray[np.float64]

_ROW = LANES + 40  # no multiple of a memory page, whose lines would share few places in the cache
_LOG, _SUM, _LOGS, _TILT, _RESPONSE, _CURVE = (k * _ROW for k in range(6))
_AVERAGE, _SLOPE, _WEIGHT, _COLUMN, _DOUBLES = (k * _ROW for k in range(6, 11))


@compiled
def asian(
    plan: Plan,
    terms: Terms,
    columns: Columns,
    steps: Doubles,
    centres: Doubles,
    out: Doubles,
) -> None:
    """Write the samples of one block.

    Parameters
    ----------
    plan
        The block's, of at most `LANES` lanes.
    terms, columns
        What is paid, and what is asked for.
    steps
        For each step of the path: standard deviation and mean of the logarithmic return, time of
        its end, response of W there to the average (see `Fixings`), and 1 where it ends at a
        fixing, else 0; shape (steps, 5).
    centres
        Expectations of the controls: price, delta, vega; shape (3,).
    out
        The samples, shape (columns, m).
    """
    room = workspace(plan)
    work = np.empty(_DOUBLES)
    for first in range(0, plan.pairs, plan.tile):
        work[:] = 0.0
        work[_SUM : _SUM + plan.lanes] = terms.known
        for step in range(plan.steps):
            row = increment(plan, first, step, room)
            _walk(work, row, plan.lanes, terms, steps[step])
        _average(work, plan.lanes, terms, terms.geometric)
        if columns.gamma >= 0:
            _weigh(work, plan.lanes, terms)
        rows = _rows(work, plan.lanes)
        store_outputs(plan, first, terms.payoff, columns, rows, out)
        if columns.controls >= 0:
            _average(work, plan.lanes, terms, True)
            _controls(plan, first, terms, rows, centres, out[columns.controls :])


@inlined
def _exp(x: float, bounded: bool) -> float:
    return exp_bounded(x) if bounded else exp(x)


@compiled
def _walk(work: Doubles, z: Doubles, lanes: int, terms: Terms, step: Doubles) -> None:
    """Move the paths by one step, and add what its end brings to the sums."""
    scale, shift, response, bounded = step[0], step[1], step[3], terms.bounded
    tilt = terms.carry * step[2]
    if step[4] == 0.0:
        for j in range(lanes):
            work[_LOG + j] += fma(z[j], scale, shift)
    elif terms.sums == PRICES:
        for j in range(lanes):
            x = work[_LOG + j] + fma(z[j], scale, shift)
            work[_LOG + j] = x
            work[_SUM + j] += _exp(x, bounded)
    elif terms.sums == SLOPES:
        for j in range(lanes):
            x = work[_LOG + j] + fma(z[j], scale, shift)
            price = _exp(x, bounded)
            work[_LOG + j] = x
            work[_SUM + j] += price
            work[_LOGS + j] += x
            work[_TILT + j] = fma(price, x - tilt, work[_TILT + j])
    elif terms.sums == ALL:
        for j in range(lanes):
            x = work[_LOG + j] + fma(z[j], scale, shift)
            price = _exp(x, bounded)
            moved = price * response
            work[_LOG + j] = x
            work[_SUM + j] += price
            work[_LOGS + j] += x
            work[_TILT + j] = fma(price, x - tilt, work[_TILT + j])
            work[_RESPONSE + j] += moved
            work[_CURVE + j] = fma(moved, response, work[_CURVE + j])
    else:
        for j in range(lanes):
            x = work[_LOG + j] + fma(z[j], scale, shift)
            work[_LOG + j] = x
            work[_LOGS + j] += x


@compiled
def _average(work: Doubles, lanes: int, terms: Terms, geometric: bool) -> None:
    """Write the price that is compared with the strike, and its derivative by the volatility.

    Both are over the spot; d log S(t) / d volatility = (log(S(t)/spot) - carry*t) / volatility.
    """
    inverse = 1.0 / terms.fixings
    by_volatility = 1.0 / terms.volatility
    if geometric:
        tilt = terms.carry * terms.mean_time
        for j in range(lanes):
            mean = work[_LOGS + j] * inverse
            average = exp(mean)
            work[_AVERAGE + j] = average
            work[_SLOPE + j] = average * (mean - tilt) * by_volatility
    else:
        for j in range(lanes):
            work[_AVERAGE + j] = work[_SUM + j] * inverse
            work[_SLOPE + j] = work[_TILT + j] * inverse * by_volatility
    if terms.against_spot:
        tilt = terms.carry * terms.maturity
        for j in range(lanes):
            x = work[_LOG + j]
            last = exp(x)
            work[_AVERAGE + j] = last - work[_AVERAGE + j]
            work[_SLOPE + j] = last * (x - tilt) * by_volatility - work[_SLOPE + j]


@compiled
def _weigh(work: Doubles, lanes: int, terms: Terms) -> None:
    """Write spot**2 / A times the weight of the average A whose mean where paid is gamma.

    Along the standard normal xi that drives the average of W, with A' and A'' the derivatives of A
    by xi, integration by parts moves the second derivative of the payoff to
    xi*A**2/A' - 2*A + A**2*A''/A'**2 where paid, over spot**2. One fixing gives Glasserman's
    likelihood ratio times pathwise estimator; with many, the variance does not grow with their
    number as it does where xi drives the first step alone.
    """
    inverse = 1.0 / terms.fixings
    middle = terms.drift * terms.mean_time
    if terms.against_spot:
        for j in range(lanes):  # the price is proportional to the spot
            work[_WEIGHT + j] = 0.0
    elif terms.geometric:
        for j in range(lanes):
            xi = (work[_LOGS + j] * inverse - middle) / (terms.volatility * terms.deviation)
            weight = xi / (terms.volatility * terms.deviation) - 1.0
            work[_WEIGHT + j] = weight * work[_AVERAGE + j]
    else:
        for j in range(lanes):
            xi = (work[_LOGS + j] * inverse - middle) / (terms.volatility * terms.deviation)
            total, moved = work[_SUM + j], terms.volatility * work[_RESPONSE + j]
            # Prices that have all vanished to 0 have no weight.
            ratio = total / moved if moved > 0.0 else 0.0
            curve = terms.volatility * terms.volatility * work[_CURVE + j]
            bend = curve / total if total > 0.0 else 0.0
            weight = fma(ratio, fma(ratio, bend, xi), -2.0)
            work[_WEIGHT + j] = weight * work[_AVERAGE + j]


@compiled
def _rows(work: Doubles, lanes: int) -> Rows:
    return Rows(
        work[_AVERAGE : _AVERAGE + lanes],
        work[_SLOPE : _SLOPE + lanes],
        work[_WEIGHT : _WEIGHT + lanes],
        work[_COLUMN : _COLUMN + lanes],
    )


@compiled
def _controls(
    plan: Plan, first: int, terms: Terms, rows: Rows, centres: Doubles, out: Doubles
) -> None:
    """Store price, delta and vega of the geometric average, each minus its expectation."""
    payoff, column = terms.payoff, rows.column
    paid = payoff.discount * payoff.sign
    discounted(payoff, rows.price, centres[0], column)
    store(plan, first, column, out[0])
    if terms.against_spot:
        column[:] = 0.0  # delta is price / spot: no second control
    else:
        where_paid(payoff, rows.price, rows.price, paid, centres[1], column)
    store(plan, first, column, out[1])
    where_paid(payoff, rows.price, rows.slope, paid * payoff.spot, centres[2], column)
    store(plan, first, column, out[2])
