"""Rows of normals from scrambled Sobol points: each block is one independent nested scrambling.

Owen's scrambling (Monte Carlo and Quasi-Monte Carlo Methods, 1995) by a hash after Laine and
Karras (Computer Graphics Forum 30, 2011), with the better mixing constants of N. Vegdahl,
"Building a Better LK Hash" (2021). Its two seeds are independent words: adding the one makes each
point exactly uniform whatever the other, so that the mean of a block has no bias. The layout is
that of `protocol/README.md`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.compiled import compiled, inlined
from consumer.kernels.draws import Counters
from consumer.kernels.elementary import quantile_from_root, quantile_root
from consumer.kernels.philox import philox4x32, uniform

Doubles = NDArray[np.float64]
Words = NDArray[np.uint32]

_SCRAMBLE, _LOW_BITS = np.uint64(1 << 24), np.uint64(2 << 24)
_ONE = np.uint32(1)
_FIRST, _SECOND = np.uint32(0x3D20ADEA), np.uint32(0x05526C56)
_THIRD = np.uint32(0x53A22864)
_MASKS = (np.uint32(0x55555555), np.uint32(0x33333333), np.uint32(0x0F0F0F0F))
_BYTES = np.uint32(0x00FF00FF)
_SHIFTS = (np.uint32(1), np.uint32(2), np.uint32(4), np.uint32(8), np.uint32(16))


class Scratch(NamedTuple):
    """Room for `fill_sobol_normals`, for `count` points of either half of a block.

    Attributes
    ----------
    points
        Shape (2, count).
    roots
        Shape (2, 2 · count).
    """

    points: Words
    roots: Doubles


@compiled
def fill_sobol_normals(
    counters: Counters,
    directions: Words,
    pairs: tuple[int, int],
    scratch: Scratch,
    dimension: int,
    normals: Doubles,
) -> None:
    """Write standard normals of one dimension of the points first, ... and half + first, ...

    Parameters
    ----------
    counters
        The block's.
    directions
        Reversed direction numbers, shape (dimensions, 32).
    pairs
        `first`, a multiple of `count`, and half the number of points of the block; both numbers
        and `count` are powers of two (`first` may be 0).
    scratch
        Room to work in.
    dimension
        Which dimension.
    normals
        Where the normals go, first those of the lower half's points, shape (2 · count,).
    """
    first, half = pairs
    lower, upper = scratch.points[0], scratch.points[1]
    count = lower.shape[0]
    block, cell = np.uint64(counters.block), np.uint64(counters.cell)
    k0, k1 = np.uint64(counters.key_low), np.uint64(counters.key_high)
    c1 = np.uint64(dimension)
    add, multiply, _, _ = philox4x32(np.uint64(0), _SCRAMBLE + c1, block, cell, k0, k1)
    other_half = fill_points(directions[dimension], first, half, lower)
    for j in range(count):
        point = lower[j]
        upper[j] = _scrambled(np.uint32(point ^ other_half), np.uint32(add), np.uint32(multiply))
        lower[j] = _scrambled(point, np.uint32(add), np.uint32(multiply))
    # Rows of their own: the compiler must see that they do not overlap.
    low, high = normals[:count], normals[count:]
    pair = np.uint64(first)
    for j in range(count):
        w0, w1, _, _ = philox4x32(pair + np.uint64(j), _LOW_BITS + c1, block, cell, k0, k1)
        low[j] = uniform(w0, np.uint64(lower[j]))
        high[j] = uniform(w1, np.uint64(upper[j]))
    # Two loops: one of both halves needs more registers than there are.
    roots, rests = scratch.roots[0], scratch.roots[1]
    for j in range(2 * count):
        roots[j], rests[j] = quantile_root(normals[j])
    for j in range(2 * count):
        normals[j] = quantile_from_root(normals[j], roots[j], rests[j])


@compiled
def fill_points(directions: Words, first: int, half: int, points: Words) -> np.uint32:
    """Write one dimension of the points `first`, ... with their bits reversed, not scrambled.

    Returns
    -------
        What turns them into the points half + `first`, ... by exclusive or.
    """
    base, other_half = np.uint32(0), np.uint32(0)
    for bit in range(32):
        if (first >> bit) & 1:
            base = np.uint32(base ^ directions[bit])
        if (half >> bit) & 1:
            other_half = np.uint32(other_half ^ directions[bit])
    points[0] = base
    done, bit = 1, 0
    while done < points.shape[0]:
        direction = directions[bit]
        for j in range(done):
            points[done + j] = points[j] ^ direction
        done, bit = 2 * done, bit + 1
    return other_half


@inlined
def _scrambled(reversed_point: np.uint32, add: np.uint32, multiply: np.uint32) -> np.uint32:
    """Return the point, digits in their order again, each flipped as those before it say."""
    x = reversed_point
    x = np.uint32(x ^ np.uint32(x * _FIRST))
    x = np.uint32(x + add)
    x = np.uint32(x * np.uint32(multiply | _ONE))
    x = np.uint32(x ^ np.uint32(x * _SECOND))
    x = np.uint32(x ^ np.uint32(x * _THIRD))
    x = np.uint32(((x >> _SHIFTS[0]) & _MASKS[0]) | ((x & _MASKS[0]) << _SHIFTS[0]))
    x = np.uint32(((x >> _SHIFTS[1]) & _MASKS[1]) | ((x & _MASKS[1]) << _SHIFTS[1]))
    x = np.uint32(((x >> _SHIFTS[2]) & _MASKS[2]) | ((x & _MASKS[2]) << _SHIFTS[2]))
    x = np.uint32(((x >> _SHIFTS[3]) & _BYTES) | ((x & _BYTES) << _SHIFTS[3]))
    return np.uint32((x >> _SHIFTS[4]) | (x << _SHIFTS[4]))
