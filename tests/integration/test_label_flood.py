"""A flood of invented hosts, models, pools, runs and leaders leaves the metrics page small."""

import asyncio
from collections import defaultdict
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from aggregator.gauges import MAX_RUNS
from aggregator.hosts import MAX_HOSTS
from aggregator.labels import MAX_LABELS, OTHER
from protocol import topology
from protocol.messages import ModelTotals, Totals
from protocol.rpc_messages import Missing
from protocol.settings import Broker
from tests.support.run_values import declare, definition, leader, telemetry
from tests.support.running_aggregator import Running, running

SECONDS = 60.0
INVENTED = 300
MODELS_EACH = 4
LIMITS = {"host": MAX_HOSTS, "model": MAX_LABELS, "pool": MAX_LABELS, "name": MAX_LABELS}
SERIES = 8_000
"""More than the limits allow, and less than a third of what an unlimited page would have."""


def counted(number: int, chunks: int) -> Totals:
    """Return what an invented consumer says of models that nobody has."""
    models = {
        f"m{number}x{index}": ModelTotals(
            samples=chunks, seconds=1.0, chunks=(chunks, *[0] * 11)
        )
        for index in range(MODELS_EACH)
    }  # fmt: skip
    return Totals(models=models, failures={}, reconnections=0, cancels=0)


async def flood(aggregator: Running) -> None:
    """Tell of as many invented things as anybody might, all different."""
    of = definition(stop={"relative_error": 1e-6, "outputs": ("x",)})
    link = aggregator.link
    for number in range(INVENTED):
        for chunks in (0, 3):
            told = telemetry(f"h{number}.1", pool=f"p{number}", totals=counted(number, chunks))
            await link.publish(topology.TELEMETRY, "guest", told)
        await link.publish(topology.TELEMETRY, "guest", leader(f"q{number}.1", first=True))
        invented = declare(of.model_copy(update={"model": f"n{number}"}), f"r{number}")
        more = {"name": f"n{number}-{{date}}", "pool": f"s{number}"}
        await link.call(invented.model_copy(update=more), Missing, SECONDS)


async def test_a_flood_of_invented_names_is_capped_and_then_counted_as_other(
    broker: Broker, tmp_path: Path
) -> None:
    async with running(broker, tmp_path / "store.sqlite") as aggregator:
        await flood(aggregator)
        async with asyncio.timeout(SECONDS):
            while True:
                text = await aggregator.metrics()
                if f'queue="{topology.TELEMETRY_QUEUE}"}} {3.0 * INVENTED}' in text:
                    break
                await asyncio.sleep(0.05)
    values: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    families = list(text_string_to_metric_families(text))
    for family in families:
        for sample in family.samples:
            for label, value in sample.labels.items():
                values[family.name, label].add(value)
    for (metric, label), found in values.items():
        if label == "run":
            assert len(found) == MAX_RUNS, metric
        elif label in LIMITS:
            assert len(found) == LIMITS[label] + 1, metric
            assert OTHER in found, metric
        else:
            assert len(found) <= 20, (metric, label)
    assert {label for _, label in values} >= {*LIMITS, "run"}
    assert sum(len(family.samples) for family in families) < SERIES
    # What is not shown by its own name is not lost: it counts as other.
    chunks = sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "montemq_model_chunk_seconds_count"
    )
    assert chunks == 3 * MODELS_EACH * INVENTED
