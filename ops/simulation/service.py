"""The producer service on the in-memory broker: the real watchlist and schedulers."""

from collections.abc import Mapping

from ops.simulation.attendant import ANSWER_SECONDS, RunLog, SimulatedAttendant, ask
from ops.simulation.channel import MemoryChannel
from ops.simulation.disturbance import Disturbance
from ops.simulation.events import Confirmed, Delivery, Rejected, Returned
from ops.simulation.party import RETRY_SECONDS, TICK_SECONDS, Clock, Party
from ops.simulation.remembered import decode
from producer.runfile import Submission
from producer.watchlist import Watchlist
from protocol import topology
from protocol.messages import Declared, Finished, Message, Progress, RunState
from protocol.rpc_messages import (
    DeclarationRequest,
    Declare,
    Missing,
    Status,
    StatusRequest,
)

_HEARD = (Progress, Finished, Declared, Missing, Status, Declare)


class SimulatedService(Party):
    """A service: stands by or is active, and schedules every run that nobody else does.

    Attributes
    ----------
    active
        Whether it holds the lock of the services.
    """

    def __init__(self, world: Clock, name: str, logs: Mapping[str, RunLog]) -> None:
        self.active = False
        self._logs = logs
        self._watchlist = Watchlist()
        self._declared: set[str] = set()
        self._attended: dict[str, SimulatedAttendant | None] = {}
        self._queue = ""
        super().__init__(world, name)
        self.every(TICK_SECONDS, self._act)
        self.every(RETRY_SECONDS, self._look_around)

    @property
    def leads(self) -> bool:
        """Whether it schedules a run now."""
        return bool(self._attended)

    def connect(self, channel: MemoryChannel) -> None:
        """Know nothing of what was before, and take the turn if it is free."""
        self._watchlist, self._declared, self._attended = Watchlist(), set(), {}
        channel.consume(topology.DIRECT_REPLY, no_ack=True)
        self._look_around()

    def take(self, event: Delivery | Confirmed | Rejected | Returned) -> None:
        """Pass what the broker sent on to the runs that it is about."""
        if isinstance(event, Confirmed | Rejected):
            for attendant in filter(None, self._attended.values()):
                attendant.settle(event)
        elif isinstance(event, Delivery):
            self._hear(decode(event.message.properties.type, event.body, *_HEARD))
        self._act()

    def disconnected(self) -> None:
        """Let go of everything: the locks are gone with the connection."""
        self.active, self._attended = False, {}

    def _hear(self, message: Message) -> None:
        match message:
            case Status():
                self._see(message)
            case Declared():
                self._declared.add(message.run)
                self._look_around()
            case Declare():
                self._attend(Submission.of(message))
            case Progress() | Finished() | Missing() if attendant := self._attended.get(
                message.run
            ):
                attendant.hear(message)
                if attendant.state is not RunState.RUNNING:
                    self._release(message.run)

    def _look_around(self) -> None:
        """Take the turn if it is free, then ask which runs go on."""
        if self.channel is None:
            return
        if not self.active:
            self.active = self.locks(topology.PRODUCER_LOCK)
            if not self.active:
                return
            subscription = topology.subscription()
            self._queue = self.channel.declare_queue(exclusive=True, arguments=subscription).queue
            self.channel.bind(self._queue, topology.EVENTS, topology.declared_key("*"))
            self.channel.consume(self._queue, no_ack=True)
        ask(self, StatusRequest(state=RunState.RUNNING))

    def _see(self, status: Status) -> None:
        """Adopt the runs that seem to have no leader."""
        declared, self._declared = self._declared, set()
        others = [(run.run, run.samples) for run in status.runs if run.run not in self._attended]
        for run in self._watchlist.look(others, declared, self.world.now):
            if self.locks(topology.leader_lock(run)):
                self._adopt(run)
            else:
                self._watchlist.refused(run, self.world.now)

    def _adopt(self, run: str) -> None:
        self.world.broker.seen[Disturbance.ADOPTION] += 1
        self._attended[run] = None
        if self.channel is not None:
            for key in (topology.progress_key(run), topology.finished_key(run)):
                self.channel.bind(self._queue, topology.EVENTS, key)
        channel = self.channel
        ask(self, DeclarationRequest(run=run))

        def expired() -> None:
            if self.channel is channel and run in self._attended and not self._attended[run]:
                self._watchlist.failed(run, self.world.now)
                self._release(run)

        self.later(ANSWER_SECONDS, lambda: self.guard(expired))

    def _attend(self, job: Submission) -> None:
        if job.run in self._attended and not self._attended[job.run]:
            attendant = SimulatedAttendant(self, job, self._logs[job.run])
            self._attended[job.run] = attendant
            attendant.declare(leads=True)

    def _release(self, run: str) -> None:
        """Give a run's lock back."""
        del self._attended[run]
        if self.channel is not None:
            for key in (topology.progress_key(run), topology.finished_key(run)):
                self.channel.unbind(self._queue, topology.EVENTS, key)
            self.channel.delete_queue(topology.leader_lock(run))

    def _act(self) -> None:
        for attendant in filter(None, self._attended.values()):
            attendant.act()
