"""Exchanges, queues and bindings as values, one place for every name and argument."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.definition import Lane

WORK, RESULTS, TELEMETRY = "mc.work", "mc.results", "mc.telemetry"
RPC, EVENTS, CONTROL, DEAD = "mc.rpc", "mc.events", "mc.control", "mc.dead"

RESULTS_QUEUE, TELEMETRY_QUEUE = "mc.results.q", "mc.telemetry.q"
RPC_QUEUE, DEAD_QUEUE, STORE_QUEUE = "mc.rpc.q", "mc.dead.q", "mc.store.q"
RPC_KEY = "rpc"
DIRECT_REPLY = "amq.rabbitmq.reply-to"

EVERYBODY = "_all"
"""Who all consumers listen as; no consumer or host has such a name."""

AGGREGATOR_LOCK = "mc.aggregator"
PRODUCER_LOCK = "mc.producer"

WORK_DELIVERY_LIMIT = 20
DELIVERY_LIMIT = 1_000_000
TELEMETRY_TTL_MS = 30_000
TELEMETRY_LENGTH = 10_000
SUBSCRIPTION_LENGTH = 10_000

Argument = str | int


@dataclass(frozen=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: str


@dataclass(frozen=True)
class Queue:
    """A durable queue."""

    name: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)


@dataclass(frozen=True)
class Binding:
    """From an exchange to a queue."""

    exchange: str
    key: str
    queue: str


@dataclass(frozen=True)
class Topology:
    """What must exist on the broker."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]


def work_key(pool: str, lane: Lane) -> str:
    """Return the routing key of a pool's lane."""
    return f"{pool}.{lane}"


def work_queue(pool: str, lane: Lane) -> str:
    """Return the queue of a pool's lane."""
    return f"{WORK}.{pool}.{lane}.q"


def lock_queues(name: str) -> tuple[str, str]:
    """Return the queue of a lock, and the one in its place while the first outlives its node."""
    return name, f"{name}.second"


def leader_lock(run: str) -> str:
    """Return the exclusive queue that the producer scheduling this run holds."""
    return f"mc.leader.{run}"


def partial_key(user: str) -> str:
    """Return the routing key of a user's partials."""
    return f"partial.{user}"


def failure_key(user: str) -> str:
    """Return the routing key of a user's failures."""
    return f"failure.{user}"


def progress_key(run: str) -> str:
    """Return the routing key of a run's progress events."""
    return f"run.{run}.progress"


def finished_key(run: str) -> str:
    """Return the routing key of a run's end; `*` for every run."""
    return f"run.{run}.finished"


def declared_key(run: str) -> str:
    """Return the routing key of a run's beginning; `*` for every run."""
    return f"run.{run}.declared"


def refused_key(host: str) -> str:
    """Return the routing key by which a host hears that it is refused."""
    return f"refused.{host}"


def control_key(name: str) -> str:
    """Return the routing key of what a consumer or host of this name is told."""
    return f"fleet.{name}"


def quorum(limit: int = DELIVERY_LIMIT, **more: Argument) -> dict[str, Argument]:
    """Return the arguments of a quorum queue; from RabbitMQ 4 an absent limit would mean 20."""
    arguments: dict[str, Argument] = {"x-queue-type": "quorum", "x-delivery-limit": limit}
    arguments.update({f"x-{name.replace('_', '-')}": value for name, value in more.items()})
    return arguments


def subscription() -> dict[str, Argument]:
    """Return the arguments of a subscriber's own queue: it may lose the oldest, never grow."""
    return {"x-max-length": SUBSCRIPTION_LENGTH, "x-overflow": "drop-head"}


def topology(pools: tuple[str, ...] = ("default",)) -> Topology:
    """Return everything that must be declared for these pools."""
    lanes = [(pool, lane) for pool in pools for lane in Lane]
    work = quorum(
        WORK_DELIVERY_LIMIT,
        dead_letter_exchange=DEAD,
        dead_letter_strategy="at-least-once",
        overflow="reject-publish",  # without it dead-lettering is not at least once
    )
    # A classic queue would be gone, and the fleet unknown, while the node is down that has it.
    telemetry = quorum(
        max_length=TELEMETRY_LENGTH, overflow="drop-head", message_ttl=TELEMETRY_TTL_MS
    )
    return Topology(
        exchanges=(
            Exchange(WORK, "direct"),
            Exchange(RESULTS, "topic"),
            Exchange(TELEMETRY, "topic"),
            Exchange(RPC, "direct"),
            Exchange(EVENTS, "topic"),
            Exchange(CONTROL, "topic"),
            Exchange(DEAD, "fanout"),
        ),
        queues=(
            *(Queue(work_queue(pool, lane), work) for pool, lane in lanes),
            Queue(RESULTS_QUEUE, quorum()),
            Queue(TELEMETRY_QUEUE, telemetry),
            Queue(RPC_QUEUE, quorum()),
            Queue(DEAD_QUEUE, quorum()),
            Queue(STORE_QUEUE, quorum()),
        ),
        bindings=(
            *(Binding(WORK, work_key(p, lane), work_queue(p, lane)) for p, lane in lanes),
            Binding(RESULTS, "partial.#", RESULTS_QUEUE),
            Binding(RESULTS, "failure.#", RESULTS_QUEUE),
            Binding(TELEMETRY, "#", TELEMETRY_QUEUE),
            Binding(RPC, RPC_KEY, RPC_QUEUE),
            Binding(DEAD, "", DEAD_QUEUE),
        ),
    )
