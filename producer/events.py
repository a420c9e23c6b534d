"""One subscription to the aggregator's events, shared by all runs that a link's owner attends."""

import asyncio
from collections.abc import Callable
from typing import Self

from producer.tally import Tally
from protocol import topology
from protocol.amqp_aio import Delivery, Link
from protocol.errors import MessageRefusedError
from protocol.messages import Declared, Finished, Progress, decode

Inbox = asyncio.Queue[Progress | Finished | None]
"""What was told of one run; None only wakes up whoever waits."""


class Events:
    """The events of a link; `open` makes one.

    Nothing is read of runs that nobody follows here, however much is told of them.
    """

    def __init__(self, link: Link, tally: Tally, on_declared: Callable[[str], None]) -> None:
        self._link = link
        self._tally = tally
        self._on_declared = on_declared
        self._inboxes: dict[str, Inbox] = {}
        self._queue = ""

    @classmethod
    async def open(
        cls,
        link: Link,
        tally: Tally | None = None,
        on_declared: Callable[[str], None] | None = None,
    ) -> Self:
        """Subscribe over a link.

        Parameters
        ----------
        tally
            Where to count what is refused; nowhere if None.
        on_declared
            Called with the id of every run that is created or reopened from now on.
        """
        events = cls(link, tally or Tally(), on_declared or _ignore)
        keys = () if on_declared is None else (topology.declared_key("*"),)
        events._queue = await link.subscribe(topology.EVENTS, keys, events._on_event)
        return events

    async def follow(self, run: str) -> Inbox:
        """Return where everything arrives that is told of a run from now on."""
        inbox = self._inboxes[run] = Inbox()
        for key in _keys(run):
            await self._link.bind(self._queue, topology.EVENTS, key)
        return inbox

    async def leave(self, run: str) -> None:
        """Follow a run no longer."""
        del self._inboxes[run]
        for key in _keys(run):
            await self._link.unbind(self._queue, topology.EVENTS, key)

    def _on_event(self, delivery: Delivery) -> None:
        run = delivery.routing_key.split(".")[1]
        inbox = self._inboxes.get(run)
        try:
            if delivery.type == Declared.type:
                self._on_declared(decode(delivery.type, delivery.body, Declared).run)
            elif inbox is not None:
                event = decode(delivery.type, delivery.body, Progress, Finished)
                inbox.put_nowait(event if event.run == run else None)
        except MessageRefusedError:
            self._tally.rejected += 1
            if inbox is not None:
                inbox.put_nowait(None)  # a newer aggregator's event: the next silence asks


def _keys(run: str) -> tuple[str, str]:
    return topology.progress_key(run), topology.finished_key(run)


def _ignore(_: str) -> None:
    """Take no interest in new runs."""
