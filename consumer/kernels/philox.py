"""Philox4x32-10 and its uniforms for compiled functions; `protocol.streams` has the layout.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.
"""

import numpy as np

from consumer.kernels.compiled import inlined
from consumer.kernels.intrinsics import from_bits

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)

_FIRST, _SECOND = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_FIRST, _WEYL_SECOND = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_TWELVE = np.uint64(12)
_TWO_TO_20_BITS = np.uint64(0x4130000000000000)
_ONE_BITS = np.uint64(0x3FF0000000000000)

Words = tuple[np.uint64, np.uint64, np.uint64, np.uint64]


@inlined
def philox4x32(
    c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64
) -> Words:
    """Return the four output words; all are 32 bits held in uint64."""
    for _ in range(10):
        left, right = _FIRST * (c0 & LOW), _SECOND * (c2 & LOW)
        c0, c2 = (right >> HALF) ^ c1 ^ k0, (left >> HALF) ^ c3 ^ k1
        c1, c3 = right & LOW, left & LOW
        k0, k1 = (k0 + _WEYL_FIRST) & LOW, (k1 + _WEYL_SECOND) & LOW
    return c0, c1, c2, c3


@inlined
def uniform(low: np.uint64, high: np.uint64) -> float:
    """Return (k + 1/2) 2**-52 with k the upper 52 of the 64 bits, exactly.

    The words are put behind the exponents of 2**20 and of 1, where a unit in the last place is
    2**-32 and 2**-52: no shift of the high word, which would cost a slow multiplication.
    """
    upper = from_bits(high | _TWO_TO_20_BITS) - 2.0**20
    return upper + (from_bits((low >> _TWELVE) | _ONE_BITS) - (1.0 - 2.0**-53))
