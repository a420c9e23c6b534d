"""One chunk in, one partial or failure out: the computation of a slot, without its process."""

import math
import time

import numpy as np

from consumer import float_state
from consumer.answers import Worker, failure, scope
from consumer.blocks import Simulate
from consumer.preparation import ChunkError, Load, Preparations, named
from protocol.definition import reported_outputs
from protocol.errors import NotFiniteError, UnsupportedError
from protocol.histogram import Tally
from protocol.messages import Chunk, Failure, FailureKind, Partial
from protocol.registry import load_model
from protocol.statistics import BlockMoments, collect
from protocol.streams import BlockStream


def execute(chunk: Chunk, worker: Worker, load: Load = load_model) -> Partial | Failure:
    """Compute one chunk; see `Executor`."""
    return Executor(worker, load).execute(chunk)


class Executor:
    """Computes chunks one after the other.

    Parameters
    ----------
    worker
        Who computes.
    load
        Finds a model by name; raises UsageError where there is none.
    """

    def __init__(self, worker: Worker, load: Load = load_model) -> None:
        self._worker, self._preparations = worker, Preparations(load)

    def execute(self, chunk: Chunk) -> Partial | Failure:
        """Compute a chunk; whatever the model does wrong becomes a failure."""
        # Process time: a slot has one thread that works, and waiting costs nobody anything.
        start = time.process_time()
        blocks: list[BlockMoments] = []
        try:
            prepared = self._preparations.of(chunk)
            tally = _tally(chunk)
            if not float_state.is_standard():  # whatever ran here before
                float_state.restore()
            _simulate(prepared.simulate, chunk, tally, blocks)
            if not float_state.is_standard():
                float_state.restore()
                text = "the model, or a library that it loads, changes how doubles are computed"
                raise ChunkError(FailureKind.MODEL_ERROR, text)  # noqa: TRY301 - one way out
            statistics = collect(blocks, chunk.block_size, tally)
        except ChunkError as error:
            return failure(chunk, self._worker, error.kind, error.text, error.block)
        except NotFiniteError as error:
            block = chunk.first_block + next(i for i, b in enumerate(blocks) if not _is_finite(b))
            return failure(chunk, self._worker, FailureKind.NOT_FINITE, str(error), block)
        except Exception as error:  # noqa: BLE001 - `simulate` may have returned whatever it likes
            text = f"the model's block moments cannot be summed: {error}"
            return failure(chunk, self._worker, FailureKind.MODEL_ERROR, text)
        return Partial.model_validate(
            {
                **scope(chunk),
                "statistics": statistics,
                "consumer": self._worker.consumer,
                "host": self._worker.host,
                "cpu_seconds": time.process_time() - start,
                "engine": prepared.engine,
            }
        )


def _tally(chunk: Chunk) -> Tally | None:
    if not chunk.histograms:
        return None
    return Tally(len(reported_outputs(chunk.outputs, chunk.bump)))


def _simulate(
    simulate: Simulate, chunk: Chunk, tally: Tally | None, blocks: list[BlockMoments]
) -> None:
    """Add the moments of a chunk's blocks to `blocks`, and their samples to the tally."""
    cell = 0 if chunk.sampling.common_random_numbers else chunk.cell
    # Infinities and NaN are refused when the moments are summed; no need to warn as well.
    with np.errstate(all="ignore"):
        for block in range(chunk.first_block, chunk.stop_block):
            stream = BlockStream(chunk.seed, cell, block, chunk.block_size)
            try:
                blocks.append(simulate(stream, tally))
            except UnsupportedError as error:
                raise ChunkError(FailureKind.UNSUPPORTED_MODEL, str(error)) from None
            # A model is somebody else's code, and may raise whatever it likes.
            except Exception as error:  # noqa: BLE001
                raise ChunkError(FailureKind.MODEL_ERROR, named(error), block) from None


def _is_finite(block: BlockMoments) -> bool:
    parts = (block.sums, block.squares, block.minimum, block.maximum)
    return all(math.isfinite(value) for part in parts for value in part)
