"""Brownian increments for a model's kernel, the same interface for every sampling method.

A kernel is a loop over tiles of sample pairs and, in it, over the steps of the path. Each step it
gets a row of standard normals, one per lane, and updates small state arrays of one value per lane;
at the end of a tile it has one value of each output per lane and stores it:

    @compiled
    def terminal(plan, drift, diffusion, out):
        increments, level = workspace(plan), lanes(plan)
        for first in range(0, plan.pairs, plan.tile):
            level[:] = 0.0
            for step in range(plan.steps):
                row = increment(plan, first, step, increments)
                for j in range(plan.lanes):
                    level[j] += fma(row[j], diffusion[step], drift[step])
            ... turn the states into an output per lane, here in place ...
            store(plan, first, level, out[0])

The kernel does not know the sampling method: with antithetic sampling there are lanes for z and
for -z, and `store` averages them; with sobol the increments come from a Brownian bridge. Nor do
the bits depend on the size of a tile. On the outside: `plan(stream, method, times)`, with
`times(…)` made once per model, then `kernel(plan, …, out)` with `out` of shape (columns, m).

The i-th sample of a row of `out` is the even sample of pair i for i < m/2, the odd sample of pair
i - m/2 above; with sobol it is point i.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.compiled import compiled
from consumer.kernels.draws import Counters, counters, fill_normals
from protocol.definition import Method
from protocol.streams import BlockStream

Doubles = NDArray[np.float64]

TILE_PAIRS = 512
"""Sample pairs worked on at a time: rows of 1,024 lanes, a few of which stay in a core's cache."""

_LARGEST_NORMAL = 8.6
"""No uniform is closer to 0 or 1 than 2**-53."""

_ALIGNMENT = 8
"""Doubles per cache line."""


class Plan(NamedTuple):
    """How to draw one block, as compiled functions take it; see `plan`.

    Attributes
    ----------
    counters
        The block's.
    pairs
        Counters per dimension: sample pairs, or pairs of antithetic samples.
    tile
        Pairs of a tile; the last tile may reach beyond the block, `store` cuts it off.
    lanes
        Values per row of a tile.
    steps
        Steps of a path.
    antithetic
        Whether the second half of the lanes has the signs of the first half turned round.
    """

    counters: Counters
    pairs: int
    tile: int
    lanes: int
    steps: int
    antithetic: bool


@dataclass(frozen=True)
class Times:
    """The times of a path's steps, and what follows from them alone; made by `times`.

    Attributes
    ----------
    lengths, roots
        The steps' lengths and their square roots, (d,): the Brownian increment of step i is
        roots[i] times the standard normal that `increment` gives.
    reach
        What |W| cannot exceed at any of the times, whatever the method.
    """

    lengths: Doubles
    roots: Doubles
    reach: float


def times(ends: Doubles) -> Times:
    """Prepare the steps of a path that starts at time 0.

    Parameters
    ----------
    ends
        Where the steps end, increasing and above 0, in any unit; shape (d,), perhaps empty.
    """
    lengths = np.diff(ends, prepend=0.0)
    roots = np.sqrt(lengths)
    # Plain steps add up; a bridge adds at most half the root of the whole time per level, of
    # which there are at most 15.
    reach = _LARGEST_NORMAL * (sum(roots.tolist()) + 8.5 * math.sqrt(sum(lengths.tolist())))
    return Times(lengths, roots, reach)


def plan(stream: BlockStream, method: Method, times: Times, tile: int = TILE_PAIRS) -> Plan:
    """Return how to draw one block.

    Parameters
    ----------
    stream
        The block's stream.
    method
        The sampling method.
    times
        The steps of a path.
    tile
        Largest number of pairs worked on at a time.
    """
    pairs = stream.size // 2
    tiles = -(-pairs // tile)
    width = -(-pairs // tiles)
    antithetic = method is Method.ANTITHETIC
    lanes = 4 * width if antithetic else 2 * width
    return Plan(counters(stream), pairs, width, lanes, len(times.roots), antithetic)


@compiled
def workspace(plan: Plan) -> Doubles:
    """Return room for `increment` to work in, one for the whole block."""
    return lanes(plan)


@compiled
def lanes(plan: Plan) -> Doubles:
    """Return an array of one double per lane, not initialised, on a boundary of cache lines."""
    room = np.empty(plan.lanes + _ALIGNMENT)
    # The address in doubles; rows that cross cache lines cost a tenth of the speed.
    start = -(room.ctypes.data >> 3) & (_ALIGNMENT - 1)
    return room[start : start + plan.lanes]


@compiled
def increment(plan: Plan, first: int, step: int, room: Doubles) -> Doubles:
    """Return a row of standard normals, shape (lanes,), that drives one step of a tile's paths.

    Valid until the next call. Steps are asked for in order: 0, 1, ...

    Parameters
    ----------
    plan
        The block's.
    first
        The tile's first pair.
    step
        Which step.
    room
        From `workspace`.
    """
    tile = plan.tile
    fill_normals(plan.counters, step, first, room[:tile], room[tile : 2 * tile])
    if plan.antithetic:
        for j in range(2 * tile):
            room[2 * tile + j] = -room[j]
    return room


@compiled
def store(plan: Plan, first: int, values: Doubles, out: Doubles) -> None:
    """Store a tile's values of one output.

    Parameters
    ----------
    plan
        The block's.
    first
        The tile's first pair.
    values
        One value per lane.
    out
        The output's samples, shape (m,).
    """
    tile, pairs = plan.tile, plan.pairs
    valid = min(tile, pairs - first)
    for parity in range(2):
        source, target = parity * tile, parity * pairs + first
        if plan.antithetic:
            for j in range(valid):
                out[target + j] = 0.5 * (values[source + j] + values[source + 2 * tile + j])
        else:
            for j in range(valid):
                out[target + j] = values[source + j]
