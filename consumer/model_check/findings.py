"""What a check finds, and the evidence that checks share."""

from dataclasses import dataclass
from enum import StrEnum

from consumer.model_check.blocks import Block, Loaded, Place


class Outcome(StrEnum):
    """How a check went; `unknown` where the outputs vary too little to tell."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"
    INFO = "info"


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, how it went, and a sentence for people."""

    name: str
    outcome: Outcome
    text: str


@dataclass(frozen=True)
class Evidence:
    """What a model gave.

    Attributes
    ----------
    size
        Samples of each block.
    blocks, cells
        The blocks of cell 0, and the first block of each of as many cells.
    other_seed
        Cell 0's block 0 under another seed.
    """

    loaded: Loaded
    size: int
    blocks: list[Block]
    cells: list[Block]
    other_seed: Block

    def digests(self, count: int) -> dict[Place, bytes]:
        """Return the digests of the first blocks of cell 0 and of the first cells' block 0."""
        found = {(0, block): each.digest for block, each in enumerate(self.blocks[:count])}
        return found | {(cell, 0): each.digest for cell, each in enumerate(self.cells[:count])}
