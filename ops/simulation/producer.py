"""A producer of one run on the in-memory broker."""

from ops.simulation.attendant import RunLog, SimulatedAttendant
from ops.simulation.channel import MemoryChannel
from ops.simulation.events import Confirmed, Delivery, Rejected, Returned
from ops.simulation.party import RETRY_SECONDS, TICK_SECONDS, Clock, Party
from ops.simulation.remembered import decode
from producer.runfile import Submission
from protocol import topology
from protocol.messages import Finished, Progress
from protocol.rpc_messages import Missing


class SimulatedProducer(Party):
    """A producer: declares, leads or follows, until the run has ended.

    Attributes
    ----------
    attendant
        What it does for its run.
    """

    def __init__(
        self,
        world: Clock,
        name: str,
        job: Submission,
        log: RunLog,
        chunk_blocks: int | None = None,
        *,
        detached: bool = False,
    ) -> None:
        self._detached = detached
        self.attendant = SimulatedAttendant(self, job, log, chunk_blocks)
        super().__init__(world, name)
        self.every(TICK_SECONDS, self.attendant.act)
        self.every(RETRY_SECONDS, self._try_to_lead)

    @property
    def run(self) -> str:
        """The id of its run."""
        return self.attendant.job.run

    def connect(self, channel: MemoryChannel) -> None:
        """Subscribe, take the lead if it is free and wanted, declare."""
        channel.consume(topology.DIRECT_REPLY, no_ack=True)
        queue = channel.declare_queue(exclusive=True, arguments=topology.subscription()).queue
        for key in (topology.progress_key(self.run), topology.finished_key(self.run)):
            channel.bind(queue, topology.EVENTS, key)
        channel.consume(queue, no_ack=True)
        self.attendant.declare(leads=self._locks())

    def take(self, event: Delivery | Confirmed | Rejected | Returned) -> None:
        """Pass what the broker sent on."""
        if isinstance(event, Confirmed | Rejected):
            self.attendant.settle(event)
        elif isinstance(event, Delivery):
            type_name = event.message.properties.type
            self.attendant.hear(decode(type_name, event.body, Progress, Finished, Missing))
        self.attendant.act()

    def disconnected(self) -> None:
        """Forget the lock, which is gone."""
        self.attendant.leads = False
        self.attendant.disconnected()

    def _try_to_lead(self) -> None:
        if not self.attendant.leads and self._locks():
            self.attendant.declare(leads=True)

    def _locks(self) -> bool:
        return not self._detached and self.locks(topology.leader_lock(self.run))
