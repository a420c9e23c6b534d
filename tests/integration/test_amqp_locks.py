"""A lock whose node has fallen, of a cluster that keeps its queue: a proxy is the node.

The broker does not know that it has fallen, and so keeps the queue as RabbitMQ 4.2 and later do.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from protocol import amqp_locks, topology
from protocol.amqp_aio import Link
from protocol.amqp_locks import Locks
from protocol.settings import Broker
from tests.support.stack_proxy import Proxy, proxy

ANY = (3,)
NAME = "test.lock"


@pytest.fixture(autouse=True)
def any_release_keeps_what_has_fallen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amqp_locks, "KEEPS_FALLEN", ANY)


@dataclass
class Scene:
    """Who held the lock and has just lost the node that it was connected to, and a rival."""

    ours: Locks
    theirs: Locks
    node: Proxy
    link: Link
    rival: Link

    async def the_node_is_back(self) -> None:
        """Have the broker drop what it kept."""
        self.node.break_all()
        async with asyncio.timeout(10):
            while await self.rival.is_locked(NAME):  # noqa: ASYNC110 - in reality
                await asyncio.sleep(0.01)


@asynccontextmanager
async def fallen(broker: Broker, node: Proxy) -> AsyncIterator[Scene]:
    ours, theirs = Locks(), Locks()
    async with await Link.open(broker, "rival") as rival:
        first = await Link.open(node.broker, "test")
        assert await ours.take(first, NAME)
        assert await ours.take(first, NAME)
        assert not await theirs.take(rival, NAME)
        node.fall()
        await first.closed.wait()
        async with await Link.open(broker, "test again") as link:
            yield Scene(ours, theirs, node, link, rival)
        await first.close()


async def test_who_held_it_has_it_again_although_the_broker_still_keeps_it(broker: Broker) -> None:
    with proxy(broker) as node:
        async with fallen(broker, node) as scene:
            assert await scene.ours.take(scene.link, NAME)
            assert not await scene.theirs.take(scene.rival, NAME)
            await scene.the_node_is_back()
            assert not await scene.theirs.take(scene.rival, NAME)
            await scene.ours.give_back(scene.link, NAME)
            assert await scene.theirs.take(scene.rival, NAME)
            assert not await scene.ours.take(scene.link, NAME)


async def test_who_held_it_and_lost_that_connection_too_has_it_again(broker: Broker) -> None:
    with proxy(broker) as node:
        async with fallen(broker, node) as scene:
            assert await scene.ours.take(scene.link, NAME)
            await scene.link.close()
            async with await Link.open(broker, "third") as third:
                assert await scene.ours.take(third, NAME)
                assert not await scene.theirs.take(scene.rival, NAME)


async def test_who_held_it_long_ago_has_no_claim(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(broker) as node:
        async with fallen(broker, node) as scene:
            monkeypatch.setattr(amqp_locks, "CLAIM_SECONDS", 0.0)
            assert not await scene.ours.take(scene.link, NAME)
            await scene.the_node_is_back()
            assert await scene.ours.take(scene.link, NAME)


async def test_an_earlier_release_has_one_queue(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await Link.open(broker, "one") as one, await Link.open(broker, "two") as two:
        monkeypatch.setattr(amqp_locks, "KEEPS_FALLEN", (one.release[0] + 1,))
        assert await Locks().take(one, NAME)
        assert await two.try_lock(topology.lock_queues(NAME)[1])
