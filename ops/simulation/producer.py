"""A producer on the in-memory broker: the real scheduler in a simulated shell."""

from ops.simulation.channel import MemoryChannel
from ops.simulation.events import Confirmed, Delivery, Properties, Rejected, Returned
from ops.simulation.party import RETRY_SECONDS, TICK_SECONDS, Clock, Party
from producer.runfile import Submission
from producer.scheduler import Publish, Scheduler
from protocol import topology
from protocol.errors import LockedError
from protocol.messages import Chunk, Finished, Message, Progress, RunState, decode, encode
from protocol.rpc_messages import Declare, ErrorReply, Missing, MissingRequest


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
