"""How long a consumer's work may take, and how much it may use, as values."""

from dataclasses import dataclass

CHUNK_SECONDS = 1500.0
"""With the longest wait, less than the broker's consumer time-out."""
DRAIN_SECONDS = 60.0
"""Less than service managers wait before they kill."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a consumer allows its slots.

    Attributes
    ----------
    chunk_seconds
        How long a chunk may run.
    drain_seconds
        How long chunks may go on once the consumer drains; then they are given back.
    slot_memory
        Bytes that a slot may use of its own; None for any number.
    chunks_per_slot
        After how many chunks a slot is exchanged for a new one; None for never.
    """

    chunk_seconds: float = CHUNK_SECONDS
    drain_seconds: float = DRAIN_SECONDS
    slot_memory: int | None = None
    chunks_per_slot: int | None = None
