"""Label values that come from messages, bounded: a flood of invented ones ends up in one series."""

from collections.abc import Iterator

MAX_LABELS = 50
"""Pools, models, or names of runs, that have series of their own."""

OTHER = "other"


class Labels:
    """Values of one label: the first ones that are seen stand for themselves, up to a limit."""

    def __init__(self, limit: int = MAX_LABELS) -> None:
        self._limit = limit
        self._known: dict[str, None] = {}

    def of(self, value: str) -> str:
        """Return the label of a value: itself, or `other` where there are too many."""
        if value not in self._known and len(self._known) >= self._limit:
            return OTHER
        self._known[value] = None
        return value

    def forget(self, value: str) -> None:
        """Make room for another value."""
        self._known.pop(value, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)
