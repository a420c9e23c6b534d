"""What is asked of the aggregator and what it answers, as typed values.

Units, limits and the meaning of absence stand in `protocol/README.md`.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import FailFast, Field

from protocol.definition import (
    MAX_COLUMNS,
    Block,
    BlockCount,
    Cell,
    Definition,
    Lane,
    Name,
    OnlyText,
    Outputs,
    RunId,
    RunName,
    Strict,
)
from protocol.messages import (
    Attempt,
    BlockRange,
    ConsumerName,
    Counter,
    FailureKind,
    Finite,
    Headline,
    Message,
    RunState,
    Seconds,
    Sentence,
    Suspension,
    WantedAudits,
    Word,
)
from protocol.results import Result

MAX_STATUS_RUNS = 1_000
"""Runs that one answer tells of: it has to fit into a message, and runs are kept for ever."""

MAX_FLEET_CONSUMERS = 1_000
"""Consumers that one answer tells of."""

MAX_BARS = 100
"""Bars of one output's histogram."""


Age = tuple[Seconds, RunId]
"""When a run was created, and its id: by these runs are in order."""

PerSecond = Annotated[Finite, Field(ge=0)]


class Declare(Message):
    """RPC: create the run, or find it again."""

    type: ClassVar[str] = "declare.v1"
    limit: ClassVar[int] = 1 << 23
    max_array: ClassVar[int] = 10_000

    run: RunId
    definition: Definition
    pool: Name
    lane: Annotated[Lane, Field(strict=False), OnlyText]
    name: RunName | None = None


class StatusRequest(Message):
    """RPC: one run, or the newest ones where `run` is absent; in `state` only, where given.

    Whoever reads all of them page by page asks for those older than the last one of a page.
    With `headlines` the reply has the estimates so far of those that go on, and how fast they go.
    """

    type: ClassVar[str] = "status.v1"
    absent_if_none: ClassVar[frozenset[str]] = frozenset({"older_than", "headlines"})

    run: RunId | None = None
    state: Annotated[RunState, Field(strict=False), OnlyText] | None = None
    newest: Annotated[int, Field(ge=1, le=MAX_STATUS_RUNS)] = MAX_STATUS_RUNS
    older_than: Age | None = None
    headlines: bool | None = None


class FleetRequest(Message):
    """RPC: the live consumers by name, those of one pool where `pool` is given.

    With `departed` the reply also has those that went in the last minutes.

    Whoever reads all of them page by page asks for those after the last one of a page.
    """

    type: ClassVar[str] = "fleet.v1"

    pool: Name | None = None
    first: Annotated[int, Field(ge=1, le=MAX_FLEET_CONSUMERS)] = MAX_FLEET_CONSUMERS
    after: ConsumerName | None = None
    departed: bool = False


class MissingRequest(Message):
    """RPC: which blocks of a run are not merged."""

    type: ClassVar[str] = "missing.v1"

    run: RunId


class ResultsRequest(Message):
    """RPC: the result of a run as it is now."""

    type: ClassVar[str] = "results.v1"

    run: RunId


class HistoryRequest(Message):
    """RPC: how the estimates of one cell converged."""

    type: ClassVar[str] = "history.v1"

    run: RunId
    cell: Cell


class FailuresRequest(Message):
    """RPC: the failures of a run that are kept."""

    type: ClassVar[str] = "failures.v1"

    run: RunId


class DeclarationRequest(Message):
    """RPC: how a run was declared; the answer is its `declare`, and nothing changes."""

    type: ClassVar[str] = "declaration.v1"

    run: RunId


class CancelRequest(Message):
    """RPC: end a run."""

    type: ClassVar[str] = "cancel.v1"

    run: RunId


class ResumeRequest(Message):
    """RPC: reopen a failed or cancelled run, or one with suspects; the answer is its `declare`."""

    type: ClassVar[str] = "resume.v1"

    run: RunId


class CellMissing(Strict):
    """The ranges of one cell that are not merged, and what a block of it costs."""

    cell: Cell
    missing: Annotated[tuple[BlockRange, ...], Field(max_length=100_000), FailFast()]
    cost: Seconds | None


class Missing(Message):
    """Answer to `declare` and `missing`; whatever is not listed is merged."""

    type: ClassVar[str] = "missing_reply.v1"
    limit: ClassVar[int] = 1 << 23
    max_array: ClassVar[int] = 100_000
    absent_if_none: ClassVar[frozenset[str]] = frozenset({"audits"})

    run: RunId
    state: Annotated[RunState, Field(strict=False), OnlyText]
    epoch: Counter
    sequence: Counter
    term: Annotated[int, Field(ge=0, lt=2**32)]
    slots: Counter
    busy: Counter
    consumers: Counter
    merged_blocks: Counter
    expected_blocks: Counter
    cells: Annotated[tuple[CellMissing, ...], Field(max_length=10_000), FailFast()]
    failed_attempts: Annotated[tuple[Attempt, ...], Field(max_length=1_000), FailFast()]
    audits: WantedAudits | None = None


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

    @property
    def age(self) -> Age:
        """Its place among runs: the newest has the highest."""
        return self.created, self.run


class Status(Message):
    """Answer to `status`, newest run first."""

    type: ClassVar[str] = "status_reply.v1"
    limit: ClassVar[int] = 1 << 23
    max_array: ClassVar[int] = 100_000

    absent_if_none: ClassVar[frozenset[str]] = frozenset({"headlines", "rates"})

    runs: Annotated[tuple[RunStatus, ...], Field(max_length=100_000), FailFast()]
    headlines: Annotated[tuple[Headline | None, ...], Field(max_length=100_000)] | None = None
    rates: Annotated[tuple[PerSecond | None, ...], Field(max_length=100_000)] | None = None
    total: Counter
    slots: Counter
    consumers: Counter
    clock: Seconds
    store: Word


class Condition(StrEnum):
    """What a consumer does, in one word."""

    RUNNING = "running"
    LOADING = "loading"
    SUSPENDED = "suspended"
    DRAINING = "draining"
    STOPPED = "stopped"
    LOST = "lost"

    @property
    def is_departed(self) -> bool:
        """Whether it is no longer there."""
        return self in {Condition.STOPPED, Condition.LOST}


class FleetMember(Strict):
    """A consumer, as its last words have it."""

    consumer: ConsumerName
    host: ConsumerName
    pool: Name
    slots: Annotated[int, Field(ge=0, le=4096)]
    busy: Annotated[int, Field(ge=0, le=4096)]
    state: Annotated[Condition, Field(strict=False), OnlyText]
    version: Word
    suspended: Annotated[Suspension, Field(strict=False), OnlyText] | None = None
    samples_per_second: PerSecond | None = None
    last_seen: Seconds


class Fleet(Message):
    """Answer to `fleet`, in the order of the names."""

    type: ClassVar[str] = "fleet_reply.v1"
    limit: ClassVar[int] = 1 << 20
    max_array: ClassVar[int] = MAX_FLEET_CONSUMERS

    consumers: Annotated[tuple[FleetMember, ...], Field(max_length=MAX_FLEET_CONSUMERS), FailFast()]
    total: Counter
    clock: Seconds


class Results(Message):
    """Answer to `results`."""

    type: ClassVar[str] = "results_reply.v1"
    limit: ClassVar[int] = 1 << 24
    max_array: ClassVar[int] = 10_000

    result: Result


class HistoryPoint(Strict):
    """How far a cell was at some time: mean and standard error of each output, where known."""

    samples: Counter
    at: Seconds
    estimates: Annotated[
        tuple[tuple[Finite | None, Finite | None], ...], Field(max_length=MAX_COLUMNS)
    ]


Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Samples: of a bar, which a bin of the histogram may lie in only in part."""


class Bars(Strict):
    """How the samples of one output are spread: bars of equal width, and what lies outside."""

    low: Finite
    high: Finite
    counts: Annotated[tuple[Share, ...], Field(max_length=MAX_BARS)]
    outside: Share


class History(Message):
    """Answer to `history`: ascending samples, the last point is where the cell is now."""

    type: ClassVar[str] = "history_reply.v1"
    limit: ClassVar[int] = 1 << 22
    max_array: ClassVar[int] = 1_000

    run: RunId
    cell: Cell
    created: Seconds
    outputs: Outputs
    points: Annotated[tuple[HistoryPoint, ...], Field(max_length=1_000), FailFast()]
    bars: Annotated[tuple[Bars | None, ...], Field(max_length=MAX_COLUMNS)]


class KeptFailure(Strict):
    """A failure of a chunk; consumer and host are those of the broker where it gave it up."""

    cell: Cell
    first_block: Block
    blocks: BlockCount
    attempt: Attempt
    kind: Annotated[FailureKind, Field(strict=False), OnlyText]
    text: Sentence
    consumer: Annotated[str, Field(max_length=120)]
    host: Annotated[str, Field(max_length=120)]


class Failures(Message):
    """Answer to `failures`, in the order in which they came."""

    type: ClassVar[str] = "failures_reply.v1"
    limit: ClassVar[int] = 1 << 22
    max_array: ClassVar[int] = 1_000

    run: RunId
    failures: Annotated[tuple[KeptFailure, ...], Field(max_length=1_000), FailFast()]


class ErrorCode(StrEnum):
    """Why an RPC request was not carried out."""

    INVALID = "invalid"
    UNKNOWN_RUN = "unknown_run"
    RUN_ID_TAKEN = "run_id_taken"
    TOO_LARGE = "too_large"


class ErrorReply(Message):
    """Answer to any RPC request that was not carried out."""

    type: ClassVar[str] = "error_reply.v1"

    code: Annotated[ErrorCode, Field(strict=False), OnlyText]
    text: Sentence
