"""A broker that blocks, loses a binding, loses everything, or cannot take dead letters."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import pika
import pytest

from ops.private_broker import PrivateBroker
from protocol.definition import Lane
from protocol.settings import HEARTBEAT_SECONDS, Broker
from protocol.topology import DEAD_QUEUE, RESULTS, RESULTS_QUEUE, WORK, work_key, work_queue
from tests.support.alarm import disk_alarm, memory_alarm
from tests.support.fault_table import ANSWER, GOES_ON, MOVES
from tests.support.real_broker import reset, waiting
from tests.support.stack_hostile import Hostile, send
from tests.support.stack_jobs import GateJob, gate, pi
from tests.support.stack_metrics import ACTIVE, RECONNECTIONS, becomes, connected, reconnected
from tests.support.stack_processes import Program, Service, eventually
from tests.support.stack_site import Site

BEATS = 2 * HEARTBEAT_SECONDS
QUICK = 2
QUEUE = work_queue("default", Lane.NORMAL)
KEY = work_key("default", Lane.NORMAL)
RETRY_AFTER = "dead_letter_worker_publisher_confirm_timeout"
THREE_MINUTES = 180_000
RARE = 6
"""So many attempts in a row have failed when the pauses between them are the longest."""

BLOCKED = "montemq_aggregator_blocked"
ALARMS = {"disk": disk_alarm, "memory": memory_alarm}

Alarm = Callable[[PrivateBroker], AbstractContextManager[None]]
Seen = Callable[[str], None]


def half_done(site: Site, run: str) -> tuple[Service, Service, GateJob, Program]:
    """Start everything, and a run of which an eighth is merged and a block waits."""
    aggregator, consumer = site.aggregator(), site.consumer()
    aggregator.ready()
    consumer.ready()
    job = gate(run, site.folder, closed_from=8)
    program = site.run(job, "--chunk-blocks", "1")
    site.reached(job, 8 / 64)
    eventually(job.waiting, "a block waits")
    assert connected(aggregator) == 0
    return aggregator, consumer, job, program


@pytest.mark.slow
@pytest.mark.fault("The broker raises its {alarm} alarm", ANSWER, GOES_ON, MOVES)
@pytest.mark.parametrize("alarm", ALARMS)
def test_an_alarm(site: Site, private_broker: PrivateBroker, alarm: str, seen: Seen) -> None:
    aggregator, _, job, run = half_done(site, f"{alarm}-alarm")
    assert aggregator.metric(BLOCKED) == 0
    with ALARMS[alarm](private_broker):
        job.open()
        becomes(aggregator, BLOCKED, 1)
        merged = site.samples(job.run)
        assert run.running
    site.assert_answer(job, run.wait(BEATS))
    assert merged < job.samples
    becomes(aggregator, BLOCKED, 0)
    seen(f"{BLOCKED} 0 → 1 → 0")


@contextmanager
def unbound(site: Site, exchange: str, key: str, queue: str) -> Iterator[None]:
    """Take a binding away while the context lasts, and then do what operators are told to."""
    with pika.BlockingConnection(pika.URLParameters(site.broker.url)) as connection:
        connection.channel().queue_unbind(queue, exchange, key)
    yield
    assert site.command("broker", "init").code == 0


@pytest.mark.fault("The binding of the work queue is missing", ANSWER, GOES_ON, MOVES)
def test_a_missing_binding_for_chunks(site: Site, seen: Seen) -> None:
    aggregator, _, job, run = half_done(site, "unbound-chunks")
    name = "montemq_producer_chunks_returned_total"
    assert aggregator.metric(name) == 0
    with unbound(site, WORK, KEY, QUEUE):
        job.open()
        eventually(lambda: aggregator.metric(name) > 0, "chunks come back")
        assert run.running
    site.assert_answer(job, run.wait(BEATS))
    seen(f"{name} 0 → {aggregator.metric(name):.0f}")


@pytest.mark.fault("The binding of the queue of results is missing", ANSWER, GOES_ON, MOVES)
def test_a_missing_binding_for_results(site: Site, seen: Seen) -> None:
    aggregator, consumer, job, run = half_done(site, "unbound-results")
    name = "montemq_merged_samples_total"
    with unbound(site, RESULTS, "partial.#", RESULTS_QUEUE):
        # What is committed is counted a moment later; the block that waits comes after all of it.
        merged = site.samples(job.run)
        becomes(aggregator, name, merged)
        job.open()
        consumer.says("the broker refused a result; it is published again until it is taken")
        assert aggregator.metric(name) == merged
    site.assert_answer(job, run.wait(BEATS))
    assert aggregator.metric(name) == job.samples
    seen(f"{name} stood at {merged:,.0f}, then went to {job.samples:,}")


@pytest.mark.slow
@pytest.mark.fault("The broker is killed and its disk wiped", ANSWER, GOES_ON, MOVES)
def test_a_wiped_broker(site: Site, private_broker: PrivateBroker, seen: Seen) -> None:
    aggregator, _, job, run = half_done(site, "wiped-broker")
    before = aggregator.metric(RECONNECTIONS)
    private_broker.wipe()
    job.open()
    private_broker.restart()
    assert site.command("broker", "init").code == 0
    site.assert_answer(job, run.wait(BEATS))
    seen(reconnected(aggregator, before))


@pytest.mark.slow
@pytest.mark.fault(
    "The broker is killed and away until all try again as rarely as they do", ANSWER, GOES_ON, MOVES
)
def test_a_broker_that_is_long_away(site: Site, private_broker: PrivateBroker, seen: Seen) -> None:
    aggregator, _, job, run = half_done(site, "long-away")
    before = aggregator.metric(RECONNECTIONS)
    private_broker.persist()
    private_broker.kill()
    job.open()
    eventually(lambda: aggregator.err.count("trying again") == RARE, "it tries rarely", 100)
    assert aggregator.metric(ACTIVE) == 0
    private_broker.restart()
    site.assert_answer(job, run.wait(BEATS))
    assert aggregator.metric(ACTIVE) == 1
    seen(f"{ACTIVE} 1 → 0 → 1; {reconnected(aggregator, before)}")


@contextmanager
def full_soon(node: PrivateBroker, length: int) -> Iterator[None]:
    """Let the dead-letter queue take that few, and who is refused there try again every second.

    RabbitMQ itself does so every three minutes; a queue asks for that when it is declared.
    """
    control, name = node.directory.control(), "full"
    limits = f'{{"max-length": {length}, "overflow": "reject-publish"}}'
    control.run("set_policy", "--apply-to", "queues", name, f"^{DEAD_QUEUE}$", limits)
    control.run("eval", given=f"application:set_env(rabbit, {RETRY_AFTER}, 1000).")
    reset(node.broker)
    try:
        yield
    finally:
        control.run("clear_policy", name)
        control.run("eval", given=f"application:set_env(rabbit, {RETRY_AFTER}, {THREE_MINUTES}).")


@pytest.mark.slow
@pytest.mark.fault("SIGSTOP of the broker until everybody has given it up", ANSWER, GOES_ON, MOVES)
def test_a_broker_that_sleeps(site: Site, private_broker: PrivateBroker, seen: Seen) -> None:
    quick = replace(site.broker, heartbeat=QUICK)
    aggregator, consumer = site.aggregator(broker=quick), site.consumer(broker=quick)
    aggregator.ready()
    consumer.ready()
    before = connected(aggregator)
    job = gate("broker-sleeps", site.folder, closed_from=8)
    run = site.run(job, "--chunk-blocks", "1", broker=quick)
    site.reached(job, 8 / 64)
    eventually(job.waiting, "a block waits")
    os.kill(private_broker.pid, signal.SIGSTOP)
    try:
        for program in (aggregator, consumer, run):
            program.says("trying again")
    finally:
        os.kill(private_broker.pid, signal.SIGCONT)
    job.open()
    site.assert_answer(job, run.wait(BEATS))
    seen(reconnected(aggregator, before))


@pytest.mark.fault(
    "The dead-letter queue is full while hostile chunks die", ANSWER, MOVES, "none is lost"
)
def test_a_full_queue_of_dead_letters(
    site: Site, private_broker: PrivateBroker, broker: Broker, seen: Seen
) -> None:
    rejected = 'montemq_messages_rejected_total{reason="malformed"}'
    with full_soon(private_broker, 2):
        consumer = site.consumer()
        consumer.ready()
        send(broker, WORK, KEY, [Hostile("no msgpack", "chunk.v1", b"\xc1", "malformed")] * 12)
        eventually(lambda: consumer.err.count("refused a message from") == 12, "all are refused")
        eventually(lambda: waiting(broker, DEAD_QUEUE) >= 2, "the queue is full")
        full = waiting(broker, DEAD_QUEUE)
        assert full < 12
        aggregator = site.aggregator()
        aggregator.ready()
        eventually(lambda: aggregator.metric(rejected) == 12, "all of them arrive in the end")
        job = pi("beside-dead-letters", blocks=40)
        site.assert_answer(job, site.run(job).wait(BEATS))
        assert aggregator.metric(rejected) == 12
    seen(f"{full} of 12 fitted; montemq_messages_rejected_total 0 → 12")
