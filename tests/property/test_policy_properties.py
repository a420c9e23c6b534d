"""Whatever happens to an agent, in whatever order: no chunk is lost, and none starts unwanted."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consumer import events as e
from consumer.answers import Worker
from consumer.limits import Limits
from consumer.policy import Policy
from protocol.definition import Lane, Sampling
from protocol.messages import Chunk, Partial, Suspension

SLOTS = 2
REASONS = [reason for reason in Suspension if reason is not Suspension.FAILURES]


def chunk(number: int) -> Chunk:
    return Chunk(
        run="r", definition=bytes(32), attempt=number, cell=0, first_block=number, blocks=1,
        block_size=2, model="pi", model_version=1, params={}, outputs=("x",),
        sampling=Sampling(), seed=1,
    )  # fmt: skip


class Agent(RuleBasedStateMachine):
    """A policy between a broker and slots that keep their own books of what it does."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = Policy(Worker("host-1", "host"), SLOTS, Limits(chunks_per_slot=5))
        self.now = 0.0
        self.generation = self.delivered = 0
        self.prefetch: int | None = None
        self.held: set[e.Receipt] = set()
        self.suspended: set[Suspension] = set()
        self.slots: dict[int, deque[int]] = {}
        self.starting: set[int] = set()
        self.doomed: set[int] = set()
        self.published: set[int] = set()
        self.connected = False
        self.connect()

    def send(self, *events: e.Event) -> None:
        for action in self.policy.handle_all(events, self.now):
            self.take(action)

    def take(self, action: e.Action) -> None:
        match action:
            case e.StartSlot(slot):
                assert slot not in self.slots.keys() | self.starting
                self.starting.add(slot)
            case e.KillSlot(slot):
                self.doomed.add(slot)
            case e.StartChunk(slot, work, _):
                assert not self.suspended
                assert slot in self.slots.keys() - self.doomed
                self.slots[slot].append(work.attempt)
            case e.Publish(token):
                self.published.add(token)
            case e.Ack(receipt) | e.Return(receipt):
                self.held.remove(receipt)  # once, and only what this connection delivered
            case e.Consume(prefetch):
                assert not self.suspended
                self.prefetch = prefetch
            case e.StopConsuming():
                self.prefetch = None

    @precondition(lambda self: self.connected and self.prefetch)
    @rule()
    def deliver(self) -> None:
        """As the broker does: no more than the prefetch count."""
        if len(self.held) < (self.prefetch or 0):
            self.delivered += 1
            receipt = (self.generation, self.delivered)
            self.held.add(receipt)
            self.send(e.Delivered(receipt, Lane.NORMAL, chunk(self.delivered), b"body"))

    @precondition(lambda self: self.starting)
    @rule()
    def slot_is_ready(self) -> None:
        slot = min(self.starting)
        self.starting.discard(slot)
        self.slots[slot] = deque()
        self.send(e.SlotReady(slot))

    @precondition(lambda self: any(self.slots.values()))
    @rule()
    def slot_answers(self) -> None:
        slot = next(slot for slot, work in self.slots.items() if work)
        self.slots[slot].popleft()
        self.send(e.SlotDone(slot, Partial.type, b"answer", seconds=0.001))

    @precondition(lambda self: self.slots)
    @rule()
    def slot_dies(self) -> None:
        """Because it was killed, or by itself."""
        slot = min(self.doomed & self.slots.keys() or self.slots)
        self.doomed.discard(slot)
        del self.slots[slot]
        self.send(e.SlotCrashed(slot, "gone"))

    @precondition(lambda self: self.slots)
    @rule()
    def slot_grows(self) -> None:
        self.send(e.SlotTooLarge(max(self.slots), 2**40))

    @precondition(lambda self: self.published and self.connected)
    @rule(taken=st.booleans())
    def broker_settles(self, taken: bool) -> None:
        token = self.published.pop()
        self.send(e.Confirmed(token) if taken else e.Refused(token))

    @rule(reason=st.sampled_from(REASONS), give_back=st.booleans())
    def suspend(self, reason: Suspension, give_back: bool) -> None:
        self.suspended.add(reason)
        self.send(e.Suspend(reason, "so", give_back))

    @precondition(lambda self: self.suspended)
    @rule()
    def resume(self) -> None:
        self.send(e.Resume(self.suspended.pop()))

    @rule(seconds=st.floats(0.0, 40.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.send(e.Tick())

    @precondition(lambda self: self.connected)
    @rule()
    def connection_breaks(self) -> None:
        self.connected, self.prefetch = False, None
        self.held.clear()  # the broker has them again
        self.published.clear()
        self.send(e.Disconnected())

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        self.connected = True
        self.generation += 1
        self.send(e.Connected())

    @invariant()
    def whoever_is_suspended_says_so_and_consumes_nothing(self) -> None:
        told = self.policy.suspension(self.now)
        if self.suspended:
            assert told in self.suspended
            assert self.prefetch is None
        else:
            assert told in (None, Suspension.FAILURES)

    def teardown(self) -> None:
        """Let everything go well from here on: every chunk is answered or given back."""
        for reason in sorted(self.suspended):
            self.suspended.discard(reason)
            self.send(e.Resume(reason))
        if not self.connected:
            self.connect()
        for _ in range(200):
            self.time_passes(1.0)
            while self.starting:
                self.slot_is_ready()
            while self.doomed & self.slots.keys():
                self.slot_dies()
            while any(self.slots.values()):
                self.slot_answers()
            while self.published:
                self.broker_settles(taken=True)
        assert not self.held
        assert self.policy.idle
        assert self.prefetch is not None


TestPolicy = Agent.TestCase
TestPolicy.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
