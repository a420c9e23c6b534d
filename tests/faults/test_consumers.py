"""Consumers that are drained, killed or cut off: nothing is lost, nothing is left behind."""

import os
import re
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pika
import psutil
import pytest

from aggregator.fleet import ALIVE_SECONDS
from ops.child_process import descendants
from ops.private_broker import LOOPBACK, PrivateBroker
from protocol.definition import Lane
from protocol.origin import host_name
from protocol.settings import HEARTBEAT_SECONDS, Broker
from protocol.topology import topology, work_queue
from tests.support.fault_table import ANSWER, GOES_ON, MOVES
from tests.support.stack_jobs import gate, pi
from tests.support.stack_metrics import ACTIVE, CRASHES, LIVE, becomes, connected, reconnected
from tests.support.stack_processes import Service, eventually
from tests.support.stack_proxy import proxy
from tests.support.stack_site import Site

BEATS = 2 * HEARTBEAT_SECONDS
QUEUE = work_queue("default", Lane.NORMAL)
SLOTS = "montemq_live_slots"

Seen = Callable[[str], None]


def waiting_in(broker: Broker, queue: str) -> int:
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        declared = connection.channel().queue_declare(queue, passive=True)
        return int(declared.method.message_count)


@pytest.mark.fault(
    "SIGTERM of a consumer while its slots compute",
    *(ANSWER, GOES_ON, MOVES, "nothing is computed twice"),
)
def test_sigterm_lets_the_running_chunk_finish_and_gives_back_the_rest(
    site: Site, seen: Seen
) -> None:
    aggregator, consumer = site.aggregator(), site.consumer(slots=2)
    aggregator.ready()
    consumer.ready()
    job = gate("drained", site.folder)
    run = site.run(job, "--chunk-blocks", "1")
    eventually(lambda: len(job.waiting()) == 2, "both slots compute")
    becomes(aggregator, SLOTS, 2)
    consumer.send(signal.SIGTERM)
    consumer.says("draining")
    becomes(aggregator, SLOTS, 0)
    assert consumer.running
    job.open()
    assert consumer.wait().code == 0
    eventually(lambda: site.samples(job.run) == 2 * 512, "both chunks are merged")
    assert len(job.waiting()) == 2  # and nothing else was begun
    site.consumer().ready()
    site.assert_answer(job, run.wait(BEATS))
    becomes(aggregator, SLOTS, 1)
    seen(f"{SLOTS} 2 → 0 → 1")
    # Merged once and acknowledged: nothing was computed a second time.
    assert aggregator.metric('montemq_results_total{outcome="merged"}') == 64
    assert aggregator.metric('montemq_results_total{outcome="duplicate"}') == 0
    eventually(lambda: waiting_in(site.broker, QUEUE) == 0, "no chunk is left")


@pytest.mark.fault("SIGINT of a consumer, twice", ANSWER, GOES_ON, MOVES)
def test_a_second_signal_does_not_wait_for_the_running_chunk(site: Site, seen: Seen) -> None:
    aggregator, consumer = site.aggregator(), site.consumer()
    aggregator.ready()
    consumer.ready()
    job = gate("stopped", site.folder)
    run = site.run(job, "--chunk-blocks", "1")
    eventually(job.waiting, "the slot computes")
    becomes(aggregator, LIVE, 1)
    consumer.send(signal.SIGINT)
    consumer.says("draining")
    consumer.send(signal.SIGINT)
    assert consumer.wait().code == 0
    becomes(aggregator, LIVE, 0, ALIVE_SECONDS / 2)  # it said so, and is not only missed
    job.open()
    site.consumer().ready()
    site.assert_answer(job, run.wait(BEATS))
    becomes(aggregator, LIVE, 1)
    seen(f"{LIVE} 1 → 0 → 1")


@pytest.mark.fault("SIGKILL of a slot while it computes", ANSWER, GOES_ON, MOVES)
def test_a_slot_that_is_killed_takes_neither_its_agent_nor_its_chunk_along(
    site: Site, seen: Seen
) -> None:
    aggregator, consumer = site.aggregator(), site.consumer()
    aggregator.ready()
    consumer.ready()
    job = gate("slot-killed", site.folder)
    run = site.run(job, "--chunk-blocks", "1")
    eventually(job.waiting, "the slot computes")
    (slot,) = job.waiting()
    assert slot in [process.pid for process in descendants(consumer.pid)]
    assert aggregator.metric(CRASHES) == 0
    os.kill(slot, signal.SIGKILL)
    consumer.says("killed by SIGKILL")
    becomes(aggregator, CRASHES, 1)
    seen(f"{CRASHES} 0 → 1")
    job.open()
    site.assert_answer(job, run.wait(BEATS))
    assert consumer.running


@pytest.mark.fault("SIGKILL of a slot again and again", ANSWER, GOES_ON, MOVES)
def test_slots_that_die_again_and_again_start_after_growing_pauses_and_work_once_they_live(
    site: Site, seen: Seen
) -> None:
    aggregator, consumer = site.aggregator(), site.consumer()
    aggregator.ready()
    consumer.ready()
    rests = f'montemq_host_suspended_consumers{{host="{host_name()}",reason="failures"}}'
    becomes(aggregator, LIVE, 1)
    assert aggregator.metric(rests) == 0
    killed: set[int] = set()

    def dies() -> bool:
        if "it starts again in 4 s" in consumer.err:
            return True
        for slot in slots_of(consumer) - killed:
            killed.add(slot)
            os.kill(slot, signal.SIGKILL)
        return False

    eventually(dies, "the pause has grown")
    becomes(aggregator, rests, 1, 4)
    pauses = re.findall(r"it starts again in ([\d.]+) s", consumer.err)
    assert pauses == ["0", "1", "2", "4"]  # however soon each was killed
    assert len(killed) == len(pauses)
    job = pi("after-crashes")
    site.assert_answer(job, site.run(job).wait(BEATS))
    assert slots_of(consumer)
    becomes(aggregator, rests, 0)
    seen('montemq_host_suspended_consumers{reason="failures"} 0 → 1 → 0')


def slots_of(consumer: Service) -> set[int]:
    """Return the processes that compute: those that the process they are forked from started."""
    servers = psutil.Process(consumer.pid).children()
    return {slot.pid for server in servers for slot in server.children()}


@pytest.mark.slow
@pytest.mark.fault("SIGSTOP of a slot while it computes", ANSWER, GOES_ON, MOVES)
def test_a_slot_that_sleeps_keeps_its_chunk_from_nobody(site: Site, seen: Seen) -> None:
    aggregator, consumer = site.aggregator(), site.consumer(slots=2)
    aggregator.ready()
    consumer.ready()
    job = gate("slot-sleeps", site.folder)
    run = site.run(job, "--chunk-blocks", "1")
    eventually(lambda: len(job.waiting()) == 2, "both slots compute")
    asleep = job.waiting()[0]
    os.kill(asleep, signal.SIGSTOP)
    reissued = 'montemq_producer_chunks_reissued_total{reason="late"}'
    assert aggregator.metric(reissued) == 0
    try:
        job.open()
        site.assert_answer(job, run.wait(BEATS))
    finally:
        os.kill(asleep, signal.SIGCONT)  # or it would outlive its consumer
    assert aggregator.metric(reissued) > 0
    seen(f"{reissued} 0 → {aggregator.metric(reissued):.0f}")
    consumer.send(signal.SIGTERM)
    assert consumer.wait().code == 0


@pytest.mark.fault("SIGKILL of the process that slots are forked from", ANSWER, GOES_ON, MOVES)
def test_a_consumer_goes_on_when_the_process_that_its_slots_are_forked_from_is_killed(
    site: Site, seen: Seen
) -> None:
    aggregator, consumer = site.aggregator(), site.consumer(slots=2)
    aggregator.ready()
    consumer.ready()
    job = gate("server-killed", site.folder)
    run = site.run(job, "--chunk-blocks", "1")
    eventually(lambda: len(job.waiting()) == 2, "both slots compute")
    slot, other = job.waiting()
    # The parent is the second field after the name, which stands in parentheses.
    server = int(Path(f"/proc/{slot}/stat").read_text("utf-8").rpartition(")")[2].split()[1])
    assert server in [process.pid for process in descendants(consumer.pid)]
    assert aggregator.metric(CRASHES) == 0
    os.kill(server, signal.SIGKILL)
    os.kill(slot, signal.SIGKILL)
    consumer.says("the process that slots are forked from is gone; starting another one")
    # The slot that was left computes on while another server loads, and a new one joins it.
    eventually(lambda: len(set(job.waiting()) - {slot, other}) == 1, "a new slot computes")
    assert other in job.waiting()
    becomes(aggregator, CRASHES, 1)
    seen(f"{CRASHES} 0 → 1")
    job.open()
    site.assert_answer(job, run.wait(BEATS))
    assert consumer.running
    consumer.send(signal.SIGTERM)
    assert consumer.wait().code == 0


@pytest.mark.fault(
    "SIGKILL of a consumer while its slots compute",
    *(ANSWER, GOES_ON, MOVES, "no process is left"),
)
def test_an_agent_that_is_killed_leaves_no_process_behind_even_in_the_middle_of_a_chunk(
    site: Site, seen: Seen
) -> None:
    aggregator, consumer = site.aggregator(), site.consumer(slots=2)
    aggregator.ready()
    consumer.ready()
    job = gate("agent-killed", site.folder)
    run = site.run(job, "--chunk-blocks", "1")
    eventually(lambda: len(job.waiting()) == 2, "both slots compute")
    children = descendants(consumer.pid)
    assert set(job.waiting()) < {process.pid for process in children}
    becomes(aggregator, LIVE, 1)
    consumer.kill()
    eventually(lambda: not any(child.alive() for child in children), "all children end")
    becomes(aggregator, LIVE, 0)
    job.open()
    site.consumer().ready()
    site.assert_answer(job, run.wait(BEATS))
    becomes(aggregator, LIVE, 1)
    seen(f"{LIVE} 1 → 0 → 1")


@pytest.mark.fault("A consumer's broker is not there yet", ANSWER, GOES_ON, MOVES)
def test_a_consumer_that_is_started_before_its_broker_waits_for_it_and_says_so_once(
    site: Site, broker: Broker, seen: Seen
) -> None:
    aggregator = site.aggregator()
    aggregator.ready()
    job = pi("waited", blocks=4)
    run = site.run(job)
    with socket.create_server((LOOPBACK, 0)) as closed:
        port = closed.getsockname()[1]
        closed.settimeout(40)
        consumer = site.consumer(broker=replace(broker, port=port))
        for _ in range(3):
            closed.accept()[0].close()
    assert consumer.err.count(f":{port}/: whoever answers there does not speak AMQP") == 1
    run.says("no consumer is live")
    assert aggregator.metric(LIVE) == 0
    with proxy(broker, port):
        site.assert_answer(job, run.wait(BEATS))
        becomes(aggregator, LIVE, 1)
        seen(f"{LIVE} 0 → 1")
        site.close()


def test_a_consumer_that_waits_for_its_broker_ends_when_it_is_told_to(
    site: Site, broker: Broker
) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
    consumer = site.consumer(broker=replace(broker, port=port))
    consumer.says(f":{port}/: Connection refused; trying again")
    consumer.send(signal.SIGTERM)
    assert consumer.wait().code == 0


@pytest.mark.fault(
    "basic.cancel from the broker: the work queue is deleted", ANSWER, GOES_ON, MOVES
)
def test_a_consumer_comes_back_when_the_broker_deletes_its_queue(
    site: Site, broker: Broker, seen: Seen
) -> None:
    aggregator, consumer = site.aggregator(), site.consumer()
    aggregator.ready()
    consumer.ready()
    cancels = "montemq_host_broker_cancels_total"
    before = connected(aggregator)
    assert aggregator.metric(cancels) == 0
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        channel.queue_delete(QUEUE)
        consumer.says("a queue was deleted")
        (queue,) = [q for q in topology().queues if q.name == QUEUE]
        (binding,) = [b for b in topology().bindings if b.queue == QUEUE]
        channel.queue_declare(QUEUE, durable=True, arguments=dict(queue.arguments))
        channel.queue_bind(QUEUE, binding.exchange, binding.key)
    job = pi("queue-deleted", blocks=40)
    site.assert_answer(job, site.run(job).wait(BEATS))
    assert consumer.running
    # The consumer tells of it within seconds, and of what it has computed.
    becomes(aggregator, cancels, 1)
    becomes(aggregator, "montemq_host_samples_total", job.samples)
    becomes(aggregator, 'montemq_model_samples_total{model="pi"}', job.samples)
    seen(f"{cancels} 0 → 1; {reconnected(aggregator, before)}")


@pytest.mark.fault("A machine gives other bits than are on record", ANSWER, MOVES, "it ends")
def test_a_consumer_with_other_bits_tells_the_aggregator_before_it_ends(
    site: Site, seen: Seen
) -> None:
    aggregator = site.aggregator()
    aggregator.ready()
    golden = "montemq_host_golden_failed"
    assert aggregator.metric(golden) == 0
    record = site.folder / "record.json"
    record.write_text("{}", encoding="ascii")
    (site.folder / "sitecustomize.py").write_text(
        "import pathlib\nfrom consumer import golden\n"
        f"golden.RECORD = pathlib.Path({str(record)!r})\n",
        encoding="ascii",
    )
    consumer = site.consumer(path=str(site.folder))
    assert consumer.wait(60).code == 1
    assert "gives other bits on this machine than on record" in consumer.err
    becomes(aggregator, golden, 1)
    seen(f"{golden} 0 → 1")
    assert aggregator.metric("montemq_host_consumers") == 0
    job = pi("without-other-bits", blocks=40)
    site.consumer().ready()
    site.assert_answer(job, site.run(job).wait())


@pytest.mark.fault("The broker is stopped and started", ANSWER, GOES_ON, MOVES)
def test_everybody_comes_back_when_the_broker_ends_every_connection_in_order(
    site: Site, private_broker: PrivateBroker, seen: Seen
) -> None:
    services = [site.aggregator(), site.consumer()]
    for service in services:
        service.ready()
    job = gate("shut-down", site.folder, closed_from=8)
    run = site.run(job, "--chunk-blocks", "1")
    site.reached(job, 8 / 64)
    eventually(job.waiting, "the slot computes")
    before = connected(services[0])
    private_broker.restart()  # stops it first, as an operator does: every client is told
    job.open()
    site.assert_answer(job, run.wait(BEATS))
    seen(reconnected(services[0], before))
    assert all(service.running for service in services)


@pytest.mark.fault("All connections break, twice", ANSWER, GOES_ON, MOVES)
def test_everybody_comes_back_when_all_connections_break_and_the_digest_is_the_same(
    site: Site, broker: Broker, seen: Seen
) -> None:
    with proxy(broker) as between:
        services = [site.aggregator(broker=between.broker), site.consumer(broker=between.broker)]
        for service in services:
            service.ready()
        job = gate("cut-off", site.folder, blocks=400, closed_from=300, seconds=0.005)
        run = site.run(job, "--chunk-blocks", "2", broker=between.broker)
        for share in (0.1, 0.4):
            site.reached(job, share)
            before = connected(services[0])
            assert between.break_all() > 0
            becomes(services[0], ACTIVE, 0)
            becomes(services[0], ACTIVE, 1)
            seen(reconnected(services[0], before))
        merged = site.samples(job.run)
        job.open()
        eventually(lambda: site.samples(job.run) > merged, "work goes on", BEATS)
        site.assert_answer(job, run.wait())
        assert all(service.running for service in services)
        site.close()
