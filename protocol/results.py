"""The result of a run as users get it: from RPC, HTTP and `--json` alike."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from protocol.definition import Params


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


Name = Annotated[str, Field(max_length=100)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Quantile(_Value):
    """A quantile of the samples of one output, and the interval of its order statistics."""

    probability: Number
    value: Number
    ci_low: Number | None
    ci_high: Number | None


class Estimate(_Value):
    """Mean of one output with its error; what cannot be known is None.

    Attributes
    ----------
    mean, standard_error, ci_low, ci_high, confidence
        With control variates, of the corrected mean.
    error_reliable
        Whether the standard error itself is known well enough to believe it.
    standard_deviation
        Of one sample; with antithetic sampling, of the average of a pair.
    variance_reduction
        How many times as many plain samples would give the same standard error; with antithetic
        sampling, how many times as many pairs without control variates.
    quantiles
        Those that the run asks for.
    """

    mean: Number | None
    standard_error: Number | None
    ci_low: Number | None
    ci_high: Number | None
    confidence: Number
    error_reliable: bool
    standard_deviation: Number | None = None
    variance_reduction: Number | None = None
    quantiles: tuple[Quantile, ...] = ()


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
    control_variates: bool = False
    block_size: Count
    digest: Name | None
    reproducible: bool
    elapsed_seconds: Number
    cpu_seconds: Number
    samples: Count
    cells: tuple[CellResult, ...]
    engines: tuple[Name, ...]
    error: Annotated[str, Field(max_length=4096)] | None
