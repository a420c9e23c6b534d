"""Which consumers are alive, from their telemetry; pure, bounded, time passed in."""

from dataclasses import dataclass

from protocol.messages import ConsumerState, Telemetry

ALIVE_SECONDS = 8.0
"""A consumer speaks every two seconds; after this long it counts as gone."""

MAX_CONSUMERS = 10_000


@dataclass(frozen=True, slots=True)
class _Seen:
    telemetry: Telemetry
    at: float


class Fleet:
    """The consumers that were heard of lately."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._listening_since: float | None = None

    def hear(self, telemetry: Telemetry, now: float) -> bool:
        """Take in a heartbeat; say whether the live slots of its pool may have changed."""
        if self._listening_since is None:
            self._listening_since = now
        before = self._seen.get(telemetry.consumer)
        if telemetry.state is ConsumerState.STOPPED:
            return self._seen.pop(telemetry.consumer, None) is not None
        if before is None and len(self._seen) >= MAX_CONSUMERS:
            return False
        self._seen[telemetry.consumer] = _Seen(telemetry, now)
        return before is None or (before.telemetry.slots, before.telemetry.state) != (
            telemetry.slots,
            telemetry.state,
        )

    def forget_silent(self, now: float) -> set[str]:
        """Drop who has been silent too long; return the pools that lost somebody."""
        gone = [name for name, seen in self._seen.items() if now - seen.at > ALIVE_SECONDS]
        return {self._seen.pop(name).telemetry.pool for name in gone}

    def is_known(self, now: float) -> bool:
        """Say whether everybody alive has had the time to be heard since we began to listen."""
        since = self._listening_since
        return since is not None and now - since >= ALIVE_SECONDS

    def live(self, pool: str) -> frozenset[str]:
        """Return the names of a pool's consumers that take chunks."""
        return frozenset(t.consumer for t in self._running(pool))

    def slots(self, pool: str | None = None) -> int:
        """Return the slots that take chunks, of one pool or of all."""
        return sum(t.slots for t in self._running(pool))

    def consumers(self, pool: str | None = None) -> int:
        """Return how many consumers take chunks, of one pool or of all."""
        return len(self._running(pool))

    def _running(self, pool: str | None) -> list[Telemetry]:
        return [
            seen.telemetry
            for seen in self._seen.values()
            if seen.telemetry.state is ConsumerState.RUNNING and pool in (None, seen.telemetry.pool)
        ]
