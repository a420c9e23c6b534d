"""What a run's answer depends on, its hash, and the checkpoints that follow from it."""

import hashlib
from collections.abc import Iterator
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from protocol.codec import canonical

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
"""Models, outputs, parameters, pools: short, lower case, fit for metrics and queue names."""

RunId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")]
"""No dots: a run's id is one word of a topic routing key."""

Seed = Annotated[int, Field(ge=0, lt=2**64)]
Cell = Annotated[int, Field(ge=0, lt=10_000)]
Block = Annotated[int, Field(ge=0, lt=2**32)]
BlockCount = Annotated[int, Field(ge=1, le=2**32)]
BlockSize = Annotated[int, Field(ge=1, lt=2**33)]

Number = Annotated[float, Field(allow_inf_nan=False)]
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Text = Annotated[str, Field(max_length=200)]
Scalar = bool | Integer | Number | Text
ParamValue = Scalar | Annotated[tuple[Scalar, ...], Field(max_length=4096)]
Params = Annotated[dict[Name, ParamValue], Field(max_length=64)]

DEFAULT_SAMPLES = 2**20
FIRST_CHECKPOINT_BLOCKS = 32
FIRST_CHECKPOINT_SAMPLES = 16_384


class Strict(BaseModel):
    """Base of all values that cross the wire: frozen, no coercion, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class Method(StrEnum):
    """How samples are drawn."""

    PSEUDO = "pseudo"
    ANTITHETIC = "antithetic"
    SOBOL = "sobol"


class Lane(StrEnum):
    """How urgent a run is."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Sampling(Strict):
    """How the samples of every cell are drawn."""

    method: Annotated[Method, Field(strict=False)] = Method.PSEUDO
    common_random_numbers: bool = False
    control_variates: bool = False


class Stop(Strict):
    """When a cell has enough samples, and how sure its interval is."""

    samples: Annotated[int, Field(ge=1, le=2**62)] = DEFAULT_SAMPLES
    confidence: Annotated[float, Field(ge=0.5, le=0.999999)] = 0.95


class Definition(Strict):
    """All that the answer of a run depends on; equal definitions give equal digests."""

    model: Name
    model_version: Annotated[int, Field(ge=1, lt=2**31)]
    outputs: Annotated[tuple[Name, ...], Field(min_length=1, max_length=256)]
    cells: Annotated[tuple[Params, ...], Field(min_length=1, max_length=10_000)]
    seed: Seed
    block_size: BlockSize
    sampling: Sampling = Sampling()
    stop: Stop = Stop()

    @model_validator(mode="after")
    def _fits_the_stream(self) -> Self:
        if self.blocks > 2**32:
            raise ValueError(
                f"{self.stop.samples} samples are {self.blocks} blocks of {self.block_size}, "
                f"allowed are {2**32} blocks"
            )
        return self

    @property
    def blocks(self) -> int:
        """Blocks of each cell: its sample limit, rounded up to whole blocks."""
        return -(-self.stop.samples // self.block_size)

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of the canonical form, 32 bytes."""
        return hashlib.sha256(canonical(self.model_dump(mode="python"))).digest()

    @cached_property
    def checkpoints(self) -> tuple[int, ...]:
        """Increasing block counts at which a cell may end; no chunk crosses one."""
        return tuple(_checkpoints(self.block_size, self.blocks))


def _checkpoints(block_size: int, limit: int) -> Iterator[int]:
    blocks = max(FIRST_CHECKPOINT_BLOCKS, -(-FIRST_CHECKPOINT_SAMPLES // block_size))
    while blocks < limit:
        yield blocks
        blocks += blocks // 2
    yield limit
