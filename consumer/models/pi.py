"""Pi by throwing darts at a square: the smallest model, and the check that an installation works.

A dart counts 4 when it hits the quarter circle, so that the mean is pi.
"""

from typing import ClassVar

import numpy as np

from consumer import numerics
from protocol.definition import Sampling
from protocol.model import PORTABLE_ENGINE, Model
from protocol.statistics import BlockMoments
from protocol.streams import BlockStream


class Pi(Model):
    """Four times the share of uniform points of the unit square inside the unit circle."""

    name: ClassVar[str] = "pi"
    outputs: ClassVar[tuple[str, ...]] = ("pi",)
    block_size: ClassVar[int] = 65_536
    source: ClassVar[str] = "E[4 * 1(x**2 + y**2 < 1)] = pi for x, y independent, uniform on (0, 1)"
    engine: ClassVar[str | None] = PORTABLE_ENGINE

    def simulate(self, stream: BlockStream, sampling: Sampling) -> BlockMoments:
        """Throw one dart per sample: dimension 0 gives x, dimension 1 gives y."""
        del sampling  # pseudo is the only method offered
        hits = sum(
            _hits(stream, pairs)
            for pairs, _ in numerics.tiles(dimensions=2, pairs=stream.size // 2)
        )
        misses = stream.size - hits
        return BlockMoments(
            sums=[4.0 * hits],
            # Division of integers is rounded once, whatever their size.
            squares=[16 * hits * misses / stream.size],
            minimum=[0.0 if misses else 4.0],
            maximum=[4.0 if hits else 0.0],
        )


def _hits(stream: BlockStream, pairs: tuple[int, int]) -> int:
    samples = numerics.uniforms(stream, (0, 2), pairs)
    return sum(int(np.count_nonzero(u[0] * u[0] + u[1] * u[1] < 1.0)) for u in samples)
