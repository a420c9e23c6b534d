"""What is known of hosts from audits, and which of their chunks are audited; pure.

How likely a wrong host is caught stands in `protocol.audit_odds`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random, SystemRandom

AUDIT_SHARE = 0.01
"""Of the chunks of a host that is known, unless an operator says otherwise."""

NEW_UNTIL = 10
"""Chunks of a host that must have passed before it counts as known."""

NEW_FACTOR = 10.0
"""How many times the share is audited of a host that is not known."""

PROBATION = 100
"""Chunks in a row that a host which was wrong once has all audited, and must pass."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a host.

    Attributes
    ----------
    passed
        Its chunks that another host confirmed, since it was last wrong.
    wrong
        How often it was found wrong.
    refused
        Since when it is refused, in seconds since the epoch; None where it is not.
    wrong_at
        When it was last found wrong, also of one that was readmitted since.
    """

    host: str
    passed: int = 0
    wrong: int = 0
    refused: float | None = None
    wrong_at: float | None = None


class Standings:
    """All hosts that were ever audited.

    Parameters
    ----------
    known
        What the store holds.
    share
        Of the chunks of a host that is known; 0 audits none of anybody.
    random
        What chooses; whoever could foresee it could be wrong where nobody looks.
    """

    def __init__(
        self, known: Iterable[Standing] = (), share: float = 0.0, random: Random | None = None
    ) -> None:
        self.share = share
        self._known = {standing.host: standing for standing in known}
        self._random = random or SystemRandom()

    def of(self, host: str) -> Standing:
        """Return what is known of a host."""
        return self._known.get(host) or Standing(host)

    @property
    def refused(self) -> set[str]:
        """The hosts that are refused."""
        return {standing.host for standing in self._known.values() if standing.refused is not None}

    def refuses(self, host: str) -> bool:
        """Say whether a host is refused."""
        return host in self._known and self._known[host].refused is not None

    def share_of(self, host: str) -> float:
        """Return with which probability a chunk of a host is audited."""
        standing = self.of(host)
        if not self.share:
            return 0.0
        if standing.wrong and standing.passed < PROBATION:
            return 1.0
        return min(1.0, self.share * (NEW_FACTOR if standing.passed < NEW_UNTIL else 1.0))

    def chooses(self, host: str) -> bool:
        """Say whether the next chunk of a host is to be audited."""
        share = self.share_of(host)
        return share > 0 and self._random.random() < share

    def passed(self, host: str) -> Standing:
        """Take in that another host has sent the same as this one."""
        standing = self.of(host)
        return self._now(replace(standing, passed=standing.passed + 1))

    def refuse(self, host: str, now: float) -> Standing:
        """Take in that two other hosts have sent the same, and this one something else."""
        wrong = self.of(host).wrong + 1
        return self._now(Standing(host, wrong=wrong, refused=now, wrong_at=now))

    def wrong_since(self, then: float) -> set[str]:
        """Return the hosts that were found wrong since then, also those that are readmitted."""
        known = self._known.values()
        return {one.host for one in known if one.wrong_at is not None and one.wrong_at >= then}

    def reread(self, kept: Iterable[Standing]) -> None:
        """Take in what a store has now of hosts: an operator readmits hosts there."""
        for standing in kept:
            known = self.of(standing.host)
            # As often wrong as known here: no older row than the one that refused it.
            if standing.refused is None and standing.wrong == known.wrong and known.refused:
                self._now(standing)

    def _now(self, standing: Standing) -> Standing:
        self._known[standing.host] = standing
        return standing
