"""An aggregator on the in-memory broker: the real ledger and store in a simulated shell."""

from collections.abc import Callable
from dataclasses import dataclass

from aggregator.changes import Changes
from aggregator.hosts import Hosts
from aggregator.ledger import Ledger
from aggregator.news import routing_key
from aggregator.rpc import REQUESTS, Responder
from aggregator.standings import Standings
from aggregator.store.sqlite import StaleEpochError, Store
from aggregator.watch import Watch
from ops.simulation.channel import MemoryChannel
from ops.simulation.disturbance import Disturbance
from ops.simulation.events import Confirmed, Delivery, Properties, Rejected, Returned
from ops.simulation.party import Clock, Party
from ops.simulation.remembered import decode
from protocol import topology
from protocol.messages import Chunk, Failure, Message, Partial, Telemetry, encode


@dataclass(frozen=True)
class AggregatorHabits:
    """How an aggregator is.

    Attributes
    ----------
    step_seconds
        How long each step takes on average: applying a batch, committing, acknowledging.
    lost_events
        How likely an event reaches nobody.
    audit_share
        Of the chunks, computed a second time on another host.
    """

    step_seconds: float
    lost_events: float = 0.0
    audit_share: float = 0.0


class SimulatedAggregator(Party):
    """An aggregator: the real ledger and the real store; apply, commit and acknowledge apart."""

    def __init__(self, world: Clock, name: str, store: Store, habits: AggregatorHabits) -> None:
        self.exited = False
        self.ledger: Ledger | None = None
        self._store = store
        self._habits = habits
        self._batch: list[Delivery] = []
        self._queues: dict[str, str] = {}
        self._working = False
        self._newest: dict[str, int] = {}
        super().__init__(world, name)
        self.every(1.0, self._tick)

    def connect(self, channel: MemoryChannel) -> None:
        """Take the lock, raise the epoch, load the ledger, consume."""
        channel.connection.channel().declare_queue(topology.AGGREGATOR_LOCK, exclusive=True)
        epoch = self._store.take_over()
        store = self._store
        standings = Standings(store.standings(), self._habits.audit_share, self.world.random)
        self.ledger = Ledger(
            epoch, store.active_runs(), store.ended_runs(), store.names(), standings
        )
        self._batch, self._working = [], False
        queues = (topology.TELEMETRY_QUEUE, topology.RPC_QUEUE, topology.DEAD_QUEUE)
        self._queues = {
            channel.consume(queue, prefetch=100, no_ack=queue == topology.TELEMETRY_QUEUE): queue
            for queue in (*queues, topology.RESULTS_QUEUE)
        }

    def disconnected(self) -> None:
        """Forget everything that is not in the store."""
        self.ledger = None

    def take(self, event: Delivery | Confirmed | Rejected | Returned) -> None:
        """Collect a batch, and work on it a moment later."""
        if isinstance(event, Delivery):
            self._batch.append(event)
            if not self._working:
                self._working = True
                self._soon(self._apply)

    def _apply(self, ledger: Ledger) -> None:
        batch, self._batch = self._batch, []
        replies: list[tuple[Delivery, Message]] = []
        responder = Responder(ledger, Hosts(), Watch(), self._store)  # nobody watches
        now = self.world.wall
        for delivery in batch:
            queue, type_name = self._queues[delivery.consumer_tag], delivery.message.properties.type
            if queue == topology.RESULTS_QUEUE:
                message = decode(type_name, delivery.body, Partial, Failure)
                if isinstance(message, Partial):
                    self._count_overtaking(message)
                    ledger.partial(message, now)
                else:
                    ledger.failure(message, now)
            elif queue == topology.DEAD_QUEUE:
                ledger.dead_letter(decode(type_name, delivery.body, Chunk), now)
            elif queue == topology.TELEMETRY_QUEUE:
                telemetry = decode(type_name, delivery.body, Telemetry)
                ledger.heartbeat(telemetry, now)
            else:
                request = decode(type_name, delivery.body, *REQUESTS)
                replies.append((delivery, responder.answer(request, now)))
        ledger.record(now)
        changes = ledger.take_changes()
        self._soon(lambda ledger: self._commit(ledger, changes, batch, replies))

    def _commit(
        self,
        ledger: Ledger,
        changes: Changes,
        batch: list[Delivery],
        replies: list[tuple[Delivery, Message]],
    ) -> None:
        if changes:
            try:
                self._store.commit(changes, ledger.epoch)
            except StaleEpochError:
                self.exited, self.alive = True, False
                self.world.broker.kill(self.name)
                return
        self._soon(lambda ledger: self._acknowledge(ledger, batch, replies))

    def _acknowledge(
        self, ledger: Ledger, batch: list[Delivery], replies: list[tuple[Delivery, Message]]
    ) -> None:
        channel = self.channel
        if channel is None:
            return
        for delivery in batch:
            if self._queues[delivery.consumer_tag] != topology.TELEMETRY_QUEUE:
                channel.ack(delivery.delivery_tag)
        for request, reply in replies:
            address = request.message.properties.reply_to or ""
            channel.publish("", address, encode(reply), Properties(type=reply.type))
        for event in ledger.take_events(self.world.wall):
            if self.world.random.random() < self._habits.lost_events:
                self.world.broker.seen[Disturbance.LOST_EVENT] += 1
                continue
            key = routing_key(event)
            channel.publish(topology.EVENTS, key, encode(event), Properties(type=event.type))
        self._working = bool(self._batch)
        if self._working:
            self._soon(self._apply)

    def _count_overtaking(self, partial: Partial) -> None:
        newest = self._newest.get(partial.run, 0)
        self.world.broker.seen[Disturbance.OVERTAKING] += partial.attempt < newest
        self._newest[partial.run] = max(partial.attempt, newest)

    def _soon(self, step: Callable[[Ledger], None]) -> None:
        """Take the next step of this session a moment later, unless it has ended by then."""
        session = self.ledger
        seconds = self.world.random.expovariate(1 / self._habits.step_seconds)

        def go() -> None:
            if session is not None and self.ledger is session:
                self.guard(lambda: step(session))

        self.later(seconds, go)

    def _tick(self) -> None:
        if self.ledger is not None and not self._working:
            self.ledger.tick(self.world.wall)
            self._working = True
            self._soon(self._apply)
