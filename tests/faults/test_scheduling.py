"""Several runs, lanes and pools on real consumers, and queues that somebody empties."""

from collections.abc import Callable

import pika
import pytest

from protocol.definition import Lane
from protocol.origin import host_name
from protocol.settings import HEARTBEAT_SECONDS, Broker
from protocol.topology import work_queue
from tests.support.fault_table import ANSWER, GOES_ON, MOVES
from tests.support.stack_jobs import PacedJob, gate, paced, pi
from tests.support.stack_processes import Program, Service, eventually
from tests.support.stack_site import Site

QUEUE = work_queue("default", Lane.NORMAL)
BEATS = 2 * HEARTBEAT_SECONDS
"""Less than a producer waits where it has no evidence that a chunk is lost."""

Seen = Callable[[str], None]


def purge(broker: Broker, queue: str) -> int:
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        return int(connection.channel().queue_purge(queue).method.message_count)


def waiting_in(broker: Broker, queue: str) -> int:
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        declared = connection.channel().queue_declare(queue, passive=True)
        return int(declared.method.message_count)


def start(site: Site, slots: int = 1) -> Service:
    aggregator = site.aggregator()
    site.consumer(slots=slots).ready()
    eventually(lambda: aggregator.metric("montemq_live_slots") == slots, "all slots are live")
    return aggregator


def finish(run: Program) -> None:
    """See a run to its end; its blocks are not computed here once more, for they leave lines."""
    ended = run.wait()
    assert (ended.code, ended.json["state"]) == (0, "finished"), ended.err


def begun(job: PacedJob, count: int) -> None:
    def there() -> bool:
        return sum(tag == job.run for tag, _ in job.begun()) >= count

    eventually(there, f"{count} blocks of {job.run} are begun")


def test_a_high_run_overtakes_a_normal_one_on_every_slot(site: Site) -> None:
    start(site, slots=2)
    normal = paced("normal", site.folder, blocks=1_000, seconds=0.5)
    high = paced("high", site.folder, blocks=16, seconds=0.5)
    slow = site.run(normal, "--chunk-blocks", "1")
    begun(normal, 6)
    finish(site.run(high, "--chunk-blocks", "1", "--lane", "high"))
    assert slow.running
    order = normal.begun()
    first = [tag for tag, _ in order].index("high")
    last = len(order) - 1 - [tag for tag, _ in reversed(order)].index("high")
    between = order[first : last + 1]
    assert {slot for tag, slot in between if tag == "high"} == {slot for _, slot in order}
    # While the news of a merged chunk brings the next one, a slot may take another run's.
    assert sum(tag == "normal" for tag, _ in between) <= 4
    slow.kill()


def test_a_low_run_is_not_starved_by_high_and_normal_ones(site: Site) -> None:
    start(site)
    jobs = {
        lane: paced(lane.value, site.folder, blocks=blocks, seconds=0.1)
        for lane, blocks in ((Lane.HIGH, 1_000), (Lane.NORMAL, 1_000), (Lane.LOW, 1))
    }
    runs = {}
    for lane, job in jobs.items():
        if lane is Lane.LOW:
            begun(jobs[Lane.HIGH], 20)
        runs[lane] = site.run(job, "--chunk-blocks", "1", "--lane", lane.value)
    finish(runs[Lane.LOW])
    order = [tag for tag, _ in jobs[Lane.LOW].begun()]
    assert order.count("high") > 10 * (order.count("normal") + order.count("low"))
    assert runs[Lane.HIGH].running
    for lane in (Lane.HIGH, Lane.NORMAL):
        runs[lane].kill()


def test_a_small_run_does_not_wait_for_the_large_one_before_it(site: Site) -> None:
    start(site)
    large = paced("large", site.folder, blocks=1_000, seconds=0.25)
    small = paced("small", site.folder, blocks=1, seconds=0.01)
    run = site.run(large, "--chunk-blocks", "1")
    begun(large, 6)
    # The one block that is computed, and another chunk for each slot: no more is in front of it.
    assert waiting_in(site.broker, QUEUE) <= 2
    finish(site.run(small))
    assert run.running
    run.kill()


def test_a_pool_is_served_by_its_own_consumers_only(site: Site) -> None:
    start(site)
    assert site.command("broker", "init", "--pool", "fast").code == 0
    job = paced("pooled", site.folder, blocks=40, seconds=0.0)
    run = site.run(job, "--pool", "fast")
    other = pi("default-pool", blocks=40)
    site.assert_answer(other, site.run(other).wait())
    assert not job.begun()
    site.consumer(1, "--pool", "fast").ready()
    site.assert_answer(job, run.wait())


@pytest.mark.fault("The work queue is purged", ANSWER, GOES_ON, MOVES)
def test_chunks_that_are_purged_from_the_queue_are_issued_again(site: Site, seen: Seen) -> None:
    aggregator = start(site)
    # Not so short that the consumer takes all that there is.
    job = gate("purged", site.folder, closed_from=16, blocks=64, seconds=0.05)
    run = site.run(job, "--chunk-blocks", "1")
    eventually(job.waiting, "the slot computes")
    eventually(lambda: waiting_in(site.broker, QUEUE) > 0, "chunks wait")
    purged = purge(site.broker, QUEUE)
    assert purged > 0
    job.open()
    site.assert_answer(job, run.wait(BEATS))
    name = 'montemq_producer_chunks_reissued_total{reason="late"}'
    eventually(lambda: aggregator.metric(name) >= purged, "all that were purged are issued again")
    seen(f"{purged} purged, {name} 0 → {aggregator.metric(name):.0f}")


@pytest.mark.slow
@pytest.mark.fault(
    "Two producers schedule one run; SIGKILL of the one that leads", ANSWER, GOES_ON, MOVES
)
def test_one_of_two_producers_leads(site: Site, seen: Seen) -> None:
    aggregator = start(site)
    job = gate("led-by-one", site.folder, closed_from=16, blocks=64)
    leader = site.run(job, "--chunk-blocks", "1")
    site.reached(job, 16 / 64)
    other = site.run(job, "--chunk-blocks", "1")
    other.says(job.run)

    def leaders() -> list[float]:
        name = f'montemq_producer_leaders{{host="{host_name()}",state='
        return [aggregator.metric(f'{name}"{state}"}}') for state in ("leading", "silent")]

    eventually(lambda: leaders() == [1, 0], "one of them leads")
    leader.kill()
    eventually(lambda: leaders() == [1, 1], "the other one leads, and the first is missed", BEATS)
    job.open()
    site.assert_answer(job, other.wait(BEATS))
    seen("montemq_producer_leaders: leading 1 → 1, silent 0 → 1")
