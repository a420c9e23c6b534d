"""What producers that schedule runs tell of themselves, summed for metrics; pure, time passed in.

Bounded, and like `aggregator.hosts` in what is kept: growth, so that no sum ever falls.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aggregator.fleet import ALIVE_SECONDS
from aggregator.growth import growth
from aggregator.hosts import FORGET_SECONDS, MAX_HOSTS
from aggregator.labels import Labels
from protocol.messages import CONFIRM_SECONDS, Leader, LeaderTotals, Reissue

MAX_LEADERS = 10_000


class Speech(StrEnum):
    """Whether a leader can be heard."""

    LEADING = "leading"
    BLOCKED = "blocked"
    SILENT = "silent"


@dataclass(slots=True)
class LeaderSums:
    """What all leaders did; confirms by the class of `CONFIRM_SECONDS`."""

    published: int = 0
    returned: int = 0
    reissued: Counter[Reissue] = field(default_factory=lambda: Counter(dict.fromkeys(Reissue, 0)))
    blockings: int = 0
    rejected: int = 0
    confirm_seconds: float = 0.0
    confirms: list[int] = field(default_factory=lambda: [0] * (len(CONFIRM_SECONDS) + 1))


@dataclass(slots=True)
class Leading:
    """What the leaders of one host do.

    Attributes
    ----------
    last_seen
        When one of them last spoke, in seconds since the epoch.
    version
        Of that one.
    leaders
        How many there are, by whether they can be heard.
    runs, window, outstanding, unconfirmed
        As those say that do not keep silent.
    """

    last_seen: float = 0.0
    version: str = ""
    leaders: Counter[Speech] = field(default_factory=Counter)
    runs: int = 0
    window: int = 0
    outstanding: int = 0
    unconfirmed: int = 0


@dataclass(frozen=True, slots=True)
class _Heard:
    word: Leader
    at: float
    label: str
    blocked: bool


class Leaders:
    """All leaders that were heard of in the last minutes.

    Attributes
    ----------
    sums
        What they counted since this process first heard of them.
    """

    def __init__(self) -> None:
        self.sums = LeaderSums()
        self._heard: dict[str, _Heard] = {}
        self._labels = Labels(MAX_HOSTS)

    def hear(self, word: Leader, now: float, blocked: bool = False) -> None:
        """Take in a heartbeat.

        Parameters
        ----------
        word, now
            What was said, and when, in seconds since the epoch.
        blocked
            Whether the broker blocks the leader; nobody hears that but within its own process.
        """
        before = self._heard.get(word.leader)
        if before is None and len(self._heard) >= MAX_LEADERS:
            return
        self._heard[word.leader] = _Heard(word, now, self._labels.of(word.host), blocked)
        if before is not None:
            self._add(growth(before.word.totals, word.totals))
        elif word.first:
            self._add(word.totals)

    def forget_silent(self, now: float) -> None:
        """Drop the leaders, and the hosts, that have said nothing for minutes."""
        since = now - FORGET_SECONDS
        self._heard = {name: heard for name, heard in self._heard.items() if heard.at >= since}
        known = {heard.label for heard in self._heard.values()}
        for label in [label for label in self._labels if label not in known]:
            self._labels.forget(label)

    def hosts(self, now: float) -> Mapping[str, Leading]:
        """Return what the leaders of each host do; hosts where all have stopped show zeros."""
        found: dict[str, Leading] = {}
        for heard in self._heard.values():
            here, word = found.setdefault(heard.label, Leading()), heard.word
            if heard.at >= here.last_seen:
                here.last_seen, here.version = heard.at, word.version
            if word.stopped:
                continue
            speech = _speech(heard, now)
            here.leaders[speech] += 1
            if speech is not Speech.SILENT:
                here.runs += word.runs
                here.window += word.window
                here.outstanding += word.outstanding
                here.unconfirmed += word.unconfirmed
        return found

    def _add(self, grown: LeaderTotals) -> None:
        sums = self.sums
        sums.published += grown.published
        sums.returned += grown.returned
        sums.reissued.update(grown.reissued)
        sums.blockings += grown.blockings
        sums.rejected += grown.rejected
        sums.confirm_seconds += grown.confirm_seconds
        sums.confirms = [a + b for a, b in zip(sums.confirms, grown.confirms, strict=True)]


def _speech(heard: _Heard, now: float) -> Speech:
    if now - heard.at > ALIVE_SECONDS:
        return Speech.SILENT
    return Speech.BLOCKED if heard.blocked else Speech.LEADING
