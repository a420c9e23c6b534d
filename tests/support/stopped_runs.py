"""Runs stopped at their target, as a ledger would stop them: real models, sums and rules.

What is counted is how often their intervals hold the truth, and which shares a right interval can
have.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

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
ANY = Target(standard_error=1e12)
"""Every error is small enough: what ends a run is that its error is believed."""

RUNS, FEW_RUNS = 2_000, 1_000
ALLOWED: Mapping[int, tuple[float, float]] = {RUNS: (0.93, 0.97), FEW_RUNS: (0.92, 0.976)}
"""Shares of intervals that hold the truth, by the number of runs.

Of one output the share of right intervals is outside with a chance of 4.5e-5 and 3.1e-5: the
bounds are 4.1 and 4.3 of its standard deviations below, 4.1 and 3.8 above. That one of the 98
outputs of the full set is outside has a chance of 0.4 %, one of the 17 of its sample 0.05 %.

Intervals scaled by 0.8 hold the truth in 88.3 % of runs, by 1.25 in 98.6 %: over 1,000 runs they
stay inside with chances of 9e-5 and 1.1 %, over 2,000 with less than 2e-7.
"""

_PILOT = 1 << 40
"""A seed that no counted run has."""


@dataclass(frozen=True, eq=False)
class Case:
    """A cell, and the expectations of some of its outputs.

    Each of these is a run of its own, which stops where that output reaches its target (the run
    file's `stop.outputs`); the blocks, which do not depend on what is stopped at, are simulated
    once for all of them.

    Attributes
    ----------
    target
        Of every output; where there is none, that of `pilot_target`.
    """

    name: str
    cell: Model
    truths: Mapping[str, float]
    sampling: Sampling = PLAIN
    target: Target | None = None
    block_size: int = 512
    samples: int = 1 << 24

    def definition(self) -> Definition:
        """Return the definition that says where the checkpoints are."""
        return Definition(
            model=self.cell.name,
            model_version=self.cell.version,
            outputs=tuple(self.truths),
            controls=self.cell.controls if self.sampling.control_variates else (),
            cells=(self.cell.params(),),
            seed=0,
            block_size=self.block_size,
            sampling=self.sampling,
            stop=Stop(samples=self.samples, confidence=CONFIDENCE),
        )


@dataclass(frozen=True)
class Ended:
    """The estimate of one run at the checkpoint where it stopped, and its samples."""

    estimate: Estimate
    samples: int


@dataclass(frozen=True)
class Coverage:
    """How the runs of one output ended.

    Attributes
    ----------
    deviations
        How far the mean is from the truth, in half widths of the interval; of each run.
    believed
        Share of runs whose error is believed.
    samples
        How many a run took, on average.
    """

    deviations: NDArray[np.float64] = field(repr=False)
    believed: float
    samples: float

    def share(self, scale: float = 1.0) -> float:
        """Return how many of the intervals hold the truth, each made wider by this factor."""
        return float((self.deviations <= scale).mean())


def stopped(case: Case, seed: int) -> dict[str, Ended]:
    """Return how the run of each output ended."""
    ended: dict[str, Ended] = {}
    method = case.sampling.method
    for total in _checkpoints(case, seed):
        last = total.samples >= case.samples
        for number, name in enumerate(case.truths):
            target = case.target or pilot_target(case, number)
            if name not in ended and (last or reached(total, method, target, (number,))):
                ended[name] = Ended(estimate(total, number, CONFIDENCE, method), total.samples)
        if len(ended) == len(case.truths):
            break
    return ended


@cache
def pilot_target(case: Case, output: int) -> Target:
    """Return the error that one run has at the second checkpoint at which it is believed.

    There chance decides whether a run stops, which is what could make intervals dishonest.
    """
    method = case.sampling.method
    believed = (
        total for total in _checkpoints(case, _PILOT) if reached(total, method, ANY, (output,))
    )
    next(believed)
    return Target(
        standard_error=estimate(next(believed), output, CONFIDENCE, method).standard_error
    )


@cache
def coverage(case: Case, seeds: range) -> dict[str, Coverage]:
    """Return, for each output, how its runs of these seeds ended."""
    runs = [stopped(case, seed) for seed in seeds]
    return {
        name: Coverage(
            deviations=np.array([_deviation(run[name].estimate, truth) for run in runs]),
            believed=sum(run[name].estimate.error_reliable for run in runs) / len(runs),
            samples=sum(run[name].samples for run in runs) / len(runs),
        )
        for name, truth in case.truths.items()
    }


def outside(case: Case, runs: int, scale: float = 1.0) -> dict[str, float]:
    """Return the shares that a right interval cannot have, of outputs by name.

    Parameters
    ----------
    case
        What is run; an error that is not believed fails the test at once.
    runs
        How many; one of those in `ALLOWED`.
    scale
        By which every interval is made wider.
    """
    found = coverage(case, range(runs))
    assert {name: one.believed for name, one in found.items()} == dict.fromkeys(found, 1.0)
    low, high = ALLOWED[runs]
    shares = {name: one.share(scale) for name, one in found.items()}
    return {name: share for name, share in shares.items() if not low <= share <= high}


def _deviation(found: Estimate, truth: float) -> float:
    assert found.mean is not None
    assert found.ci_low is not None
    assert found.ci_high is not None
    return abs(found.mean - truth) / ((found.ci_high - found.ci_low) / 2)


def _checkpoints(case: Case, seed: int) -> Iterator[Statistics]:
    """Yield what is merged at each checkpoint of a run."""
    definition = case.definition()
    simulate = block_simulation(case.cell, case.sampling, definition.outputs, {})
    total: Statistics | None = None
    for start, stop in pairwise((0, *definition.checkpoints)):
        streams = (BlockStream(seed, 0, block, case.block_size) for block in range(start, stop))
        segment = collect(map(simulate, streams), case.block_size)
        total = segment if total is None else total.merge(segment)
        yield total
