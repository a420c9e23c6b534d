"""What a run's answer depends on, its hash, and the checkpoints that follow from it."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    PlainSerializer,
    PlainValidator,
    model_validator,
)

from protocol.codec import canonical, pack
from protocol.counted import MAX_HISTOGRAMS

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
"""Models, outputs, parameters, pools: short, lower case, fit for metrics and queue names."""

RunId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")]
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9{][A-Za-z0-9_{}-]{0,299}$")]
"""What runs of one kind have in common: the template of their ids."""
"""No dots: a run's id is one word of a topic routing key."""

Seed = Annotated[int, Field(ge=0, lt=2**64)]
Cell = Annotated[int, Field(ge=0, lt=10_000)]
Block = Annotated[int, Field(ge=0, lt=2**32)]
BlockCount = Annotated[int, Field(ge=1, le=2**32)]
MAX_BLOCK_SIZE = 2**24
"""A consumer holds all samples of a block: 128 MiB for each output at this size."""

BlockSize = Annotated[int, Field(ge=1, le=MAX_BLOCK_SIZE)]
"""Whether it must be even, because random numbers come in pairs of samples, the model knows."""

MAX_COLUMNS = 256
MAX_MATRIX_COLUMNS = 8
"""With control columns, whole matrices are kept, and outputs and controls are at most this many."""


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("two outputs have the same name")
    return names


Outputs = Annotated[
    tuple[Name, ...], Field(min_length=1, max_length=MAX_COLUMNS), AfterValidator(_distinct)
]
"""Of a model's outputs those that a run asks for, in this order."""

MAX_TEXT = 200
MAX_ITEMS = 4096
MAX_PARAMS_BYTES = 100_000
"""Packed parameters of one cell: they travel in every chunk."""

Scalar = bool | int | float | str


def _param_value(value: Any) -> Scalar | tuple[Scalar, ...]:
    """Return a parameter's value; written out, for one clear sentence and speed."""
    if isinstance(value, tuple | list):
        if len(value) > MAX_ITEMS:
            raise ValueError(f"it has {len(value)} items, allowed are {MAX_ITEMS}")
        return tuple(_scalar(item) for item in value)
    return _scalar(value)


def _scalar(value: Any) -> Scalar:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, str) and len(value) <= MAX_TEXT and not _has_surrogate(value):
        return str(value)
    raise ValueError(
        "a parameter is true, false, an integer from -2**63 to 2**63 - 1, a finite number, "
        f"a text of at most {MAX_TEXT} characters, or a list of these"
    )


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _as_it_is(value: Any) -> Any:
    # pydantic's own serializer of a union warns about every list that it writes as JSON.
    return value


ParamValue = Annotated[
    Scalar | tuple[Scalar, ...], PlainValidator(_param_value), PlainSerializer(_as_it_is)
]
Params = Annotated[dict[Name, ParamValue], Field(max_length=64)]

MAX_BLOCKS = 2**32
"""Of each cell; a block's number is one word of its random stream."""

DEFAULT_SAMPLES = 2**20
FIRST_CHECKPOINT_BLOCKS = 32
FIRST_CHECKPOINT_SAMPLES = 16_384


class Strict(BaseModel):
    """Base of all values that cross the wire: frozen, no coercion, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


def _only_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("allowed is text only")  # noqa: TRY004 - pydantic wants a ValueError
    return value


OnlyText = BeforeValidator(_only_text)
"""For enumerations that may be given as text: pydantic would take bytes as well."""


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

    method: Annotated[Method, Field(strict=False), OnlyText] = Method.PSEUDO
    common_random_numbers: bool = False
    control_variates: bool = False


def check_net(sampling: Sampling, block_size: int) -> None:
    """Refuse a block size at which Sobol points are no net.

    Raises
    ------
    ValueError
        Sobol sampling with a block size that is no power of two from 2 on.
    """
    if sampling.method is Method.SOBOL and (block_size < 2 or block_size.bit_count() != 1):  # noqa: PLR2004 - one point is no net
        raise ValueError(
            f"sampling.block_size = {block_size} is not allowed with sampling.method = 'sobol': "
            "it should be a power of two, at least 2"
        )


def _amount(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("it should be a finite number")
    if not value or abs(value) >= 2**63:
        raise ValueError("it should be a number other than 0, below 2**63")
    return value


def _probabilities(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(earlier >= later for earlier, later in pairwise(values)):
        raise ValueError("probabilities must increase")
    return values


Amount = Annotated[int | float, PlainValidator(_amount)]
Bump = Annotated[dict[Name, Amount], Field(max_length=16)]
"""What is added to parameters to see how the outputs differ, with the same random numbers."""

Probability = Annotated[float, Field(gt=0, lt=1)]
Quantiles = Annotated[
    tuple[Probability, ...], Field(max_length=100), AfterValidator(_probabilities)
]
"""Probabilities of the quantiles that a run asks for, ascending."""

BUMP_SUFFIX = "_bump"


def reported_outputs(outputs: tuple[str, ...], bump: Mapping[str, int | float]) -> tuple[str, ...]:
    """Return the names of all that has an estimate: outputs, then their differences by a bump."""
    return outputs + tuple(name + BUMP_SUFFIX for name in outputs if bump)


class Stop(Strict):
    """When a cell has enough samples, and how sure its interval is.

    Attributes
    ----------
    samples
        Limit of each cell.
    standard_error, relative_error
        Errors to stop at; where both are given, both must be reached.
    outputs
        The reported outputs that the errors are of; only and always with such an error.
    confidence
        Of the intervals.
    seconds
        After so long, cells end at their last complete checkpoint.
    """

    samples: Annotated[int, Field(ge=1, le=2**62)] = DEFAULT_SAMPLES
    standard_error: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    relative_error: Annotated[float, Field(gt=0, le=1)] | None = None
    # A run file gives a list.
    outputs: Annotated[
        tuple[Name, ...], Field(max_length=MAX_COLUMNS, strict=False), AfterValidator(_distinct)
    ] = ()
    confidence: Annotated[float, Field(ge=0.5, le=0.999999)] = 0.95
    seconds: Annotated[float, Field(gt=0, le=1e9)] | None = None

    @property
    def has_target(self) -> bool:
        """Whether there is an error to stop at."""
        return self.standard_error is not None or self.relative_error is not None


class Definition(Strict):
    """All that the answer of a run depends on; equal definitions give equal digests."""

    model: Name
    model_version: Annotated[int, Field(ge=1, lt=2**31)]
    outputs: Outputs
    controls: Annotated[tuple[Name, ...], Field(max_length=MAX_MATRIX_COLUMNS)] = ()
    bump: Bump = Field(default_factory=dict)
    quantiles: Quantiles = ()
    cells: Annotated[tuple[Params, ...], Field(min_length=1, max_length=10_000), FailFast()]
    seed: Seed
    block_size: BlockSize
    sampling: Sampling = Sampling()
    stop: Stop = Stop()

    @model_validator(mode="after")
    def _fits_the_stream(self) -> Self:
        if self.blocks > MAX_BLOCKS:
            raise ValueError(
                f"{self.stop.samples} samples are {self.blocks} blocks of {self.block_size}, "
                f"allowed are {MAX_BLOCKS} blocks"
            )
        return self

    @model_validator(mode="after")
    def _sobol_blocks_are_nets(self) -> Self:
        check_net(self.sampling, self.block_size)
        return self

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if self.sampling.control_variates != bool(self.controls):
            raise ValueError("controls are named if and only if sampling.control_variates is true")
        outputs, controls = len(self.reported), len(self.controls)
        if len(set(self.reported)) < outputs:
            raise ValueError(f"an output has the name of another one's bump, *{BUMP_SUFFIX}")
        if outputs > MAX_COLUMNS:
            raise ValueError(f"{outputs} outputs with bumps, allowed are {MAX_COLUMNS}")
        if controls and outputs + controls > MAX_MATRIX_COLUMNS:
            raise ValueError(
                f"{outputs} outputs and {controls} control variates are {outputs + controls} "
                f"columns, allowed are {MAX_MATRIX_COLUMNS}; ask for fewer in outputs.names"
            )
        return self

    @model_validator(mode="after")
    def _targets_are_of_outputs(self) -> Self:
        if self.stop.has_target != bool(self.stop.outputs):
            raise ValueError(
                "stop.outputs are named if and only if there is a stop.standard_error or "
                "stop.relative_error that they shall reach"
            )
        for name in self.stop.outputs:
            if name not in self.reported:
                raise ValueError(
                    f"stop.outputs: the run reports no {name!r}; "
                    f"allowed are {', '.join(self.reported)}"
                )
        return self

    @model_validator(mode="after")
    def _quantiles_are_of_samples(self) -> Self:
        if self.quantiles and self.sampling.method is Method.ANTITHETIC:
            raise ValueError(
                "outputs.quantiles are not allowed with sampling.method = 'antithetic', whose "
                "samples are averages of pairs; allowed are 'pseudo' and 'sobol'"
            )
        if self.quantiles and len(self.reported) > MAX_HISTOGRAMS:
            raise ValueError(
                f"outputs.quantiles of {len(self.reported)} outputs, allowed are {MAX_HISTOGRAMS};"
                " ask for fewer in outputs.names"
            )
        return self

    @model_validator(mode="after")
    def _fits_the_messages(self) -> Self:
        for number, params in enumerate(self.cells):
            if (size := len(pack(params))) > MAX_PARAMS_BYTES:
                raise ValueError(
                    f"the parameters of cell {number} take {size} bytes, "
                    f"allowed are {MAX_PARAMS_BYTES}"
                )
        return self

    @property
    def reported(self) -> tuple[str, ...]:
        """Names of the outputs that have an estimate, those of bumps included."""
        return reported_outputs(self.outputs, self.bump)

    @property
    def blocks(self) -> int:
        """Blocks of each cell: its sample limit, rounded up to whole blocks."""
        return -(-self.stop.samples // self.block_size)

    @property
    def canonical(self) -> bytes:
        """The canonical form; a stopping rule that is not used is no part of it."""
        fields = self.model_dump(mode="python")
        # These came after the first digests were on record, and must not change them.
        used = ((name, value) for name, value in fields["stop"].items() if value not in ((), None))
        fields["stop"] = dict(used)
        return canonical(fields)

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of the canonical form, 32 bytes."""
        return hashlib.sha256(self.canonical).digest()

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
