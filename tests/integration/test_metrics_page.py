"""The table of metrics, compared with what an aggregator at work serves; and Prometheus' lint."""

import asyncio
import math
import re
import subprocess
import time
from pathlib import Path

from ops.private_broker import PrivateBroker
from protocol import topology
from protocol.messages import ModelTotals, Suspension, Totals
from protocol.rpc_messages import Missing
from protocol.settings import Broker
from tests.support.alarm import disk_alarm
from tests.support.metrics_table import documented, exposed
from tests.support.prometheus import require_promtool
from tests.support.run_values import (
    RUN,
    declare,
    definition,
    failure,
    leader,
    partial,
    telemetry,
)
from tests.support.running_aggregator import SECONDS, running

MERGED_AT = "montemq_last_merge_timestamp_seconds"
BLOCKED = "montemq_aggregator_blocked"
TICKS = "montemq_event_loop_lag_seconds_count"
NOTHING = Totals(models={}, failures={}, reconnections=0, cancels=0)
SOMETHING = NOTHING.model_copy(
    update={"models": {"demo": ModelTotals(samples=30, seconds=1.5, chunks=(0, 3, *[0] * 10))}}
)


async def at_work(broker: Broker, store: Path) -> str:
    """Return what an aggregator serves in the middle of a run that has an error to reach."""
    of, short = definition(stop={"relative_error": 1e-6, "outputs": ("x",)}), definition(32)
    async with running(broker, store) as aggregator:
        for totals in (NOTHING, SOMETHING):
            told = telemetry(slots=3, suspended=Suspension.FAILURES, totals=totals)
            await aggregator.link.publish(topology.TELEMETRY, "guest", told)
        await aggregator.link.tell(topology.TELEMETRY, "guest", leader())
        for named in (declare(of), declare(short, "n").model_copy(update={"name": "n-{date}"})):
            await aggregator.link.call(named, Missing, SECONDS)
        await aggregator.link.publish(topology.RESULTS, "partial.x", partial(short, 0, 32, run="n"))
        await aggregator.link.publish(topology.RESULTS, "failure.x", failure(of, 32, 36))
        await aggregator.link.publish(topology.RESULTS, "partial.x", partial(of, 0, 32))
        async with asyncio.timeout(SECONDS):
            while True:
                text = await aggregator.metrics()
                if f'montemq_run_relative_error{{run="{RUN}"}}' in text and (
                    'montemq_model_samples_total{model="demo"} 30' in text
                    and 'montemq_producer_runs{host="host-p"}' in text
                ):
                    return text
                await asyncio.sleep(0.01)


async def test_the_page_lists_what_an_aggregator_serves_and_nothing_else(
    broker: Broker, tmp_path: Path
) -> None:
    found = exposed(await at_work(broker, tmp_path / "store.sqlite"))
    assert documented() == found
    assert list(documented()) == sorted(found), "in the order of the names"


async def test_the_last_merge_and_the_lag_of_the_loop_are_measured(
    broker: Broker, tmp_path: Path
) -> None:
    of, began = definition(), time.time()
    async with running(broker, tmp_path / "store.sqlite") as aggregator:
        assert math.isnan(sample(await aggregator.metrics(), MERGED_AT))
        await aggregator.link.call(declare(of), Missing, SECONDS)
        await aggregator.link.publish(topology.RESULTS, "partial.x", partial(of, 0, 32))
        async with asyncio.timeout(SECONDS):
            while True:
                text = await aggregator.metrics()
                if sample(text, TICKS) and not math.isnan(sample(text, MERGED_AT)):
                    break
                await asyncio.sleep(0.05)
        assert began <= sample(text, MERGED_AT) <= time.time()


async def test_an_aggregator_shows_that_the_broker_blocks_it_and_when_that_is_over(
    private_broker: PrivateBroker, broker: Broker, tmp_path: Path
) -> None:
    async def blocked(value: float) -> None:
        async with asyncio.timeout(60):
            while True:
                if sample(await aggregator.metrics(), BLOCKED) == value:
                    return
                await asyncio.sleep(0.05)

    async with running(broker, tmp_path / "store.sqlite") as aggregator:
        await aggregator.link.publish(topology.TELEMETRY, "guest", telemetry())
        await aggregator.link.call(declare(definition()), Missing, SECONDS)
        await blocked(0)
        with disk_alarm(private_broker):
            # It has to publish something to learn of it: that the only consumer seems to be gone.
            await blocked(1)
        await blocked(0)


def sample(text: str, name: str) -> float:
    """Return a sample without labels."""
    return float(re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)[0])


async def test_prometheus_has_no_complaint(broker: Broker, tmp_path: Path) -> None:
    promtool = require_promtool()
    text = await at_work(broker, tmp_path / "store.sqlite")
    answer = subprocess.run(  # noqa: ASYNC221, S603 - a moment, and a program of the system
        [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
