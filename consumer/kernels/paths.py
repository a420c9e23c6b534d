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
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.bridge import NO_BRIDGE, Bridge, bridge
from consumer.kernels.compiled import compiled
from consumer.kernels.draws import Counters, counters, fill_normals
from consumer.kernels.intrinsics import fma
from consumer.kernels.sobol import Scratch, fill_sobol_normals
from consumer.kernels.sobol_table import reversed_directions
from protocol.definition import Method
from protocol.streams import BlockStream

Doubles = NDArray[np.float64]
Words = NDArray[np.uint32]

TILE_PAIRS = 512
"""Sample pairs worked on at a time: rows of 1,024 lanes, a few of which stay in a core's cache."""

_BRIDGE_DOUBLES = 2**16
_SMALLEST_TILE = 8
"""A bridge keeps the whole tile: half a MiB of it where the steps are few enough."""

_NO_DIRECTIONS = np.empty((0, 32), dtype=np.uint32)

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
    sobol
        Whether the normals come from Sobol points by a bridge.
    bridge, directions
        The bridge and the direction numbers, shape (steps, 32); empty unless `sobol`.
    """

    counters: Counters
    pairs: int
    tile: int
    lanes: int
    steps: int
    antithetic: bool
    sobol: bool
    bridge: Bridge
    directions: Words


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

    @cached_property
    def bridge(self) -> Bridge:
        """The Brownian bridge over these times."""
        return bridge(self.lengths, self.roots)


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
        Largest number of pairs worked on at a time; a power of two.

    Raises
    ------
    ValueError
        A path has more steps than Sobol points have dimensions.
    """
    steps, pairs = len(times.roots), stream.size // 2
    antithetic, sobol = method is Method.ANTITHETIC, method is Method.SOBOL
    if sobol:
        # All rows of a tile at a time. Both numbers are powers of two.
        while tile > _SMALLEST_TILE and 2 * tile * steps > _BRIDGE_DOUBLES:
            tile //= 2
        width = min(tile, pairs)
    else:
        width = -(-pairs // -(-pairs // tile))
    return Plan(
        counters(stream),
        pairs=pairs,
        tile=width,
        lanes=4 * width if antithetic else 2 * width,
        steps=steps,
        antithetic=antithetic,
        sobol=sobol,
        bridge=times.bridge if sobol else NO_BRIDGE,
        directions=reversed_directions(steps) if sobol else _NO_DIRECTIONS,
    )


@compiled
def workspace(plan: Plan) -> Doubles:
    """Return room for `increment` to work in, one for the whole block."""
    rows = plan.steps if plan.sobol else 1
    room: Doubles = _aligned(rows * plan.lanes).reshape(rows, plan.lanes)
    return room


@compiled
def lanes(plan: Plan) -> Doubles:
    """Return an array of one double per lane, not initialised."""
    return _aligned(plan.lanes)


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
    if plan.sobol:
        if step == 0:
            _fill_bridge(plan, first, room)
        driven: Doubles = room[step]
        return driven
    tile = plan.tile
    row: Doubles = room[0]
    fill_normals(plan.counters, step, first, row[:tile], row[tile : 2 * tile])
    if plan.antithetic:
        opposite = row[2 * tile :]
        for j in range(2 * tile):
            opposite[j] = -row[j]
    return row


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
        start, source = parity * pairs + first, parity * tile
        samples, along = out[start : start + valid], values[source : source + valid]
        if plan.antithetic:
            against = values[source + 2 * tile : source + 2 * tile + valid]
            for j in range(valid):
                samples[j] = 0.5 * (along[j] + against[j])
        else:
            for j in range(valid):
                samples[j] = along[j]


@compiled
def _fill_bridge(plan: Plan, first: int, room: Doubles) -> None:
    """Write the standard normals that drive all steps of a tile, (steps, lanes)."""
    tile, bridge = plan.tile, plan.bridge
    z = lanes(plan)
    roots = _aligned(2 * plan.lanes).reshape(2, plan.lanes)
    scratch = Scratch(np.empty((2, tile), dtype=np.uint32), roots)
    for dimension in range(plan.steps):
        pairs = (first, plan.pairs)
        fill_sobol_normals(plan.counters, plan.directions, pairs, scratch, dimension, z)
        row, scale = room[bridge.target[dimension]], bridge.scale[dimension]
        left, right = bridge.left[dimension], bridge.right[dimension]
        before, after = bridge.before[dimension], bridge.after[dimension]
        if right < 0:
            for j in range(plan.lanes):
                row[j] = scale * z[j]
        elif left < 0:
            for j in range(plan.lanes):
                row[j] = fma(after, room[right, j], scale * z[j])
        else:
            for j in range(plan.lanes):
                row[j] = fma(before, room[left, j], fma(after, room[right, j], scale * z[j]))
    for step in range(plan.steps - 1, -1, -1):
        inverse = bridge.inverse_roots[step]
        for j in range(plan.lanes):
            start = room[step - 1, j] if step > 0 else 0.0
            room[step, j] = (room[step, j] - start) * inverse


@compiled
def _aligned(count: int) -> Doubles:
    """Return an array that starts on a cache line; crossing one costs a tenth of the speed."""
    room = np.empty(count + _ALIGNMENT)
    start = -(room.ctypes.data >> 3) & (_ALIGNMENT - 1)
    aligned: Doubles = room[start : start + count]
    return aligned
