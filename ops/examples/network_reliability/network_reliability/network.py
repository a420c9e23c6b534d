"""Networks as lists of links, and which nodes the links that work connect; no chance is here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Network:
    """Nodes and undirected links between them.

    Attributes
    ----------
    nodes
        Their names, sorted.
    links
        For each link the numbers of its two nodes.
    """

    nodes: tuple[str, ...]
    links: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, links: Sequence[str]) -> Self:
        """Read links such as `a-b`.

        Raises
        ------
        ValueError
            A link does not name two different nodes.
        """
        pairs = []
        for link in links:
            first, separator, second = link.partition("-")
            if not separator or not first or not second or "-" in second or first == second:
                raise ValueError(f"the link {link!r} must name two different nodes, as in 'a-b'")
            pairs.append((first, second))
        nodes = tuple(sorted({node for pair in pairs for node in pair}))
        return cls(nodes, tuple((nodes.index(a), nodes.index(b)) for a, b in pairs))

    def reached(self, start: str, working: Flags) -> Flags:
        """Return which nodes are connected with one of them.

        Parameters
        ----------
        start
            The node to begin at.
        working
            Which links work, shape (links, n), one column for each state of the network.

        Returns
        -------
            Shape (nodes, n).
        """
        reached = np.zeros((len(self.nodes), working.shape[1]), dtype=np.bool_)
        reached[self.nodes.index(start)] = True
        # Each sweep reaches at least one node more, or nothing is left to reach.
        for _ in range(len(self.nodes) - 1):
            before = np.count_nonzero(reached)
            for (a, b), works in zip(self.links, working, strict=True):
                either = works & (reached[a] | reached[b])
                reached[a] |= either
                reached[b] |= either
            if np.count_nonzero(reached) == before:
                break
        return reached
