"""When the runs of a name last started and last succeeded, so that a missing one is noticed; pure.

The name of a run is the template of its id, as `nightly-{date}`: its runs have it in common.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

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
    """All names, in the order in which they were first used.

    Parameters
    ----------
    known
        What the store holds, in that order.
    """

    def __init__(self, known: Iterable[Latest] = ()) -> None:
        self._latest = {one.name: one for one in known}

    def started(self, name: str | None, at: float) -> None:
        """Take note that a run was declared; of one without a name nothing is remembered."""
        if name is not None:
            self._latest[name] = replace(self._known(name, at), started=at)

    def succeeded(self, name: str | None, at: float) -> None:
        """Take note that a run finished."""
        if name is not None:
            self._latest[name] = replace(self._known(name, at), succeeded=at)

    def recent(self, now: float) -> list[Latest]:
        """Return the names of which something started in the last weeks."""
        return [one for one in self._latest.values() if now - one.started <= REMEMBERED_SECONDS]

    def _known(self, name: str, at: float) -> Latest:
        return self._latest.get(name, Latest(name, at))
