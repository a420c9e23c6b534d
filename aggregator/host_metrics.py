"""What consumers tell of themselves, as metrics by host and by model; read at each scrape."""

from collections.abc import Iterator

from prometheus_client.core import Metric

from aggregator.families import COUNTER, GAUGE, HISTOGRAM, Buckets, Family, shown
from aggregator.hosts import Hosts, HostTotals, ModelSums, Presence
from protocol.messages import CHUNK_SECONDS, Suspension

_PRESENCE: tuple[Family[Presence], ...] = (
    Family(
        GAUGE,
        "host_consumers",
        "Live consumers, by host; 0 where the last word is less than 5 minutes old.",
        ("host",),
        lambda here: here.consumers,
    ),
    Family(
        GAUGE,
        "host_slots",
        "Slots of live consumers, by host and by whether they compute (busy, idle); "
        "of suspended ones too.",
        ("host", "state"),
        lambda here: {"busy": here.busy, "idle": here.slots - here.busy},
    ),
    Family(
        GAUGE,
        "host_suspended_consumers",
        "Live consumers that start no chunk for now, by host and reason.",
        ("host", "reason"),
        lambda here: {reason.value: here.suspended[reason] for reason in Suspension},
    ),
    Family(
        GAUGE,
        "host_golden_failed",
        "1 where a consumer failed its golden chunks in the last 5 minutes, else 0.",
        ("host",),
        lambda here: here.golden_failed,
    ),
)

_TOTALS: tuple[Family[HostTotals], ...] = (
    Family(
        GAUGE,
        "host_last_seen_timestamp_seconds",
        "When a consumer of this host last spoke.",
        ("host",),
        lambda host: host.last_seen,
    ),
    Family(
        GAUGE,
        "host_info",
        "1, with the version of the consumer that spoke last.",
        ("host", "version"),
        lambda host: {host.version: 1},
    ),
    Family(
        COUNTER,
        "host_chunks",
        "Chunks that consumers answered, by host and outcome: partial, or the kind of the failure.",
        ("host", "outcome"),
        lambda host: host.chunks,
    ),
    Family(
        COUNTER,
        "host_samples",
        "Samples that consumers computed, by host.",
        ("host",),
        lambda host: host.samples,
    ),
    Family(
        COUNTER,
        "host_busy_seconds",
        "How long chunks that gave a partial took their slots, by host.",
        ("host",),
        lambda host: host.seconds,
    ),
    Family(
        COUNTER,
        "host_cpu_seconds",
        "CPU time spent on chunks that gave a partial, by host.",
        ("host",),
        lambda host: host.cpu_seconds,
    ),
    Family(
        COUNTER,
        "host_reconnections",
        "Connections of consumers to the broker after their first one, by host.",
        ("host",),
        lambda host: host.reconnections,
    ),
    Family(
        COUNTER,
        "host_broker_cancels",
        "How often the broker cancelled a consumer's consuming, by host.",
        ("host",),
        lambda host: host.cancels,
    ),
    Family(
        COUNTER,
        "host_messages_rejected",
        "Messages that consumers refused, by host; chunks among them come as dead letters too.",
        ("host",),
        lambda host: host.rejected,
    ),
)

_MODELS: tuple[Family[ModelSums], ...] = (
    Family(
        COUNTER,
        "model_samples",
        "Samples that consumers computed, by model.",
        ("model",),
        lambda model: model.samples,
    ),
    Family(
        HISTOGRAM,
        "model_chunk_seconds",
        "How long chunks that gave a partial took their slots, by model.",
        ("model",),
        lambda model: Buckets.of(CHUNK_SECONDS, model.chunks, model.seconds),
    ),
)


def host_metrics(hosts: Hosts, now: float) -> Iterator[Metric]:
    """Yield every family; `now` in seconds since the epoch."""
    yield from shown(_PRESENCE, {(host,): here for host, here in hosts.presence(now).items()})
    yield from shown(_TOTALS, {(host,): totals for host, totals in hosts.totals.items()})
    yield from shown(_MODELS, {(model,): sums for model, sums in hosts.models.items()})
