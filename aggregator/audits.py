"""The audits of one run: chunks that are computed again on another host and compared; pure.

Two hosts that send the same bits settle an audit; whoever sent others was wrong. Which chunks are
audited is decided in `aggregator.standings`, what follows in `aggregator.ledger`.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from protocol.codec import canonical
from protocol.messages import MAX_NOT_BY, TOLD_AUDITS, ChunkScope, Partial, WantedAudit
from protocol.statistics import Statistics

MAX_PENDING = 10_000
"""Audits of one run that wait; chunks beyond are not audited, and counted as such."""

MAX_SETBACKS = 3
"""So often a host may fail to compute a chunk before it is not asked any more."""

Key = tuple[int, int, int]
"""Cell, first block and how many."""


class AuditOutcome(StrEnum):
    """What became of a chunk that was chosen."""

    PASSED = "passed"
    WRONG = "wrong"
    SKIPPED = "skipped"


@dataclass(slots=True)
class Audit:
    """One chunk that is computed again.

    Attributes
    ----------
    engine
        Of the partial that was merged: those of another engine may have other bits by right.
    answers
        What each host sent, as a hash; first the one whose partial was merged.
    setbacks
        How often hosts failed to compute it; a store does not keep them.
    """

    key: Key
    engine: str
    answers: dict[str, bytes]
    setbacks: Counter[str] = field(default_factory=Counter, compare=False)

    @property
    def first_host(self) -> str:
        """The host whose partial was merged."""
        return next(iter(self.answers))

    @property
    def is_disputed(self) -> bool:
        """Whether hosts differ."""
        return len(set(self.answers.values())) > 1

    @property
    def excluded(self) -> Collection[str]:
        """The hosts that are not to compute it."""
        unable = [host for host, times in self.setbacks.items() if times >= MAX_SETBACKS]
        return [*self.answers, *unable]

    def rule_out(self, host: str) -> None:
        """Take note that a host cannot compute it."""
        self.setbacks[host] = MAX_SETBACKS

    def is_open_to(self, hosts: Collection[str]) -> bool:
        """Say whether one of these hosts may compute it."""
        excluded = self.excluded
        return len(excluded) < MAX_NOT_BY and any(host not in excluded for host in hosts)

    def wrong(self) -> list[str] | None:
        """Return who sent other bits than two hosts did, None while no two have sent the same."""
        right, votes = Counter(self.answers.values()).most_common(1)[0]
        if votes < 2:  # noqa: PLR2004 - two make it so
            return None
        return [host for host, bits in self.answers.items() if bits != right]


@dataclass(slots=True)
class Audits:
    """All audits of one run.

    Attributes
    ----------
    pending
        Those that no two hosts agree on yet, the oldest first.
    passed, skipped
        How many chunks two hosts agreed on, and how many were chosen although nobody else could
        compute them.
    """

    pending: dict[Key, Audit] = field(default_factory=dict)
    passed: int = 0
    skipped: int = 0
    _changed: set[Key] = field(default_factory=set, init=False, compare=False)
    _firsts: Counter[str] = field(default_factory=Counter, init=False, compare=False)

    def __post_init__(self) -> None:
        self._firsts.update(audit.first_host for audit in self.pending.values())

    def begin(self, partial: Partial) -> bool:
        """Have a partial that was merged audited; say whether there was room for it."""
        if len(self.pending) >= MAX_PENDING:
            self.skipped += 1
            return False
        key = key_of(partial)
        answers = {partial.host: fingerprint(partial.statistics)}
        self.pending[key] = Audit(key, partial.engine, answers)
        self._firsts[partial.host] += 1
        self._changed.add(key)
        return True

    def answer(self, partial: Partial) -> Audit | None:
        """Take in a partial of blocks that are merged; return the audit that it adds to, if any."""
        audit = self.pending.get(key_of(partial))
        if audit is None or partial.host in audit.answers:
            return None
        if partial.engine != audit.engine:
            audit.rule_out(partial.host)
        else:
            audit.answers[partial.host] = fingerprint(partial.statistics)
            self._changed.add(audit.key)
        return audit

    def passes(self, audit: Audit) -> None:
        """Take in that two hosts agree on a chunk."""
        self.passed += 1
        self.drop([audit.key])

    def skip(self, keys: Collection[Key]) -> None:
        """Give audits up that nobody can compute."""
        self.skipped += len(keys)
        self.drop(keys)

    def drop(self, keys: Iterable[Key]) -> None:
        """Forget audits, as if their chunks had never been chosen."""
        for key in keys:
            self._firsts[self.pending.pop(key).first_host] -= 1
            self._changed.add(key)

    def withdraw(self, host: str) -> None:
        """Forget what a host has answered to audits of the chunks of others."""
        for audit in self.pending.values():
            if host in audit.answers and host != audit.first_host:
                del audit.answers[host]
                self._changed.add(audit.key)

    def wanted(self, hosts: Collection[str]) -> tuple[WantedAudit, ...]:
        """Return what is to be computed again, of what one of these hosts may compute."""
        return tuple(_wanted(audit) for audit in islice(self.open_to(hosts), TOLD_AUDITS))

    def open_to(self, hosts: Collection[str]) -> Iterator[Audit]:
        """Yield the audits that one of these hosts may compute, the oldest first."""
        if len(hosts) <= 1 and (not hosts or (+self._firsts).keys() == set(hosts)):
            return  # one machine has nobody to look after it, however much of it waits
        yield from (audit for audit in self.pending.values() if audit.is_open_to(hosts))

    def disputed(self) -> Audit | None:
        """Return the first one on which hosts differ."""
        return next((audit for audit in self.pending.values() if audit.is_disputed), None)

    def failed(self, key: Key, host: str, *, unable: bool) -> bool:
        """Take in that a host failed to compute a chunk again; say whether that was wanted."""
        audit = self.pending.get(key)
        if audit is None:
            return False
        audit.setbacks[host] += MAX_SETBACKS if unable else 1
        return True

    def within(self, cell: int, start: int, stop: int) -> list[Key]:
        """Return the audits of chunks of a cell that begin in [start, stop)."""
        return [key for key in self.pending if key[0] == cell and start <= key[1] < stop]

    def take_changed(self) -> set[Key]:
        """Return which audits are new, changed or gone, and start collecting anew."""
        changed, self._changed = self._changed, set()
        return changed


def key_of(partial: ChunkScope) -> Key:
    """Return the chunk by which its audit is known."""
    return partial.cell, partial.first_block, partial.blocks


def fingerprint(statistics: Statistics) -> bytes:
    """Return a hash of exact statistics: they have one form, so equal ones have equal hashes.

    Stores keep it: a version that gives statistics another form must have them forget audits, or
    whoever answered before would look wrong.
    """
    return hashlib.sha256(canonical(statistics.model_dump())).digest()


def _wanted(audit: Audit) -> WantedAudit:
    cell, first_block, blocks = audit.key
    return WantedAudit(
        cell=cell, first_block=first_block, blocks=blocks, not_by=tuple(audit.excluded)
    )
