"""Whether an agent that means to consume does: what it and its broker believe may differ; pure.

A connection can live on while the broker has forgotten who consumes, and a machine can sleep for
longer than any broker waits. Either would leave an agent idle for ever, without an error.
"""

CONFIRM_SECONDS = 60.0
"""The broker may take so long to confirm that it will deliver."""
LOOK_SECONDS = 60.0
"""After so long without a chunk an idle agent asks whether there are any."""


class Vigil:
    """What is known of the agent's consuming; every complaint is a reason to connect anew."""

    def __init__(self) -> None:
        self._asked: float | None = None
        self._confirmed = False
        self._looked = 0.0
        self._left: set[str] = set()

    def asked(self, now: float) -> None:
        """Take in that the broker was asked to deliver."""
        self._asked, self._confirmed = now, False

    def stopped(self) -> None:
        """Take in that nothing is to be delivered."""
        self._asked = None

    def confirmed(self, now: float) -> None:
        """Take in that the broker will deliver."""
        self._confirmed = True
        self.heard(now)

    def heard(self, now: float) -> None:
        """Take in a chunk."""
        self._looked = now
        self._left.clear()

    def overdue(self, now: float) -> str | None:
        """Complain of a confirm that does not come, once."""
        if self._asked is None or self._confirmed or now - self._asked < CONFIRM_SECONDS:
            return None
        self._asked = None
        return f"the broker has not said for {CONFIRM_SECONDS:g} s that it will deliver chunks"

    def is_due(self, now: float) -> bool:
        """Say whether an agent without any chunk shall look at its queues, and count that as done.

        See `seen` for what is found there.
        """
        if self._asked is None or not self._confirmed or now - self._looked < LOOK_SECONDS:
            return False
        self._looked = now
        return True

    def seen(self, queue: str, ready: int, consumers: int) -> str | None:
        """Complain of a queue that nobody consumes, or whose chunks do not come twice in a row.

        Parameters
        ----------
        queue
            Its name.
        ready
            How many chunks wait there for anybody.
        consumers
            How many consume it, as the broker has it.
        """
        if self._asked is None or not self._confirmed:
            return None
        if not consumers:
            return f"the broker does not know that {queue} is consumed"
        if not ready:
            self._left.discard(queue)
        elif queue in self._left:
            return f"{ready:,} chunks wait in {queue}, and none has come for {LOOK_SECONDS:g} s"
        else:
            self._left.add(queue)
        return None


class Wakefulness:
    """Notices that the machine has slept: one of its clocks stands still then."""

    def __init__(self) -> None:
        self._ahead: float | None = None

    def slept(self, waking: float, always: float) -> float:
        """Return for how many seconds it has slept since the last time.

        Parameters
        ----------
        waking, always
            Clocks in seconds, of which only the second one goes on during sleep.
        """
        before, self._ahead = self._ahead, always - waking
        return 0.0 if before is None else max(0.0, self._ahead - before)
