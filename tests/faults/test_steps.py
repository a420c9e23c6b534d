"""Each role ends, or sleeps, at each step of its work: what it had begun is done once all the same.

A proxy holds the very frame that the step is about; what was held is lost with who had sent it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals

import pytest

from protocol.settings import HEARTBEAT_SECONDS
from tests.support.fault_table import ANSWER, GOES_ON, MOVES
from tests.support.stack_jobs import asian, pi
from tests.support.stack_processes import Program, Service, eventually
from tests.support.stack_proxy import Frame, Held, proxy
from tests.support.stack_site import Site

BEATS = 2 * HEARTBEAT_SECONDS
QUICK = 2
"""Seconds between heartbeats of who falls asleep: the broker gives it up after twice that."""

PUBLISH, DELIVER, ACK = (60, 40), (60, 60), (60, 80)
PARTIAL = Frame(from_client=True, method=PUBLISH, contains=b"mc.results")
CHUNK = Frame(from_client=True, method=PUBLISH, contains=b"mc.work")
CONFIRM = Frame(from_client=False, method=ACK)
RESULT = Frame(from_client=False, method=DELIVER, contains=b"mc.results")
ACKNOWLEDGEMENT = Frame(from_client=True, method=ACK)

CONSUMER = {
    "before its partial has reached the broker": (PARTIAL,),
    "before the broker's confirm has reached it": (PARTIAL, CONFIRM),
    "after the confirm, before its acknowledgement": (PARTIAL, CONFIRM, ACKNOWLEDGEMENT),
}
PRODUCER = {
    "before its first chunk has reached the broker": (CHUNK,),
    "before the broker's confirm has reached it": (CHUNK, CONFIRM),
    "after a confirm, before its next chunk": (CHUNK, CONFIRM, CHUNK),
}

sleeps = pytest.param(SIGSTOP, marks=pytest.mark.slow, id="SIGSTOP")
ends = pytest.param(SIGKILL, id="SIGKILL")
how_it_ends = pytest.mark.parametrize("how", [ends, sleeps])


def at_each(steps: Mapping[str, object]) -> pytest.MarkDecorator:
    """Take all steps, all but the last one only where there is time."""
    *others, last = steps
    return pytest.mark.parametrize(
        "step", [*(pytest.param(step, marks=pytest.mark.slow) for step in others), last]
    )


def copies(aggregator: Service) -> float:
    """Return how many results came that had been merged before."""
    return sum(
        aggregator.metric(f'montemq_results_total{{outcome="{outcome}"}}')
        for outcome in ("duplicate", "late")
    )


def befalls(victim: Program, how: Signals, held: Held) -> None:
    """Do it to whoever has come to the step; the network keeps what one asleep has sent."""
    held.reached()
    victim.send(how)
    if how is SIGKILL:
        victim.process.wait()
        held.drop()
    else:
        held.release()


@pytest.mark.fault("{how.name} of a consumer {step}", ANSWER, GOES_ON, MOVES)
@how_it_ends
@at_each(CONSUMER)
def test_a_consumer(site: Site, step: str, how: Signals, seen: Callable[[str], None]) -> None:
    quick = replace(site.broker, heartbeat=QUICK)
    aggregator, other = site.aggregator(), site.consumer()
    with proxy(quick) as between:
        victim = site.consumer(broker=between.broker)
        for service in (aggregator, other, victim):
            service.ready()
        alive = "montemq_live_consumers"
        eventually(lambda: aggregator.metric(alive) == 2, "both are live")
        held = between.hold(*CONSUMER[step])
        job = pi("consumer-at-a-step", blocks=100)
        run = site.run(job, "--chunk-blocks", "2")
        befalls(victim, how, held)
        site.assert_answer(job, run.wait(BEATS))
        if how is SIGKILL and CONSUMER[step] != (PARTIAL,):
            eventually(lambda: copies(aggregator) > 0, "the copy is counted", BEATS)
        seen(f"{copies(aggregator):.0f} copies dropped")
        eventually(lambda: aggregator.metric(alive) == 1, "it is missed", BEATS)
        if how is SIGKILL:
            seen(f"{alive} 2 → 1")
        else:
            victim.send(SIGCONT)
            eventually(lambda: aggregator.metric(alive) == 2, "it is back", BEATS)
            other.kill()
            again = pi("consumer-awake-again", blocks=100)
            site.assert_answer(again, site.run(again).wait(BEATS))
            seen(f"{alive} 2 → 1 → 2")
        site.close()


@pytest.mark.fault("{how.name} of the aggregator between commit and ack", ANSWER, GOES_ON, MOVES)
@how_it_ends
def test_an_aggregator(site: Site, how: Signals, seen: Callable[[str], None]) -> None:
    quick = replace(site.broker, heartbeat=QUICK)
    with proxy(quick) as between:
        first, consumer = site.aggregator(broker=between.broker), site.consumer()
        first.ready()
        consumer.ready()
        held = between.hold(RESULT, ACKNOWLEDGEMENT)
        job = pi("aggregator-at-a-step", blocks=100)
        run = site.run(job, "--chunk-blocks", "2")
        held.reached()
        eventually(lambda: site.samples(job.run) > 0, "it has committed")
        assert first.metric("montemq_store_epoch") == 1
        befalls(first, how, held)
        second = site.aggregator()
        second.ready()
        site.assert_answer(job, run.wait(BEATS))
        if how is SIGKILL:
            assert copies(second) > 0, "what was committed came again"
        else:
            first.send(SIGCONT)
            assert "another aggregator has taken the store" in first.wait().err
        epoch = second.metric("montemq_store_epoch")
        assert epoch == 2
        seen(f"{copies(second):.0f} copies dropped, montemq_store_epoch 1 → {epoch:.0f}")
        site.close()


@pytest.mark.fault("{how.name} of the producer {step}", ANSWER, GOES_ON, MOVES)
@how_it_ends
@at_each(PRODUCER)
def test_a_producer(site: Site, step: str, how: Signals, seen: Callable[[str], None]) -> None:
    quick = replace(site.broker, heartbeat=QUICK)
    aggregator, consumer = site.aggregator(), site.consumer()
    with proxy(quick) as between:
        aggregator.ready()
        consumer.ready()
        held = between.hold(*PRODUCER[step])
        job = asian("producer-at-a-step", blocks=100)
        victim = site.run(job, "--chunk-blocks", "2", broker=between.broker)
        befalls(victim, how, held)
        name = "montemq_producer_chunks_published_total"
        before = aggregator.metric(name)
        again = site.run(job, "--chunk-blocks", "2")
        site.assert_answer(job, again.wait(BEATS))
        eventually(lambda: aggregator.metric(name) > before, "the next one tells what it published")
        grown = f"{name} {before:.0f} → {aggregator.metric(name):.0f}"
        seen(f"{grown}, {copies(aggregator):.0f} copies dropped")
        if how is SIGSTOP:
            victim.send(SIGCONT)
            site.assert_answer(job, victim.wait(BEATS))
        site.close()
