"""Work, results and news as typed values, and the two functions between a message and its bytes.

Units, limits and the meaning of absence stand in `protocol/README.md`; requests and their answers
in `protocol.rpc_messages`.
"""

import reprlib
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    FailFast,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from protocol.codec import pack, unpack
from protocol.definition import (
    Block,
    BlockCount,
    BlockSize,
    Bump,
    Cell,
    Definition,
    Name,
    OnlyText,
    Outputs,
    Params,
    RunId,
    Sampling,
    Seed,
    Strict,
)
from protocol.errors import MessageRefusedError
from protocol.sentences import rule
from protocol.statistics import Statistics

CONTENT_TYPE = "application/msgpack"

Hash = Annotated[bytes, Field(min_length=32, max_length=32)]
Attempt = Annotated[int, Field(ge=0, lt=2**64)]
Counter = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
"""Bounded, so that a sum over any number of messages stays finite."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
ConsumerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]{1,64}$")]
Sentence = Annotated[str, Field(max_length=2048)]
BlockRange = tuple[Block, BlockCount]
"""First block and how many."""

MAX_NOT_BY = 8
"""Hosts that must not compute a chunk; where so many differ, nobody decides any more."""

NotBy = Annotated[tuple[ConsumerName, ...], Field(min_length=1, max_length=MAX_NOT_BY)]


class RefusalReason(StrEnum):
    """Why a message was refused; a closed set, because it labels a metric."""

    OVERSIZED = "oversized"
    MALFORMED = "malformed"
    UNKNOWN_TYPE = "unknown_type"
    INVALID = "invalid"
    UNKNOWN_RUN = "unknown_run"
    WRONG_DEFINITION = "wrong_definition"
    OUT_OF_RANGE = "out_of_range"
    CROSSES_CHECKPOINT = "crosses_checkpoint"
    WRONG_SHAPE = "wrong_shape"
    TOO_FRAGMENTED = "too_fragmented"


class RunState(StrEnum):
    """Where a run is in its life."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class FailureKind(StrEnum):
    """Why a chunk gave no partial."""

    MODEL_ERROR = "model_error"
    INVALID_PARAMS = "invalid_params"
    UNSUPPORTED_MODEL = "unsupported_model"
    TIMEOUT = "timeout"
    CRASH = "crash"
    NOT_FINITE = "not_finite"
    DECLINED = "declined"


class ConsumerState(StrEnum):
    """What a consumer is doing."""

    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"


class Golden(StrEnum):
    """What came of computing the golden chunks."""

    PASSED = "passed"
    FAILED = "failed"


class Suspension(StrEnum):
    """Why a consumer that runs starts no chunk; of several, it tells the first in this order."""

    QUIET = "quiet"
    HOURS = "hours"
    ACTIVE = "active"
    BATTERY = "battery"
    PROGRAM = "program"
    LOAD = "load"
    CPU = "cpu"
    MEMORY = "memory"
    FAILURES = "failures"


class Reissue(StrEnum):
    """Why blocks of a chunk were issued again."""

    LATE = "late"
    FAILED = "failed"
    OVERLAP = "overlap"
    REFUSED = "refused"
    UNCONFIRMED = "unconfirmed"
    LOST = "lost"


class Message(Strict):
    """Base of all messages.

    Class variables
    ---------------
    type
        The AMQP property of that name.
    limit
        Bytes at most.
    max_array
        Elements of one array at most.
    absent_if_none
        Fields that are left out where they are None: an older receiver does not know them.
    """

    type: ClassVar[str]
    limit: ClassVar[int] = 1 << 16
    max_array: ClassVar[int] = 16
    absent_if_none: ClassVar[frozenset[str]] = frozenset()


class ChunkScope(Message):
    """The fields by which chunk, partial and failure name the work they are about."""

    run: RunId
    definition: Hash
    attempt: Attempt
    cell: Cell
    first_block: Block
    blocks: BlockCount

    @model_validator(mode="after")
    def _ends_in_range(self) -> Self:
        if self.stop_block > 2**32:
            raise ValueError(f"the chunk ends at block {self.stop_block}, beyond 2**32")
        return self

    @property
    def stop_block(self) -> int:
        """One past the last block."""
        return self.first_block + self.blocks


class Chunk(ChunkScope):
    """Work: a range of blocks of one cell, with all that is needed to compute it."""

    type: ClassVar[str] = "chunk.v1"
    limit: ClassVar[int] = 1 << 17
    max_array: ClassVar[int] = 4096

    block_size: BlockSize
    model: Name
    model_version: Annotated[int, Field(ge=1, lt=2**31)]
    params: Params
    outputs: Outputs
    bump: Bump = Field(default_factory=dict)
    histograms: bool = False
    sampling: Sampling
    seed: Seed
    not_by: NotBy | None = None

    @classmethod
    def of(
        cls, run: str, definition: Definition, cell: int, span: tuple[int, int], attempt: int
    ) -> Self:
        """Return the chunk of a run that holds the blocks [start, stop) of a cell."""
        start, stop = span
        return cls(
            run=run,
            definition=definition.hash,
            attempt=attempt,
            cell=cell,
            first_block=start,
            blocks=stop - start,
            block_size=definition.block_size,
            model=definition.model,
            model_version=definition.model_version,
            params=definition.cells[cell],
            outputs=definition.outputs,
            bump=definition.bump,
            histograms=bool(definition.quantiles),
            sampling=definition.sampling,
            seed=definition.seed,
        )

    def audit(self, not_by: tuple[str, ...]) -> Self:
        """Return the chunk as hosts other than these are to compute it."""
        return self.model_copy(update={"not_by": not_by})

    def at(self, span: tuple[int, int], attempt: int) -> Self:
        """Return the chunk of other blocks, [start, stop), of the same cell."""
        start, stop = span
        return self.model_copy(
            update={"attempt": attempt, "first_block": start, "blocks": stop - start}
        )


def _checked_once(value: Any, validate: ValidatorFunctionWrapHandler) -> Statistics:
    # pydantic would run the model's own checks again: those of the sums take time.
    found: Statistics = value if isinstance(value, Statistics) else validate(value)
    return found


class Partial(ChunkScope):
    """The exact statistics of one chunk."""

    type: ClassVar[str] = "partial.v1"
    limit: ClassVar[int] = 1 << 20
    max_array: ClassVar[int] = 256

    statistics: Annotated[Statistics, WrapValidator(_checked_once)]
    consumer: ConsumerName
    host: ConsumerName
    cpu_seconds: Seconds
    engine: Word


class Failure(ChunkScope):
    """A chunk that gave no partial, and why."""

    type: ClassVar[str] = "failure.v1"

    kind: Annotated[FailureKind, Field(strict=False), OnlyText]
    text: Sentence
    consumer: ConsumerName
    host: ConsumerName
    block: Block | None = None


CHUNK_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)
"""Upper ends of the classes in which consumers count how long chunks took; one more is open."""

MAX_MODELS = 16
"""Models that one consumer tells of; it counts those beyond under the name `other`."""


class ModelTotals(Strict):
    """What a consumer has computed of one model since it started.

    Attributes
    ----------
    samples
        Of all chunks that gave a partial.
    seconds
        How long these took their slots.
    cpu_seconds
        CPU time spent on them.
    chunks
        How many there were, by the class of `CHUNK_SECONDS` that each fell in.
    """

    samples: Counter
    seconds: Seconds
    cpu_seconds: Seconds = 0.0
    chunks: Annotated[
        tuple[Counter, ...],
        Field(min_length=len(CHUNK_SECONDS) + 1, max_length=len(CHUNK_SECONDS) + 1),
    ]


class Totals(Strict):
    """What a consumer has counted since it started."""

    models: Annotated[dict[Name, ModelTotals], Field(max_length=MAX_MODELS)]
    failures: dict[Annotated[FailureKind, Field(strict=False), OnlyText], Counter]
    reconnections: Counter
    cancels: Counter
    rejected: Counter = 0


class Telemetry(Message):
    """A consumer's heartbeat."""

    type: ClassVar[str] = "telemetry.v1"

    consumer: ConsumerName
    host: ConsumerName
    pool: Name
    slots: Annotated[int, Field(ge=0, le=4096)]
    busy: Annotated[int, Field(ge=0, le=4096)]
    state: Annotated[ConsumerState, Field(strict=False), OnlyText]
    version: Word
    golden: Annotated[Golden, Field(strict=False), OnlyText] | None = None
    suspended: Annotated[Suspension, Field(strict=False), OnlyText] | None = None
    totals: Totals | None = None


CONFIRM_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper ends of the classes in which leaders count how long confirms took; one more is open."""


class LeaderTotals(Strict):
    """What a leader has counted since it started.

    Attributes
    ----------
    published
        Chunks that were sent to the broker, copies included.
    returned
        Those of them that no queue takes.
    reissued
        Chunks of which blocks are issued again, by reason.
    blockings
        How often the broker blocked the connection.
    rejected
        Events that it refused.
    confirm_seconds
        How long the broker took to confirm chunks.
    confirms
        How many it has confirmed, by the class of `CONFIRM_SECONDS` that each fell in.
    """

    published: Counter
    returned: Counter
    reissued: dict[Annotated[Reissue, Field(strict=False), OnlyText], Counter]
    blockings: Counter
    rejected: Counter = 0
    confirm_seconds: Seconds
    confirms: Annotated[
        tuple[Counter, ...],
        Field(min_length=len(CONFIRM_SECONDS) + 1, max_length=len(CONFIRM_SECONDS) + 1),
    ]


class Leader(Message):
    """The heartbeat of a producer that schedules runs."""

    type: ClassVar[str] = "leader.v1"

    leader: ConsumerName
    host: ConsumerName
    version: Word
    first: bool
    stopped: bool
    runs: Counter
    window: Counter
    outstanding: Counter
    unconfirmed: Counter
    totals: LeaderTotals


class Command(StrEnum):
    """What an operator tells consumers."""

    QUIET = "quiet"
    RESUME = "resume"
    DRAIN = "drain"
    STOP = "stop"


class Control(Message):
    """An operator's word to the consumers that its routing key names."""

    type: ClassVar[str] = "control.v1"
    limit: ClassVar[int] = 1 << 12

    command: Annotated[Command, Field(strict=False), OnlyText]
    by: ConsumerName


class CellProgress(Strict):
    """All merged ranges of one cell, cumulative, and what a block of it costs."""

    cell: Cell
    merged: Annotated[tuple[BlockRange, ...], Field(max_length=100_000), FailFast()]
    cost: Seconds | None


class WantedAudit(Strict):
    """A merged chunk that a host other than these is to compute again."""

    cell: Cell
    first_block: Block
    blocks: BlockCount
    not_by: NotBy


MAX_WANTED_AUDITS = 1_000
"""Audits that one message may tell of."""

TOLD_AUDITS = 200
"""Audits that ours tell of: the oldest, the others follow when these are done."""

WantedAudits = Annotated[tuple[WantedAudit, ...], Field(max_length=MAX_WANTED_AUDITS)]


class Headline(Strict):
    """The estimate of the first cell's first output so far, for people who watch."""

    output: Name
    mean: Finite
    standard_error: Finite | None


class Progress(Message):
    """What is merged, cumulative for the cells that changed since the last one."""

    type: ClassVar[str] = "progress.v1"
    limit: ClassVar[int] = 1 << 22
    max_array: ClassVar[int] = 100_000
    absent_if_none: ClassVar[frozenset[str]] = frozenset({"audits"})

    run: RunId
    epoch: Counter
    sequence: Counter
    cells: Annotated[tuple[CellProgress, ...], Field(max_length=10_000), FailFast()]
    failed_attempts: Annotated[tuple[Attempt, ...], Field(max_length=100_000), FailFast()]
    slots: Counter
    consumers: Counter
    merged_blocks: Counter
    expected_blocks: Counter
    cpu_seconds: Seconds
    headline: Headline | None
    audits: WantedAudits | None = None


class Finished(Message):
    """A run ended: chunks of this term or an earlier one may be dropped wherever they are."""

    type: ClassVar[str] = "finished.v1"

    run: RunId
    definition: Hash
    term: Annotated[int, Field(ge=0, lt=2**32)]
    state: Annotated[RunState, Field(strict=False), OnlyText]


class Declared(Message):
    """A run was created or reopened: whoever schedules runs that nobody leads may look at it."""

    type: ClassVar[str] = "declared.v1"

    run: RunId


class HostRefused(Message):
    """A host computed wrong bits: whatever it sends is dropped, and its consumers end."""

    type: ClassVar[str] = "refused.v1"

    host: ConsumerName


class ConsumerOutdated(Message):
    """A consumer's version is refused: it ends, so that a newer one is installed."""

    type: ClassVar[str] = "outdated.v1"

    consumer: ConsumerName
    host: ConsumerName
    oldest: Word


class StoreIdentity(Message):
    """The one message of `mc.store.q`: the store that this broker's runs live in."""

    type: ClassVar[str] = "store.v1"

    store: Word


def encode(message: Message) -> bytes:
    """Return the body of a message; its `type` goes into the AMQP property of that name."""
    absent = {name for name in message.absent_if_none if getattr(message, name) is None}
    if absent:
        return pack({n: value for n, value in message.__dict__.items() if n not in absent})
    return pack(message)


def decode(type_name: str | None, body: bytes, *allowed: type[Message]) -> Any:
    """Return the message that an untrusted body carries.

    Parameters
    ----------
    type_name
        The AMQP `type` property, None where the sender gave none.
    body
        The bytes as they came.
    allowed
        What this queue may carry.

    Raises
    ------
    MessageRefusedError
        With reason `unknown_type`, `oversized`, `malformed` or `invalid`.
    """
    message = next((m for m in allowed if m.type == type_name), None)
    if message is None:
        expected = ", ".join(m.type for m in allowed)
        text = f"type {str(type_name)[:80]!r}, allowed here: {expected}"
        raise MessageRefusedError(RefusalReason.UNKNOWN_TYPE, text)
    fields = unpack(body, message.limit, message.max_array)
    try:
        return message.model_validate(fields)
    except ValidationError as error:
        raise MessageRefusedError(RefusalReason.INVALID, explain(error)) from None
    except RecursionError:
        raise MessageRefusedError(RefusalReason.MALFORMED, "nested too deeply") from None


def explain(error: ValidationError) -> str:
    """Return the first complaint of a validation in one line: field, value, rule."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(_SHORT.repr(part).strip("'") for part in first["loc"])[:120] or "message"
    if first["type"] == "missing":
        return f"{field} is missing"
    if first["type"] == "extra_forbidden":
        return f"{field} is no field of this message"
    # A hostile value may be nested so deeply that repr() itself would fail.
    return f"{field} = {_SHORT.repr(first['input'])[:80]}: {rule(first)}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
