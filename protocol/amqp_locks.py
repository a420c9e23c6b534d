"""Locks that one process holds over one connection after another.

A lock is an exclusive queue, which falls with its connection. From RabbitMQ 4.2 on a cluster keeps
it where its whole node has fallen, until that is back or forgotten: whoever held it would wait for
himself. So there is a second queue for that case, and who takes one looks after the other.
"""

import asyncio
from contextlib import suppress

from protocol.amqp_aio import Link
from protocol.errors import LockedError
from protocol.settings import Broker

ANSWER_SECONDS = 2.0
SECOND = ".second"
"""What is added to the name of a lock for its second queue."""


class Locks:
    """The locks of a process."""

    def __init__(self) -> None:
        self._held: dict[str, Link] = {}

    async def take(self, link: Link, name: str) -> bool:
        """Take a lock unless somebody else holds it; say whether this link has it now."""
        if not link.broker.others:
            return await link.try_lock(name)
        queues = (name, name + SECOND)
        for queue, other in (queues, reversed(queues)):
            if await link.try_lock(queue):
                if await link.is_locked(other) and not await self._has_fallen(other):
                    await link.unlock(queue)
                    return False
                self._held[queue] = link
                return True
            if not await self._has_fallen(queue):
                return False
        return False

    async def hold(self, link: Link, name: str) -> None:
        """Take a lock.

        Raises
        ------
        LockedError
            Somebody else holds it.
        """
        if not await self.take(link, name):
            raise LockedError(f"somebody else holds {name}")

    async def give_back(self, link: Link, name: str) -> None:
        """Give a lock of this link back."""
        last = {queue: self._held.pop(queue, None) for queue in (name, name + SECOND)}
        await link.unlock(name + SECOND if last[name + SECOND] is link else name)

    async def _has_fallen(self, queue: str) -> bool:
        """Say whether this process held it last, over a node that is no longer there."""
        held = self._held.get(queue)
        return held is not None and held.closed.is_set() and not await _answers(held.node)


async def is_held(link: Link, name: str) -> bool:
    """Say whether anybody holds a lock, without taking it."""
    if await link.is_locked(name):
        return True
    return bool(link.broker.others) and await link.is_locked(name + SECOND)


async def _answers(node: Broker) -> bool:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(node.host, node.port)
            writer.close()
            return True
    return False
