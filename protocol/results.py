"""The result of a run as users get it: from RPC, HTTP and `--json` alike."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from protocol.definition import Params


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


Name = Annotated[str, Field(max_length=100)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Estimate(_Value):
    """Mean of one output with its error; `standard_error` is None where it cannot be known."""

    mean: Number | None
    standard_error: Number | None
    ci_low: Number | None
    ci_high: Number | None
    confidence: Number
    error_reliable: bool


class CellResult(_Value):
    """The estimates of one cell."""

    params: Params
    state: Name
    samples: Count
    outputs: dict[Name, Estimate]


class Result(_Value):
    """A run's result; `digest` (64 hex digits) is None until the run has finished."""

    run: Name
    state: Name
    model: Name
    model_version: Count
    seed: Count
    sampling: Name
    block_size: Count
    digest: Name | None
    reproducible: bool
    elapsed_seconds: Number
    cpu_seconds: Number
    samples: Count
    cells: tuple[CellResult, ...]
    engines: tuple[Name, ...]
    error: Annotated[str, Field(max_length=4096)] | None
