"""What a test waits for in the metrics of an aggregator, as an operator would see it."""

from tests.support.stack_processes import DEADLINE_SECONDS, Service, eventually

ACTIVE = "montemq_aggregator_active"
CRASHES = 'montemq_failures_total{kind="crash"}'
LIVE = "montemq_live_consumers"
RECONNECTIONS = "montemq_host_reconnections_total"


def becomes(
    aggregator: Service, name: str, value: float, seconds: float = DEADLINE_SECONDS
) -> None:
    """Wait until a metric has a value."""
    eventually(
        lambda: aggregator.metric(name) == value,
        lambda: f"{name} becomes {value:g}; it is {aggregator.metric(name):g}",
        seconds,
    )


def connected(aggregator: Service) -> float:
    """Wait until a consumer is live; return how often consumers have connected anew so far."""
    becomes(aggregator, LIVE, 1)
    return aggregator.metric(RECONNECTIONS)


def reconnected(aggregator: Service, before: float) -> str:
    """Wait until consumers have told that they connected anew since then; return what is seen."""
    eventually(lambda: aggregator.metric(RECONNECTIONS) > before, f"{RECONNECTIONS} grows")
    return f"{RECONNECTIONS} {before:.0f} → {aggregator.metric(RECONNECTIONS):.0f}"
