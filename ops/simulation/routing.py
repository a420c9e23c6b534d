"""Exchanges and their bindings: which queues a routing key reaches; it stores no message."""

from collections.abc import Callable

from ops.simulation.queue import MemoryQueue


class MemoryExchange:
    """A direct, topic or fanout exchange; answers are cached until a binding changes."""

    __slots__ = ("_bindings", "_cache", "_matches", "name", "type")

    def __init__(self, name: str, type_: str) -> None:
        self.name = name
        self.type = type_
        self._matches = MATCHERS[type_]
        self._bindings: list[tuple[str, MemoryQueue]] = []
        self._cache: dict[str, tuple[MemoryQueue, ...]] = {}

    def route(self, key: str) -> tuple[MemoryQueue, ...]:
        """Return the queues that a key reaches, each once, in the order of their binding."""
        found = self._cache.get(key)
        if found is None:
            reached = (queue for pattern, queue in self._bindings if self._matches(pattern, key))
            found = self._cache[key] = tuple(dict.fromkeys(reached))
        return found

    def bind(self, queue: MemoryQueue, key: str) -> None:
        """Add a binding; a second one that is the same changes nothing."""
        if (key, queue) not in self._bindings:
            self._bindings.append((key, queue))
            self._cache.clear()

    def unbind(self, queue: MemoryQueue, key: str | None = None) -> None:
        """Remove a binding, or all of a queue's."""
        self._bindings = [
            (pattern, bound)
            for pattern, bound in self._bindings
            if bound is not queue or key not in (None, pattern)
        ]
        self._cache.clear()


def topic_matches(pattern: str, key: str) -> bool:
    """Return whether a topic key fits: `*` is exactly one word, `#` any number of words."""
    return _fits(_words(pattern), _words(key))


def _words(key: str) -> list[str]:
    return key.split(".") if key else []


def _fits(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_fits(pattern[1:], words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _fits(pattern[1:], words[1:])


MATCHERS: dict[str, Callable[[str, str], bool]] = {
    "direct": str.__eq__,
    "topic": topic_matches,
    "fanout": lambda _pattern, _key: True,
}
