"""Links that are slow, or of which one end is gone without a word."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from protocol.settings import HEARTBEAT_SECONDS
from tests.support.fault_table import ANSWER, GOES_ON, MOVES
from tests.support.stack_jobs import gate, pi
from tests.support.stack_metrics import RECONNECTIONS, connected, reconnected
from tests.support.stack_processes import eventually
from tests.support.stack_proxy import proxy
from tests.support.stack_site import Site

BEATS = 2 * HEARTBEAT_SECONDS
QUICK = 2
SLOW, CHUNKS = 4_000, 10


@pytest.mark.slow
@pytest.mark.fault("All connections of all services are half open", ANSWER, GOES_ON, MOVES)
def test_half_open_connections(site: Site, seen: Callable[[str], None]) -> None:
    with proxy(replace(site.broker, heartbeat=QUICK)) as between:
        aggregator = site.aggregator(broker=between.broker)
        consumer = site.consumer(broker=between.broker)
        aggregator.ready()
        consumer.ready()
        before = connected(aggregator)
        job = gate("half-open", site.folder, closed_from=8)
        run = site.run(job, "--chunk-blocks", "1", broker=between.broker)
        site.reached(job, 8 / 64)
        silent = between.fall_silent()
        job.open()
        site.assert_answer(job, run.wait(BEATS))
        seen(f"{silent} connections, {reconnected(aggregator, before)}")
        assert all(service.running for service in (aggregator, consumer))
        site.close()


@pytest.mark.slow
@pytest.mark.fault(
    f"The links of a consumer and of a producer pass {SLOW:,} bytes a second",
    ANSWER, "nobody reconnects", MOVES,
)  # fmt: skip
def test_a_slow_link(site: Site, seen: Callable[[str], None]) -> None:
    aggregator = site.aggregator()
    aggregator.ready()
    with proxy(site.broker) as between:
        between.bytes_per_second = SLOW
        consumer = site.consumer(broker=between.broker)
        consumer.ready()
        job = pi("slow-link", blocks=2 * CHUNKS)
        run = site.run(job, "--chunk-blocks", "2", broker=between.broker)
        site.assert_answer(job, run.wait(BEATS))
        assert "trying again" not in run.err
        assert aggregator.metric(RECONNECTIONS) == 0
        name = "montemq_producer_confirm_seconds"
        eventually(lambda: aggregator.metric(f"{name}_count") >= CHUNKS, "all confirms are told of")
        assert aggregator.metric(f'{name}_bucket{{le="0.05"}}') == 0
        mean = aggregator.metric(f"{name}_sum") / aggregator.metric(f"{name}_count")
        seen(f"{RECONNECTIONS} 0; {name} {mean:.2f} on average, none up to 0.05")
        site.close()
