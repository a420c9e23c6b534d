"""Blocks of a model that is checked: simulated, and reduced to what is compared.

What they must be like is not decided here.
"""

import contextlib
import hashlib
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from consumer.model_check import statistics
from protocol.definition import MAX_MATRIX_COLUMNS, Method, ParamValue, Sampling
from protocol.errors import MontemqError, UsageError
from protocol.model import Model, validated
from protocol.model_file import ModelFile
from protocol.registry import Registry
from protocol.statistics import BlockMoments
from protocol.streams import BlockStream

SEED = 20_260_101
OTHER_SEED = SEED + 2**40

Place = tuple[int, int]
"""Cell and block."""
Value = TypeVar("Value")


class BlockError(MontemqError):
    """A block could not be simulated, or is not what a block must be; `check` says which check."""

    check = "runs"


class InfiniteBlockError(BlockError):
    """A sample is NaN or an infinity."""

    check = "finite"


@dataclass(frozen=True)
class Subject:
    """What is checked, in a form that another process understands.

    Attributes
    ----------
    name, params
        The model, and its parameters without defaults.
    method
        How to sample.
    files
        Where it may come from besides what is installed.
    """

    name: str
    params: Mapping[str, ParamValue]
    method: Method = Method.PSEUDO
    files: tuple[ModelFile, ...] = ()

    def load(self) -> "Loaded":
        """Return the model, ready to simulate.

        Raises
        ------
        UsageError
            There is no such model, or it refuses the parameters.
        """
        model = validated(Registry(self.files).load(self.name), self.params)
        plain = Sampling(method=self.method)
        sampling = plain.model_copy(update={"control_variates": True})
        outputs = model.outputs[: MAX_MATRIX_COLUMNS - len(model.controls)]
        with contextlib.suppress(ValueError):
            model.check_sampling(sampling, model.block_size)
            return Loaded(model, sampling, outputs)
        try:
            model.check_sampling(plain, model.block_size)
        except ValueError as error:
            raise UsageError(str(error)) from None
        return Loaded(model, plain, model.outputs)


@dataclass(frozen=True)
class Loaded:
    """A model with its parameters, and how it is sampled.

    Attributes
    ----------
    outputs
        As many of the model's outputs as there is room for beside the controls.
    """

    model: Model
    sampling: Sampling
    outputs: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of samples: outputs, then controls."""
        controls = self.model.controls if self.sampling.control_variates else ()
        return (*self.outputs, *controls)

    def samples(self, place: Place, size: int, seed: int = SEED) -> NDArray[np.float64]:
        """Return the samples of one block, shape (columns, m).

        Raises
        ------
        BlockError
            The model raised an error, or returned anything else.
        """
        samples: object = self._call(self.model.samples, place, size, seed)
        expected = (len(self.columns), size)
        if not isinstance(samples, np.ndarray) or samples.dtype != np.float64:
            kind = getattr(samples, "dtype", type(samples).__name__)
            raise BlockError(f"{_at(place, size)}: an array of {kind}, expected float64")
        if samples.shape != expected:
            raise BlockError(f"{_at(place, size)}: shape {samples.shape}, expected {expected}")
        if not np.isfinite(samples).all():
            column = self.columns[int(np.argmin(np.isfinite(samples).all(axis=1)))]
            raise InfiniteBlockError(f"{_at(place, size)}: NaN or an infinity in {column}")
        return samples

    def simulate(self, place: Place, size: int) -> BlockMoments:
        """Return what is merged of one block.

        Raises
        ------
        BlockError
            The model raised an error.
        """
        return self._call(self.model.simulate, place, size, SEED)

    def _call(
        self,
        method: Callable[[BlockStream, Sampling, tuple[str, ...]], Value],
        place: Place,
        size: int,
        seed: int,
    ) -> Value:
        stream = BlockStream(seed, *place, size)
        try:
            with np.errstate(all="ignore"):
                return method(stream, self.sampling, self.outputs)
        except Exception as error:
            raise BlockError(f"{_at(place, size)}: {_told(error, self.model)}") from error


@dataclass(frozen=True)
class Block:
    """What is kept of a block.

    Attributes
    ----------
    digest
        SHA-256 of its samples.
    means, variances
        Of each column, shape (columns,); no variance of one sample.
    bits
        How unlikely another block with the same samples is.
    """

    digest: bytes
    means: NDArray[np.float64]
    variances: NDArray[np.float64]
    bits: float

    @classmethod
    def of(cls, samples: NDArray[np.float64]) -> Self:
        """Digest the samples of a block, shape (columns, m)."""
        size = samples.shape[1]
        variances = np.zeros(len(samples)) if size == 1 else samples.var(axis=1, ddof=1)
        digest = hashlib.sha256(np.ascontiguousarray(samples).tobytes()).digest()
        return cls(digest, samples.mean(axis=1), variances, statistics.bits(samples))


def digests(loaded: Loaded, places: Iterable[Place], size: int) -> dict[Place, bytes]:
    """Return the digests of blocks, simulated in this order."""
    found = {}
    for place in places:
        samples = np.ascontiguousarray(loaded.samples(place, size))
        found[place] = hashlib.sha256(samples.tobytes()).digest()
    return found


def _at(place: Place, size: int) -> str:
    cell, block = place
    return f"cell {cell}, block {block} of {size} samples"


def _told(error: Exception, model: Model) -> str:
    """Return the error in one line, with the line of the model's file that it passed last."""
    module = sys.modules.get(type(model).__module__)
    path = getattr(module, "__file__", None)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    where = f" ({Path(str(path)).name}, line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
