"""Somebody who resumes a run that failed because its machines crash, as they would by hand."""

from collections.abc import Callable

from ops.simulation.attendant import ANSWER_SECONDS, ask
from ops.simulation.channel import MemoryChannel
from ops.simulation.events import Confirmed, Delivery, Rejected, Returned
from ops.simulation.party import Clock, Party
from ops.simulation.remembered import decode
from protocol import topology
from protocol.rpc_messages import Declare, ResumeRequest


class SimulatedOperator(Party):
    """Asks until a run goes on again, says so once, and leaves.

    Parameters
    ----------
    run
        Which.
    resumed
        Called once it goes on.
    """

    def __init__(self, world: Clock, name: str, run: str, resumed: Callable[[], None]) -> None:
        self._run, self._resumed = run, resumed
        super().__init__(world, name)
        self.every(ANSWER_SECONDS, self._resume)

    def connect(self, channel: MemoryChannel) -> None:
        """Ask."""
        channel.consume(topology.DIRECT_REPLY, no_ack=True)
        self._resume()

    def take(self, event: Delivery | Confirmed | Rejected | Returned) -> None:
        """Take the answer."""
        if isinstance(event, Delivery):
            decode(event.message.properties.type, event.body, Declare)
            self.kill()
            self._resumed()

    def disconnected(self) -> None:
        """Ask again once connected."""

    def _resume(self) -> None:
        ask(self, ResumeRequest(run=self._run))
