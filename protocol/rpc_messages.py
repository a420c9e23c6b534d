"""What is asked of the aggregator and what it answers, as typed values.

Units, limits and the meaning of absence stand in `protocol/README.md`.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import FailFast, Field

from protocol.definition import Cell, Definition, Lane, Name, OnlyText, RunId, Strict
from protocol.messages import (
    Attempt,
    BlockRange,
    Counter,
    Message,
    RunState,
    Seconds,
    Sentence,
    Word,
)
from protocol.results import Result


class Declare(Message):
    """RPC: create the run, or find it again."""

    type: ClassVar[str] = "declare.v1"
    limit: ClassVar[int] = 1 << 23
    max_array: ClassVar[int] = 10_000

    run: RunId
    definition: Definition
    pool: Name
    lane: Annotated[Lane, Field(strict=False), OnlyText]


class StatusRequest(Message):
    """RPC: one run, or every run where `run` is absent."""

    type: ClassVar[str] = "status.v1"

    run: RunId | None = None


class MissingRequest(Message):
    """RPC: which blocks of a run are not merged."""

    type: ClassVar[str] = "missing.v1"

    run: RunId


class ResultsRequest(Message):
    """RPC: the result of a run as it is now."""

    type: ClassVar[str] = "results.v1"

    run: RunId


class CancelRequest(Message):
    """RPC: end a run."""

    type: ClassVar[str] = "cancel.v1"

    run: RunId


class ResumeRequest(Message):
    """RPC: reopen a failed or cancelled run; the answer is its `declare`."""

    type: ClassVar[str] = "resume.v1"

    run: RunId


class CellMissing(Strict):
    """The ranges of one cell that are not merged."""

    cell: Cell
    missing: Annotated[tuple[BlockRange, ...], Field(max_length=100_000), FailFast()]


class Missing(Message):
    """Answer to `declare` and `missing`; whatever is not listed is merged."""

    type: ClassVar[str] = "missing_reply.v1"
    limit: ClassVar[int] = 1 << 23
    max_array: ClassVar[int] = 100_000

    run: RunId
    state: Annotated[RunState, Field(strict=False), OnlyText]
    epoch: Counter
    sequence: Counter
    term: Annotated[int, Field(ge=0, lt=2**32)]
    slots: Counter
    consumers: Counter
    merged_blocks: Counter
    cells: Annotated[tuple[CellMissing, ...], Field(max_length=10_000), FailFast()]
    failed_attempts: Annotated[tuple[Attempt, ...], Field(max_length=1_000), FailFast()]


class RunStatus(Strict):
    """One line of `montemq status`."""

    run: RunId
    state: Annotated[RunState, Field(strict=False), OnlyText]
    model: Name
    pool: Name
    lane: Annotated[Lane, Field(strict=False), OnlyText]
    cells: Counter
    samples: Counter
    total_samples: Counter
    created: Seconds
    elapsed_seconds: Seconds
    error: Sentence | None


class Status(Message):
    """Answer to `status`, newest run first."""

    type: ClassVar[str] = "status_reply.v1"
    limit: ClassVar[int] = 1 << 23
    max_array: ClassVar[int] = 100_000

    runs: Annotated[tuple[RunStatus, ...], Field(max_length=100_000), FailFast()]
    slots: Counter
    consumers: Counter
    clock: Seconds
    store: Word


class Results(Message):
    """Answer to `results`."""

    type: ClassVar[str] = "results_reply.v1"
    limit: ClassVar[int] = 1 << 24
    max_array: ClassVar[int] = 10_000

    result: Result


class ErrorCode(StrEnum):
    """Why an RPC request was not carried out."""

    INVALID = "invalid"
    UNKNOWN_RUN = "unknown_run"
    RUN_ID_TAKEN = "run_id_taken"


class ErrorReply(Message):
    """Answer to any RPC request that was not carried out."""

    type: ClassVar[str] = "error_reply.v1"

    code: Annotated[ErrorCode, Field(strict=False), OnlyText]
    text: Sentence
