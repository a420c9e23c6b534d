"""Tells consumers what to do, from anywhere, and finds out from the aggregator who has heard it."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from producer.rpc import ask
from protocol.amqp_aio import Link
from protocol.errors import UnroutableError, UsageError
from protocol.messages import Command, Control, Suspension
from protocol.origin import host_name
from protocol.rpc_messages import Condition, Fleet, FleetMember, FleetRequest
from protocol.topology import CONTROL, EVERYBODY, control_key

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Heard:
    """Which consumers, by name, show that they obey, and which do not."""

    obeying: tuple[str, ...]
    silent: tuple[str, ...]


async def members(link: Link, pool: str | None = None) -> list[FleetMember]:
    """Return all live consumers by name, of one pool or of all.

    Raises
    ------
    NoAggregatorError
        Nobody knows.
    """
    found: list[FleetMember] = []
    while True:
        after = found[-1].consumer if found else None
        page: Fleet = await ask(link, FleetRequest(pool=pool, after=after), Fleet)
        found += page.consumers
        if not page.consumers or len(found) >= page.total:
            return found


async def steer(link: Link, command: Command, names: Sequence[str], within: float) -> Heard:
    """Tell consumers what to do, and wait until their telemetry shows it.

    Parameters
    ----------
    link
        Of a user that may write to `mc.control`.
    command
        What they are told.
    names
        Of consumers and hosts; none for all.
    within
        Seconds to wait.

    Raises
    ------
    UsageError
        A name is nobody's; nobody has been told anything.
    BrokerError
        The broker or the aggregator cannot be used, or the user may not do this.
    """
    told = _named(await members(link), names)
    word = Control(command=command, by=host_name())
    for name in names or [EVERYBODY]:
        # Nobody listens there any more: who that is follows from what the aggregator tells next.
        with contextlib.suppress(UnroutableError):
            await link.publish(CONTROL, control_key(name), word, persistent=False)
    deadline = time.monotonic() + within
    while True:
        now = {member.consumer: member for member in await members(link)}
        silent = tuple(name for name in told if not obeys(command, now.get(name)))
        if not silent or time.monotonic() >= deadline:
            return Heard(tuple(name for name in told if name not in silent), silent)
        await asyncio.sleep(POLL_SECONDS)


def obeys(command: Command, member: FleetMember | None) -> bool:
    """Say whether a consumer does what it was told; None stands for one that is gone."""
    if member is None:
        return command is not Command.RESUME
    ending = member.state is Condition.DRAINING
    quiet = member.suspended == Suspension.QUIET
    return {
        Command.QUIET: quiet or ending,
        Command.RESUME: not (quiet or ending),
        Command.DRAIN: ending,
        Command.STOP: False,
    }[command]


def _named(alive: Iterable[FleetMember], names: Sequence[str]) -> list[str]:
    alive = list(alive)
    known = {name for member in alive for name in (member.consumer, member.host)}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            f"no live consumer or host is called {', '.join(unknown)}; "
            "`montemq fleet list` shows who there is"
        )
    return [m.consumer for m in alive if not names or {m.consumer, m.host} & {*names}]
