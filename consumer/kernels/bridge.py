"""The Brownian bridge: in which order a path is filled in, and with which weights.

The first normal gives the end of the path, the next ones halve the longest gaps: most of the
variance hangs on the first dimensions, which Sobol points cover best. Moskowitz and Caflisch,
Mathematical and Computer Modelling 23 (1996).
"""

import math
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]


class Bridge(NamedTuple):
    """How each dimension enters a path W at times t_0 < t_1 < ..., as compiled functions take it.

    Dimension i gives W[target[i]] = before · W[left[i]] + after · W[right[i]] + scale · z_i.

    Attributes
    ----------
    target, left, right
        Indices of times; -1 stands for time 0, where W is 0, and for no right neighbour.
    before, after, scale
        The weights.
    inverse_roots
        1 / sqrt(t_i - t_(i-1)), which turns increments into standard normals.
    """

    target: Indices
    left: Indices
    right: Indices
    before: Doubles
    after: Doubles
    scale: Doubles
    inverse_roots: Doubles


_NO_INDICES, _NO_DOUBLES = np.empty(0, dtype=np.int64), np.empty(0)
NO_BRIDGE = Bridge(
    _NO_INDICES, _NO_INDICES, _NO_INDICES, _NO_DOUBLES, _NO_DOUBLES, _NO_DOUBLES, _NO_DOUBLES
)


def bridge(lengths: Doubles, roots: Doubles) -> Bridge:
    """Return the bridge over steps of these lengths, with their square roots; both (d,)."""
    ends = np.cumsum(lengths).tolist()
    last = len(ends) - 1
    rows: list[tuple[int, int, int, float, float, float]] = []
    if ends:
        rows.append((last, -1, -1, 0.0, 0.0, math.sqrt(ends[last])))
    gaps = deque([(-1, last)])
    while gaps:
        left, right = gaps.popleft()
        if right - left <= 1:
            continue
        centre = (left + right) // 2
        start = ends[left] if left >= 0 else 0.0
        gap, low, high = ends[right] - start, ends[centre] - start, ends[right] - ends[centre]
        rows.append((centre, left, right, high / gap, low / gap, math.sqrt(low * high / gap)))
        gaps += [(left, centre), (centre, right)]
    columns = list(zip(*rows, strict=True)) or [()] * 6
    return Bridge(
        target=np.array(columns[0], dtype=np.int64),
        left=np.array(columns[1], dtype=np.int64),
        right=np.array(columns[2], dtype=np.int64),
        before=np.array(columns[3], dtype=np.float64),
        after=np.array(columns[4], dtype=np.float64),
        scale=np.array(columns[5], dtype=np.float64),
        inverse_roots=1.0 / roots,
    )
