"""A client's connection to the in-memory broker: it owns channels and exclusive queues."""

from functools import partial
from itertools import count

from ops.simulation.channel import MemoryChannel
from ops.simulation.network import Network, Pipe
from ops.simulation.server import Server
from ops.simulation.session import Duplicate, Session
from protocol.errors import BrokerError, ConnectionLostError


class MemoryConnection:
    """A connection; `MemoryBroker.connect` makes one.

    Attributes
    ----------
    name, user
        Whose it is.
    number
        Distinguishes connections of one name.
    severed
        The wire is broken; either side may not know yet.
    noticed
        The broker knows that the connection has ended.
    """

    def __init__(
        self,
        name: str,
        user: str,
        number: int,
        *,
        server: Server,
        network: Network,
        replies: dict[str, Session],
        duplicate: Duplicate,
    ) -> None:
        self.name = name
        self.user = user
        self.number = number
        self.severed = False
        self.noticed = False
        self.channels: list[MemoryChannel] = []
        self._numbers = count(1)
        self._server = server
        self._network = network
        self._duplicate = duplicate
        self._session = partial(Session, server, self, user, replies=replies)
        self._broker_notices = Pipe(network, lambda _: self.end_at_broker())

    def channel(self) -> MemoryChannel:
        """Open a channel.

        Raises
        ------
        ConnectionLostError
            The connection has ended.
        """
        if self.severed:
            raise ConnectionLostError("the connection has ended")
        self.channels = [channel for channel in self.channels if channel.open]
        channel = MemoryChannel(
            self, next(self._numbers), self._network, self._session, self._duplicate
        )
        self.channels.append(channel)
        return channel

    def close(self) -> None:
        """End the connection in order: everything sent before still arrives."""
        if not self.severed:
            self.severed = True
            self.end_at_broker()
            for channel in self.channels:
                channel.end_at_client()

    def drop(self) -> None:
        """Break the wire: client and broker notice in steps of their own, the seed says when.

        Until the broker has noticed, deliveries stay unacknowledged and locks stay held.
        """
        self._cut(ConnectionLostError("the connection was lost"))

    def kill(self) -> None:
        """End the client's process; the broker notices in a step of its own."""
        self._cut(None)
        for channel in self.channels:
            channel.end_at_client()

    def end_at_broker(self) -> None:
        """Let the broker forget the connection: channels, consumers, exclusive queues."""
        self.noticed = True
        self._broker_notices.close()
        for channel in self.channels:
            channel.end_at_broker()
        for queue in [*self._server.queues.values()]:
            if queue.owner is self:
                self._server.delete_queue(queue)

    def _cut(self, error: BrokerError | None) -> None:
        if self.severed:
            return
        self.severed = True
        for channel in self.channels:
            channel.cut(self._network, error)
        self._broker_notices.push(None)
