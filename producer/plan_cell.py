"""What a pilot measured of a cell, and what follows for it: numbers in, numbers out."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from pydantic import BaseModel, ConfigDict

from producer.sizing import AIM_SECONDS, LEAST_COST, MAX_CHUNK_BLOCKS

RELIABLE_VARIANCE = 0.1
"""Relative error of the variance at which a target may pass; a run's stopping rule says so too."""

SIGMAS = 2.0
"""Low and high stand so many standard errors of the logarithm from what is expected."""

MAX_EXPONENT = 50.0


@dataclass(frozen=True)
class Spread:
    """What replicates of a cell say of one output.

    Attributes
    ----------
    mean, mean_error
        With the standard error of the mean over all replicates.
    variance
        Of one sample: standard error squared times samples.
    variance_error
        Its relative standard error, from how far the replicates lie apart.
    replicates
        How many there were.
    """

    mean: float
    mean_error: float
    variance: float
    variance_error: float
    replicates: int

    @classmethod
    def of(cls, means: Sequence[float], variances: Sequence[float], samples: int) -> "Spread":
        """Return it from each replicate's mean and variance of one sample.

        Parameters
        ----------
        means, variances
            One for each replicate, at least two.
        samples
            Of all replicates together.
        """
        variance = fmean(variances)
        apart = stdev(variances) / math.sqrt(len(variances))
        return cls(
            mean=fmean(means),
            mean_error=math.sqrt(variance / samples),
            variance=variance,
            variance_error=apart / variance if variance else 0.0,
            replicates=len(variances),
        )


@dataclass(frozen=True)
class CellPilot:
    """What the pilot found of one cell.

    Attributes
    ----------
    samples
        Of all its replicates.
    block_seconds
        CPU seconds that a block takes.
    outputs
        Of those outputs that have a target; empty where there is none.
    """

    samples: int
    block_seconds: float
    outputs: tuple[Spread, ...]


@dataclass(frozen=True)
class Rule:
    """When a cell ends.

    Attributes
    ----------
    checkpoints
        In blocks, the sample limit last.
    standard_error, relative_error
        Targets; the limit alone ends a cell where both are None.
    least_blocks
        Blocks before which no error is believed.
    seconds
        After which the run ends whatever is reached; None for no such limit.
    """

    block_size: int
    checkpoints: tuple[int, ...]
    standard_error: float | None = None
    relative_error: float | None = None
    least_blocks: int = 1
    seconds: float | None = None


class Value(BaseModel):
    """What never changes."""

    model_config = ConfigDict(frozen=True)


class Range(Value):
    """What is expected, and what it lies between as far as the pilot's variances leave it open.

    Only the number of samples is uncertain here, by two standard errors and in steps of whole
    checkpoints; what blocks cost and the overhead are taken as measured.
    """

    expected: float
    low: float
    high: float


class CellPlan(Value):
    """What one cell will take.

    Attributes
    ----------
    chunks
        At least: so many of the largest size there are, and they end at checkpoints.
    block_seconds
        CPU seconds of one block.
    reaches
        Whether its target comes before its sample limit and before the run's time limit.
    """

    samples: Range
    core_seconds: Range
    chunks: int
    block_seconds: float
    reaches: bool


def plan_cell(cell: CellPilot, rule: Rule) -> CellPlan:
    """Predict what one cell takes until its rule ends it."""
    wanted = [blocks_needed(cell, output, rule) for output in cell.outputs]
    limit = rule.checkpoints[-1]

    def ended(blocks: Sequence[float]) -> int:
        needed = max([*blocks, rule.least_blocks]) if blocks else limit
        return rule.checkpoints[min(bisect_left(rule.checkpoints, needed), _last(rule))]

    expected, low, high = (
        ended([getattr(one, which) for one in wanted]) for which in ("expected", "low", "high")
    )
    reaches = all(one.expected <= limit for one in wanted)
    blocks = Range(expected=expected, low=low, high=high)
    return ended_cell(blocks, cell.block_seconds, rule, reaches=reaches)


def ended_cell(blocks: Range, block_seconds: float, rule: Rule, *, reaches: bool) -> CellPlan:
    """Return what a cell takes that ends after so many blocks, each at a checkpoint."""
    segments = bisect_right(rule.checkpoints, blocks.expected)
    largest = chunk_blocks(AIM_SECONDS, block_seconds)
    return CellPlan(
        samples=_scaled(blocks, rule.block_size),
        core_seconds=_scaled(blocks, block_seconds),
        chunks=max(segments, math.ceil(blocks.expected / largest)),
        block_seconds=block_seconds,
        reaches=reaches,
    )


def blocks_needed(cell: CellPilot, output: Spread, rule: Rule) -> Range:
    """Return after how many blocks an output's error is small enough, and believed.

    The variance of a mean falls with the number of blocks, so that variance / target² samples are
    needed. How wrong that may be: the pilot's variance and, for a relative target, its mean are
    known only so well, and so is, at its own checkpoint, what the run itself finds.
    """
    if not output.variance:
        return Range(expected=math.inf, low=math.inf, high=math.inf)  # no such error is believed
    needed, error = 0.0, output.variance_error
    if rule.standard_error is not None:
        needed = output.variance / rule.standard_error**2
    if rule.relative_error is not None:
        relative = _ratio(output.variance, (rule.relative_error * output.mean) ** 2)
        if relative > needed:
            needed = relative
            error = math.hypot(error, 2 * _ratio(output.mean_error, abs(output.mean)))
    believed = cell.samples * (output.variance_error / RELIABLE_VARIANCE) ** 2
    if believed > needed:
        needed, error = believed, 2 / math.sqrt(2 * (output.replicates - 1))
    # The run's own variance, from `needed` samples, is as uncertain as the pilot's was from its.
    error *= math.sqrt(1 + cell.samples / max(needed, rule.block_size))
    factor = math.exp(min(SIGMAS * error, MAX_EXPONENT))
    blocks = needed / rule.block_size
    return Range(expected=blocks, low=blocks / factor, high=blocks * factor)


def chunk_blocks(aim: float, block_seconds: float) -> int:
    """Return how many blocks a chunk has that should take so many CPU seconds."""
    return max(1, min(int(aim / max(block_seconds, LEAST_COST)), MAX_CHUNK_BLOCKS))


def _ratio(over: float, under: float) -> float:
    return over / under if under else math.inf


def _last(rule: Rule) -> int:
    return len(rule.checkpoints) - 1


def _scaled(blocks: Range, factor: float) -> Range:
    return Range(
        expected=blocks.expected * factor, low=blocks.low * factor, high=blocks.high * factor
    )
