"""One answer: the digest and the ledger are the same whatever is killed, repeated or cut otherwise.

Every expected digest is computed in this process from the run file alone, without a broker.
"""

import math
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pika
import pytest

from ops.private_broker import PrivateBroker
from protocol.definition import Lane
from protocol.messages import Chunk, Partial, decode
from protocol.settings import HEARTBEAT_SECONDS, Broker
from protocol.topology import RESULTS_QUEUE, WORK, work_key, work_queue
from tests.support.fault_table import ANSWER, GOES_ON, MOVES
from tests.support.stack_jobs import ASIAN_REFERENCE, SIGMAS, Job, asian, gate, pi
from tests.support.stack_processes import Service, eventually
from tests.support.stack_site import Site

BEATS = 2 * HEARTBEAT_SECONDS

EPOCH = "montemq_store_epoch"
MERGED = 'montemq_results_total{outcome="merged"}'

Seen = Callable[[str], None]

REFERENCES = {"price": ASIAN_REFERENCE, "pi": math.pi}


def assert_near_the_truth(result: dict[str, Any]) -> None:
    outputs = result["cells"][0]["outputs"]
    known = REFERENCES.keys() & outputs.keys()
    assert known
    for name in known:
        estimate = outputs[name]
        assert estimate["standard_error"] > 0
        off = abs(estimate["mean"] - REFERENCES[name])
        assert off <= SIGMAS * estimate["standard_error"]


def assert_answers(site: Site, chunk_blocks: dict[int, Job]) -> None:
    """Run jobs at once, each with its own chunk size, and check every answer."""
    runs = {
        job: site.run(job, "--chunk-blocks", str(blocks)) for blocks, job in chunk_blocks.items()
    }
    for job, run in runs.items():
        assert_near_the_truth(site.assert_answer(job, run.wait()))


@pytest.mark.parametrize("consumers", [1, 4])
def test_the_digest_depends_neither_on_the_consumers_nor_on_the_size_of_chunks(
    site: Site, consumers: int
) -> None:
    aggregator = site.aggregator()
    for consumer in [site.consumer() for _ in range(consumers)]:
        consumer.ready()
    eventually(
        lambda: aggregator.metric("montemq_live_consumers") == consumers, "all consumers are live"
    )
    assert_answers(site, {size: pi(f"pi-{size}") for size in (1, 7, 64)})
    assert_answers(site, {size: asian(f"asian-{size}", blocks=200) for size in (1, 7, 64)})


@pytest.mark.fault("SIGKILL of consumers and aggregators at random moments", ANSWER, GOES_ON, MOVES)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_digest_survives_consumers_and_aggregators_that_are_killed_at_any_moment(
    site: Site, seed: int, seen: Seen
) -> None:
    chance = random.Random(seed)  # noqa: S311 - moments of test kills
    job = asian(f"killed-{seed}")
    aggregator = site.aggregator()
    consumers = [site.consumer(), site.consumer()]
    for service in (aggregator, *consumers):
        service.ready()
    run = site.run(job, "--chunk-blocks", "3")
    victims = chance.sample(["aggregator", "consumer", "consumer"], 3)
    moments = sorted(chance.uniform(0.05, 0.8) for _ in victims)
    assert aggregator.metric(EPOCH) == 1
    for victim, moment in zip(victims, moments, strict=True):
        site.reached(job, moment)
        assert run.running
        if victim == "aggregator":
            aggregator.kill()
            aggregator = site.aggregator()
        else:
            consumers.pop(chance.randrange(len(consumers))).kill()
            consumers.append(site.consumer())
    assert_near_the_truth(site.assert_answer(job, run.wait(BEATS)))
    assert aggregator.metric(EPOCH) == 2
    seen(f"{EPOCH} 1 → 2")


@pytest.mark.fault("SIGKILL of the aggregator before its commit", ANSWER, GOES_ON, MOVES)
def test_what_an_aggregator_had_not_committed_when_it_was_killed_comes_again(
    site: Site, seen: Seen
) -> None:
    aggregator, consumer = site.aggregator(), site.consumer()
    aggregator.ready()
    consumer.ready()
    job = gate("uncommitted", site.folder)
    run = site.run(job, "--chunk-blocks", "1")
    eventually(job.waiting, "the run is declared and computed")
    with closing(sqlite3.connect(site.store, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")  # from here on no commit can end
        job.open()
        received = 'montemq_messages_received_total{queue="mc.results.q"}'
        eventually(lambda: aggregator.metric(received) > 0, "partials arrive")
        assert (aggregator.metric(MERGED), aggregator.metric(EPOCH)) == (0, 1)
        assert site.samples(job.run) == 0
        aggregator.kill()
    # Only an aggregator makes producers issue a chunk again, and there is none: it is the first.
    eventually(lambda: 0 in unmerged(site.broker), "the first block's partial is back")
    second = site.aggregator()
    second.ready()
    site.assert_answer(job, run.wait(BEATS))
    assert (second.metric(MERGED), second.metric(EPOCH)) == (job.definition.blocks, 2)
    seen(f"{EPOCH} 1 → 2; {MERGED} 0, then {job.definition.blocks}")


def unmerged(broker: Broker) -> set[int]:
    """Return the blocks whose partials wait in the queue of results, which stay there."""
    found = set()
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        while True:
            method, properties, body = channel.basic_get(RESULTS_QUEUE)
            if method is None:
                return found
            found.add(decode(properties.type, body, Partial).first_block)


@pytest.mark.fault("SIGKILL of the broker", ANSWER, GOES_ON, MOVES)
def test_the_digest_survives_a_broker_that_is_killed_and_started_again(
    site: Site, private_broker: PrivateBroker, seen: Seen
) -> None:
    job = asian("broker-killed")
    aggregator, *consumers = site.aggregator(), site.consumer(), site.consumer()
    services = [aggregator, *consumers]
    for service in services:
        service.ready()
    run = site.run(job, "--chunk-blocks", "3")
    site.reached(job, 0.3)
    private_broker.kill()
    private_broker.restart()
    result = site.assert_answer(job, run.wait(BEATS))
    assert_near_the_truth(result)
    assert all(service.running for service in services)
    # Nobody gave up and came back as somebody else.
    assert "trying again" in run.err
    again = "montemq_host_reconnections_total"
    eventually(lambda: aggregator.metric(again) >= len(consumers), "both consumers tell of it")
    seen(f"{again} 0 → {aggregator.metric(again):.0f}")


@pytest.mark.fault("Every chunk is published twice", ANSWER, MOVES)
def test_the_digest_survives_every_chunk_message_published_twice(
    site: Site, broker: Broker, seen: Seen
) -> None:
    aggregator, consumers = site.aggregator(), [site.consumer(), site.consumer()]
    for service in (aggregator, *consumers):
        service.ready()
    job = asian("twice", blocks=200)
    with every_chunk_published_twice(broker) as copied:
        assert_near_the_truth(site.assert_answer(job, site.run(job, "--chunk-blocks", "2").wait()))
        # Late chunks are issued again under another attempt: what counts is their blocks.
        spans = lambda: {decode(Chunk.type, body, Chunk).first_block for body in [*copied]}  # noqa: E731
        eventually(lambda: len(spans()) == 100, "every chunk has been copied")
        copies = assert_results_are_accounted_for(aggregator, len(spans()))
        seen(f"montemq_results_total: merged {len(spans())}, duplicate or late {copies:.0f}")


def assert_results_are_accounted_for(aggregator: Service, chunks: int) -> float:
    """Check that each chunk was merged once; return how many copies did reach the ledger."""
    merged = aggregator.metric(MERGED)
    again = [
        aggregator.metric(f'montemq_results_total{{outcome="{outcome}"}}')
        for outcome in ("duplicate", "late")
    ]
    assert merged == chunks
    assert sum(again) > 0
    return sum(again)


@contextmanager
def every_chunk_published_twice(broker: Broker) -> Iterator[list[bytes]]:
    """Publish each chunk of the normal lane once more, straight to its queue."""
    copied: list[bytes] = []
    stop, begun = threading.Event(), threading.Event()

    def copy_chunks() -> None:
        connection = pika.BlockingConnection(pika.URLParameters(broker.url))
        with connection, connection.channel() as channel:
            queue = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queue, WORK, work_key("default", Lane.NORMAL))
            begun.set()
            for method, properties, body in channel.consume(queue, True, inactivity_timeout=0.02):
                if stop.is_set():
                    return
                if method is not None:
                    channel.basic_publish("", work_queue("default", Lane.NORMAL), body, properties)
                    copied.append(body)

    thread = threading.Thread(target=copy_chunks)
    thread.start()
    try:
        assert begun.wait(10)
        yield copied
    finally:
        stop.set()
        thread.join()
