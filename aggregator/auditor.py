"""Whose chunks are audited, what answers to that mean, and when a run need not wait for more; pure.

Of two hosts that differ nobody knows which is wrong: a third decides.
"""

from collections.abc import Collection
from dataclasses import dataclass

from aggregator.audits import AuditOutcome, key_of
from aggregator.books import RunBooks
from aggregator.changes import Changes
from aggregator.fleet import Fleet
from aggregator.standings import Standings
from protocol.messages import Failure, FailureKind, Partial, WantedAudits

HEARD_SECONDS = 3.0
"""After so long everybody who is alive has been heard: consumers speak every two seconds."""

DISPUTE_SECONDS = 60.0
"""How long a run that is complete waits for a host that could decide between two that differ."""

PATIENCE_SECONDS = 600.0
"""How long it waits for hosts that could answer its audits and do not."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a run that is complete may end; `error` is why it has failed, None otherwise."""

    ends: bool
    error: str | None = None


class Auditor:
    """The audits of all runs.

    Parameters
    ----------
    standings
        What is known of hosts.
    fleet
        Who is alive.
    """

    def __init__(self, standings: Standings, fleet: Fleet) -> None:
        self.standings = standings
        self._fleet = fleet

    def merged(self, books: RunBooks, partial: Partial, changes: Changes) -> None:
        """Take in a partial that was merged, and have it audited where chance says so."""
        ending = books.cells[partial.cell].ending
        if ending is not None and partial.first_block >= ending.blocks:
            return
        if self.standings.chooses(partial.host) and not books.audits.begin(partial):
            changes.audited[AuditOutcome.SKIPPED] += 1

    def answered(self, books: RunBooks, partial: Partial, changes: Changes) -> list[str] | None:
        """Take in a partial of blocks that are merged.

        Returns
        -------
        list of str or None
            The hosts that it shows to be wrong; None where nobody had asked for it.
        """
        audit = books.audits.answer(partial)
        if audit is None:
            return None
        changes.runs[books.run] = books
        books.charge(partial.cpu_seconds)
        wrong = audit.wrong()
        if wrong is None:
            return []
        if not wrong:
            for host in audit.answers:
                changes.standings[host] = self.standings.passed(host)
        if audit.first_host not in wrong:  # or its segment is emptied, and audited anew
            books.audits.passes(audit)
            changes.audited[AuditOutcome.PASSED] += 1
        return wrong

    def failed(self, books: RunBooks, failure: Failure) -> bool:
        """Take in a failure of blocks that are merged; say whether it was of an audit."""
        if failure.kind is FailureKind.DECLINED:  # it was not to compute it: others are
            return key_of(failure) in books.audits.pending
        unable = failure.kind is FailureKind.UNSUPPORTED_MODEL
        return books.audits.failed(key_of(failure), failure.host, unable=unable)

    def convict(self, host: str, changes: Changes, now: float) -> None:
        """Refuse a host from now on."""
        changes.standings[host] = self.standings.refuse(host, now)
        self._fleet.drop(host)
        changes.audited[AuditOutcome.WRONG] += 1

    def wanted(self, books: RunBooks) -> WantedAudits | None:
        """Return what is to be computed again of a run, None where nothing is."""
        return books.audits.wanted(self._fleet.hosts(books.pool)) or None

    def readiness(self, books: RunBooks, changes: Changes, now: float) -> Readiness:
        """Say whether a run of which every cell has ended may end now.

        It may not while a live host could still answer an audit, and fails where two hosts differ
        and nobody comes to decide.
        """
        audits = books.audits
        if not audits.pending:
            return Readiness(ends=True)
        if books.completed is None or now < books.completed:  # a clock was set back
            books.completed = now
        waited, hosts = now - books.completed, self._fleet.hosts(books.pool)
        is_open = any(True for _ in audits.open_to(hosts))
        if is_open and waited < PATIENCE_SECONDS:
            return Readiness(ends=False)
        if not is_open and not self._fleet.is_known(now, HEARD_SECONDS):
            return Readiness(ends=False)
        disputed = audits.disputed()
        if disputed is not None:
            error = _dispute(disputed.key, disputed.answers) if waited >= DISPUTE_SECONDS else None
            return Readiness(ends=error is not None, error=error)
        changes.runs[books.run] = books
        changes.audited[AuditOutcome.SKIPPED] += len(audits.pending)
        audits.skip(list(audits.pending))
        return Readiness(ends=True)


def _dispute(key: tuple[int, int, int], hosts: Collection[str]) -> str:
    cell, first, blocks = key
    return (
        f"cell {cell}, blocks {first} to {first + blocks - 1}: hosts {', '.join(sorted(hosts))} "
        "sent different numbers, and no other is there to decide; resume the run when one is"
    )[:2000]
