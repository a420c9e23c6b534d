"""An aggregator on the in-memory broker: the real ledger and store in a simulated shell."""

from collections.abc import Callable

from aggregator.ledger import Changes, Ledger
from aggregator.rpc import REQUESTS, Responder
from aggregator.store.sqlite import StaleEpochError, Store
from ops.simulation.channel import MemoryChannel
from ops.simulation.events import Confirmed, Delivery, Properties, Rejected, Returned
from ops.simulation.party import Clock, Party
from protocol import topology
from protocol.messages import Chunk, Failure, Finished, Message, Partial, Telemetry, decode, encode

STEP_SECONDS = 0.1
"""Of an aggregator; slow, so that accidents often happen between two of them."""


class SimulatedAggregator(Party):
    """An aggregator: the real ledger and the real store; apply, commit and acknowledge apart."""

    def __init__(self, world: Clock, name: str, store: Store) -> None:
        self.exited = False
        self.ledger: Ledger | None = None
        self._store = store
        self._batch: list[Delivery] = []
        self._queues: dict[str, str] = {}
        self._working = False
        super().__init__(world, name)
        self.every(1.0, self._tick)

    def connect(self, channel: MemoryChannel) -> None:
        """Take the lock, raise the epoch, load the ledger, consume."""
        channel.connection.channel().declare_queue(topology.AGGREGATOR_LOCK, exclusive=True)
        epoch = self._store.take_over()
        self.ledger = Ledger(epoch, self._store.active_runs(), self._store.ended_runs())
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
        responder = Responder(ledger, self._store)
        now = self.world.now
        for delivery in batch:
            queue, type_name = self._queues[delivery.consumer_tag], delivery.message.properties.type
            if queue == topology.RESULTS_QUEUE:
                message = decode(type_name, delivery.body, Partial, Failure)
                take = ledger.partial if isinstance(message, Partial) else ledger.failure
                take(message, now)
            elif queue == topology.DEAD_QUEUE:
                ledger.dead_letter(decode(type_name, delivery.body, Chunk), now)
            elif queue == topology.TELEMETRY_QUEUE:
                telemetry = decode(type_name, delivery.body, Telemetry)
                if ledger.fleet.hear(telemetry, now):
                    ledger.fleet_changed(telemetry.pool, now)
            else:
                request = decode(type_name, delivery.body, *REQUESTS)
                replies.append((delivery, responder.answer(request, now)))
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
        for event in ledger.take_events(self.world.now):
            finished = isinstance(event, Finished)
            key = (topology.finished_key if finished else topology.progress_key)(event.run)
            channel.publish(topology.EVENTS, key, encode(event), Properties(type=event.type))
        self._working = bool(self._batch)
        if self._working:
            self._soon(self._apply)

    def _soon(self, step: Callable[[Ledger], None]) -> None:
        """Take the next step of this session a moment later, unless it has ended by then."""
        session = self.ledger
        seconds = self.world.random.expovariate(1 / STEP_SECONDS)

        def go() -> None:
            if session is not None and self.ledger is session:
                self.guard(lambda: step(session))

        self.later(seconds, go)

    def _tick(self) -> None:
        if self.ledger is not None and not self._working:
            self.ledger.tick(self.world.now)
            self._working = True
            self._soon(self._apply)
