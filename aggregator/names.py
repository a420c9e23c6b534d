"""When the runs of a name last started and last succeeded, so that a missing one is noticed.

Pure and bounded.

The name of a run is the template of its id, as `nightly-{date}`: its runs have it in common.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from aggregator.labels import OTHER

MAX_NAMES = 1_000
"""Names beyond these, as somebody may invent them, are remembered as one."""

REMEMBERED_SECONDS = 35 * 86_400.0
"""A name of which nothing has started for so long is not shown any more."""


@dataclass(frozen=True, slots=True)
class Latest:
    """What is known of a name; times in seconds since the epoch.

    Attributes
    ----------
    started
        When its newest run was declared.
    succeeded
        When a run of it last finished, None where none did.
    """

    name: str
    started: float
    succeeded: float | None = None


class Names:
    """The names of which anything started lately, in the order in which they were first used.

    Parameters
    ----------
    known
        What the store holds, in that order.
    """

    def __init__(self, known: Iterable[Latest] = ()) -> None:
        self._latest: dict[str, Latest] = {}
        known = list(known)
        newest = max((one.started for one in known), default=0.0)
        for one in known:
            if _is_recent(one, newest):
                self.started(one.name, one.started)
                if one.succeeded is not None:
                    self.succeeded(one.name, one.succeeded)

    def started(self, name: str | None, at: float) -> None:
        """Take note that a run was declared; of one without a name nothing is remembered."""
        if name is not None:
            known = self._known(name, at)
            self._latest[known.name] = replace(known, started=max(known.started, at))

    def succeeded(self, name: str | None, at: float) -> None:
        """Take note that a run finished."""
        if name is not None:
            known = self._known(name, at)
            self._latest[known.name] = replace(known, succeeded=max(known.succeeded or 0.0, at))

    def recent(self, now: float) -> list[Latest]:
        """Return the names of which something started in the last weeks."""
        return [one for one in self._latest.values() if _is_recent(one, now)]

    def _known(self, name: str, at: float) -> Latest:
        """Return what is known of a name; of a new one that finds no room, what is of all such."""
        if name not in self._latest and len(self._latest) >= MAX_NAMES:
            self._latest = {one.name: one for one in self.recent(at)}
            if len(self._latest) >= MAX_NAMES:
                name = OTHER
        return self._latest.get(name, Latest(name, at))


def _is_recent(one: Latest, now: float) -> bool:
    return now - one.started <= REMEMBERED_SECONDS
