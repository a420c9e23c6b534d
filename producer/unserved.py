"""Whether a run has nobody who schedules it, and not only between two who do; pure."""

from protocol.settings import RETRY_SECONDS

TAKEOVER_SECONDS = 3 * RETRY_SECONDS
"""A service that stands by looks every `RETRY_SECONDS`, and needs a moment to connect and adopt."""


class Unserved:
    """What looks at a run's locks have shown; served until they show otherwise."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._last = 0.0

    @property
    def doubtful(self) -> bool:
        """Whether nobody was there at the last look, for whatever time."""
        return self._since is not None

    @property
    def certain(self) -> bool:
        """Whether nobody was there for longer than it takes somebody to take over."""
        return self._since is not None and self._last - self._since >= TAKEOVER_SECONDS

    def looked(self, now: float, *, served: bool) -> bool:
        """Take in a look, and say whether it made certain that nobody is there."""
        before, self._last = self.certain, now
        if served:
            self._since = None
        elif self._since is None:
            self._since = now
        return self.certain and not before
