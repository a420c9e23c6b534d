"""The blocks of a cell: samples, their differences by a bump, their moments and histograms.

Not what becomes of a model's errors, and not the sums over blocks.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocol.definition import Sampling
from protocol.histogram import Tally
from protocol.model import Model, bumped
from protocol.statistics import BlockMoments
from protocol.streams import BlockStream


class Simulate(Protocol):
    """Simulates blocks of one cell."""

    def __call__(self, stream: BlockStream, tally: Tally | None = None) -> BlockMoments:
        """Return a block's moments; its samples are counted where there is a tally."""


def block_simulation(
    cell: Model,
    sampling: Sampling,
    outputs: tuple[str, ...],
    bump: Mapping[str, int | float],
) -> Simulate:
    """Return the function that simulates one block of a cell.

    Parameters
    ----------
    cell
        The model with the cell's parameters.
    sampling, outputs, bump
        As in its chunks.

    Raises
    ------
    UsageError
        The cell cannot be bumped.
    """
    # Here, not above: the agent, which never computes, must not load a compiler.
    from consumer.kernels.moments import moments  # noqa: PLC0415

    changed = bumped(cell, bump) if bump else None
    counts = type(cell).simulate is not Model.simulate
    # The controls of the base case serve the differences as well.
    bare = sampling.model_copy(update={"control_variates": False})

    def simulate(stream: BlockStream, tally: Tally | None = None) -> BlockMoments:
        if counts and tally is None:
            return cell.simulate(stream, sampling, outputs)
        samples = cell.checked_samples(stream, sampling, outputs)
        number = len(outputs)
        if changed is not None:
            samples = _with_differences(samples, changed.checked_samples(stream, bare, outputs))
            number *= 2
        found = cell.simulate(stream, sampling, outputs) if counts else moments(samples, number)
        # What is not finite has no bin, and is refused with the moments.
        if tally is not None:
            tally.add(samples[:number])
        return found

    return simulate


def _with_differences(
    samples: NDArray[np.float64], other: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return outputs, how they differ under the bump, and controls."""
    number = len(other)
    return np.vstack((samples[:number], other - samples[:number], samples[number:]))
