"""What a producer tells of itself, on a real broker: to an aggregator, while blocked, forbidden."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ops.private_broker import PrivateBroker
from producer import meter
from producer.meter import Meter
from producer.runfile import Submission
from producer.scheduler import Scheduler
from producer.session import RunSession
from protocol import topology
from protocol.amqp_aio import Delivery, Link
from protocol.definition import Lane
from protocol.errors import UnroutableError
from protocol.messages import Chunk, Leader, RunState, decode
from protocol.settings import Broker
from tests.support.alarm import disk_alarm
from tests.support.run_values import RUN, chunk, definition, partial, telemetry
from tests.support.running_aggregator import Running, running

SECONDS = 40.0
OF = definition(48)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def shown(aggregator: Running, wanted: Callable[[dict[str, float]], bool]) -> None:
    """Wait until an aggregator shows of its producers what is wanted."""
    found: dict[str, float] = {}
    async with asyncio.timeout(SECONDS):
        while not (found and wanted(found)):
            await asyncio.sleep(0.01)
            families = text_string_to_metric_families(await aggregator.metrics())
            samples = [sample for family in families for sample in family.samples]
            found = {
                "/".join([s.name, *s.labels.values()]).removeprefix("montemq_producer_"):
                s.value for s in samples
            }  # fmt: skip


async def test_a_run_of_a_moment_is_counted_whole(broker: Broker, tmp_path: Path) -> None:
    attempts: set[int] = set()
    async with running(broker, tmp_path / "store.sqlite") as aggregator:
        link = aggregator.link

        async def work(delivery: Delivery) -> None:
            got: Chunk = decode(delivery.type, delivery.body, Chunk)
            attempts.add(got.attempt)
            answer = partial(OF, got.first_block, got.stop_block, attempt=got.attempt)
            await link.publish(topology.RESULTS, "partial.x", answer)

        await link.publish(topology.TELEMETRY, "guest", telemetry())
        await link.consume(topology.work_queue("default", Lane.NORMAL), work, no_ack=True)
        submission = Submission(RUN, OF, "default", Lane.NORMAL)
        result = await RunSession(broker, submission, chunk_blocks=8).result(SECONDS)
        assert result.state == RunState.FINISHED.value
        await shown(
            aggregator,
            lambda found: (
                found["chunks_published_total"] == len(attempts) >= 48 / 8
                and found["confirm_seconds_count"] == len(attempts)
                and found["confirm_seconds_sum"] > 0
            ),
        )


async def test_a_producer_that_leads_is_heard_every_other_second_until_it_stops(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "TELL_SECONDS", 0.02)
    one = Meter()
    async with running(broker, tmp_path / "store.sqlite") as aggregator:
        async with await Link.open(broker, "meter") as link, one.telling(link):
            one.tally.led[RUN] = Scheduler(RUN, OF)
            one.tally.sent()
            await shown(aggregator, lambda found: found.get(f"runs/{one._host}") == 1)
            await shown(aggregator, lambda found: found[f"leaders/{one._host}/leading"] == 1)
            await shown(aggregator, lambda found: found[f"unconfirmed_chunks/{one._host}"] == 1)
            one.tally.led.clear()
        await shown(aggregator, lambda found: found[f"leaders/{one._host}/leading"] == 0)
        await shown(aggregator, lambda found: found["chunks_published_total"] == 1)


async def test_a_chunk_that_no_queue_takes_is_counted_as_returned(broker: Broker) -> None:
    submission = Submission(RUN, OF, "nowhere", Lane.NORMAL)
    session = RunSession(broker, submission)
    attendant, tally = session._attendant, session._meter.tally
    async with await Link.open(broker, "meter") as link:
        attendant._link = link
        attendant._publish(link, asyncio.Queue(), chunk(OF, 0, 8))
        assert (tally.published, tally.unconfirmed) == (1, 1)
        await until(lambda: not tally.unconfirmed)
    assert (tally.returned, sum(tally.totals(0).confirms)) == (1, 0)
    assert "nowhere" in str(attendant._error)
    assert not isinstance(attendant._error, UnroutableError)


async def test_a_blocked_producer_is_seen_within_its_process_and_counted_afterwards(
    private_broker: PrivateBroker, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "TELL_SECONDS", 0.02)
    heard: list[tuple[Leader, bool]] = []
    one = Meter(lambda word, blocked: heard.append((word, blocked)))
    async with await Link.open(broker, "meter") as link, one.telling(link):
        one.tally.led[RUN] = Scheduler(RUN, OF)
        await until(lambda: bool(heard))
        assert not heard[0][1]
        with disk_alarm(private_broker):
            await until(lambda: heard[-1][1])
            assert link.blocked
        await until(lambda: not heard[-1][1])
        assert heard[-1][0].totals.blockings == 1
        assert not link.blocked
        one.tally.led.clear()
    assert heard[-1][0].stopped
    assert [word.first for word, _ in heard].count(True) == 1


async def test_a_user_who_may_not_tell_goes_on_without(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(meter, "TELL_SECONDS", 0.02)
    caplog.set_level(logging.INFO, "montemq.producer")
    told: list[Leader] = []
    one = Meter(lambda word, _: told.append(word))
    async with await Link.open(broker, "meter") as link:
        # The broker refuses a name that is not the user's own just as it refuses a missing right.
        link.broker = replace(broker, user="somebody")
        async with one.telling(link):
            one.tally.led[RUN] = Scheduler(RUN, OF)
            await until(lambda: "no metrics of this producer reach" in caplog.text)
            one.tally.sent()  # something new to tell, every time
            await until(lambda: len(told) > 3)
        assert not link.closed.is_set()
        assert await link.try_lock("mc.leader.x")
    assert len(caplog.records) == 1, "it is said once"
