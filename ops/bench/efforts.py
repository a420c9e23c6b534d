"""What a standard error costs by each way of sampling: whole blocks up to a run's own checkpoints.

Runs go as far as the stopping rule would let them; what would take too long is extrapolated.
"""

import math
from dataclasses import dataclass

from aggregator.estimates import estimates
from aggregator.stopping import Target, reached
from ops.bench import direct
from protocol.definition import Definition, Sampling
from protocol.model import Model

REPEATS = 3
LONGEST_SECONDS = 1.0
"""CPU time after which a run is extrapolated, once its error is believed."""

HOPELESS_SECONDS = 20.0
"""CPU time after which an error that is still not believed is given up."""

OUTPUT = "price"


@dataclass(frozen=True)
class Effort:
    """What a standard error costs; the last three are None where no error is ever believed.

    Attributes
    ----------
    what, way, target
        The contract, the way of sampling, and the standard error asked for, in currency.
    extrapolated
        Whether the run was too long to make: its variance falls as one over the blocks.
    standard_error, samples, cpu_seconds
        At the first checkpoint where the error is believed and within the target.
    """

    what: str
    way: str
    target: float
    extrapolated: bool = False
    standard_error: float | None = None
    samples: int | None = None
    cpu_seconds: float | None = None


def effort(what: str, model: Model, way: str, sampling: Sampling, target: float) -> Effort:
    """Return the cheapest of several attempts: other load only adds to CPU time."""
    # As many blocks as a run may have: none ends here for want of samples.
    run = direct.definition(model, sampling, 2**32 * model.block_size, (OUTPUT,))
    direct.simulate(run, (0, 1))  # loads and compiles what is needed
    best = _attempt(run, target)
    for _ in range(REPEATS - 1):
        if best is not None:
            best = min(best, _attempt(run, target) or best, key=lambda found: found.cpu_seconds)
    if best is None:
        return Effort(what, way, target)
    return Effort(what, way, target, best.extrapolated, best.error, best.samples, best.cpu_seconds)


@dataclass(frozen=True)
class _Stop:
    extrapolated: bool
    error: float
    samples: int
    cpu_seconds: float


def _attempt(run: Definition, target: float) -> _Stop | None:
    """Simulate from checkpoint to checkpoint; None where the error is never believed."""
    method = run.sampling.method
    statistics, seconds, start = None, 0.0, 0
    for blocks in run.checkpoints:
        partial = direct.simulate(run, (start, blocks))
        more = partial.statistics
        statistics = more if statistics is None else statistics.merge(more)
        seconds, start = seconds + partial.cpu_seconds, blocks
        (price,) = estimates(statistics, method, run.stop.confidence)
        error = price.standard_error
        if error is not None and reached(statistics, method, Target(standard_error=target)):
            return _Stop(False, error, statistics.samples, seconds)
        if error is not None and price.error_reliable and seconds > LONGEST_SECONDS:
            return _extrapolated(run, target, _Stop(True, error, statistics.samples, seconds))
        if seconds > HOPELESS_SECONDS:
            break
    return None


def _extrapolated(run: Definition, target: float, seen: _Stop) -> _Stop | None:
    """Return the first checkpoint at which the target is to be expected, None where none is."""
    samples = (blocks * run.block_size for blocks in run.checkpoints)
    needed = seen.samples * (seen.error / target) ** 2
    stop = next((count for count in samples if count >= needed), None)
    if stop is None:
        return None
    factor = stop / seen.samples
    return _Stop(True, seen.error / math.sqrt(factor), stop, seen.cpu_seconds * factor)
