"""Which consumers are alive, from their telemetry; pure, bounded, time passed in."""

from dataclasses import dataclass

from protocol.messages import ConsumerState, Suspension, Telemetry

ALIVE_SECONDS = 8.0
"""A consumer speaks every two seconds; after this long it counts as gone."""

MAX_CONSUMERS = 10_000


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a pool has: consumers that take chunks, their slots, and those of them that compute."""

    consumers: int = 0
    slots: int = 0
    busy: int = 0


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
        self._listen(now)
        before = self._seen.get(telemetry.consumer)
        if telemetry.state is ConsumerState.STOPPED:
            return self._seen.pop(telemetry.consumer, None) is not None
        if before is None and len(self._seen) >= MAX_CONSUMERS:
            return False
        self._seen[telemetry.consumer] = _Seen(telemetry, now)
        return before is None or _offer(before.telemetry) != _offer(telemetry)

    def forget_silent(self, now: float) -> set[str]:
        """Drop who has been silent too long; return the pools that lost somebody."""
        self._listen(now)
        for name, seen in self._seen.items():
            if now < seen.at:  # a clock was set back
                self._seen[name] = _Seen(seen.telemetry, now)
        gone = [name for name, seen in self._seen.items() if now - seen.at > ALIVE_SECONDS]
        return {self._seen.pop(name).telemetry.pool for name in gone}

    def drop(self, host: str) -> set[str]:
        """Forget the consumers of a host; return their pools."""
        gone = [name for name, seen in self._seen.items() if seen.telemetry.host == host]
        return {self._seen.pop(name).telemetry.pool for name in gone}

    def is_known(self, now: float, seconds: float = ALIVE_SECONDS) -> bool:
        """Say whether everybody alive has had the time to be heard since we began to listen."""
        since = self._listening_since
        return since is not None and now - since >= seconds

    def hosts(self, pool: str) -> set[str]:
        """Return the hosts of a pool that take chunks."""
        return {t.host for t in self._taking(pool) if t.slots}

    def live(self, pool: str) -> dict[str, Telemetry]:
        """Return the consumers of a pool by name, those too that may take chunks only later."""
        return {t.consumer: t for t in self._running(pool)}

    def slots(self, pool: str | None = None) -> int:
        """Return the slots that take chunks, of one pool or of all."""
        return sum(t.slots for t in self._taking(pool))

    def busy(self, pool: str) -> int:
        """Return the slots of a pool that computed when their consumers last spoke."""
        return sum(min(t.busy, t.slots) for t in self._taking(pool))

    def consumers(self, pool: str | None = None) -> int:
        """Return how many consumers take chunks, of one pool or of all: none that still loads."""
        return sum(t.slots > 0 for t in self._taking(pool))

    def capacity(self) -> dict[str, Capacity]:
        """Return what each pool has of which anybody was heard, in the order of the first word."""
        pools = dict.fromkeys((seen.telemetry.pool for seen in self._seen.values()), Capacity())
        for telemetry in self._taking(None):
            before = pools[telemetry.pool]
            pools[telemetry.pool] = Capacity(
                before.consumers + (telemetry.slots > 0),
                before.slots + telemetry.slots,
                before.busy + min(telemetry.busy, telemetry.slots),
            )
        return pools

    def _listen(self, now: float) -> None:
        if self._listening_since is None or now < self._listening_since:  # a clock was set back
            self._listening_since = now

    def _taking(self, pool: str | None) -> list[Telemetry]:
        """Return whose slots count: a rest after failures is too short to make a difference."""
        return [t for t in self._running(pool) if t.suspended in (None, Suspension.FAILURES)]

    def _running(self, pool: str | None) -> list[Telemetry]:
        return [
            seen.telemetry
            for seen in self._seen.values()
            if seen.telemetry.state is ConsumerState.RUNNING and pool in (None, seen.telemetry.pool)
        ]


def _offer(told: Telemetry) -> tuple[object, ...]:
    return told.slots, told.state, told.suspended
