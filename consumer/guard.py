"""Watches the machine and the slots in threads, and says in the loop what follows from it."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial

from consumer import events as e
from consumer.courtesy import Courtesy, Observation, Rules
from consumer.observe import LOOK_SECONDS, Observer, Seen, Watch

SIZE_SECONDS = 1.0
"""Between two looks at how much memory slots use."""

log = logging.getLogger("montemq.consumer")


class Guard:
    """What keeps a consumer polite.

    Parameters
    ----------
    rules
        When the machine may be used.
    slot_memory
        Bytes that a slot may use; None for any number.
    sizes
        Tells how many bytes each slot uses; called in a thread.
    in_loop
        Has the loop call back soon; called in a thread.
    say
        Called in the loop with what follows.
    """

    def __init__(
        self,
        rules: Rules,
        slot_memory: int | None,
        sizes: Callable[[], dict[int, int]],
        in_loop: Callable[[Callable[[], None]], None],
        say: Callable[[e.Suspend | e.Resume | e.SlotTooLarge], None],
    ) -> None:
        self._rules, self._limit, self._sizes = rules, slot_memory, sizes
        self._in_loop, self._say = in_loop, say
        self._courtesy, self._observer = Courtesy(rules), Observer(rules)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Look at the machine once, before anything is begun, and then at all now and then."""
        with contextlib.ExitStack() as stack:
            if self._rules.any:
                self._look_first()
                stack.enter_context(self._watch(self._observer.look, self._on_seen, LOOK_SECONDS))
            if self._limit is not None:
                stack.enter_context(self._watch(self._sizes, self._on_sizes, SIZE_SECONDS))
            yield

    def _look_first(self) -> None:
        first = self._observer.look()
        if self._rules.pause_when_active and first.idle_seconds is None:
            log.warning("this machine does not tell whether a user is active")
        self._on_seen(first)

    @contextlib.contextmanager
    def _watch(
        self, look: Callable[[], Seen], tell: Callable[[Seen], None], every: float
    ) -> Iterator[None]:
        watch = Watch(look, lambda seen: self._in_loop(partial(tell, seen)), every)
        watch.start()
        try:
            yield
        finally:
            watch.stop()

    def _on_seen(self, seen: Observation) -> None:
        for change in self._courtesy.observe(seen, time.monotonic()):
            self._say(change)

    def _on_sizes(self, sizes: dict[int, int]) -> None:
        for slot, size in sizes.items():
            if self._limit is not None and size > self._limit:
                self._say(e.SlotTooLarge(slot, size))
