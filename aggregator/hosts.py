"""What consumers count, summed by host and by model for metrics; pure, bounded, time passed in.

Consumers count since they started. What is kept here is the growth from one heartbeat to the next,
so that sums never fall when a consumer goes, and nothing counts twice when this process starts.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aggregator.fleet import ALIVE_SECONDS, MAX_CONSUMERS
from aggregator.growth import growth
from aggregator.labels import Labels
from protocol.messages import (
    CHUNK_SECONDS,
    ConsumerState,
    Golden,
    Suspension,
    Telemetry,
    Totals,
)
from protocol.rate import Rate
from protocol.rpc_messages import Condition, FleetMember

MAX_HOSTS = 200
"""Hosts that have series of their own."""

FORGET_SECONDS = 300.0
"""How long after its last word a host is shown."""

RATE_SECONDS = 10.0
"""A consumer speaks every two seconds, and its chunks may take as long."""

PARTIAL = "partial"


@dataclass(slots=True)
class HostTotals:
    """What the consumers of one host did since this process first heard of it.

    Attributes
    ----------
    last_seen
        Seconds since the epoch.
    version
        Of whoever spoke last.
    failed_golden
        When one of its consumers last said that it failed the golden chunks.
    chunks
        By outcome: `partial`, or the kind of a failure.
    seconds, cpu_seconds
        That chunks took their slots, and CPU time spent on them.
    """

    last_seen: float = 0.0
    version: str = ""
    failed_golden: float | None = None
    chunks: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    reconnections: int = 0
    cancels: int = 0
    rejected: int = 0


@dataclass(slots=True)
class ModelSums:
    """What all consumers did of one model; chunks by the class of `CHUNK_SECONDS`."""

    samples: int = 0
    seconds: float = 0.0
    chunks: list[int] = field(default_factory=lambda: [0] * (len(CHUNK_SECONDS) + 1))


@dataclass(slots=True)
class Presence:
    """What the live consumers of one host are doing."""

    consumers: int = 0
    slots: int = 0
    busy: int = 0
    golden_failed: bool = False
    suspended: Counter[Suspension] = field(default_factory=Counter)


_REASONS = {
    Condition.LOADING: "compiles its models, or reads their data",
    Condition.DRAINING: "finishes its chunks, then ends",
    Condition.STOPPED: "was told to end",
    Condition.LOST: "has not been heard of: its machine, its process or its network is down",
}

_SUSPENSIONS = {
    Suspension.QUIET: "was told to be quiet",
    Suspension.HOURS: "works at other hours",
    Suspension.ACTIVE: "somebody is at the machine",
    Suspension.BATTERY: "the machine runs on battery",
    Suspension.PROGRAM: "a program runs that goes first",
    Suspension.LOAD: "the machine's load is high",
    Suspension.CPU: "others keep the machine's processors busy",
    Suspension.MEMORY: "the machine has little memory left",
    Suspension.FAILURES: "rests after failures in a row",
}


@dataclass(frozen=True, slots=True)
class ConsumerView:
    """One consumer for people; `rate` in samples per second, None where it is not known."""

    telemetry: Telemetry
    last_seen: float
    condition: Condition
    rate: float | None

    @property
    def reason(self) -> str:
        """Why it does not simply run; empty where it does."""
        suspended = self.telemetry.suspended
        if self.condition is Condition.SUSPENDED and suspended is not None:
            reason = _SUSPENSIONS[suspended]
        else:
            reason = _REASONS.get(self.condition, "")
        if self.telemetry.golden is Golden.FAILED:
            failed = "failed the golden chunks: it would give other bits"
            return f"{failed}; {reason}" if reason else failed
        return reason

    @property
    def member(self) -> FleetMember:
        """The same as it goes over the wire."""
        told = self.telemetry
        return FleetMember(
            consumer=told.consumer,
            host=told.host,
            pool=told.pool,
            slots=told.slots,
            busy=told.busy,
            state=self.condition,
            version=told.version,
            suspended=told.suspended,
            samples_per_second=self.rate,
            last_seen=self.last_seen,
        )


@dataclass(frozen=True, slots=True)
class _Heard:
    telemetry: Telemetry
    at: float
    label: str
    rate: Rate


def _is_recent(at: float | None, now: float) -> bool:
    return at is not None and now - at <= FORGET_SECONDS


class Hosts:
    """All hosts that were heard of in the last minutes."""

    def __init__(self) -> None:
        self.totals: dict[str, HostTotals] = {}
        self.models: dict[str, ModelSums] = {}
        self._labels = Labels(MAX_HOSTS)
        self._model_labels = Labels()
        self._heard: dict[str, _Heard] = {}

    def hear(self, telemetry: Telemetry, now: float) -> None:
        """Take in a heartbeat."""
        before = self._heard.get(telemetry.consumer)
        if before is None and len(self._heard) >= MAX_CONSUMERS and not self._make_room(now):
            return
        label = self._labels.of(telemetry.host)
        rate = Rate(RATE_SECONDS) if before is None else before.rate
        if telemetry.totals is not None:
            rate.of(sum(model.samples for model in telemetry.totals.models.values()), now)
        self._heard.pop(telemetry.consumer, None)  # so that whoever spoke last is the last one
        self._heard[telemetry.consumer] = _Heard(telemetry, now, label, rate)
        host = self.totals.setdefault(label, HostTotals())
        host.last_seen, host.version = now, telemetry.version
        if telemetry.golden is Golden.FAILED:
            host.failed_golden = now
        if before is not None and before.telemetry.totals and telemetry.totals:
            self._add(host, growth(before.telemetry.totals, telemetry.totals))

    def forget_silent(self, now: float) -> None:
        """Drop the consumers, and then the hosts, that have said nothing for minutes."""
        since = now - FORGET_SECONDS
        self._heard = {name: heard for name, heard in self._heard.items() if heard.at >= since}
        for label in [label for label, host in self.totals.items() if host.last_seen < since]:
            del self.totals[label]
            self._labels.forget(label)

    def presence(self, now: float) -> Mapping[str, Presence]:
        """Return what the live consumers of each host are doing; hosts without any show zeros."""
        found = {
            label: Presence(golden_failed=_is_recent(host.failed_golden, now))
            for label, host in self.totals.items()
        }
        for heard in self._live(now):
            here, telemetry = found[heard.label], heard.telemetry
            here.consumers += 1
            here.slots += telemetry.slots
            here.busy += min(telemetry.busy, telemetry.slots)
            if telemetry.suspended is not None:
                here.suspended[telemetry.suspended] += 1
        return found

    def consumers(self, now: float) -> list[ConsumerView]:
        """Return all consumers that were heard of in the last minutes, also those that are gone."""
        return [_view(heard, now) for heard in self._heard.values()]

    def _make_room(self, now: float) -> bool:
        """Forget who has been silent longest, unless they may be alive; say whether one was."""
        silent, heard = next(iter(self._heard.items()))
        if now - heard.at <= ALIVE_SECONDS:
            return False
        del self._heard[silent]
        return True

    def _live(self, now: float) -> Iterator[_Heard]:
        return (
            heard
            for heard in self._heard.values()
            if now - heard.at <= ALIVE_SECONDS
            and heard.telemetry.state is not ConsumerState.STOPPED
        )

    def _add(self, host: HostTotals, grown: Totals) -> None:
        host.reconnections += grown.reconnections
        host.cancels += grown.cancels
        host.rejected += grown.rejected
        host.chunks.update({kind.value: amount for kind, amount in grown.failures.items()})
        for name, model in grown.models.items():
            host.chunks[PARTIAL] += sum(model.chunks)
            host.samples += model.samples
            host.seconds += model.seconds
            host.cpu_seconds += model.cpu_seconds
            sums = self.models.setdefault(self._model_labels.of(name), ModelSums())
            sums.samples += model.samples
            sums.seconds += model.seconds
            sums.chunks = [a + b for a, b in zip(sums.chunks, model.chunks, strict=True)]


def _view(heard: _Heard, now: float) -> ConsumerView:
    telemetry, condition = heard.telemetry, Condition.RUNNING
    if telemetry.state is ConsumerState.STOPPED:
        condition = Condition.STOPPED
    elif now - heard.at > ALIVE_SECONDS:
        condition = Condition.LOST
    elif telemetry.state is ConsumerState.DRAINING:
        condition = Condition.DRAINING
    elif telemetry.suspended is not None:
        condition = Condition.SUSPENDED
    elif not telemetry.slots:
        condition = Condition.LOADING
    is_known = telemetry.totals is not None
    rate = heard.rate.latest if is_known and not condition.is_departed else None
    return ConsumerView(telemetry, heard.at, condition, rate)
