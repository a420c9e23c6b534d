"""Finds out what a user may do that no role of montemq needs; it leaves nothing behind."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from protocol.amqp_aio import Link

FOREIGN = "amq.fanout"
"""An exchange that every virtual host has, and that montemq has no use for."""


async def superfluous(link: Link) -> list[str]:
    """Return what the link's user may do, in a few words each, that nobody needs to."""
    name = f"montemq.doctor.{uuid4().hex}"

    async def declare(raw: Any) -> None:
        await raw.queue_declare(name, exclusive=True)
        await raw.queue_delete(name)

    async def read(raw: Any) -> None:
        own = await raw.queue_declare("", exclusive=True)
        await raw.queue_bind(own.queue, FOREIGN)
        await raw.queue_delete(own.queue)

    async def write(raw: Any) -> None:
        # Nobody is bound there, so that it is dropped; the confirm tells that it was let in.
        await raw.basic_publish(b"", exchange=FOREIGN, routing_key=name)

    attempts: dict[str, Callable[[Any], Awaitable[None]]] = {
        "declare": declare,
        "write": write,
        "read": read,
    }
    return [what for what, attempt in attempts.items() if await link.allows(attempt)]
