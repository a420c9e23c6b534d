"""Producer, consumer and aggregator on the in-memory broker: real cores, simulated shells.

Scheduler, policy, ledger, store and model code are those of production; only what drives them is
simulated, so that a seed can decide when each step happens and what fails in between.
"""

from collections.abc import Callable
from random import Random
from typing import Protocol

from aggregator.ledger import Changes, Ledger
from aggregator.rpc import REQUESTS, Responder
from aggregator.store.sqlite import StaleEpochError, Store
from consumer import events as e
from consumer.answers import Worker
from consumer.execution import execute
from consumer.models.pi import Pi
from consumer.policy import Policy
from ops.simulation.broker import MemoryBroker
from ops.simulation.channel import MemoryChannel
from ops.simulation.events import (
    Closed,
    Confirmed,
    ConsumerCancelled,
    Delivery,
    Properties,
    Rejected,
    Returned,
)
from producer.runfile import Submission
from producer.scheduler import Publish, Scheduler
from protocol import topology
from protocol.definition import Lane, Sampling
from protocol.errors import BrokerError, LockedError
from protocol.messages import (
    Chunk,
    ConsumerState,
    Declare,
    ErrorReply,
    Failure,
    Finished,
    Message,
    Missing,
    MissingRequest,
    Partial,
    Progress,
    RunState,
    Telemetry,
    decode,
    encode,
)
from protocol.model import Model
from protocol.statistics import BlockMoments
from protocol.streams import BlockStream

RETRY_SECONDS = 2.0
TICK_SECONDS = 0.25
TELEMETRY_SECONDS = 2.0
STEP_SECONDS = 0.1
"""Of an aggregator; slow, so that accidents often happen between two of them."""


class Habits(Protocol):
    """How a consumer is: its slots, seconds per chunk, and how likely one crashes its slot."""

    @property
    def slots(self) -> int:
        """How many chunks it computes at a time."""

    @property
    def chunk_seconds(self) -> float:
        """How long a chunk takes on average."""

    @property
    def crash(self) -> float:
        """How likely a chunk crashes its slot."""


class RememberedPi(Pi):
    """The real model; blocks are remembered, because every schedule computes the same ones."""

    def simulate(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> BlockMoments:
        """Simulate one block, once."""
        if stream not in _REMEMBERED:
            _REMEMBERED[stream] = super().simulate(stream, sampling, outputs)
        return _REMEMBERED[stream]


_REMEMBERED: dict[BlockStream, BlockMoments] = {}


def _load(_: str) -> type[Model]:
    return RememberedPi


class Clock(Protocol):
    """What a party knows of its world."""

    now: float
    random: Random
    broker: MemoryBroker

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something later."""


class Party:
    """A process: alive until killed, connected now and then, frozen at times.

    Attributes
    ----------
    alive
        False from `kill` on; nothing it had planned happens any more.
    """

    def __init__(self, world: Clock, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.frozen_until = 0.0
        self.channel: MemoryChannel | None = None
        self._connect_later(0.0)

    def kill(self) -> None:
        """End it as SIGKILL would."""
        self.alive = False
        self.world.broker.kill(self.name)

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something later, if this process lives then; once it is awake, if it is frozen."""

        def due() -> None:
            if self.alive and self.awake:
                what()
            elif self.alive:
                self.world.after(self.frozen_until - self.world.now, due)

        self.world.after(seconds, due)

    @property
    def awake(self) -> bool:
        """Whether it is not frozen, as by SIGSTOP: nothing happens in a frozen process."""
        return self.world.now >= self.frozen_until

    def poll(self) -> None:
        """Take in what has arrived."""
        while self.alive and self.awake and self.channel is not None and self.channel.inbox:
            event = self.channel.inbox.popleft()
            if isinstance(event, Closed | ConsumerCancelled):
                self.lose()
            else:
                self.guard(lambda event=event: self.take(event))  # type: ignore[misc]

    def connect(self, channel: MemoryChannel) -> None:
        """Use a fresh channel."""
        raise NotImplementedError

    def take(self, event: Delivery | Confirmed | Rejected | Returned) -> None:
        """Take in one event."""
        raise NotImplementedError

    def disconnected(self) -> None:
        """Take note that the channel is gone."""

    def every(self, seconds: float, what: Callable[[], None]) -> None:
        """Repeat something while this process lives."""

        def again() -> None:
            self.guard(what)
            self.later(seconds, again)

        self.later(seconds, again)

    def guard(self, what: Callable[[], None]) -> None:
        """Do something that the broker may interrupt."""
        try:
            what()
        except BrokerError:
            self.lose()

    def lose(self) -> None:
        """Give the channel up, and connect again a moment later."""
        if self.channel is not None:
            channel, self.channel = self.channel, None
            channel.connection.close()
            self.disconnected()
            self._connect_later(self.world.random.uniform(0.1, RETRY_SECONDS))

    def _connect_later(self, seconds: float) -> None:
        self.later(seconds, self._connect)

    def _connect(self) -> None:
        if not self.alive or self.channel is not None:
            return
        try:
            self.channel = self.world.broker.connect(self.name).channel()
            self.channel.confirm_select()
            self.connect(self.channel)
        except BrokerError:
            if self.channel is not None:
                self.channel.connection.close()
            self.channel = None
            self._connect_later(RETRY_SECONDS)


class SimulatedConsumer(Party):
    """An agent: the real policy and the real computation, slots that take simulated time."""

    def __init__(self, world: Clock, name: str, habits: Habits) -> None:
        self._policy = Policy(Worker(name, name), habits.slots)
        self._worker = Worker(name, name)
        self._habits = habits
        self._attempts: dict[e.Receipt, int] = {}
        self._answers: dict[int, int] = {}
        self._answered: set[int] = set()
        self._ended = False
        self._generation = 0
        self._lanes: dict[str, Lane] = {}
        self._tokens: dict[int, int] = {}
        self._working: dict[int, object] = {}
        super().__init__(world, name)
        self.every(TICK_SECONDS, lambda: self._handle(e.Tick()))
        self.every(TELEMETRY_SECONDS, self._tell)

    def connect(self, channel: MemoryChannel) -> None:
        """Subscribe to the ends of runs, and let the policy consume."""
        self._generation += 1
        self._lanes, self._tokens = {}, {}
        queue = channel.declare_queue(exclusive=True, arguments=topology.subscription()).queue
        channel.bind(queue, topology.EVENTS, topology.finished_key("*"))
        channel.consume(queue, no_ack=True)
        self._handle(e.Connected())
        self._tell()

    def take(self, event: Delivery | Confirmed | Rejected | Returned) -> None:
        """Pass what the broker sent on to the policy."""
        match event:
            case Confirmed(sequence) if sequence in self._tokens:
                token = self._tokens.pop(sequence)
                self._answered.add(self._answers[token])
                self._handle(e.Confirmed(token))
            case Rejected(sequence) if sequence in self._tokens:
                self._handle(e.Refused(self._tokens.pop(sequence)))
            case Delivery():
                self._deliver(event)

    def disconnected(self) -> None:
        """Tell the policy."""
        self._handle(e.Disconnected())

    def _deliver(self, delivery: Delivery) -> None:
        type_name = delivery.message.properties.type
        message = decode(type_name, delivery.body, Chunk, Finished)
        if isinstance(message, Finished):
            self._ended = True
            self._handle(e.RunEnded(message.run, message.definition, message.term))
        else:
            lane = self._lanes[delivery.consumer_tag]
            receipt = (self._generation, delivery.delivery_tag)
            self._attempts[receipt] = message.attempt
            self._handle(e.Delivered(receipt, lane, message, delivery.body))

    def _handle(self, event: e.Event) -> None:
        for action in self._policy.handle(event, self.world.now):
            if self.alive:
                self._do(action)

    def _do(self, action: e.Action) -> None:
        match action:
            case e.StartSlot(slot):
                self._later(0.1, e.SlotReady(slot))
            case e.StartChunk(slot, chunk, _):
                self._compute(slot, chunk)
            case e.KillSlot(slot):
                self._working.pop(slot, None)
                self._later(0.01, e.SlotCrashed(slot, "killed"))
            case _ if self.channel is not None:
                self._tell_broker(action, self.channel)

    def _tell_broker(self, action: e.Action, channel: MemoryChannel) -> None:
        match action:
            case e.Publish(token, type_name, body):
                key = topology.partial_key if type_name == Partial.type else topology.failure_key
                properties = Properties(type=type_name, persistent=True, user_id="guest")
                sequence = channel.publish(
                    topology.RESULTS, key("guest"), body, properties, mandatory=True
                )
                self._tokens[sequence] = token
                self._answers[token] = decode(type_name, body, Partial, Failure).attempt
            case e.Ack((generation, tag)) if generation == self._generation:
                attempt = self._attempts[generation, tag]
                if attempt not in self._answered and not self._ended:
                    raise AssertionError(f"chunk {attempt} acknowledged, its answer unconfirmed")
                channel.ack(tag)
            case e.Return((generation, tag)) if generation == self._generation:
                channel.nack(tag)
            case e.Consume(prefetch):
                self._stop_consuming(channel)
                for lane in Lane:
                    queue = topology.work_queue("default", lane)
                    self._lanes[channel.consume(queue, prefetch=prefetch)] = lane
            case e.StopConsuming():
                self._stop_consuming(channel)

    def _stop_consuming(self, channel: MemoryChannel) -> None:
        # What was under way still arrives under the old tags, so the tags stay known.
        for tag in self._lanes:
            channel.cancel(tag)

    def _compute(self, slot: int, chunk: Chunk) -> None:
        work = self._working[slot] = object()
        seconds = self.world.random.expovariate(1 / self._habits.chunk_seconds)
        crashes = self.world.random.random() < self._habits.crash

        def done() -> None:
            if self._working.get(slot) is not work:
                return
            if crashes:
                self._handle(e.SlotCrashed(slot, "simulated crash"))
                return
            answer = execute(chunk, self._worker, _load)
            kind = answer.kind if isinstance(answer, Failure) else None
            self._handle(e.SlotDone(slot, answer.type, encode(answer), kind))

        self.later(seconds, lambda: self.guard(done))

    def _later(self, seconds: float, event: e.Event) -> None:
        self.later(seconds, lambda: self.guard(lambda: self._handle(event)))

    def _tell(self) -> None:
        if self.channel is not None:
            message = Telemetry(
                consumer=self.name, host=self.name, pool="default", slots=self._policy.slots,
                busy=self._policy.busy, state=ConsumerState.RUNNING, version="simulated",
            )  # fmt: skip
            properties = Properties(type=message.type)
            self.channel.publish(topology.TELEMETRY, "guest", encode(message), properties)


class SimulatedProducer(Party):
    """A producer: the real scheduler; declares, leads or follows, until the run has ended."""

    def __init__(
        self, world: Clock, name: str, job: Submission, chunk_blocks: int, seen: set[int]
    ) -> None:
        self.state = RunState.RUNNING
        self._job = job
        self._scheduler = Scheduler(job.run, job.definition, chunk_blocks)
        self._seen = seen
        self._unconfirmed: dict[int, int] = {}
        self._leads = False
        super().__init__(world, name)
        self.every(TICK_SECONDS, self._act)
        self.every(RETRY_SECONDS, self._try_to_lead)

    def connect(self, channel: MemoryChannel) -> None:
        """Subscribe, take the lead if it is free, declare."""
        self._unconfirmed = {}
        self._leads = False
        channel.consume(topology.DIRECT_REPLY, no_ack=True)
        queue = channel.declare_queue(exclusive=True, arguments=topology.subscription()).queue
        for key in (topology.progress_key(self._job.run), topology.finished_key(self._job.run)):
            channel.bind(queue, topology.EVENTS, key)
        channel.consume(queue, no_ack=True)
        self._try_to_lead()
        self._declare()

    def take(self, event: Delivery | Confirmed | Rejected | Returned) -> None:
        """Pass what the broker sent on to the scheduler."""
        now = self.world.now
        match event:
            case Confirmed(sequence) if sequence in self._unconfirmed:
                self._scheduler.confirmed(self._unconfirmed.pop(sequence))
            case Rejected(sequence) if sequence in self._unconfirmed:
                self._scheduler.refused(self._unconfirmed.pop(sequence), now)
            case Delivery():
                self._hear(event, now)
        self._act()

    def disconnected(self) -> None:
        """Tell the scheduler."""
        self._scheduler.disconnected()
        self._scheduler.leads(leads=False)

    def _hear(self, delivery: Delivery, now: float) -> None:
        type_name = delivery.message.properties.type
        message = decode(type_name, delivery.body, Progress, Finished, Missing, ErrorReply)
        if isinstance(message, Progress):
            self._scheduler.progress(message, now)
        elif isinstance(message, Missing):
            self._scheduler.joined(message, now)
            # A fresh term may be used from the answer on, not before.
            self._scheduler.leads(leads=self._leads)
            self.state = self._scheduler.state
        elif isinstance(message, ErrorReply):
            self._declare()  # it asked before its declaration arrived, or that expired
        else:
            self.state = RunState(message.state)

    def _act(self) -> None:
        if self.channel is None or self.state is not RunState.RUNNING:
            return
        for action in self._scheduler.actions(self.world.now):
            if isinstance(action, Publish):
                self._publish(self.channel, action.chunk)
            else:
                self._ask(MissingRequest(run=self._job.run))
                self.later(5.0, self._scheduler.unanswered)

    def _publish(self, channel: MemoryChannel, chunk: Chunk) -> None:
        if chunk.attempt in self._seen:
            raise AssertionError(f"attempt {chunk.attempt} was used twice")
        self._seen.add(chunk.attempt)
        key = topology.work_key(self._job.pool, self._job.lane)
        properties = Properties(type=chunk.type, persistent=True)
        sequence = channel.publish(topology.WORK, key, encode(chunk), properties, mandatory=True)
        self._unconfirmed[sequence] = chunk.attempt

    def _try_to_lead(self) -> None:
        if self._leads or self.channel is None:
            return
        try:
            lock = self.channel.connection.channel()
            lock.declare_queue(topology.leader_lock(self._job.run), exclusive=True)
        except LockedError:
            return
        self._leads = True
        self._declare()

    def _declare(self) -> None:
        self._ask(
            Declare(
                run=self._job.run, definition=self._job.definition,
                pool=self._job.pool, lane=self._job.lane,
            )
        )  # fmt: skip

    def _ask(self, request: Message) -> None:
        if self.channel is not None:
            properties = Properties(
                type=request.type, reply_to=topology.DIRECT_REPLY, expiration="5000"
            )
            self.channel.publish(topology.RPC, topology.RPC_KEY, encode(request), properties)


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
