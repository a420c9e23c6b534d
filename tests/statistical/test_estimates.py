"""From a model's blocks to a result, through the ledger: known means within 4.5 standard errors.

A right estimate fails each check with a chance of 7e-6; the seeds are fixed.
"""

import math
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from aggregator.ledger import Ledger
from protocol.definition import Definition, Stop
from protocol.model import GeneratorModel
from protocol.results import Result
from protocol.statistics import collect
from protocol.streams import BlockStream
from tests.support.run_values import RUN, declare, partial


class Moments(GeneratorModel):
    """The first two moments of a normal variable with this mean, and the exponential of it."""

    name: ClassVar[str] = "moments"
    outputs: ClassVar[tuple[str, ...]] = ("first", "second", "exponential")
    block_size: ClassVar[int] = 256

    mean: float = 0.0

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Draw."""
        x = self.mean + rng.standard_normal(n)
        return np.stack([x, x * x, np.exp(x)], axis=1)


MEANS = (0.0, -1.0, 0.5)
SAMPLES = 65_536


def run(seed: int, chunk_blocks: int) -> Result:
    """Compute a run of all means in chunks, the last one first."""
    cells = [Moments(mean=mean) for mean in MEANS]
    of = Definition(
        model="moments",
        model_version=1,
        outputs=Moments.outputs,
        cells=tuple(cell.params() for cell in cells),
        seed=seed,
        block_size=Moments.block_size,
        stop=Stop(samples=SAMPLES),
    )
    ledger = Ledger(1)
    ledger.declare(declare(of), 0.0)
    edges = sorted({0, *of.checkpoints, *range(0, of.blocks, chunk_blocks)})
    chunks = list(pairwise(edges))
    for number, cell in enumerate(cells):
        for start, stop in reversed(chunks):
            blocks = (
                cell.simulate(
                    BlockStream(seed, number, block, of.block_size), of.sampling, of.outputs
                )
                for block in range(start, stop)
            )
            statistics = collect(blocks, of.block_size)
            ledger.partial(partial(of, start, stop, number, statistics=statistics), 1.0)
    return ledger.take_changes().results[RUN]


@pytest.fixture(scope="module")
def found() -> Result:
    return run(seed=11, chunk_blocks=16)


@pytest.mark.parametrize("cell", range(len(MEANS)))
def test_estimates_agree_with_known_moments(found: Result, cell: int) -> None:
    mean = MEANS[cell]
    truth = {"first": mean, "second": 1 + mean**2, "exponential": math.exp(mean + 0.5)}
    # Variances of X, X² and exp(X) for X normal around the mean.
    variance = {
        "first": 1.0,
        "second": 2 + 4 * mean**2,
        "exponential": (math.e - 1) * math.exp(2 * mean + 1),
    }
    for name, value in found.cells[cell].outputs.items():
        assert value.mean is not None
        assert value.standard_error is not None
        assert abs(value.mean - truth[name]) < 4.5 * value.standard_error
        # The error itself is known to a few percent from so many samples.
        assert value.standard_error == pytest.approx(math.sqrt(variance[name] / SAMPLES), rel=0.1)
        assert value.error_reliable


def test_cells_draw_independent_samples(found: Result) -> None:
    shifted = [
        (cell.outputs["first"].mean or 0.0) - mean
        for cell, mean in zip(found.cells, MEANS, strict=True)
    ]
    assert len({round(value, 9) for value in shifted}) == len(MEANS)


def test_the_digest_depends_on_the_seed_and_not_on_the_chunks(found: Result) -> None:
    assert run(seed=11, chunk_blocks=7).digest == found.digest
    assert run(seed=12, chunk_blocks=16).digest != found.digest
