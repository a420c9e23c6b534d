"""Kernels of the dart throwing: which darts hit, and how many."""

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.compiled import compiled, inlined
from consumer.kernels.draws import Counters
from consumer.kernels.philox import philox4x32, uniform


@compiled
def hits(counters: Counters, pairs: int) -> int:
    """Return how many darts of a block hit; `pairs` is half the block's size."""
    total = 0
    for pair in range(pairs):
        even, odd = _pair_hits(counters, np.uint64(pair))
        total += int(even) + int(odd)
    return total


@compiled
def samples(counters: Counters, out: NDArray[np.float64]) -> None:
    """Write 4 for each dart that hits and 0 for the others, even samples first; shape (m,)."""
    pairs = out.shape[0] // 2
    for pair in range(pairs):
        even, odd = _pair_hits(counters, np.uint64(pair))
        out[pair] = 4.0 if even else 0.0
        out[pairs + pair] = 4.0 if odd else 0.0


@inlined
def _pair_hits(counters: Counters, pair: np.uint64) -> tuple[bool, bool]:
    block, cell = np.uint64(counters.block), np.uint64(counters.cell)
    k0, k1 = np.uint64(counters.key_low), np.uint64(counters.key_high)
    # Two calls that differ in one word share their first rounds, which the compiler sees.
    x0, x1, x2, x3 = philox4x32(pair, np.uint64(0), block, cell, k0, k1)
    y0, y1, y2, y3 = philox4x32(pair, np.uint64(1), block, cell, k0, k1)
    even_x, even_y = uniform(x0, x1), uniform(y0, y1)
    odd_x, odd_y = uniform(x2, x3), uniform(y2, y3)
    even = even_x * even_x + even_y * even_y < 1.0
    odd = odd_x * odd_x + odd_y * odd_y < 1.0
    return even, odd
