"""A whole aggregator against a real broker: what anybody may send to its queues, it survives."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aggregator.identity import WrongStoreError
from protocol import topology
from protocol.amqp_aio import Delivery, Link
from protocol.errors import NoAggregatorError
from protocol.messages import Finished, Progress, StoreIdentity, decode
from protocol.rpc_messages import (
    ErrorReply,
    Missing,
    Results,
    ResultsRequest,
    StatusRequest,
)
from protocol.settings import Broker
from tests.support.run_values import RUN, declare, definition, failure, partial, telemetry
from tests.support.running_aggregator import SECONDS, Running, running

SPANS = ((0, 32), (32, 48), (48, 72), (72, 108))


@pytest.fixture
async def aggregator(broker: Broker, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(broker, tmp_path / "store.sqlite") as aggregator:
        yield aggregator


async def test_a_run_goes_from_declared_to_finished(aggregator: Running) -> None:
    of, link = definition(), aggregator.link
    heard: asyncio.Queue[Delivery] = asyncio.Queue()
    keys = (topology.progress_key(RUN), topology.finished_key(RUN))
    await link.subscribe(topology.EVENTS, keys, heard.put)
    await link.publish(topology.TELEMETRY, "guest", telemetry(slots=3))
    answer = await link.call(declare(of), Missing, SECONDS)
    assert answer.cells[0].missing == ((0, 108),)
    for _ in range(2):
        for span in SPANS:
            await link.publish(topology.RESULTS, "partial.guest", partial(of, *span))
    merged = 0
    async with asyncio.timeout(SECONDS):
        while True:
            delivery = await heard.get()
            event = decode(delivery.type, delivery.body, Progress, Finished)
            if isinstance(event, Finished):
                break
            assert event.merged_blocks >= merged
            merged = event.merged_blocks
    assert event.definition == of.hash
    results = await link.call(ResultsRequest(run=RUN), Results, SECONDS)
    assert (results.result.state, results.result.samples) == ("finished", 108 * 1024)
    assert await aggregator.rejected() == {}


FORGED = ("", ".", ".garbage", ".AAAA.BBBB", ".%00", "." + "a" * 200, ".g2dkAAA=.x")


@pytest.mark.parametrize("address", FORGED)
async def test_a_forged_reply_address_costs_nobody_else_more_than_a_reply(
    aggregator: Running, address: str
) -> None:
    session = aggregator.service.session
    await aggregator.send(
        topology.RPC, topology.RPC_KEY, b"\x80",
        message_type=StatusRequest.type,
        reply_to=topology.DIRECT_REPLY + "-" * (not address) + address,
        correlation_id="x",
    )  # fmt: skip
    answered = False
    async with asyncio.timeout(SECONDS):
        while not answered:  # one reply may be lost with the connection that was closed
            try:
                answered = bool(await aggregator.ask(within=1.0))
            except NoAggregatorError:
                continue
    assert aggregator.service.session is session


async def test_whatever_is_sent_to_its_queues_is_refused_and_counted(aggregator: Running) -> None:
    of, session = definition(), aggregator.service.session
    await aggregator.link.call(declare(of), Missing, SECONDS)
    chance = os.urandom(200)
    for exchange, key in (
        (topology.RESULTS, "partial.x"),
        (topology.RESULTS, "failure.x"),
        (topology.TELEMETRY, "x"),
        (topology.RPC, topology.RPC_KEY),
        (topology.DEAD, ""),
    ):
        for kind in (None, "nonsense", "partial.v1", "chunk.v1", "telemetry.v1", "status.v1"):
            for body in (b"", b"\xc1", chance, b"\x91" * 5000, b"\xdf\xff\xff\xff\xff", b"\x80"):
                await aggregator.send(
                    exchange, key, body, message_type=kind, reply_to=f"{topology.DIRECT_REPLY}.x"
                )
    wrong = (
        partial(of, 0, 4, run="unknown"),
        partial(of, 0, 4, definition=bytes(32)),
        partial(of, 200, 204),
        partial(of, 30, 34),
        failure(of, 30, 34),
    )
    for message in wrong:
        await aggregator.link.publish(topology.RESULTS, "partial.x", message)
    await aggregator.link.publish(topology.RESULTS, "partial.x", partial(of, 0, 32))
    async with asyncio.timeout(SECONDS):
        while aggregator.service.session and not (  # noqa: ASYNC110 - a condition, with a deadline
            session and session.ledger.active[RUN].merged_blocks
        ):
            await asyncio.sleep(0.01)
    assert aggregator.service.session is session
    assert not aggregator.link.closed.is_set()
    assert set(await aggregator.rejected()) >= {
        "malformed", "unknown_type", "invalid", "unknown_run", "wrong_definition", "out_of_range",
        "crosses_checkpoint",
    }  # fmt: skip


async def test_a_run_is_found_again_by_the_next_aggregator(broker: Broker, tmp_path: Path) -> None:
    of = definition()
    async with running(broker, tmp_path / "s.sqlite") as first:
        await first.link.call(declare(of), Missing, SECONDS)
        await first.link.publish(topology.RESULTS, "partial.x", partial(of, 0, 32))
        async with asyncio.timeout(SECONDS):
            while not (await first.ask()).runs[0].samples:  # noqa: ASYNC110 - with a deadline
                await asyncio.sleep(0.01)
    async with running(broker, tmp_path / "s.sqlite") as second:
        answer = await second.link.call(declare(of), Missing, SECONDS)
        assert (answer.epoch, answer.term, answer.merged_blocks) == (2, 2, 32)
        other = await second.link.call(declare(definition(seed=1)), Missing, SECONDS)
        assert isinstance(other, ErrorReply)


async def test_another_store_is_refused_by_name(broker: Broker, tmp_path: Path) -> None:
    async with running(broker, tmp_path / "one.sqlite"):
        pass
    with pytest.raises(WrongStoreError, match=r"two\.sqlite is store \w+; give the right --store"):
        async with running(broker, tmp_path / "two.sqlite"):
            pass


async def test_adopting_forgets_every_store_that_the_broker_has_known(
    broker: Broker, tmp_path: Path
) -> None:
    async with await Link.open(broker, "test") as link:
        for store in ("a", "b", "b"):
            await link.publish("", topology.STORE_QUEUE, StoreIdentity(store=store * 32))
    with pytest.raises(WrongStoreError, match="live in store aaaa"):
        async with running(broker, tmp_path / "mine.sqlite"):
            pass
    async with running(broker, tmp_path / "mine.sqlite", adopt_store=True):
        pass
    async with running(broker, tmp_path / "mine.sqlite"):
        pass
    async with await Link.open(broker, "test") as link:
        assert await link.get(topology.STORE_QUEUE) is not None
        assert await link.get(topology.STORE_QUEUE) is None
