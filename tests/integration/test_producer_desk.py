"""The desk of the producer service on a real broker, and an aggregator that answers strangely."""

import asyncio
import logging

import pytest

from producer.service import Desk
from protocol import topology
from protocol.amqp_aio import Delivery, Link
from protocol.definition import Lane
from protocol.messages import Declared, Message, RunState, decode
from protocol.rpc_messages import (
    CellMissing,
    DeclarationRequest,
    Declare,
    Missing,
    RunStatus,
    Status,
    StatusRequest,
)
from protocol.settings import Broker
from tests.support.run_values import declare, definition

SECONDS = 20.0
NO_CELL = 7
PAGE = 1
"""Runs in an answer: whoever wants all of them has to ask again."""

LAST = (1.0, "z")
DEFINITION = definition()


def status(run: str) -> RunStatus:
    return RunStatus(
        run=run, state=RunState.RUNNING, model=DEFINITION.model, pool="default", lane=Lane.NORMAL,
        cells=1, samples=0, total_samples=1, created=0.0, elapsed_seconds=0.0, error=None,
    )  # fmt: skip


def missing(run: str, cells: tuple[CellMissing, ...]) -> Missing:
    return Missing(
        run=run, state=RunState.RUNNING if cells else RunState.FINISHED, epoch=1, sequence=0,
        term=0, slots=1, busy=0, consumers=1, merged_blocks=0, expected_blocks=1, cells=cells,
        failed_attempts=(),
    )  # fmt: skip


def answer(request: Message, runs: list[str]) -> Message:
    """Answer as an aggregator of another mind: of the run `odd` a cell is missing that it lacks."""
    if isinstance(request, DeclarationRequest):
        return declare(DEFINITION, request.run)
    if isinstance(request, Declare):
        unheard_of = CellMissing(cell=NO_CELL, missing=((0, 1),), cost=None)
        return missing(request.run, (unheard_of,) if request.run == "odd" else ())
    assert isinstance(request, StatusRequest)
    ages = (status(run).age for run in runs)
    left = sorted((age for age in ages if age < (request.older_than or LAST)), reverse=True)
    rows = tuple(status(run) for _, run in left[:PAGE])
    return Status(runs=rows, total=len(left), slots=1, consumers=1, clock=0.0, store="word")


async def said(caplog: pytest.LogCaptureFixture, sentence: str) -> logging.LogRecord:
    async with asyncio.timeout(SECONDS):
        while True:
            for record in caplog.records:
                if record.getMessage() == sentence:
                    return record
            await asyncio.sleep(0.01)


async def test_a_run_that_makes_the_scheduler_fail_rests_and_the_others_are_scheduled(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    runs = ["odd"]
    caplog.set_level(logging.INFO, "montemq.producer")
    async with await Link.open(broker, "peer") as peer, await Link.open(broker, "desk") as link:

        async def reply(delivery: Delivery) -> None:
            request = decode(
                delivery.type, delivery.body, StatusRequest, DeclarationRequest, Declare
            )
            await peer.publish(
                "", delivery.reply_to or "", answer(request, runs),
                persistent=False, correlation_id=delivery.correlation_id,
            )  # fmt: skip

        await peer.consume(topology.RPC_QUEUE, reply, no_ack=True)
        serving = asyncio.create_task(Desk(link).serve())
        failed = await said(caplog, "released run odd")
        assert failed.exc_info is not None
        assert failed.exc_info[0] is IndexError
        runs.append("next")
        await peer.publish(topology.EVENTS, topology.declared_key("next"), Declared(run="next"))
        await said(caplog, "run next finished")
        assert await peer.try_lock(topology.leader_lock("odd"))
        serving.cancel()
