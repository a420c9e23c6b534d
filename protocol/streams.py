"""Random streams: every (sample, dimension) of a block can be computed on its own.

Philox4x32-10 is from Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC'11. The layout of key and counter is specified in `protocol/README.md`.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

DRAWS = 0
"""Purpose of a counter: plain draws. 1 and 2 are reserved for scrambling and low bits."""

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10


def philox4x32(
    counter: tuple[Words, Words, Words, Words], key: tuple[int, int]
) -> tuple[Words, ...]:
    """Return the four output words of Philox4x32-10 for each counter.

    Parameters
    ----------
    counter
        Four arrays of 32-bit words, held as uint64, of shapes that broadcast.
    key
        Two 32-bit words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        left, right = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c2 = (right >> _HALF) ^ c1 ^ np.uint64(k0), (left >> _HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = right & _LOW, left & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


@dataclass(frozen=True)
class BlockStream:
    """The random stream of one block.

    Attributes
    ----------
    seed
        The run's seed, below 2**64.
    cell
        The cell's number, 0 for every cell under common random numbers.
    block
        The block's number in its cell.
    size
        Samples in the block: even, or 1 for a model that draws nothing from `words`.
    """

    seed: int
    cell: int
    block: int
    size: int

    def words(
        self,
        first_dimension: int,
        dimensions: int,
        purpose: int = DRAWS,
        pairs: tuple[int, int] | None = None,
    ) -> tuple[Words, ...]:
        """Return the four words of each counter, each of shape (dimensions, pairs).

        Parameters
        ----------
        first_dimension, dimensions
            Which dimensions.
        purpose
            What for.
        pairs
            First sample pair and one past the last; all size / 2 of them if None.
        """
        pair = np.arange(*(pairs or (0, self.size // 2)), dtype=np.uint64)[np.newaxis, :]
        first = (purpose << 24) + first_dimension
        dimension = np.arange(first, first + dimensions, dtype=np.uint64)[:, np.newaxis]
        block, cell = (np.full((1, 1), word, dtype=np.uint64) for word in (self.block, self.cell))
        return philox4x32((pair, dimension, block, cell), (self.seed & 0xFFFFFFFF, self.seed >> 32))

    def uniform_pairs(
        self, first_dimension: int, dimensions: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the uniforms of even and of odd samples, each of shape (dimensions, size / 2).

        A uniform is (k + ½)·2**-52 with k the upper 52 bits of a 64-bit word: never 0 or 1.
        """
        w0, w1, w2, w3 = self.words(first_dimension, dimensions)
        return _uniform(w0, w1), _uniform(w2, w3)

    def generator(self, tag: int) -> np.random.Generator:
        """Return numpy's Generator for this block of the model with this tag."""
        # uint64 arrays: numbers above 2**63 in a list turn into floats, and different keys collide.
        key = np.array([self.seed, tag], dtype=np.uint64)
        counter = np.array([0, 0, self.block, self.cell], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))


def generator_tag(model: str) -> int:
    """Return the second key word of a Generator: the first 8 bytes of the model name's SHA-256."""
    return int.from_bytes(hashlib.sha256(model.encode()).digest()[:8], "big")


def _uniform(low: Words, high: Words) -> NDArray[np.float64]:
    bits = ((high << _HALF) | low) >> np.uint64(12)
    return (bits.astype(np.float64) + 0.5) * 2.0**-52
