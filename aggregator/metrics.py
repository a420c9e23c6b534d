"""Every metric of the aggregator, with its meaning; labels come from closed sets only."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
)

from aggregator.books import Outcome
from protocol.messages import FailureKind, RefusalReason, RunState
from protocol.topology import DEAD_QUEUE, RESULTS_QUEUE, RPC_QUEUE, TELEMETRY_QUEUE

DEAD_LETTER = "dead_letter"
COMMIT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The aggregator's own registry, so that two can live in one process."""

    def __init__(self, version: str) -> None:
        # Prometheus has no use for the creation time of each counter.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        registry = self.registry
        self.received = Counter(
            "montemq_messages_received",
            "Messages taken from the queues, by queue and type.",
            ["queue"],
            registry=registry,
        )
        self.results = Counter(
            "montemq_results",
            "Acceptable partials and failures by what became of them: merged, duplicate (all its "
            "blocks were merged already), overlap (some were), late (the run had ended), recorded "
            "(a failure).",
            ["outcome"],
            registry=registry,
        )
        self.rejected = Counter(
            "montemq_messages_rejected",
            "Messages refused, by reason.",
            ["reason"],
            registry=registry,
        )
        self.failures = Counter(
            "montemq_failures", "Failures recorded, by kind.", ["kind"], registry=registry
        )
        self.merged_samples = Counter(
            "montemq_merged_samples", "Samples merged.", registry=registry
        )
        self.runs = Gauge("montemq_runs", "Runs by state.", ["state"], registry=registry)
        self.outstanding = Gauge(
            "montemq_outstanding_blocks",
            "Blocks of active runs that are not merged yet.",
            registry=registry,
        )
        self.slots = Gauge("montemq_live_slots", "Slots of live consumers.", registry=registry)
        self.consumers = Gauge("montemq_live_consumers", "Live consumers.", registry=registry)
        self.commit_seconds = Histogram(
            "montemq_commit_seconds",
            "Time to commit one batch to the store.",
            buckets=COMMIT_BUCKETS,
            registry=registry,
        )
        self.commit_errors = Counter(
            "montemq_commit_errors",
            "Batches that the store refused; nothing of them was acknowledged.",
            registry=registry,
        )
        self.rpc = Counter(
            "montemq_rpc_requests",
            "Requests answered, by method and outcome.",
            ["method", "outcome"],
            registry=registry,
        )
        self.active = Gauge(
            "montemq_aggregator_active",
            "1 while this aggregator holds the lock, 0 while it stands by.",
            registry=registry,
        )
        self.epoch = Gauge(
            "montemq_store_epoch", "Epoch under which this aggregator writes.", registry=registry
        )
        Info("montemq_build", "Version of montemq.", registry=registry).info({"version": version})
        for queue in (RESULTS_QUEUE, RPC_QUEUE, TELEMETRY_QUEUE, DEAD_QUEUE):
            self.received.labels(queue)
        for kind in (*FailureKind, DEAD_LETTER):
            self.failures.labels(kind)
        for outcome in Outcome:
            self.results.labels(outcome.value)
        for reason in RefusalReason:
            self.rejected.labels(reason.value)
        for state in RunState:
            self.runs.labels(state.value).set(0)
