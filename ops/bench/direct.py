"""Runs blocks of a model in this process through the consumer's and the aggregator's own code.

Without producer and broker: for benchmarks and for tests of models.
"""

from dataclasses import dataclass

from aggregator.estimates import estimates
from consumer.answers import Worker
from consumer.execution import execute
from protocol.definition import Definition, Sampling, Stop
from protocol.messages import Chunk, Partial
from protocol.model import Model
from protocol.results import Estimate

WORKER = Worker(consumer="direct", host="direct")


@dataclass(frozen=True)
class Answer:
    """Estimates of a cell, by output, and what they cost."""

    outputs: dict[str, Estimate]
    samples: int
    cpu_seconds: float


def definition(
    model: Model,
    sampling: Sampling,
    samples: int,
    outputs: tuple[str, ...] | None = None,
    block_size: int | None = None,
    seed: int = 1,
) -> Definition:
    """Return the definition of a run of one cell.

    Parameters
    ----------
    model
        The cell.
    sampling, seed
        As in a run file.
    samples
        How many, rounded up to whole blocks.
    outputs, block_size
        As in a run file; all outputs, and the model's own block size, where None.
    """
    return Definition(
        model=model.name,
        model_version=model.version,
        outputs=model.outputs if outputs is None else outputs,
        cells=(model.params(),),
        seed=seed,
        block_size=model.block_size if block_size is None else block_size,
        sampling=sampling,
        controls=model.controls if sampling.control_variates else (),
        stop=Stop(samples=samples),
    )


def simulate(run: Definition, span: tuple[int, int]) -> Partial:
    """Simulate the blocks [start, stop) of a run's first cell as one chunk.

    Raises
    ------
    RuntimeError
        The chunk failed.
    """
    answer = execute(Chunk.of("direct", run, 0, span, 1), WORKER)
    if not isinstance(answer, Partial):
        raise RuntimeError(answer.text)  # noqa: TRY004 - a failure is an answer too
    return answer


def run(
    model: Model,
    sampling: Sampling,
    samples: int,
    outputs: tuple[str, ...] | None = None,
    block_size: int | None = None,
    seed: int = 1,
) -> Answer:
    """Simulate one cell as one chunk and estimate its outputs; parameters as in `definition`.

    Raises
    ------
    RuntimeError
        The chunk failed.
    """
    whole = definition(model, sampling, samples, outputs, block_size, seed)
    answer = simulate(whole, (0, whole.blocks))
    found = estimates(answer.statistics, sampling.method, whole.stop.confidence)
    return Answer(
        outputs=dict(zip(whole.outputs, found, strict=True)),
        samples=answer.statistics.samples,
        cpu_seconds=answer.cpu_seconds,
    )
