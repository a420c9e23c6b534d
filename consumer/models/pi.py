"""Pi by throwing darts at a square: the smallest model, and the check that an installation works.

A dart counts 4 when it hits the quarter circle, so that the mean is pi.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from consumer import numerics
from consumer.numerics import Doubles
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

    def samples(self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]) -> Doubles:
        """Throw one dart per sample: dimension 0 gives x, dimension 1 gives y."""
        del sampling, outputs  # pseudo is the only method offered, and pi the only output
        darts = numerics.uniforms(stream, (0, 2), (0, stream.size // 2))
        return 4.0 * np.concatenate([_inside(u) for u in darts])[np.newaxis]

    def simulate(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> BlockMoments:
        """Count the hits of the same darts: the moments follow from it, rounded once."""
        del sampling, outputs
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
    darts = numerics.uniforms(stream, (0, 2), pairs)
    return sum(int(np.count_nonzero(_inside(u))) for u in darts)


def _inside(u: Doubles) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = u[0] * u[0] + u[1] * u[1] < 1.0
    return inside
