"""Runs stopped at their target, as a ledger would stop them: real models, sums and rules."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from aggregator.estimates import estimate
from aggregator.stopping import Target, reached
from consumer.blocks import block_simulation
from protocol.definition import Definition, Sampling, Stop
from protocol.model import Model
from protocol.results import Estimate
from protocol.statistics import Statistics, collect
from protocol.streams import BlockStream

CONFIDENCE = 0.95
PLAIN = Sampling()


@dataclass(frozen=True)
class Case:
    """A model whose first output has a known expectation, and the error to stop it at."""

    name: str
    cell: Model
    truth: float
    target: Target
    sampling: Sampling = PLAIN
    block_size: int = 512
    samples: int = 1 << 24

    def definition(self) -> Definition:
        """Return the definition that says where the checkpoints are."""
        controls = self.cell.controls if self.sampling.control_variates else ()
        return Definition(
            model=self.cell.name,
            model_version=self.cell.version,
            outputs=self.cell.outputs[:1],
            controls=controls,
            cells=(self.cell.params(),),
            seed=0,
            block_size=self.block_size,
            sampling=self.sampling,
            stop=Stop(samples=self.samples, confidence=CONFIDENCE),
        )


def stopped(case: Case, seed: int) -> tuple[Estimate, int]:
    """Return the estimate of one run at the checkpoint where it stops, and its samples."""
    total: Statistics | None = None
    for segment in _segments(case, seed):
        total = segment if total is None else total.merge(segment)
        if reached(total, case.sampling.method, case.target):
            break
    assert total is not None
    return estimate(total, 0, CONFIDENCE, case.sampling.method), total.samples


def coverage(case: Case, seeds: range) -> dict[str, Any]:
    """Return the share of reliable intervals that hold the truth, and how the runs ended."""
    ended = [stopped(case, seed) for seed in seeds]
    believed = [one for one, _ in ended if one.error_reliable]
    inside = [
        one.ci_low is not None
        and one.ci_high is not None
        and one.ci_low <= case.truth <= one.ci_high
        for one in believed
    ]
    return {
        "share": sum(inside) / len(inside),
        "believed": len(believed) / len(ended),
        "samples": sum(samples for _, samples in ended) / len(ended),
    }


def _segments(case: Case, seed: int) -> Iterator[Statistics]:
    definition = case.definition()
    simulate = block_simulation(case.cell, case.sampling, definition.outputs, {}, None)
    for start, stop in pairwise((0, *definition.checkpoints)):
        streams = (BlockStream(seed, 0, block, case.block_size) for block in range(start, stop))
        yield collect(map(simulate, streams), case.block_size)
