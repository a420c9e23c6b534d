"""The result of a run as users get it: from RPC, HTTP and `--json` alike."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from protocol.definition import OnlyText, Params, Stop


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


Name = Annotated[str, Field(max_length=120)]
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


class EndedBy(StrEnum):
    """What ended a cell."""

    ERROR = "error"
    SAMPLES = "samples"
    SECONDS = "seconds"


class CellResult(_Value):
    """The estimates of one cell.

    Attributes
    ----------
    ended_by
        The error that was asked for, the sample limit before it, or the time limit; None while
        the cell goes on.
    checkpoint
        The blocks at which it ended, 0 before its first checkpoint; None while it goes on.
    overshoot
        Samples that were computed beyond it and are not in the estimates.
    """

    params: Params
    state: Name
    samples: Count
    outputs: dict[Name, Estimate]
    ended_by: Annotated[EndedBy, Field(strict=False), OnlyText] | None = None
    checkpoint: Count | None = None
    overshoot: Count = 0


class AuditCounts(_Value):
    """How many chunks were computed again on another host and gave the same bits.

    Attributes
    ----------
    skipped
        Chunks that were chosen for that, and nobody else was there who could.
    """

    passed: Count = 0
    skipped: Count = 0


class Result(_Value):
    """A run's result; `digest` (64 hex digits) is None until the run has finished.

    Attributes
    ----------
    suspects
        Hosts that contributed to it and were found wrong after it had ended.
    """

    run: Name
    state: Name
    model: Name
    model_version: Count
    seed: Count
    sampling: Name
    control_variates: bool = False
    block_size: Count
    stop: Stop = Stop()
    digest: Name | None
    reproducible: bool
    elapsed_seconds: Number
    cpu_seconds: Number
    samples: Count
    cells: tuple[CellResult, ...]
    engines: tuple[Name, ...]
    error: Annotated[str, Field(max_length=4096)] | None
    audits: AuditCounts = AuditCounts()
    suspects: tuple[Name, ...] = ()
