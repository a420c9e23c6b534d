"""A lock whose node has fallen, of a cluster that keeps its queue: a proxy is the node."""

import asyncio
from dataclasses import replace

from protocol.amqp_aio import Link
from protocol.amqp_locks import Locks, is_held
from protocol.settings import Broker
from tests.support.stack_proxy import proxy

NAME = "test.lock"


async def test_who_held_a_lock_has_it_again_although_the_broker_still_keeps_it(
    broker: Broker,
) -> None:
    here = replace(broker, others=((broker.host, broker.port),))
    ours, theirs = Locks(), Locks()
    async with await Link.open(here, "rival") as rival:
        with proxy(broker) as node:
            fallen = await Link.open(
                replace(node.broker, others=((broker.host, broker.port),)), "test"
            )
            assert await ours.take(fallen, NAME)
            assert not await theirs.take(rival, NAME)
            node.fall()
            await fallen.closed.wait()
            async with await Link.open(here, "test") as link:
                assert await ours.take(link, NAME)
                assert not await theirs.take(rival, NAME)
                node.break_all()  # the broker is told at last
                async with asyncio.timeout(10):
                    while await rival.is_locked(NAME):  # noqa: ASYNC110 - in reality
                        await asyncio.sleep(0.01)
                assert await is_held(rival, NAME)
                assert not await theirs.take(rival, NAME)
                await ours.give_back(link, NAME)
                assert await theirs.take(rival, NAME)
        await fallen.close()
