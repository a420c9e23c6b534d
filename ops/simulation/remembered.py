"""The model of the simulation: real blocks, each computed once in a process."""

from consumer.models.pi import Pi
from protocol.definition import Sampling
from protocol.model import Model
from protocol.statistics import BlockMoments
from protocol.streams import BlockStream


class RememberedPi(Pi):
    """The real model; blocks are remembered, because every schedule computes the same ones."""

    def simulate(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> BlockMoments:
        """Simulate one block, once."""
        if stream not in _REMEMBERED:
            _REMEMBERED[stream] = super().simulate(stream, sampling, outputs)
        return _REMEMBERED[stream]


_REMEMBERED: dict[BlockStream, BlockMoments] = {}


def load(_: str) -> type[Model]:
    """Return the one model that there is, whatever it is called."""
    return RememberedPi
