"""A consumer on the in-memory broker: the real policy and computation, simulated slots."""

import itertools
from collections import deque
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial

from consumer import events as e
from consumer.answers import Worker, failure
from consumer.policy import Policy
from ops.simulation.channel import MemoryChannel
from ops.simulation.events import Confirmed, Delivery, Properties, Rejected, Returned
from ops.simulation.party import TICK_SECONDS, Clock, Party
from ops.simulation.remembered import answer, decode
from protocol import topology
from protocol.definition import Lane
from protocol.exact import exact
from protocol.messages import (
    Chunk,
    ConsumerState,
    Failure,
    FailureKind,
    Finished,
    HostRefused,
    Partial,
    Telemetry,
    encode,
)
from protocol.statistics import Statistics

TELEMETRY_SECONDS = 2.0

Scope = tuple[str, int, int, int]
"""Of a chunk: its run, cell, first block and how many."""


@dataclass(frozen=True)
class Habits:
    """How a consumer is.

    Attributes
    ----------
    slots
        How many chunks it computes at a time.
    block_seconds
        How long a block takes on average.
    regularity
        How alike the times of chunks are: their variance is the squared mean, divided by this.
    crash
        How likely a chunk crashes its slot.
    broken
        Whether whatever it computes fails.
    wrong
        How likely it sends a sum in which one bit is another.
    share
        Of a core that its slots get: what a chunk costs in terms of how long it takes.
    """

    slots: int
    block_seconds: float
    regularity: float = 1.0
    crash: float = 0.0
    broken: bool = False
    wrong: float = 0.0
    share: float = 1.0


def with_a_flipped_bit(statistics: Statistics) -> Statistics:
    """Return statistics of which the lowest bit of one sum is cleared; they look as good."""
    first = statistics.sums[0]
    sign = -1 if first.mantissa < 0 else 1
    flipped = exact(first.mantissa - sign, first.shift)  # the lowest bit of a mantissa is set
    return statistics.model_copy(update={"sums": (flipped, *statistics.sums[1:])})


class SimulatedConsumer(Party):
    """An agent: the real policy and the real computation, slots that take simulated time.

    Attributes
    ----------
    starts
        When it began to compute which run's chunks.
    """

    def __init__(self, world: Clock, name: str, habits: Habits) -> None:
        self.starts: list[tuple[float, str]] = []
        self._policy = Policy(Worker(name, name), habits.slots)
        self._worker = Worker(name, name)
        self._habits = habits
        self._attempts: dict[e.Receipt, tuple[str, int]] = {}
        self._answers: dict[int, tuple[str, int]] = {}
        self._answered: set[tuple[str, int]] = set()
        self._ended: set[str] = set()
        self._generation = 0
        self._lanes: dict[str, Lane] = {}
        self._tokens: dict[int, int] = {}
        self._stocks: dict[int, deque[Chunk]] = {}
        super().__init__(world, name)
        self.every(TICK_SECONDS, lambda: self._handle(e.Tick()))
        self.every(TELEMETRY_SECONDS, self._tell)

    @property
    def computes(self) -> AbstractSet[Scope]:
        """What its slots have: run, cell, first block and how many."""
        chunks = itertools.chain.from_iterable(self._stocks.values())
        return {(chunk.run, chunk.cell, chunk.first_block, chunk.blocks) for chunk in chunks}

    def connect(self, channel: MemoryChannel) -> None:
        """Subscribe to the ends of runs, and let the policy consume."""
        self._generation += 1
        self._lanes, self._tokens = {}, {}
        queue = channel.declare_queue(exclusive=True, arguments=topology.subscription()).queue
        channel.bind(queue, topology.EVENTS, topology.finished_key("*"))
        channel.bind(queue, topology.EVENTS, topology.refused_key(self.name))
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
        message = decode(type_name, delivery.body, Chunk, Finished, HostRefused)
        if isinstance(message, HostRefused):
            self.kill()
        elif isinstance(message, Finished):
            self._ended.add(message.run)
            self._handle(e.RunEnded(message.run, message.definition, message.term))
        else:
            lane = self._lanes[delivery.consumer_tag]
            receipt = (self._generation, delivery.delivery_tag)
            self._attempts[receipt] = message.run, message.attempt
            self._handle(e.Delivered(receipt, lane, message, delivery.body))

    def _handle(self, event: e.Event) -> None:
        for action in self._policy.handle(event, self.world.now):
            if self.alive:  # a channel that is lost by one action takes none of the slots' away
                self.guard(partial(self._do, action))

    def _do(self, action: e.Action) -> None:
        match action:
            case e.StartSlot(slot):
                self._later(0.1, e.SlotReady(slot))
            case e.StartChunk(slot, chunk, _):
                self._give(slot, chunk)
            case e.KillSlot(slot):
                self._stocks.pop(slot, None)
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
                sent = decode(type_name, body, Partial, Failure)
                self._answers[token] = sent.run, sent.attempt
            case e.Ack((generation, tag)) if generation == self._generation:
                run, attempt = self._attempts[generation, tag]
                if (run, attempt) not in self._answered and run not in self._ended:
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

    def _give(self, slot: int, chunk: Chunk) -> None:
        """Let a slot compute a chunk after those that it has."""
        stock = self._stocks.setdefault(slot, deque())
        stock.append(chunk)
        if len(stock) == 1:
            self._compute(slot, stock)

    def _compute(self, slot: int, stock: deque[Chunk]) -> None:
        chunk = stock[0]
        self.starts.append((self.world.now, chunk.run))
        habits, random = self._habits, self.world.random
        seconds = chunk.blocks * habits.block_seconds
        seconds *= random.gammavariate(habits.regularity, 1 / habits.regularity)
        crashes = random.random() < habits.crash

        def done() -> None:
            if self._stocks.get(slot) is not stock:
                return
            if crashes:
                del self._stocks[slot]
                self.world.crashes.append((chunk, self.name))
                self._handle(e.SlotCrashed(slot, "simulated crash"))
                return
            stock.popleft()
            if stock:
                self._compute(slot, stock)
            found = self._answer(chunk)
            if isinstance(found, Partial):
                found = found.model_copy(update={"cpu_seconds": seconds * habits.share})
            kind = found.kind if isinstance(found, Failure) else None
            self._handle(e.SlotDone(slot, found.type, encode(found), kind))

        self.later(seconds, lambda: self.guard(done))

    def _answer(self, chunk: Chunk) -> Partial | Failure:
        if self._habits.broken:
            text = "simulated fault of the host"
            return failure(chunk, self._worker, FailureKind.MODEL_ERROR, text)
        found = answer(chunk, self._worker)
        if isinstance(found, Partial) and self.world.random.random() < self._habits.wrong:
            return found.model_copy(update={"statistics": with_a_flipped_bit(found.statistics)})
        return found

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
