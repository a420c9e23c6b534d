"""Links that are slow, or of which one end is gone without a word."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from protocol.settings import HEARTBEAT_SECONDS
from tests.support.fault_table import ANSWER, GOES_ON
from tests.support.stack_jobs import gate, pi
from tests.support.stack_processes import eventually
from tests.support.stack_proxy import proxy
from tests.support.stack_site import Site

BEATS = 2 * HEARTBEAT_SECONDS
QUICK = 2
SLOW = 4_000


@pytest.mark.slow
@pytest.mark.fault("All connections of all services are half open", ANSWER, GOES_ON)
def test_half_open_connections(site: Site, seen: Callable[[str], None]) -> None:
    with proxy(replace(site.broker, heartbeat=QUICK)) as between:
        aggregator = site.aggregator(broker=between.broker)
        consumer = site.consumer(broker=between.broker)
        aggregator.ready()
        consumer.ready()
        job = gate("half-open", site.folder, closed_from=8)
        run = site.run(job, "--chunk-blocks", "1", broker=between.broker)
        site.reached(job, 8 / 64)
        silent = between.fall_silent()
        job.open()
        site.assert_answer(job, run.wait(BEATS))
        name = "montemq_host_reconnections_total"
        eventually(lambda: aggregator.metric(name) > 0, "the consumer tells of it")
        assert all(service.running for service in (aggregator, consumer))
        seen(f"{silent} connections, {name} 0 → {aggregator.metric(name):.0f}")
        site.close()


@pytest.mark.slow
@pytest.mark.fault(f"A consumer's link passes {SLOW:,} bytes a second", ANSWER, "nobody reconnects")
def test_a_slow_link(site: Site, seen: Callable[[str], None]) -> None:
    aggregator = site.aggregator()
    aggregator.ready()
    with proxy(site.broker) as between:
        between.bytes_per_second = SLOW
        consumer = site.consumer(broker=between.broker)
        consumer.ready()
        job = pi("slow-link", blocks=20)
        site.assert_answer(job, site.run(job, "--chunk-blocks", "2").wait(BEATS))
        name = "montemq_host_reconnections_total"
        assert aggregator.metric(name) == 0
        seen(f"{name} 0")
        site.close()
