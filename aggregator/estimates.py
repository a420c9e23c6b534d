"""From exact statistics to numbers for people: the one place where anything is rounded."""

import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction

from aggregator.books import RunBooks
from aggregator.student import student_quantile
from protocol.codec import canonical
from protocol.exact import rounded_sqrt
from protocol.messages import RunState
from protocol.results import CellResult, Estimate, Result
from protocol.statistics import Statistics

RELIABLE_VARIANCE = Fraction(1, 10)
"""Largest relative error of the variance itself at which a standard error is believed."""


def estimate(statistics: Statistics | None, output: int, confidence: float) -> Estimate:
    """Estimate one output from independent samples.

    With m samples in each of B blocks, n = Bm, block sums s_b and centred second moments Q_b:
    Var(mean) = [ΣQ_b + Σs_b²/m - (Σs_b)²/n] / (n(n-1)), an identity of the analysis of variance;
    the interval is Student's with n-1 degrees of freedom.

    Parameters
    ----------
    statistics
        All merged blocks of one cell, None if there are none.
    output
        Number of the output.
    confidence
        Probability that the interval covers the truth.
    """
    if statistics is None:
        return _nothing(confidence)
    n = statistics.samples
    mean = statistics.sums[output].fraction() / n
    if n == 1:
        return _nothing(confidence, float(mean))
    error = rounded_sqrt(variance_of_mean(statistics, output))
    half = student_quantile(confidence, n - 1) * error
    value = float(mean)
    return Estimate(
        mean=value,
        standard_error=error,
        ci_low=_finite(value - half),
        ci_high=_finite(value + half),
        confidence=confidence,
        error_reliable=variance_is_reliable(statistics, output),
    )


def variance_of_mean(statistics: Statistics, output: int) -> Fraction:
    """Return the variance of the mean of one output, exactly; at least two samples."""
    n = statistics.samples
    m = n // statistics.blocks
    total = statistics.sums[output].fraction()
    between = statistics.cross[output].fraction() / m - total * total / n
    return (statistics.squares[output].fraction() + between) / (n * (n - 1))


def variance_is_reliable(statistics: Statistics, output: int) -> bool:
    """Say whether the variance is positive and known to 10 %.

    Its relative error is √(B/(B-1)·Σ(Q_b-Q̄)²)/ΣQ_b, compared here squared and exactly; one block
    cannot tell.
    """
    blocks = statistics.blocks
    total = statistics.squares[output].fraction()
    if blocks == 1 or total <= 0:
        return False
    scatter = statistics.fourth[output].fraction() - total * total / blocks
    return scatter * blocks / (blocks - 1) <= (RELIABLE_VARIANCE * total) ** 2


def digest(definition_hash: bytes, cells: Sequence[Statistics | None]) -> str:
    """Return SHA-256 over a definition and the canonical statistics of its cells, 64 hex digits."""
    maps = [None if cell is None else cell.model_dump() for cell in cells]
    return hashlib.sha256(canonical([definition_hash, maps])).hexdigest()


def result(books: RunBooks, now: float) -> Result:
    """Return the result of a run as it stands; `now` in seconds since the epoch."""
    definition = books.definition
    statistics = [cell.statistics() for cell in books.cells]
    finished = books.state is RunState.FINISHED
    cells = tuple(_cell_result(books, number, cell) for number, cell in enumerate(statistics))
    return Result(
        run=books.run,
        state=books.state.value,
        model=definition.model,
        model_version=definition.model_version,
        seed=definition.seed,
        sampling=definition.sampling.method.value,
        block_size=definition.block_size,
        digest=digest(definition.hash, statistics) if finished else None,
        reproducible=finished,
        elapsed_seconds=max(0.0, (books.ended or now) - books.created),
        cpu_seconds=books.cpu_seconds,
        samples=sum(cell.samples for cell in cells),
        cells=cells,
        engines=tuple(sorted(books.engines)),
        error=books.error,
    )


def _cell_result(books: RunBooks, number: int, statistics: Statistics | None) -> CellResult:
    definition = books.definition
    blocks = statistics.blocks if statistics else 0
    running = books.state is RunState.RUNNING and blocks == definition.blocks
    return CellResult(
        params=dict(definition.cells[number]),
        state=RunState.FINISHED.value if running else books.state.value,
        samples=statistics.samples if statistics else 0,
        outputs={
            name: estimate(statistics, i, definition.stop.confidence)
            for i, name in enumerate(definition.outputs)
        },
    )


def _nothing(confidence: float, mean: float | None = None) -> Estimate:
    return Estimate(
        mean=mean,
        standard_error=None,
        ci_low=None,
        ci_high=None,
        confidence=confidence,
        error_reliable=False,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
