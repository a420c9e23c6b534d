"""Several aggregators: one active, others standing by, the store's epoch between them.

Also what happens to runs when the store is one that an operator restored from an old copy.
"""

import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pika
import pytest

from protocol.messages import Partial, decode
from protocol.settings import HEARTBEAT_SECONDS, Broker
from protocol.topology import RESULTS, partial_key
from tests.support.fault_table import ANSWER, GOES_ON, MOVES, REFUSED
from tests.support.stack_jobs import asian, pi
from tests.support.stack_metrics import ACTIVE, becomes
from tests.support.stack_processes import Service, eventually
from tests.support.stack_site import Site

BEATS = 2 * HEARTBEAT_SECONDS
QUICK = 2
"""Seconds between AMQP heartbeats: the broker gives a silent peer up after twice that."""

EPOCH = "montemq_store_epoch"
BY_ANOTHER = "another aggregator has taken the store"


def stands_by(aggregator: Service) -> None:
    aggregator.ready()
    status, body = aggregator.http("/readyz")
    assert status == 503
    assert "standby" in body
    assert aggregator.http("/healthz")[0] == 200
    assert aggregator.http("/api/runs")[0] == 503
    assert aggregator.metric(ACTIVE) == 0


def takes_over(site: Site, aggregator: Service) -> str:
    """Wait until it has; return what its metrics say."""
    eventually(lambda: aggregator.http("/readyz")[0] == 200, "the standby takes over", BEATS)
    assert aggregator.metric(ACTIVE) == 1
    assert aggregator.metric(EPOCH) == epoch(site) == 2
    return f"{ACTIVE} of the standby 0 → 1; {EPOCH} 1 → 2"


def epoch(site: Site) -> int:
    return int(site.rows("SELECT epoch FROM store")[0][0])


@pytest.mark.fault("Two aggregators, and SIGKILL of the active one", ANSWER, GOES_ON, MOVES)
def test_a_second_aggregator_stands_by_and_takes_over_when_the_first_is_killed(
    site: Site, seen: Callable[[str], None]
) -> None:
    first, consumer = site.aggregator(), site.consumer()
    first.ready()
    consumer.ready()
    second = site.aggregator()
    stands_by(second)
    job = asian("taken-over")
    run = site.run(job, "--chunk-blocks", "2")
    site.reached(job, 0.2)
    assert first.metric(EPOCH) == epoch(site) == 1
    assert second.http("/readyz")[0] == 503
    first.kill()
    seen(takes_over(site, second))
    site.assert_answer(job, run.wait(BEATS))


@pytest.mark.fault(
    "Two aggregators, and SIGSTOP of the active one before its commit",
    *(ANSWER, GOES_ON, MOVES, "it writes no more"),
)
def test_an_aggregator_that_was_stopped_replaced_and_woken_again_exits_without_having_written(
    site: Site, seen: Callable[[str], None]
) -> None:
    quick = replace(site.broker, heartbeat=QUICK)
    first, consumer = site.aggregator(broker=quick), site.consumer()
    first.ready()
    consumer.ready()
    second = site.aggregator(broker=quick)
    stands_by(second)
    job = asian("woken-again")
    run = site.run(job, "--chunk-blocks", "1")
    site.reached(job, 0.2)
    assert first.metric(EPOCH) == 1
    with closing(sqlite3.connect(site.store, isolation_level=None)) as database:
        # A batch is on its way to the store, and has not got there.
        database.execute("BEGIN IMMEDIATE")
        first.send(signal.SIGSTOP)
    seen(takes_over(site, second))
    site.assert_answer(job, run.wait(BEATS))
    before = site.contents()
    first.send(signal.SIGCONT)
    ended = first.wait()
    assert ended.code == 1
    assert BY_ANOTHER in ended.err.splitlines()[-1]
    assert site.contents() == before
    assert second.http("/readyz")[0] == 200
    assert epoch(site) == 2


@pytest.mark.fault(
    "Two aggregators, and SIGSTOP of the active one at rest",
    *(ANSWER, GOES_ON, MOVES, "it writes no more"),
)
def test_an_aggregator_that_slept_while_nothing_happened_exits_as_well_when_it_was_replaced(
    site: Site, seen: Callable[[str], None]
) -> None:
    quick = replace(site.broker, heartbeat=QUICK)
    first = site.aggregator(broker=quick)
    first.ready()
    second = site.aggregator(broker=quick)
    stands_by(second)
    assert first.metric(EPOCH) == 1
    site.consumer().ready()
    first.send(signal.SIGSTOP)
    seen(takes_over(site, second))
    job = pi("after-a-sleep", blocks=40)
    site.assert_answer(job, site.run(job).wait(BEATS))
    before = site.contents()
    first.send(signal.SIGCONT)
    ended = first.wait()
    assert ended.code == 1
    assert BY_ANOTHER in ended.err.splitlines()[-1]
    assert site.contents() == before


def test_an_aggregator_with_another_store_refuses_to_start_unless_it_is_told_to_adopt(
    site: Site,
) -> None:
    first = site.aggregator()
    first.ready()
    (known,) = site.rows("SELECT id FROM store")[0]
    first.send(signal.SIGTERM)
    assert first.wait().code == 0
    other = site.folder / "other.sqlite"
    for _ in range(2):  # a refusal does not make the broker forget
        refused = site.aggregator(store=other).wait()
        assert refused.code == 1
        sentence = refused.err.splitlines()[-1]
        assert sentence.startswith("montemq: the runs of this broker live in store ")
        assert known in sentence
        assert str(other) in sentence
        assert "--adopt-store" in sentence
    again = site.aggregator()
    again.ready()
    again.send(signal.SIGTERM)
    again.wait()
    adopted = site.aggregator("--adopt-store", store=other)
    adopted.ready()
    adopted.send(signal.SIGTERM)
    adopted.wait()
    # From now on the broker belongs to that one.
    site.aggregator(store=other).ready()
    job = pi("adopted", blocks=40)
    site.consumer().ready()
    ended = site.run(job).wait()
    assert (ended.code, ended.json["digest"]) == (0, job.digest)


@pytest.mark.fault("The store is restored from an old copy", ANSWER, GOES_ON, MOVES, REFUSED)
def test_partials_from_before_a_restore_are_refused_when_the_run_id_has_another_definition(
    site: Site, broker: Broker, seen: Callable[[str], None]
) -> None:
    aggregator, copy = site.aggregator(), site.folder / "copy.sqlite"
    aggregator.ready()
    aggregator.send(signal.SIGTERM)
    aggregator.wait()
    shutil.copy(site.store, copy)

    aggregator, consumer = site.aggregator(), site.consumer()
    aggregator.ready()
    consumer.ready()
    old = pi("same-id", seed=1, blocks=64)
    name = 'montemq_messages_rejected_total{reason="wrong_definition"}'
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        tapped = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(tapped, RESULTS, partial_key("*"))
        site.assert_answer(old, site.run(old, "--chunk-blocks", "8").wait())
        for service in (consumer, aggregator):
            service.send(signal.SIGTERM)
            service.wait()
        restore(site, copy)

        aggregator = site.aggregator()
        aggregator.ready()
        new = pi("same-id", seed=2, blocks=64)
        run = site.run(new, "--chunk-blocks", "8")
        run.says("no consumer is live")
        eventually(lambda: site.rows("SELECT 1 FROM runs"), "the run is declared again")
        assert aggregator.metric(name) == 0
        replayed = 0
        for method, properties, body in channel.consume(tapped, inactivity_timeout=1):
            if method is None:
                break
            assert decode(properties.type, body, Partial).definition == old.definition.hash
            channel.basic_publish(RESULTS, partial_key("guest"), body, properties)
            channel.basic_ack(method.delivery_tag)
            replayed += 1
            if replayed == 8:
                break
        channel.cancel()
    assert replayed == 8
    becomes(aggregator, name, 8)
    seen("montemq_messages_rejected_total 0 → 8")
    assert site.samples("same-id") == 0
    assert site.rows("SELECT * FROM segments") == []
    assert new.digest != old.digest
    site.consumer().ready()
    site.assert_answer(new, run.wait(BEATS))


def restore(site: Site, copy: object) -> None:
    """Put an old copy in the place of the store, as an operator does."""
    for suffix in ("-wal", "-shm"):
        site.store.with_name(site.store.name + suffix).unlink(missing_ok=True)
    shutil.copy(str(copy), site.store)
