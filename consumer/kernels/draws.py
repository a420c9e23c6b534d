"""Rows of independent uniforms and normals, straight from the counters of purpose 0.

One dimension of a tile of sample pairs at a time, into small arrays that stay in the cache. What
joins them to paths is `paths`; the layout of the stream is that of `protocol/README.md`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.compiled import compiled
from consumer.kernels.elementary import cos_sin_bounded, log_normal_range
from consumer.kernels.philox import philox4x32, uniform
from protocol.streams import BlockStream

Doubles = NDArray[np.float64]


class Counters(NamedTuple):
    """What the counters of one block have in common, as compiled functions take it.

    Attributes
    ----------
    key_low, key_high
        The seed's two words.
    block, cell
        Counter words 2 and 3.
    """

    key_low: int
    key_high: int
    block: int
    cell: int


def counters(stream: BlockStream) -> Counters:
    """Return the counters of a block."""
    return Counters(stream.seed & 0xFFFFFFFF, stream.seed >> 32, stream.block, stream.cell)


@compiled
def fill_uniforms(
    counters: Counters, dimension: int, first: int, even: Doubles, odd: Doubles
) -> None:
    """Write the uniforms of one dimension of the sample pairs `first`, `first` + 1, ...

    Parameters
    ----------
    counters
        The block's.
    dimension
        Which dimension.
    first
        The first sample pair.
    even, odd
        Where the uniforms of even and odd samples go, of one length: how many pairs.
    """
    pair = np.uint64(first)
    c1, c2, c3 = np.uint64(dimension), np.uint64(counters.block), np.uint64(counters.cell)
    k0, k1 = np.uint64(counters.key_low), np.uint64(counters.key_high)
    for j in range(even.shape[0]):
        w0, w1, w2, w3 = philox4x32(pair + np.uint64(j), c1, c2, c3, k0, k1)
        even[j] = uniform(w0, w1)
        odd[j] = uniform(w2, w3)


@compiled
def fill_normals(
    counters: Counters, dimension: int, first: int, even: Doubles, odd: Doubles
) -> None:
    """Write standard normals; parameters as in `fill_uniforms`.

    Box and Muller's transform (Annals of Mathematical Statistics 29, 1958) within one counter:
    the first uniform gives the radius, the second the angle in turns; the even sample gets the
    cosine, the odd one the sine. Philox has a loop of its own: integers and doubles together need
    more registers than there are.
    """
    fill_uniforms(counters, dimension, first, even, odd)
    for j in range(even.shape[0]):
        radius = np.sqrt(-2.0 * log_normal_range(even[j]))
        cosine, sine = cos_sin_bounded(odd[j])
        even[j] = radius * cosine
        odd[j] = radius * sine
