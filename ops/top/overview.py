"""What `montemq top` knows, from one look to the next: runs with their rates, consumers; pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from protocol.messages import Headline, RunState
from protocol.rate import seconds_left
from protocol.rpc_messages import Condition, Fleet, FleetMember, RunStatus, Status

ENDED_SECONDS = 60.0
"""How long a run that ends while somebody watches stays in sight."""

MAX_ENDED = 20
"""So many of these are asked after at once, and kept in sight."""

SILENT_SECONDS = 5.0
"""A consumer speaks every two seconds: here it has missed two of them, and counts as gone soon."""


class Order(StrEnum):
    """By what the runs that go on are sorted."""

    NEWEST = "newest"
    DONE = "done"
    RATE = "rate"
    LEFT = "left"

    @property
    def next(self) -> "Order":
        """The one that follows, the first one after the last."""
        orders = list(Order)
        return orders[(orders.index(self) + 1) % len(orders)]


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run: what the aggregator says, samples per second, and the seconds that it still takes.

    Estimate, rate and time left are None where they are not known.
    """

    status: RunStatus
    headline: Headline | None = None
    rate: float | None = None
    left: float | None = None

    @property
    def share(self) -> float:
        """How much is done, 0 to 1; a time limit may have ended it before anything was."""
        run = self.status
        return min(1.0, run.samples / run.total_samples) if run.total_samples else 1.0


@dataclass(frozen=True, slots=True)
class Overview:
    """One look.

    Attributes
    ----------
    runs
        Those that go on, the newest first.
    ended
        Those that ended while somebody watched, the last one first.
    total_runs
        How many go on, those included that were not asked after.
    slots, consumers
        Those that take chunks.
    fleet
        All consumers, also those that load or drain, or went in the last minutes.
    """

    runs: tuple[RunLine, ...]
    ended: tuple[RunLine, ...]
    total_runs: int
    slots: int
    consumers: int
    fleet: Fleet

    def sorted_runs(self, order: Order) -> list[RunLine]:
        """Return the runs that go on in an order, and below them those that have ended."""
        return [*sorted(self.runs, key=_KEYS[order]), *self.ended]

    def sorted_consumers(self) -> list[FleetMember]:
        """Return the consumers by name, first those that not all is well with."""
        members = self.fleet.consumers
        return sorted(members, key=lambda member: (self.is_well(member), member.consumer))

    def is_well(self, member: FleetMember) -> bool:
        """Say whether a consumer takes chunks and has spoken lately."""
        return member.state is Condition.RUNNING and self.silence(member) < SILENT_SECONDS

    @property
    def rate(self) -> float | None:
        """Samples per second of all runs, None while that of none is known."""
        known = [line.rate for line in self.runs if line.rate is not None]
        return sum(known) if known else None

    @property
    def busy(self) -> int:
        """The slots that compute."""
        there = (one for one in self.fleet.consumers if not one.state.is_departed)
        return sum(min(one.busy, one.slots) for one in there)

    def silence(self, member: FleetMember) -> float:
        """Return for how many seconds the aggregator has not heard of a consumer."""
        return max(0.0, self.fleet.clock - member.last_seen)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return {
            "clock": self.fleet.clock,
            "total_runs": self.total_runs,
            "runs": [
                line.status.model_dump(mode="json")
                | {
                    "headline": line.headline and line.headline.model_dump(mode="json"),
                    "samples_per_second": line.rate,
                    "seconds_left": line.left,
                }
                for line in self.runs
            ],
            "slots": self.slots,
            "total_consumers": self.fleet.total,
            "consumers": [member.model_dump(mode="json") for member in self.fleet.consumers],
        }


_KEYS: dict[Order, Callable[[RunLine], float]] = {
    Order.NEWEST: lambda line: -line.status.created,
    Order.DONE: lambda line: -line.share,
    Order.RATE: lambda line: -(line.rate or 0.0),
    Order.LEFT: lambda line: float("inf") if line.left is None else line.left,
}


class Looks:
    """Makes an overview of what is answered, with what earlier answers said."""

    def __init__(self) -> None:
        self._going_on: set[str] = set()
        self._ended: dict[str, tuple[float, RunLine]] = {}

    def vanished(self, status: Status) -> list[str]:
        """Return the runs that went on a look ago and are not told of any more."""
        now = {run.run for run in status.runs}
        return sorted(self._going_on - now)[:MAX_ENDED]

    def take_in(self, status: Status, fleet: Fleet, ended: Iterable[RunLine] = ()) -> Overview:
        """Return the overview of a look.

        Parameters
        ----------
        status
            The runs that go on.
        fleet
            The consumers.
        ended
            What became of those that had vanished.
        """
        names = {run.run for run in status.runs}
        self._going_on = names
        for line in ended:
            if line.status.state is not RunState.RUNNING:  # else there are too many to be told of
                self._ended[line.status.run] = status.clock, line
        kept = sorted(self._ended.items(), key=lambda item: -item[1][0])[:MAX_ENDED]
        self._ended = {
            name: (since, line)
            for name, (since, line) in kept
            if name not in names and status.clock - since < ENDED_SECONDS
        }
        unknown = (None,) * len(status.runs)
        return Overview(
            runs=tuple(
                _line(*told)
                for told in zip(
                    status.runs, status.headlines or unknown, status.rates or unknown, strict=False
                )
            ),
            ended=tuple(line for _, line in self._ended.values()),
            total_runs=status.total,
            slots=status.slots,
            consumers=status.consumers,
            fleet=fleet,
        )


def _line(run: RunStatus, headline: Headline | None, rate: float | None) -> RunLine:
    missing = max(0, run.total_samples - run.samples)
    return RunLine(run, headline, rate, seconds_left(missing, rate))
