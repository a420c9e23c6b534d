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


def reconnected(aggregator: Service) -> str:
    """Wait until consumers have told that they connected anew; return what is seen."""
    eventually(lambda: aggregator.metric(RECONNECTIONS) > 0, f"{RECONNECTIONS} grows")
    return f"{RECONNECTIONS} 0 → {aggregator.metric(RECONNECTIONS):.0f}"
