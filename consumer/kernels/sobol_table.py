"""Sobol's direction numbers, from the table of Joe and Kuo; no points are made here.

S. Joe and F. Y. Kuo, "Constructing Sobol sequences with better two-dimensional projections", SIAM
Journal on Scientific Computing 30 (2008): the set `new-joe-kuo-6.21201`, copyright 2008 Frances Y.
Kuo and Stephen Joe, under the licence in `direction_numbers.LICENSE`.
"""

import functools
import hashlib
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.compiled import compiled

FILE = "direction_numbers.bin"
SHA256 = "df246f469bf1f8d48ffc909a7fd7bb78c29dd5ad74ca8eb30aadab1698375ecb"
MAX_DIMENSIONS = 21_201
BITS = 32

_DEGREES = 18
"""Largest degree of a polynomial, and so most initial numbers of a dimension."""

Words = NDArray[np.uint32]


@functools.lru_cache(maxsize=8)
def reversed_directions(dimensions: int) -> Words:
    """Return the direction numbers, shape (dimensions, 32), each with its bits reversed.

    Point i is the exclusive or of those that belong to the bits of i; reversed, the first binary
    digit of the point is the lowest bit.

    Raises
    ------
    ValueError
        There are more dimensions than the table has.
    RuntimeError
        The table is damaged.
    """
    if dimensions > MAX_DIMENSIONS:
        raise ValueError(f"sobol has at most {MAX_DIMENSIONS} dimensions, not {dimensions}")
    table = _table()[:, :dimensions]
    out = np.empty((dimensions, BITS), dtype=np.uint32)
    _expand(np.ascontiguousarray(table[0]), np.ascontiguousarray(table[1:].T), out)
    return out


@compiled
def _expand(polynomials: Words, initial: Words, out: Words) -> None:
    """Continue the initial numbers m_1, m_2, ... and write m_i / 2**i, its digits reversed.

    The recurrence of Bratley and Fox, ACM Transactions on Mathematical Software 14 (1988).
    """
    numbers = np.empty(BITS, dtype=np.int64)
    for dimension in range(out.shape[0]):
        polynomial = np.int64(polynomials[dimension])
        degree = 0
        while (polynomial >> (degree + 1)) > 0:
            degree += 1
        for i in range(BITS):
            if degree == 0:  # van der Corput's sequence
                numbers[i] = 1
            elif i < degree:
                numbers[i] = np.int64(initial[dimension, i])
            else:
                number = numbers[i - degree]
                for k in range(1, degree + 1):
                    if (polynomial >> (degree - k)) & 1:
                        number ^= numbers[i - k] << k
                numbers[i] = number
            reverse = np.int64(0)
            for digit in range(i + 1):
                reverse |= ((numbers[i] >> digit) & 1) << (i - digit)
            out[dimension, i] = reverse


def _table() -> Words:
    packed = (Path(__file__).parent / FILE).read_bytes()
    if hashlib.sha256(packed).hexdigest() != SHA256:
        raise RuntimeError(f"{FILE} is damaged: its SHA-256 is not {SHA256}")
    return np.frombuffer(zlib.decompress(packed), dtype="<u4").reshape(1 + _DEGREES, MAX_DIMENSIONS)
