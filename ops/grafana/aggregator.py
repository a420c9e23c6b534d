"""The page that tells whether the aggregator keeps up, and whether its disk is filling."""

from ops.grafana.model import (
    RATE,
    Color,
    Dashboard,
    Kind,
    Panel,
    Query,
    Row,
    Step,
    Unit,
    Variable,
    query,
)  # fmt: skip

_HERE = '{instance=~"$instance"}'
_DAY = 86_400


def _rate(by: str, metric: str) -> str:
    return f"sum by ({by}) (rate({metric}{_HERE}[{RATE}]))"


def _quantile(quantile: float, metric: str) -> str:
    return f"histogram_quantile({quantile}, {_rate('le', metric + '_bucket')})"


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
                    query(_rate("queue", "montemq_messages_received_total"), "{{queue}}"),
                    unit=Unit.PER_SECOND,
                ),
                Panel(
                    "Partials",
                    "Readable ones that were taken, per second, whatever became of them.",
                    query(_rate("instance", "montemq_partials_received_total"), "{{instance}}"),
                    unit=Unit.PER_SECOND,
                ),
                Panel(
                    "Samples merged",
                    "Per second.",
                    query(_rate("instance", "montemq_merged_samples_total"), "{{instance}}"),
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
                Panel(
                    "What became of the results",
                    "Per second. duplicate and overlap were computed twice; ManyDuplicates "
                    "fires above 20 %.",
                    query(_rate("outcome", "montemq_results_total"), "{{outcome}}"),
                    unit=Unit.PER_SECOND,
                    stacked=True,
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
                        Query(_quantile(0.5, "montemq_event_loop_lag_seconds"), "half"),
                        Query(_quantile(0.99, "montemq_event_loop_lag_seconds"), "99 %"),
                    ),
                    unit=Unit.SECONDS,
                    steps=(Step(0.25, Color.DOUBTFUL),),
                ),
                Panel(
                    "Requests",
                    "Per second, by method and outcome.",
                    query(
                        _rate("method, outcome", "montemq_rpc_requests_total"),
                        "{{method}}: {{outcome}}",
                    ),
                    unit=Unit.PER_SECOND,
                    width=16,
                    stacked=True,
                ),
            ),
        ),
        Row(
            "What does it refuse or drop?",
            ("RejectedMessages", "DeadLetters"),
            (
                Panel(
                    "Refused messages",
                    "Per second, by the rule of protocol/README.md that they break.",
                    query(_rate("reason", "montemq_messages_rejected_total"), "{{reason}}"),
                    unit=Unit.PER_SECOND,
                    stacked=True,
                ),
                Panel(
                    "Failures",
                    "Per second, by kind, dead letters among them.",
                    query(_rate("kind", "montemq_failures_total"), "{{kind}}"),
                    unit=Unit.PER_SECOND,
                    stacked=True,
                ),
                Panel(
                    "Dropped events and replies",
                    "Per second, because too many waited; who misses one asks again.",
                    query(_rate("what", "montemq_messages_dropped_total"), "{{what}}"),
                    unit=Unit.PER_SECOND,
                    stacked=True,
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
                        Query(_quantile(0.5, "montemq_commit_seconds"), "half"),
                        Query(_quantile(0.9, "montemq_commit_seconds"), "90 %"),
                        Query(_quantile(0.99, "montemq_commit_seconds"), "99 %"),
                    ),
                    unit=Unit.SECONDS,
                    steps=(Step(1, Color.BAD),),
                ),
                Panel(
                    "Commits and refusals",
                    "Batches per second that the store took and refused. What is refused comes "
                    "again.",
                    (
                        Query(_rate("instance", "montemq_commit_seconds_count"), "taken"),
                        Query(_rate("instance", "montemq_commit_errors_total"), "refused"),
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
