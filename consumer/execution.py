"""One chunk in, one partial or failure out: the computation of a slot, without its process."""

import math
import time
from collections.abc import Callable, Iterator

import numpy as np

from consumer import float_state
from consumer.answers import Worker, failure, scope
from consumer.blocks import Simulate, block_simulation
from consumer.engine import engine
from protocol.definition import reported_outputs
from protocol.errors import NotFiniteError, UnsupportedError, UsageError
from protocol.histogram import Tally
from protocol.messages import Chunk, Failure, FailureKind, Partial
from protocol.model import Model, validated
from protocol.registry import load_model
from protocol.statistics import BlockMoments, collect
from protocol.streams import BlockStream


class _ChunkError(Exception):
    """The chunk cannot be computed here."""

    def __init__(self, kind: FailureKind, text: str, block: int | None = None) -> None:
        super().__init__(text)
        self.kind, self.text, self.block = kind, text, block


def execute(
    chunk: Chunk, worker: Worker, load: Callable[[str], type[Model]] = load_model
) -> Partial | Failure:
    """Compute a chunk; whatever the model does wrong becomes a failure.

    Parameters
    ----------
    chunk
        What to compute.
    worker
        Who computes.
    load
        Finds a model by name; raises UsageError where there is none.
    """
    # Process time: a slot has one thread that works, and waiting costs nobody anything.
    start = time.process_time()
    blocks: list[BlockMoments] = []
    try:
        model = _model(chunk, load)
        tally = _tally(chunk)
        if not float_state.is_standard():  # whatever ran here before
            float_state.restore()
        blocks.extend(_simulate(_simulation(model, chunk, tally), chunk))
        if not float_state.is_standard():
            float_state.restore()
            text = "the model, or a library that it loads, changes how doubles are computed"
            raise _ChunkError(FailureKind.MODEL_ERROR, text)  # noqa: TRY301 - one way out
        statistics = collect(blocks, chunk.block_size, tally)
    except _ChunkError as error:
        return failure(chunk, worker, error.kind, error.text, error.block)
    except NotFiniteError as error:
        block = chunk.first_block + next(i for i, b in enumerate(blocks) if not _is_finite(b))
        return failure(chunk, worker, FailureKind.NOT_FINITE, str(error), block)
    except Exception as error:  # noqa: BLE001 - `simulate` may have returned whatever it likes
        text = f"the model's block moments cannot be summed: {error}"
        return failure(chunk, worker, FailureKind.MODEL_ERROR, text)
    return Partial.model_validate(
        {
            **scope(chunk),
            "statistics": statistics,
            "consumer": worker.consumer,
            "host": worker.host,
            "cpu_seconds": time.process_time() - start,
            "engine": engine(type(model)),
        }
    )


def _model(chunk: Chunk, load: Callable[[str], type[Model]]) -> Model:
    try:
        model = load(chunk.model)
    except UsageError as error:
        raise _ChunkError(FailureKind.UNSUPPORTED_MODEL, str(error)) from None
    except Exception as error:  # noqa: BLE001 - somebody else's code, as in `_simulate`
        raise _ChunkError(FailureKind.MODEL_ERROR, _named(error)) from None
    if model.version != chunk.model_version:
        text = (
            f"model '{chunk.model}' has version {model.version} here, "
            f"the run needs {chunk.model_version}"
        )
        raise _ChunkError(FailureKind.UNSUPPORTED_MODEL, text)
    for output in chunk.outputs:
        if output not in model.outputs:
            text = f"model '{chunk.model}' has no output '{output}'"
            raise _ChunkError(FailureKind.INVALID_PARAMS, text)
    try:
        cell = validated(model, chunk.params, complete=True)
        _check_complete(cell, chunk)
        cell.check_sampling(chunk.sampling, chunk.block_size)
    except UnsupportedError as error:
        raise _ChunkError(FailureKind.UNSUPPORTED_MODEL, str(error)) from None
    except (UsageError, ValueError) as error:
        raise _ChunkError(FailureKind.INVALID_PARAMS, str(error)) from None
    except Exception as error:  # noqa: BLE001 - a validator is somebody else's code too
        raise _ChunkError(FailureKind.MODEL_ERROR, _named(error)) from None
    return cell


def _check_complete(cell: Model, chunk: Chunk) -> None:
    """Refuse parameters that leave something to this machine's defaults."""
    missing = [name for name in cell.params() if name not in chunk.params]
    if missing:
        raise UsageError(f"params.{missing[0]} is missing; a chunk has all parameters")


def _tally(chunk: Chunk) -> Tally | None:
    if not chunk.histograms:
        return None
    return Tally(len(reported_outputs(chunk.outputs, chunk.bump)))


def _simulation(cell: Model, chunk: Chunk, tally: Tally | None) -> Simulate:
    try:
        return block_simulation(cell, chunk.sampling, chunk.outputs, chunk.bump, tally)
    except UsageError as error:
        raise _ChunkError(FailureKind.INVALID_PARAMS, str(error)) from None
    except Exception as error:  # noqa: BLE001 - the bumped parameters are validated as well
        raise _ChunkError(FailureKind.MODEL_ERROR, _named(error)) from None


def _simulate(simulate: Simulate, chunk: Chunk) -> Iterator[BlockMoments]:
    cell = 0 if chunk.sampling.common_random_numbers else chunk.cell
    for block in range(chunk.first_block, chunk.stop_block):
        stream = BlockStream(chunk.seed, cell, block, chunk.block_size)
        try:
            # Infinities and NaN are refused when the moments are summed; no need to warn as well.
            with np.errstate(all="ignore"):
                moments = simulate(stream)
        except UnsupportedError as error:
            raise _ChunkError(FailureKind.UNSUPPORTED_MODEL, str(error)) from None
        # A model is somebody else's code, and may raise whatever it likes.
        except Exception as error:  # noqa: BLE001
            raise _ChunkError(FailureKind.MODEL_ERROR, _named(error), block) from None
        yield moments


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _is_finite(block: BlockMoments) -> bool:
    parts = (block.sums, block.squares, block.minimum, block.maximum)
    return all(math.isfinite(value) for part in parts for value in part)
