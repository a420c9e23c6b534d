"""Is the broker queueing, and does every message arrive? RabbitMQ's own plug-in tells."""

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
    query,
    rate,
)

_QUEUE = '{queue=~"mc[.].*", queue=~"$queue"}'


def _messages(what: str) -> str:
    return rate(f"rabbitmq_global_messages_{what}_total")


DASHBOARD = Dashboard(
    uid="montemq-broker",
    title="montemq / Broker",
    description="Whether the broker is queueing, and whether every message arrives.",
    variables=(Variable("queue", "Queue", 'rabbitmq_detailed_queue_messages{queue=~"mc[.].*"}'),),
    rows=(
        Row(
            "Is the broker queueing?",
            ("QueueAgeHigh", "NoConsumers"),
            (
                Panel(
                    "Messages that wait",
                    "Ready and not taken, by queue. Few wait in mc.work, because producers "
                    "issue what is computed in seconds; mc.results.q should be near 0.",
                    query(
                        f"sum by (queue) (rabbitmq_detailed_queue_messages_ready{_QUEUE})",
                        "{{queue}}",
                    ),
                ),
                Panel(
                    "Messages in hands",
                    "Taken and not acknowledged yet, by queue: chunks that are computed, "
                    "results that are being committed.",
                    query(
                        f"sum by (queue) (rabbitmq_detailed_queue_messages_unacked{_QUEUE})",
                        "{{queue}}",
                    ),
                ),
                Panel(
                    "Takers",
                    "Who takes from each queue: consumers from mc.work, the active aggregator "
                    "from the others; nobody from mc.store.q.",
                    query(
                        f"sum by (queue) (rabbitmq_detailed_queue_consumers{_QUEUE})", "{{queue}}"
                    ),
                ),
                Panel(
                    "Results wait",
                    "How long a result waits until the aggregator takes it, by Little's law; "
                    "endless where nothing is taken. QueueAgeHigh fires above a minute.",
                    query("montemq:results_wait:seconds >= 0", "wait"),
                    unit=Unit.SECONDS,
                    steps=(Step(10, Color.DOUBTFUL), Step(60, Color.BAD)),
                    width=12,
                ),
                Panel(
                    "Dead letters that wait",
                    "Chunks that the broker gave up, and that no aggregator has taken yet.",
                    query(
                        'sum(rabbitmq_detailed_queue_messages{queue="mc.dead.q"})', "dead letters"
                    ),
                    steps=(Step(1, Color.BAD),),
                    width=12,
                ),
            ),
        ),
        Row(
            "Does every message arrive?",
            ("UnroutableMessages", "DeadLetters"),
            (
                Panel(
                    "Messages",
                    "Published, given to takers, and acknowledged by them, per second.",
                    (
                        Query(_messages("received"), "published"),
                        Query(_messages("delivered"), "delivered"),
                        Query(_messages("acknowledged"), "acknowledged"),
                    ),
                    unit=Unit.PER_SECOND,
                ),
                Panel(
                    "Unconfirmed",
                    "Messages per second whose publishers want a confirm, and those that were "
                    "confirmed: they should be the same.",
                    (
                        Query(_messages("received_confirm"), "to be confirmed"),
                        Query(_messages("confirmed"), "confirmed"),
                    ),
                    unit=Unit.PER_SECOND,
                ),
                Panel(
                    "Lost ways",
                    "Returned: no queue takes a message that must arrive, and UnroutableMessages "
                    "fires. Dead-lettered: a chunk came back too often. Given again: somebody "
                    "vanished with it.",
                    (
                        Query(_messages("unroutable_returned"), "returned"),
                        Query(_messages("dead_lettered_delivery_limit"), "dead-lettered"),
                        Query(_messages("redelivered"), "given again"),
                    ),
                    unit=Unit.PER_SECOND,
                ),
            ),
        ),
        Row(
            "Is it out of memory, disk or files?",
            ("PublisherBlocked",),
            (
                Panel(
                    "Alarms",
                    "While there is one, RabbitMQ reads from no publisher.",
                    (
                        Query("max(rabbitmq_alarms_memory_used_watermark)", "memory"),
                        Query("max(rabbitmq_alarms_free_disk_space_watermark)", "disk"),
                        # From 4.3 on there is no such alarm.
                        Query(
                            "max(rabbitmq_alarms_file_descriptor_limit) "
                            "or 0 * max(rabbitmq_alarms_memory_used_watermark)",
                            "files",
                        ),
                    ),
                    unit=Unit.ON_OFF,
                    kind=Kind.NUMBER,
                    steps=(Step(1, Color.BAD),),
                ),
                Panel(
                    "Aggregator blocked",
                    "Whether the broker takes nothing that the aggregator publishes.",
                    query("max(montemq_aggregator_blocked)", "aggregator"),
                    unit=Unit.ON_OFF,
                    kind=Kind.NUMBER,
                    steps=(Step(1, Color.BAD),),
                    width=4,
                ),
                Panel(
                    "Memory",
                    "Used, and the limit at which publishers are blocked.",
                    (
                        Query("max(rabbitmq_process_resident_memory_bytes)", "used"),
                        Query("min(rabbitmq_resident_memory_limit_bytes)", "limit"),
                    ),
                    unit=Unit.BYTES,
                    width=12,
                ),
                Panel(
                    "Disk",
                    "Free, and the limit below which publishers are blocked.",
                    (
                        Query("min(rabbitmq_disk_space_available_bytes)", "free"),
                        Query("max(rabbitmq_disk_space_available_limit_bytes)", "limit"),
                    ),
                    unit=Unit.BYTES,
                    width=8,
                ),
                Panel(
                    "Connections",
                    "Each consumer, producer and command has one, the aggregator three.",
                    (
                        Query("sum(rabbitmq_connections)", "connections"),
                        Query("sum(rabbitmq_channels)", "channels"),
                    ),
                    width=8,
                ),
                Panel(
                    "Connections opened",
                    "Per second; many mean that somebody cannot stay.",
                    query(rate("rabbitmq_connections_opened_total"), "opened"),
                    unit=Unit.PER_SECOND,
                    width=8,
                ),
            ),
        ),
    ),
)
