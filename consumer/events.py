"""What the agent's policy is told and what it asks for, as plain values."""

from dataclasses import dataclass

from protocol.definition import Lane
from protocol.messages import Chunk, FailureKind, Suspension

Receipt = tuple[int, int]
"""Names a delivery: the channel's generation, and the delivery's tag on that channel."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker can be used; nothing is consumed yet."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The channel is gone; the broker has taken back every delivery that was not acknowledged."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A chunk arrived; `body` is its encoded form, for the slot."""

    receipt: Receipt
    lane: Lane
    chunk: Chunk
    body: bytes


@dataclass(frozen=True, slots=True)
class SlotReady:
    """A slot's process waits for its first chunk."""

    slot: int


@dataclass(frozen=True, slots=True)
class SlotDone:
    """A slot answered its oldest chunk: an encoded message; kind and text where it is a failure.

    `seconds` is how long it took as the slot saw it, None where it does not say; `cpu_seconds` the
    CPU time of a partial.
    """

    slot: int
    type: str
    body: bytes
    kind: FailureKind | None = None
    text: str = ""
    seconds: float | None = None
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SlotCrashed:
    """A slot's process is gone, killed or by itself."""

    slot: int
    text: str


@dataclass(frozen=True, slots=True)
class SlotTooLarge:
    """A slot's process uses so many bytes, more than it may."""

    slot: int
    size: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The broker has taken over a published message."""

    token: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker returned or refused a published message."""

    token: int


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run finished, failed or was cancelled: its chunks up to this term need no answer."""

    run: str
    definition: bytes
    term: int


@dataclass(frozen=True, slots=True)
class Suspend:
    """Start no chunk and keep none, for this reason and until `Resume`; several may hold at once.

    With `give_back` what runs is given back at once, else it is finished.
    """

    reason: Suspension
    text: str
    give_back: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    """A reason for `Suspend` is gone."""

    reason: Suspension


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish what runs, give back the rest, and exit."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Give back everything and exit at once."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; to be sent a few times per second."""


Event = (
    Connected | Disconnected | Delivered | SlotReady | SlotDone | SlotCrashed
    | SlotTooLarge | Confirmed | Refused | RunEnded | Suspend | Resume | Drain | Stop | Tick
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StartSlot:
    """Start a slot's process; answered by SlotReady or SlotCrashed."""

    slot: int


@dataclass(frozen=True, slots=True)
class KillSlot:
    """Kill a slot's process; answered by SlotCrashed."""

    slot: int


@dataclass(frozen=True, slots=True)
class StartChunk:
    """Give a chunk to a slot, behind those that it has; answered by SlotDone or SlotCrashed."""

    slot: int
    chunk: Chunk
    body: bytes


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish a partial or failure; answered by Confirmed, Refused or Disconnected."""

    token: int
    type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """Acknowledge a delivery."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Return:
    """Give a delivery back to its queue."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Consume:
    """Consume every lane with this prefetch count, instead of whatever is consumed now."""

    prefetch: int


@dataclass(frozen=True, slots=True)
class StopConsuming:
    """Take no further deliveries; those that were made stay open."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something an operator wants to read in the log."""

    text: str


@dataclass(frozen=True, slots=True)
class Exit:
    """The agent's work is over."""


Action = (
    StartSlot | KillSlot | StartChunk | Publish | Ack | Return
    | Consume | StopConsuming | Note | Exit
)  # fmt: skip
