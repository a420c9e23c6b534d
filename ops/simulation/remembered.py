"""What every schedule does alike is done once in a process: real blocks, chunks and decoding."""

from functools import lru_cache

from consumer.answers import Worker, scope
from consumer.execution import execute
from consumer.models.pi import Pi
from protocol import messages
from protocol.definition import Sampling
from protocol.messages import Chunk, Failure, Partial
from protocol.model import Model
from protocol.statistics import BlockMoments
from protocol.streams import BlockStream

decode = lru_cache(maxsize=10_000)(messages.decode)
"""The real one; a body that many receive is read once."""


class RememberedPi(Pi):
    """The real model; blocks are remembered, because every schedule computes the same ones."""

    def simulate(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> BlockMoments:
        """Simulate one block, once."""
        if stream not in _BLOCKS:
            _BLOCKS[stream] = super().simulate(stream, sampling, outputs)
        return _BLOCKS[stream]


_BLOCKS: dict[BlockStream, BlockMoments] = {}
_ANSWERS: dict[tuple[bytes, int, int, int], Partial | Failure] = {}


def load(_: str) -> type[Model]:
    """Return the one model that there is, whatever it is called."""
    return RememberedPi


def answer(chunk: Chunk, worker: Worker) -> Partial | Failure:
    """Compute a chunk as a slot does, equal blocks of equal definitions once."""
    key = (chunk.definition, chunk.cell, chunk.first_block, chunk.blocks)
    if key not in _ANSWERS:
        _ANSWERS[key] = execute(chunk, worker, load)
    own = {**scope(chunk), "consumer": worker.consumer, "host": worker.host}
    return _ANSWERS[key].model_copy(update=own)
