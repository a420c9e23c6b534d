"""Kernel of the Asian options: sums of prices along the paths."""

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.compiled import compiled
from consumer.kernels.elementary import exp, exp_bounded
from consumer.kernels.intrinsics import fma
from consumer.kernels.paths import Plan, increment, lanes, store, workspace

Doubles = NDArray[np.float64]


@compiled
def arithmetic_price(
    plan: Plan, drift: Doubles, diffusion: Doubles, bounded: bool, terms: Doubles, out: Doubles
) -> None:
    """Write the samples of the arithmetic average price option's discounted payoff.

    Parameters
    ----------
    plan
        The block's.
    drift, diffusion
        The mean and the standard deviation of each step's logarithmic return.
    bounded
        Whether no logarithm of a relative price can leave ±700.
    terms
        The payoff is max(terms[0] + terms[1] · sum of S(t_i) / S(0) over the steps, 0).
    out
        The samples, shape (1, m).
    """
    room = workspace(plan)
    level, total = lanes(plan), lanes(plan)
    for first in range(0, plan.pairs, plan.tile):
        level[:] = 0.0
        total[:] = 0.0
        for step in range(plan.steps):
            row = increment(plan, first, step, room)
            shift, scale = drift[step], diffusion[step]
            if bounded:
                for j in range(plan.lanes):
                    level[j] += fma(row[j], scale, shift)
                    total[j] += exp_bounded(level[j])
            else:
                for j in range(plan.lanes):
                    level[j] += fma(row[j], scale, shift)
                    total[j] += exp(level[j])
        for j in range(plan.lanes):
            gain = fma(terms[1], total[j], terms[0])
            total[j] = 0.0 if gain <= 0.0 else gain
        store(plan, first, total, out[0])
