"""The model: its parameters, its outputs, and how to draw samples of them."""

from functools import cached_property
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from network_reliability.network import Network
from protocol.model import GeneratorModel

Probability = Annotated[float, Field(ge=0, le=1)]


class NetworkReliability(GeneratorModel):
    """Probability that the links that work connect two nodes, or all nodes, of a network."""

    name: ClassVar[str] = "network_reliability"
    version: ClassVar[int] = 1
    outputs: ClassVar[tuple[str, ...]] = ("two_terminal", "all_terminal")
    block_size: ClassVar[int] = 16_384
    source: ClassVar[str] = (
        "Colbourn, The Combinatorics of Network Reliability (Oxford University Press, 1987); "
        "the default network is the bridge, whose two-terminal reliability is "
        "2p**2 + 2p**3 - 5p**4 + 2p**5"
    )

    links: tuple[str, ...] = Field(
        default=("s-a", "s-b", "a-b", "a-t", "b-t"),
        strict=False,
        min_length=1,
        max_length=200,
        description="The links, each as two names of nodes with a hyphen between them",
    )
    reliability: tuple[Probability, ...] = Field(
        default=(0.9,),
        strict=False,
        min_length=1,
        max_length=200,
        description="Probability that a link works: of each link, or one for all of them",
        json_schema_extra={"unit": "1"},
    )
    start: str = Field(default="s", description="The first of the two nodes to be connected")
    end: str = Field(default="t", description="The second of them")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        nodes = self.network.nodes
        for name, node in (("start", self.start), ("end", self.end)):
            if node not in nodes:
                raise ValueError(f"{name} = {node!r} is no node; nodes are {', '.join(nodes)}")
        if len(self.reliability) not in {1, len(self.links)}:
            raise ValueError(
                f"reliability has {len(self.reliability)} numbers, "
                f"allowed are 1 and {len(self.links)}, the number of links"
            )
        return self

    @cached_property
    def network(self) -> Network:
        """The network that `links` describes."""
        return Network.parse(self.links)

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Return for n states of the network whether two nodes, and all nodes, are connected."""
        limits = np.array(self.reliability)[:, np.newaxis]
        working = rng.random((len(self.links), n)) < limits
        reached = self.network.reached(self.start, working)
        ends = reached[self.network.nodes.index(self.end)]
        return np.stack((ends, reached.all(axis=0)), axis=1).astype(np.float64)
