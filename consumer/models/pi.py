"""Pi by throwing darts at a square: the smallest model, and the check that an installation works.

A dart counts 4 when it hits the quarter circle, so that the mean is pi.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from protocol.definition import Sampling
from protocol.model import PORTABLE_ENGINE, Model
from protocol.statistics import BlockMoments
from protocol.streams import BlockStream

Doubles = NDArray[np.float64]


class Pi(Model):
    """Four times the share of uniform points of the unit square inside the unit circle."""

    name: ClassVar[str] = "pi"
    outputs: ClassVar[tuple[str, ...]] = ("pi",)
    block_size: ClassVar[int] = 65_536
    source: ClassVar[str] = "E[4 * 1(x**2 + y**2 < 1)] = pi for x, y independent, uniform on (0, 1)"
    engine: ClassVar[str | None] = PORTABLE_ENGINE

    def samples(self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]) -> Doubles:
        """Throw one dart per sample: dimension 0 gives x, dimension 1 gives y."""
        from consumer.kernels import pi
        from consumer.kernels.draws import counters

        del sampling, outputs  # pseudo is the only method offered, and pi the only output
        out = np.empty((1, stream.size))
        pi.samples(counters(stream), out[0])
        return out

    def simulate(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> BlockMoments:
        """Count the hits of the same darts: the moments follow from it, rounded once."""
        from consumer.kernels import pi
        from consumer.kernels.draws import counters

        del sampling, outputs
        hits = pi.hits(counters(stream), stream.size // 2)
        misses = stream.size - hits
        return BlockMoments(
            sums=[4.0 * hits],
            # Division of integers is rounded once, whatever their size.
            squares=[16 * hits * misses / stream.size],
            minimum=[0.0 if misses else 4.0],
            maximum=[4.0 if hits else 0.0],
        )
