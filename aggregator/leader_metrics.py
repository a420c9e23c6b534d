"""What producers that schedule runs tell of themselves, as metrics; read at each scrape."""

from collections.abc import Iterator

from prometheus_client.core import Metric

from aggregator.families import COUNTER, GAUGE, HISTOGRAM, Buckets, Family, shown
from aggregator.leaders import Leaders, LeaderSums, Leading, Speech
from protocol.messages import CONFIRM_SECONDS

_SUMS: tuple[Family[LeaderSums], ...] = (
    Family(
        COUNTER,
        "producer_chunks_published",
        "Chunks that producers sent to the broker, copies included.",
        (),
        lambda sums: sums.published,
    ),
    Family(
        COUNTER,
        "producer_chunks_returned",
        "Chunks that the broker returned because no queue takes them.",
        (),
        lambda sums: sums.returned,
    ),
    Family(
        COUNTER,
        "producer_chunks_reissued",
        "Chunks put back to be issued again, whole or in part, by reason: late (a copy, because "
        "it is slow or lost), failed, overlap (only some of its blocks were merged), refused (by "
        "the broker), unconfirmed (when the connection was lost), lost (with its queue).",
        ("reason",),
        lambda sums: {reason.value: amount for reason, amount in sums.reissued.items()},
    ),
    Family(
        COUNTER,
        "producer_blockings",
        "How often the broker blocked a producer's connection; told when that was over.",
        (),
        lambda sums: sums.blockings,
    ),
    Family(
        COUNTER,
        "producer_messages_rejected",
        "Events refused by producers that lead runs.",
        (),
        lambda sums: sums.rejected,
    ),
    Family(
        HISTOGRAM,
        "producer_confirm_seconds",
        "How long the broker took to confirm a chunk.",
        (),
        lambda sums: Buckets.of(CONFIRM_SECONDS, sums.confirms, sums.confirm_seconds),
    ),
)

_HOSTS: tuple[Family[Leading], ...] = (
    Family(
        GAUGE,
        "producer_leaders",
        "Producers that schedule runs, by host and by whether they can be heard: leading, blocked "
        "(by the broker; only its own page can show that), silent (for 8 s without having said "
        "that it stops: dead, cut off or blocked).",
        ("host", "state"),
        lambda here: {speech.value: here.leaders[speech] for speech in Speech},
    ),
    Family(
        GAUGE,
        "producer_runs",
        "Runs that producers schedule, by host.",
        ("host",),
        lambda here: here.runs,
    ),
    Family(
        GAUGE,
        "producer_window_chunks",
        "Chunks of these runs that may be issued and not merged, by host.",
        ("host",),
        lambda here: here.window,
    ),
    Family(
        GAUGE,
        "producer_outstanding_chunks",
        "Chunks of these runs that are issued and not merged, by host.",
        ("host",),
        lambda here: here.outstanding,
    ),
    Family(
        GAUGE,
        "producer_unconfirmed_chunks",
        "Chunks that were sent to the broker and that it has not confirmed, by host.",
        ("host",),
        lambda here: here.unconfirmed,
    ),
    Family(
        GAUGE,
        "producer_info",
        "1, with the version of the producer that spoke last.",
        ("host", "version"),
        lambda here: {here.version: 1},
    ),
    Family(
        GAUGE,
        "producer_last_seen_timestamp_seconds",
        "When a producer of this host last spoke.",
        ("host",),
        lambda here: here.last_seen,
    ),
)


def leader_metrics(leaders: Leaders, now: float) -> Iterator[Metric]:
    """Yield every family; `now` in seconds since the epoch."""
    yield from shown(_SUMS, {(): leaders.sums})
    yield from shown(_HOSTS, {(host,): here for host, here in leaders.hosts(now).items()})
