"""The page that tells whether the aggregator keeps up, and whether its disk is filling."""

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

_HERE = '{instance=~"$instance"}'
_DAY = 86_400

DASHBOARD = Dashboard(
    uid="montemq-aggregator",
    title="montemq / Aggregator",
    description="Whether the aggregator keeps up, and whether its disk is filling.",
    variables=(Variable("instance", "Instance", "montemq_build_info"),),
    rows=(
        Row(
            "Is one active?",
            ("AggregatorDown",),
            (
                Panel(
                    "Active",
                    "Aggregators that hold the lock: there should be one.",
                    query("montemq:active_aggregators", "active"),
                    kind=Kind.NUMBER,
                    steps=(Step(1, Color.GOOD), Step(2, Color.BAD)),
                    base=Color.BAD,
                    width=4,
                ),
                Panel(
                    "Who is active",
                    "1 for the one that holds the lock, 0 for those that stand by.",
                    query(f"max by (instance) (montemq_aggregator_active{_HERE})", "{{instance}}"),
                    width=10,
                ),
                Panel(
                    "Epoch",
                    "It grows with each take-over and each new connection to the broker.",
                    query(f"max by (instance) (montemq_store_epoch{_HERE})", "{{instance}}"),
                    width=10,
                ),
            ),
        ),
        Row(
            "Does it keep up?",
            ("QueueAgeHigh", "ManyDuplicates"),
            (
                Panel(
                    "Messages taken",
                    "Per second, by queue.",
                    query(rate("montemq_messages_received_total", "queue", _HERE), "{{queue}}"),
                    unit=Unit.PER_SECOND,
                ),
                Panel(
                    "Partials",
                    "Readable ones that were taken, per second, whatever became of them.",
                    query(
                        rate("montemq_partials_received_total", "instance", _HERE), "{{instance}}"
                    ),
                    unit=Unit.PER_SECOND,
                ),
                Panel(
                    "Samples merged",
                    "Per second.",
                    query(rate("montemq_merged_samples_total", "instance", _HERE), "{{instance}}"),
                    unit=Unit.PER_SECOND,
                ),
                Panel(
                    "Time since the last merge",
                    "Grows where there is nothing to do too.",
                    query(
                        f"time() - max(montemq_last_merge_timestamp_seconds{_HERE} > 0)",
                        "last merge",
                    ),
                    unit=Unit.SECONDS,
                ),
                flows(
                    "What became of the results",
                    "Per second. duplicate and overlap were computed twice; ManyDuplicates "
                    "fires above 20 % where they are more than ten in 15 minutes.",
                    "montemq_results_total",
                    "outcome",
                    _HERE,
                ),
                Panel(
                    "Messages that wait inside",
                    "For the ledger (inbox), or to be published (events, replies). What waits "
                    "in the broker is on the Broker page.",
                    query(f"sum by (where) (montemq_waiting_messages{_HERE})", "{{where}}"),
                ),
                Panel(
                    "Lag of the event loop",
                    "How much later than asked the loop came back to a task. Above a quarter "
                    "of a second it wants more of a core.",
                    (
                        Query(quantile(0.5, "montemq_event_loop_lag_seconds", where=_HERE), "half"),
                        Query(
                            quantile(0.99, "montemq_event_loop_lag_seconds", where=_HERE), "99 %"
                        ),
                    ),
                    unit=Unit.SECONDS,
                    steps=(Step(0.25, Color.DOUBTFUL),),
                ),
                flows(
                    "Requests",
                    "Per second, by method and outcome.",
                    "montemq_rpc_requests_total",
                    "method, outcome",
                    _HERE,
                    width=16,
                ),
            ),
        ),
        Row(
            "What does it refuse or drop?",
            ("RejectedMessages", "DeadLetters"),
            (
                flows(
                    "Refused messages",
                    "Per second, by the rule of protocol/README.md that they break.",
                    "montemq_messages_rejected_total",
                    "reason",
                    _HERE,
                ),
                Panel(
                    "Messages that others refused",
                    "Per second: chunks, events and commands by consumers, events by producers.",
                    (
                        Query(rate("montemq_host_messages_rejected_total", "host"), "{{host}}"),
                        Query(rate("montemq_producer_messages_rejected_total"), "producers"),
                    ),
                    unit=Unit.PER_SECOND,
                ),
                flows(
                    "Failures",
                    "Per second, by kind, dead letters among them.",
                    "montemq_failures_total",
                    "kind",
                    _HERE,
                ),
                flows(
                    "Dropped events and replies",
                    "Per second, because too many waited; who misses one asks again.",
                    "montemq_messages_dropped_total",
                    "what",
                    _HERE,
                ),
            ),
        ),
        Row(
            "Is the store fast, and is its disk filling?",
            ("StoreSlow", "StoreNearlyFull"),
            (
                Panel(
                    "Commits",
                    "How long a batch takes. StoreSlow fires when one in ten takes more than a "
                    "second.",
                    (
                        Query(quantile(0.5, "montemq_commit_seconds", where=_HERE), "half"),
                        Query(quantile(0.9, "montemq_commit_seconds", where=_HERE), "90 %"),
                        Query(quantile(0.99, "montemq_commit_seconds", where=_HERE), "99 %"),
                    ),
                    unit=Unit.SECONDS,
                    steps=(Step(1, Color.BAD),),
                ),
                Panel(
                    "Commits and refusals",
                    "Batches per second that the store took and refused. What is refused comes "
                    "again.",
                    (
                        Query(rate("montemq_commit_seconds_count", "instance", _HERE), "taken"),
                        Query(rate("montemq_commit_errors_total", "instance", _HERE), "refused"),
                    ),
                    unit=Unit.PER_SECOND,
                ),
                Panel(
                    "Size of the store",
                    "The database, and the write-ahead log beside it.",
                    query(f"max by (file) (montemq_store_bytes{_HERE})", "{{file}}"),
                    unit=Unit.BYTES,
                    stacked=True,
                ),
                Panel(
                    "Room on the disk",
                    "StoreNearlyFull fires below 1 GB.",
                    query(f"min(montemq_store_free_bytes{_HERE})", "free"),
                    unit=Unit.BYTES,
                    kind=Kind.NUMBER,
                    steps=(Step(1e9, Color.DOUBTFUL), Step(10e9, Color.GOOD)),
                    base=Color.BAD,
                ),
                Panel(
                    "Room in a day",
                    "If the disk goes on filling as in the last hour; 0 means full.",
                    query(
                        "clamp_min(min(predict_linear"
                        f"(montemq_store_free_bytes{_HERE}[1h], {_DAY})), 0)",
                        "free in a day",
                    ),
                    unit=Unit.BYTES,
                    width=16,
                ),
            ),
        ),
    ),
)
