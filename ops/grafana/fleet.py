"""The page that tells who computes, who is refused or suspended, and what chunks cost."""

from ops.grafana.model import (
    Color,
    Dashboard,
    Kind,
    Panel,
    Query,
    Row,
    Step,
    Unit,
    Variable,
    flows,
    quantile,
    query,
    rate,
)

_HOST = '{host=~"$host"}'
_PARTIALS = '{host=~"$host", outcome="partial"}'
_FAILURES = '{host=~"$host", outcome!="partial"}'
_POOL = '{pool=~"$pool"}'

DASHBOARD = Dashboard(
    uid="montemq-fleet",
    title="montemq / Fleet",
    description="Who computes, who is refused or suspended, and what chunks cost.",
    variables=(
        Variable("pool", "Pool", "montemq_live_slots"),
        Variable("host", "Host", "montemq_host_consumers"),
    ),
    rows=(
        Row(
            "Who computes?",
            ("NoConsumers",),
            (
                Panel(
                    "Live consumers",
                    "By pool.",
                    query(f"sum by (pool) (montemq_live_consumers{_POOL})", "{{pool}}"),
                    kind=Kind.NUMBER,
                    steps=(Step(1, Color.GOOD),),
                    base=Color.BAD,
                    width=4,
                ),
                Panel(
                    "Busy slots",
                    "Share of the live slots that compute, by pool.",
                    query(f"montemq:busy_slots:ratio{_POOL}", "{{pool}}"),
                    unit=Unit.SHARE,
                    kind=Kind.NUMBER,
                    width=4,
                ),
                Panel(
                    "Slots",
                    "Slots that live and that compute, by pool. NoConsumers fires where runs "
                    "wait and none lives.",
                    (
                        Query(f"sum by (pool) (montemq_live_slots{_POOL})", "live in {{pool}}"),
                        Query(f"sum by (pool) (montemq_busy_slots{_POOL})", "busy in {{pool}}"),
                    ),
                ),
                Panel(
                    "Busy slots by host",
                    "Slots that compute now.",
                    query(
                        'sum by (host) (montemq_host_slots{host=~"$host", state="busy"})',
                        "{{host}}",
                    ),
                    stacked=True,
                ),
                flows(
                    "Samples by host",
                    "Samples per second that its consumers computed.",
                    "montemq_host_samples_total",
                    "host",
                    _HOST,
                    width=12,
                ),
                flows(
                    "Chunks by host",
                    "Chunks per second that gave a partial.",
                    "montemq_host_chunks_total",
                    "host",
                    _PARTIALS,
                    width=12,
                ),
            ),
        ),
        Row(
            "Who is refused or suspended, and who fails?",
            ("GoldenMismatch", "RunStalled"),
            (
                Panel(
                    "Refused hosts",
                    "Hosts whose consumer got other bits for the golden chunks in the last 5 "
                    "minutes, and stayed away.",
                    query(
                        "sum(max by (host) (montemq_host_golden_failed)) or vector(0)", "refused"
                    ),
                    kind=Kind.NUMBER,
                    steps=(Step(1, Color.BAD),),
                    width=4,
                ),
                Panel(
                    "Suspended consumers",
                    "Live consumers that start no chunk for now, by reason.",
                    query(
                        f"sum by (reason) (montemq_host_suspended_consumers{_HOST})", "{{reason}}"
                    ),
                    kind=Kind.NUMBER,
                    steps=(Step(1, Color.DOUBTFUL),),
                    width=8,
                ),
                Panel(
                    "Where they are suspended",
                    "Hosts with suspended consumers, by reason. Empty when there are none.",
                    query(
                        f"sum by (host, reason) (montemq_host_suspended_consumers{_HOST}) > 0",
                        "{{host}}: {{reason}}",
                    ),
                    width=12,
                    stacked=True,
                ),
                flows(
                    "Chunks without a partial",
                    "Answers per second that were failures, by host and kind.",
                    "montemq_host_chunks_total",
                    "host, outcome",
                    _FAILURES,
                    width=12,
                ),
                Panel(
                    "Versions",
                    "Hosts by the version of the consumer, and of the producer, that spoke last: "
                    "more than one version is worth a look.",
                    (
                        Query("count by (version) (montemq_host_info)", "consumers {{version}}"),
                        Query(
                            "count by (version) (montemq_producer_info)", "producers {{version}}"
                        ),
                    ),
                    width=12,
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Whose numbers are wrong?",
            ("WrongHost", "GoldenMismatch"),
            (
                Panel(
                    "Hosts refused for wrong numbers",
                    "Their chunks differed from those of two other hosts: nothing of them is "
                    "taken until an operator readmits them.",
                    query("sum(montemq_refused_hosts) or vector(0)", "refused"),
                    kind=Kind.NUMBER,
                    steps=(Step(1, Color.BAD),),
                    width=4,
                ),
                Panel(
                    "Audits",
                    "Per second: passed, wrong, and skipped because nobody else could compute "
                    "the chunk.",
                    query(rate("montemq_audits_total", "outcome"), "{{outcome}}"),
                    unit=Unit.PER_SECOND,
                    width=12,
                    stacked=True,
                ),
                Panel(
                    "Audits that wait",
                    "Chunks that no two hosts agree on yet; their runs end after them.",
                    query("sum(montemq_pending_audits) or vector(0)", "pending"),
                    width=8,
                ),
            ),
        ),
        Row(
            "Who comes and goes?",
            ("NoConsumers", "ManyDuplicates"),
            (
                Panel(
                    "Consumers by host",
                    "Live consumers; 0 for 5 minutes after the last word of a host.",
                    query(f"sum by (host) (montemq_host_consumers{_HOST})", "{{host}}"),
                    stacked=True,
                ),
                Panel(
                    "Time since the last word",
                    "Consumers speak every 2 seconds.",
                    query(
                        f"time() - max by (host) (montemq_host_last_seen_timestamp_seconds{_HOST})",
                        "{{host}}",
                    ),
                    unit=Unit.SECONDS,
                    kind=Kind.BARS,
                    steps=(Step(15, Color.DOUBTFUL), Step(60, Color.BAD)),
                ),
                Panel(
                    "Connections lost",
                    "How often consumers connected again, and how often the broker cancelled "
                    "their consuming, per second.",
                    (
                        Query(
                            rate("montemq_host_reconnections_total", "host", _HOST),
                            "{{host}}: reconnected",
                        ),
                        Query(
                            rate("montemq_host_broker_cancels_total", "host", _HOST),
                            "{{host}}: cancelled",
                        ),
                    ),
                    unit=Unit.PER_SECOND,
                ),
            ),
        ),
        Row(
            "What do chunks cost?",
            ("QueueAgeHigh", "ManyDuplicates"),
            (
                Panel(
                    "Chunk duration",
                    "Median and 90th percentile of how long chunks took their slots, by model.",
                    (
                        Query(
                            quantile(0.5, "montemq_model_chunk_seconds", "model"), "{{model}}: half"
                        ),
                        Query(
                            quantile(0.9, "montemq_model_chunk_seconds", "model"), "{{model}}: 90 %"
                        ),
                    ),
                    unit=Unit.SECONDS,
                ),
                flows(
                    "Samples by model",
                    "Samples per second that consumers computed.",
                    "montemq_model_samples_total",
                    "model",
                ),
                Panel(
                    "Slots at work",
                    "Slots that chunks with a partial took on average, and the cores that they "
                    "got, by host. Far fewer cores than slots: others use the machine too.",
                    (
                        Query(
                            rate("montemq_host_busy_seconds_total", "host", _HOST),
                            "{{host}}: slots",
                        ),
                        Query(
                            rate("montemq_host_cpu_seconds_total", "host", _HOST),
                            "{{host}}: cores",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
