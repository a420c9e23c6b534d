"""Locks that one process holds over one connection after another.

A lock is an exclusive queue, which falls with its connection. From RabbitMQ 4.2 on a cluster keeps
it where its whole node has fallen, until that is back or forgotten: whoever held it would wait for
himself. So there is a second queue for that case, and who takes one looks after the other.

At worst, where a node falls just after somebody else took a lock, two hold it for a while: they
waste work and do no harm.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

from protocol import topology
from protocol.amqp_aio import Link
from protocol.errors import BrokerRefusedError, LockedError
from protocol.settings import Broker

ANSWER_SECONDS = 2.0
CLAIM_SECONDS = 60.0
"""How long a lock is claimed that was lost: who held it comes back within seconds."""

KEEPS_FALLEN = (4, 2)
"""The first release that does."""


@dataclass(frozen=True)
class _Claim:
    """What this process holds, or held last: which queue of a lock, and the node that had each."""

    link: Link
    queue: str
    nodes: dict[str, Broker]

    @property
    def is_fresh(self) -> bool:
        """Whether it is held, or was until just now."""
        ended = self.link.closed_at
        return ended is None or time.monotonic() - ended < CLAIM_SECONDS


class Locks:
    """The locks of a process."""

    def __init__(self) -> None:
        self._claims: dict[str, _Claim] = {}
        self._forgot_at = time.monotonic()
        self._looked: dict[Broker, tuple[float, bool]] = {}

    async def take(self, link: Link, name: str) -> bool:
        """Take a lock unless somebody else holds it; say whether this link has it now."""
        if link.release < KEEPS_FALLEN:
            return await link.try_lock(name)
        self._forget_stale()
        before = self._claims.get(name)
        if before is not None and before.link is link:
            return True
        fallen = await self._fallen(before)
        # Never a passive declaration: the broker may look for a fallen queue for a minute.
        taken = None
        for queue in topology.lock_queues(name):
            if await link.try_lock(queue):
                if taken is None:
                    taken = queue
                else:
                    await link.unlock(queue)
            elif queue not in fallen:
                if taken is not None:
                    await link.unlock(taken)
                return False
        if taken is None:
            return False
        self._claims[name] = _Claim(link, taken, {**fallen, taken: link.node})
        return True

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
        claim = self._claims.pop(name, None)
        await link.unlock(name if claim is None else claim.queue)

    def _forget_stale(self) -> None:
        """Forget, now and then, what others lead or nobody needs."""
        if time.monotonic() - self._forgot_at > CLAIM_SECONDS:
            self._forgot_at = time.monotonic()
            self._claims = {name: one for name, one in self._claims.items() if one.is_fresh}

    async def _fallen(self, claim: _Claim | None) -> dict[str, Broker]:
        """Return the queues that were ours until just now, over nodes that are no longer there."""
        if claim is None or not claim.is_fresh:
            return {}
        return {q: node for q, node in claim.nodes.items() if not await self._answers(node)}

    async def _answers(self, node: Broker) -> bool:
        """Say whether a node accepts connections; for a moment what was seen last holds."""
        at, answered = self._looked.get(node, (-ANSWER_SECONDS, False))
        if time.monotonic() - at >= ANSWER_SECONDS:
            answered = await _answers(node)
            self._looked[node] = time.monotonic(), answered
        return answered


async def is_held(link: Link, name: str) -> bool:
    """Say whether anybody holds a lock, without taking it; who may not know takes it for held."""
    try:
        first, second = topology.lock_queues(name)
        if await link.is_locked(first):
            return True
        return link.release >= KEEPS_FALLEN and await link.is_locked(second)
    except BrokerRefusedError:
        return True


async def _answers(node: Broker) -> bool:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(node.host, node.port)
            writer.close()
            return True
    return False
