"""What a producer has counted since it started, and what it leads now, for telemetry; pure."""

from bisect import bisect_left
from collections import Counter

from producer.scheduler import Scheduler
from protocol.messages import CONFIRM_SECONDS, LeaderTotals, Reissue


class Tally:
    """Counts of one producer, over all runs that it schedules and all its connections.

    Attributes
    ----------
    led
        The schedulers of the runs that it leads now, by run.
    published
        Chunks that were sent to the broker, copies included.
    returned
        Those of them that no queue takes.
    rejected
        Events that were refused.
    unconfirmed
        Those of which the broker has said nothing yet.
    reissued
        Chunks of which blocks are issued again.
    """

    def __init__(self) -> None:
        self.led: dict[str, Scheduler] = {}
        self.published = 0
        self.returned = 0
        self.rejected = 0
        self.unconfirmed = 0
        self.reissued = Counter[Reissue]()
        self._confirm_seconds = 0.0
        self._confirms = [0] * (len(CONFIRM_SECONDS) + 1)

    def sent(self) -> None:
        """Take note of a chunk that was sent."""
        self.published += 1
        self.unconfirmed += 1

    def settled(self, seconds: float | None, *, returned: bool = False) -> None:
        """Take note that nothing more will be heard of a chunk that was sent.

        Parameters
        ----------
        seconds
            How long its confirm took, None where there is none.
        returned
            Whether no queue takes it.
        """
        self.unconfirmed -= 1
        self.returned += returned
        if seconds is not None:
            self._confirm_seconds += seconds
            self._confirms[bisect_left(CONFIRM_SECONDS, seconds)] += 1

    @property
    def window(self) -> int:
        """How many chunks may be outstanding, over all runs that are led."""
        return sum(scheduler.window for scheduler in self.led.values())

    @property
    def outstanding(self) -> int:
        """How many chunks of these runs are issued and not merged."""
        return sum(scheduler.outstanding for scheduler in self.led.values())

    def totals(self, blockings: int) -> LeaderTotals:
        """Return all counts, with how often the broker blocked the connection."""
        return LeaderTotals(
            published=self.published,
            returned=self.returned,
            reissued=dict(+self.reissued),
            blockings=blockings,
            rejected=self.rejected,
            confirm_seconds=self._confirm_seconds,
            confirms=tuple(self._confirms),
        )
