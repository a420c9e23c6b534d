"""Models as a user's package would bring them: one that waits, one that fails, one that is slow."""

import os
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from protocol.definition import Sampling
from protocol.model import GeneratorModel
from protocol.streams import BlockStream

STEP_SECONDS = 0.005


class Gate(GeneratorModel):
    """Uniform numbers; blocks wait until a file `open` stands in a folder, early ones a moment."""

    name: ClassVar[str] = "gate"
    outputs: ClassVar[tuple[str, ...]] = ("mean",)
    block_size: ClassVar[int] = 512

    folder: str
    closed_from: int = 0
    seconds: float = 0.0

    def samples(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> NDArray[np.float64]:
        """Leave the process id of the slot that waits in a file `waiting`."""
        folder = Path(self.folder)
        if stream.block >= self.closed_from and not (folder / "open").exists():
            (folder / f"waiting-{stream.block}").write_text(str(os.getpid()), encoding="ascii")
            while not (folder / "open").exists():
                time.sleep(STEP_SECONDS)
        elif stream.block < self.closed_from:
            time.sleep(self.seconds)
        return super().samples(stream, sampling, outputs)

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Return uniform numbers."""
        return rng.random((n, 1))


class Paced(GeneratorModel):
    """Uniform numbers; every block takes a while, and leaves a line that tells who took it."""

    name: ClassVar[str] = "paced"
    outputs: ClassVar[tuple[str, ...]] = ("mean",)
    block_size: ClassVar[int] = 512

    folder: str
    tag: str
    seconds: float

    def samples(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> NDArray[np.float64]:
        """Append tag, slot and block to a file `begun`, and sleep."""
        line = f"{self.tag} {os.getpid()} {stream.block}\n"
        with (Path(self.folder) / "begun").open("a", encoding="ascii") as file:
            file.write(line)
        time.sleep(self.seconds)
        return super().samples(stream, sampling, outputs)

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Return uniform numbers."""
        return rng.random((n, 1))


class Failing(GeneratorModel):
    """A model with a bug."""

    name: ClassVar[str] = "failing"
    outputs: ClassVar[tuple[str, ...]] = ("mean",)
    block_size: ClassVar[int] = 512

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Raise, as a bug does."""
        raise ValueError(f"the market is closed for {n} samples of {type(rng).__name__}")
