"""What the aggregator counts and measures; labels come from closed sets only.

What is read off the ledger stands in `aggregator.gauges`; `ops/prometheus/METRICS.md` lists all.
"""

import math
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from aggregator.audits import AuditOutcome
from aggregator.books import Outcome
from aggregator.store.disk import DiskUse
from protocol.messages import FailureKind, RefusalReason
from protocol.topology import DEAD_QUEUE, RESULTS_QUEUE, RPC_QUEUE, TELEMETRY_QUEUE

DEAD_LETTER = "dead_letter"
SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
EVENT, REPLY = "event", "reply"
DATABASE, WAL = "database", "wal"


class Metrics:
    """The aggregator's own registry, so that two can live in one process."""

    def __init__(self, version: str) -> None:
        # Prometheus has no use for the creation time of each counter.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        counter = partial(Counter, namespace="montemq", registry=self.registry)
        gauge = partial(Gauge, namespace="montemq", registry=self.registry)
        histogram = partial(Histogram, namespace="montemq", registry=self.registry)
        self.received = counter("messages_received", "Messages taken from the queues.", ["queue"])
        self.partials = counter(
            "partials_received", "Readable partials received, whatever became of them."
        )
        self.results = counter(
            "results",
            "Acceptable partials and failures by what became of them: merged, duplicate (all its "
            "blocks were merged already), overlap (some were), overshoot (its cell had ended), "
            "late (the run had ended), recorded (a failure), audited (compared with what another "
            "host had sent), refused (its host was wrong once).",
            ["outcome"],
        )
        self.rejected = counter("messages_rejected", "Messages refused, by reason.", ["reason"])
        self.failures = counter(
            "failures", "Failures received, by kind, dead letters among them.", ["kind"]
        )
        self.audits = counter(
            "audits",
            "Audits by outcome: passed (two hosts sent the same bits), wrong (a host sent others "
            "than two did, and is refused), skipped (nobody else could compute the chunk).",
            ["outcome"],
        )
        self.merged_samples = counter("merged_samples", "Samples merged.")
        self.last_merge = gauge(
            "last_merge_timestamp_seconds",
            "When a batch with merged partials was last committed; NaN before the first one.",
        )
        self.last_merge.set(math.nan)
        self.commit_seconds = histogram(
            "commit_seconds",
            "Time to commit one batch to the store.",
            buckets=SECONDS_BUCKETS,
        )
        self.commit_errors = counter(
            "commit_errors",
            "Batches that the store refused; nothing of them was acknowledged.",
        )
        self.store_bytes = gauge(
            "store_bytes",
            "Size of the store: its database, and the write-ahead log beside it (wal).",
            ["file"],
        )
        self.store_free_bytes = gauge("store_free_bytes", "Room left on the store's disk.")
        self.loop_lag = histogram(
            "event_loop_lag_seconds",
            "How much later than asked the event loop came back to a task, once a second.",
            buckets=SECONDS_BUCKETS,
        )
        self.dropped = counter(
            "messages_dropped",
            "Events and replies that were not published because too many waited.",
            ["what"],
        )
        self.rpc = counter(
            "rpc_requests", "Requests answered, by method and outcome.", ["method", "outcome"]
        )
        self.active = gauge(
            "aggregator_active",
            "1 while this aggregator holds the lock, 0 while it stands by.",
        )
        self.blocked = gauge(
            "aggregator_blocked",
            "1 while the broker takes nothing that this aggregator publishes, else 0.",
        )
        self.epoch = gauge("store_epoch", "Epoch under which this aggregator writes.")
        gauge("build_info", "Version of montemq.", ["version"]).labels(version).set(1)
        for queue in (RESULTS_QUEUE, RPC_QUEUE, TELEMETRY_QUEUE, DEAD_QUEUE):
            self.received.labels(queue)
        for kind in (*FailureKind, DEAD_LETTER):
            self.failures.labels(kind)
        for outcome in Outcome:
            self.results.labels(outcome.value)
        for result in AuditOutcome:
            self.audits.labels(result.value)
        for what in (EVENT, REPLY):
            self.dropped.labels(what)
        for reason in RefusalReason:
            self.rejected.labels(reason.value)

    def show_disk(self, use: DiskUse) -> None:
        """Show how much room the store takes, and how much is left."""
        self.store_bytes.labels(DATABASE).set(use.database)
        self.store_bytes.labels(WAL).set(use.wal)
        self.store_free_bytes.set(use.free)
