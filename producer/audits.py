"""The audits of a run that the aggregator wants: which are under way, which are due; pure.

Their blocks are merged, so they are no part of what is missing: the aggregator says with every word
which of them are still wanted.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from random import Random

from protocol.messages import WantedAudit

REST_SECONDS, REST_GROWTH, MAX_REST_SECONDS = 0.01, 1.5, 1.0
"""How long an audit rests at most that came back without an answer, after the first time. A host
that must not compute it declines it at once, and the broker gives it to the consumers in turn, so
that few tries reach another; where that one is slow, many would only keep the others busy."""


@dataclass(slots=True)
class _Issue:
    """One audit.

    Attributes
    ----------
    attempt
        The one under way; those before it count as lost, and any answer counts.
    is_confirmed
        Whether the broker has that.
    copies
        How often it was issued while another was under way.
    setbacks
        How often it came back without an answer.
    at, rests_until
        When it was issued last, and until when it is not issued again.
    """

    attempt: int | None = None
    is_confirmed: bool = False
    copies: int = 0
    setbacks: int = 0
    at: float = 0.0
    rests_until: float = 0.0


class Audits:
    """The audits that are wanted.

    Parameters
    ----------
    seed
        Of chance: two audits that come back and go out again in step could reach, of two consumers
        that are served in turn, the wrong one for ever.
    """

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)  # noqa: S311 - breaks ties, hides nothing
        self._issues: dict[WantedAudit, _Issue] = {}
        self._by_attempt: dict[int, WantedAudit] = {}

    def __len__(self) -> int:
        return len(self._issues)

    @property
    def outstanding(self) -> int:
        """How many are under way."""
        return sum(issue.attempt is not None for issue in self._issues.values())

    @property
    def all_outstanding(self) -> bool:
        """Whether none waits to be issued."""
        return self.outstanding == len(self)

    def want(self, wanted: Iterable[WantedAudit]) -> None:
        """Take in which are wanted now."""
        self._issues = {audit: self._issues.get(audit) or _Issue() for audit in wanted}
        self._by_attempt = {
            issue.attempt: audit
            for audit, issue in self._issues.items()
            if issue.attempt is not None
        }

    def confirmed(self, attempt: int) -> None:
        """Take note that the broker has an attempt."""
        if attempt in self._by_attempt:
            self._issues[self._by_attempt[attempt]].is_confirmed = True

    def gave_nothing(self, attempt: int, now: float) -> None:
        """Take in that an attempt was declined, has failed, or was not taken by the broker."""
        audit = self._by_attempt.pop(attempt, None)
        if audit is not None:
            issue = self._issues[audit]
            issue.attempt = None
            issue.rests_until = now + self._random.random() * rest_seconds(issue.setbacks)
            issue.setbacks += 1

    def forgive(self, now: float) -> None:
        """Hold the time so far against none: nobody could compute or tell."""
        for issue in self._issues.values():
            issue.at = now

    def disconnected(self) -> None:
        """Take back what was never confirmed."""
        for issue in self._issues.values():
            if issue.attempt is not None and not issue.is_confirmed:
                del self._by_attempt[issue.attempt]
                issue.attempt = None

    def due(
        self, now: float, room: int, patience: Callable[[WantedAudit, int], float]
    ) -> Iterator[WantedAudit]:
        """Yield what is to be issued now, and expect `issued` for each of it.

        Parameters
        ----------
        now
            The time.
        room
            How many may be under way.
        patience
            Gives the seconds after which one that was issued so often counts as lost.
        """
        room -= self.outstanding
        issues = list(self._issues.items())
        self._random.shuffle(issues)
        for audit, issue in issues:
            if issue.attempt is None:
                if room > 0 and now >= issue.rests_until:
                    room -= 1
                    yield audit
            elif now - issue.at > patience(audit, issue.copies):
                issue.copies += 1
                yield audit

    def issued(self, audit: WantedAudit, attempt: int, now: float) -> None:
        """Take note under which attempt one was issued."""
        issue = self._issues[audit]
        if issue.attempt is not None:
            del self._by_attempt[issue.attempt]
        issue.attempt, issue.is_confirmed, issue.at = attempt, False, now
        self._by_attempt[attempt] = audit


def rest_seconds(setbacks: int) -> float:
    """Return how long an audit rests at most that came back so often before."""
    growth = REST_GROWTH ** min(setbacks - 1, 60)
    return min(REST_SECONDS * growth, MAX_REST_SECONDS) if setbacks else 0.0
