"""The client's side of one channel: plain calls out, events in.

Calls with an answer (declare, get, ...) are instant, after everything sent before them; publishes
and settlements travel, and so do the broker's events.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ops.simulation.events import (
    PLAIN,
    Closed,
    Confirmed,
    Declared,
    Delivery,
    Event,
    Message,
    Properties,
)
from ops.simulation.network import LoosePipe, Network, Pipe
from ops.simulation.queue import Origin
from ops.simulation.session import Duplicate, Session
from protocol.errors import BrokerError, ConnectionLostError

if TYPE_CHECKING:
    from ops.simulation.connection import MemoryConnection

T = TypeVar("T")
NO_ARGUMENTS: Mapping[str, Any] = {}


class MemoryChannel:
    """A channel of a `MemoryConnection`.

    Attributes
    ----------
    connection
        The connection it belongs to.
    inbox
        Events that arrived and were not yet taken, oldest first.
    open
        False once the client knows that the channel has ended.
    """

    def __init__(
        self,
        connection: "MemoryConnection",
        number: int,
        network: Network,
        session: Callable[..., Session],
        duplicate: Duplicate,
    ) -> None:
        self.connection = connection
        self.inbox: deque[Event] = deque()
        self.open = True
        self._number = number
        self._sequence = -1
        self._consumers = 0
        self._out = Pipe(network, self._arrive_at_broker)
        self._in = Pipe(network, self._arrive_at_client)
        self._confirms = LoosePipe(network, self._arrive_at_client)
        self._session: Session | None = session(
            send=self._in.push, confirm=self._confirms.push, duplicate=duplicate
        )

    def take(self) -> list[Event]:
        """Return the events that arrived since the last call."""
        events = [*self.inbox]
        self.inbox.clear()
        return events

    # Publishing

    def confirm_select(self) -> None:
        """Ask for a confirm of every publish from now on."""
        self._call(lambda _: None)
        self._sequence = max(self._sequence, 0)

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: Properties = PLAIN,
        *,
        mandatory: bool = False,
    ) -> int:
        """Send a message; return its sequence number, 0 without `confirm_select`.

        Raises
        ------
        ConnectionLostError
            The channel has ended.
        """
        self._require_open()
        sequence = 0
        if self._sequence >= 0:
            self._sequence += 1
            sequence = self._sequence
        message = Message(exchange, routing_key, body, properties)
        self._out.push((Session.publish, message, sequence, {"mandatory": mandatory}))
        return sequence

    # Consuming

    def consume(self, queue: str, *, prefetch: int = 0, no_ack: bool = False) -> str:
        """Start a consumer and return its tag; `prefetch` 0 means no limit."""
        self._consumers += 1
        tag = f"{self.connection.name}.{self.connection.number}.{self._number}.{self._consumers}"
        self._call(lambda session: session.consume(queue, tag, prefetch, no_ack=no_ack))
        return tag

    def cancel(self, tag: str) -> None:
        """End a consumer."""
        self._call(lambda session: session.cancel(tag))

    def get(self, queue: str, *, no_ack: bool = False) -> Delivery | None:
        """Take one message, None when there is none."""
        return self._call(lambda session: session.get(queue, no_ack=no_ack))

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Acknowledge a delivery, or all up to it (all there are, with tag 0)."""
        self._require_open()
        self._out.push((Session.ack, tag, {"multiple": multiple}))

    def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        """Return a delivery, or all up to it, to the queue, or drop it (to a dead letter)."""
        self._require_open()
        self._out.push((Session.nack, tag, {"multiple": multiple, "requeue": requeue}))

    # Declaring

    def declare_queue(
        self,
        queue: str = "",
        *,
        durable: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] = NO_ARGUMENTS,
    ) -> Declared:
        """Make sure that a queue exists; without a name the broker chooses one.

        Raises
        ------
        LockedError
            It belongs to another connection; the channel has ended.
        BrokerRefusedError
            It exists with other properties; the channel has ended.
        """
        return self._call(
            lambda session: session.declare_queue(
                queue, arguments, durable=durable, exclusive=exclusive
            )
        )

    def inspect_queue(self, queue: str) -> Declared:
        """Return the state of a queue that must exist."""
        return self._call(lambda session: session.inspect_queue(queue))

    def declare_exchange(self, exchange: str, type_: str) -> None:
        """Make sure that an exchange exists."""
        self._call(lambda session: session.declare_exchange(exchange, type_))

    def bind(self, queue: str, exchange: str, key: str) -> None:
        """Bind a queue to an exchange."""
        self._call(lambda session: session.bind(queue, exchange, key))

    def unbind(self, queue: str, exchange: str, key: str) -> None:
        """Undo a binding."""
        self._call(lambda session: session.unbind(queue, exchange, key))

    def purge(self, queue: str) -> int:
        """Delete the ready messages of a queue and return how many they were."""
        return self._call(lambda session: session.purge(queue))

    def delete_queue(self, queue: str) -> int:
        """Delete a queue, if it exists, and return how many messages were ready in it."""
        return self._call(lambda session: session.delete_queue(queue))

    def delete_exchange(self, exchange: str) -> None:
        """Delete an exchange, if it exists."""
        self._call(lambda session: session.delete_exchange(exchange))

    # The end

    def unconfirmed(self) -> list[Origin]:
        """Return what the client has not heard to be confirmed, though the broker took it."""
        confirms = (event for event in self._confirms if isinstance(event, Confirmed))
        return [(self._session, event.sequence) for event in confirms]

    def close(self) -> None:
        """End the channel; everything sent before still arrives."""
        if self.open:
            self._out.drain()
            self.end_at_broker()
            self.end_at_client()

    def fail(self, error: BrokerError) -> None:
        """End the channel from the broker's side; the client hears of it in its turn."""
        self.end_at_broker()
        self._confirms.close()
        self._in.close(keep=len(self._in), last=Closed(error))
        self._out.close()

    def cut(self, network: Network, error: BrokerError | None) -> None:
        """Break the wire: a part of what travels still arrives, then each side is on its own.

        Parameters
        ----------
        network
            Whose seed decides how much still arrives.
        error
            What the client will hear, None when it is dead.
        """
        self._out.close(keep=network.choose(len(self._out) + 1))
        self._confirms.close()
        if error is None:
            self.end_at_client()
        elif self.open:
            self._in.close(keep=network.choose(len(self._in) + 1), last=Closed(error))

    def end_at_broker(self) -> None:
        """Let the broker notice that the channel has ended, after all that reached it."""
        self._out.drain()
        session, self._session = self._session, None
        if session is not None:
            session.end()
        self._out.close()

    def end_at_client(self) -> None:
        """Forget everything: the client has closed the channel, or died."""
        self.open = False
        self.inbox.clear()
        for pipe in (self._in, self._confirms):
            pipe.close()

    def _require_open(self) -> None:
        if not self.open:
            raise ConnectionLostError("the channel has ended")

    def _call(self, method: Callable[[Session], T]) -> T:
        """Have the broker do something at once, after all that was sent before."""
        self._require_open()
        self._out.drain()
        self._in.drain()
        if self._session is None or self.connection.severed or not self.open:
            self.open = False
            raise ConnectionLostError("the channel has ended")
        try:
            return method(self._session)
        except BrokerError:
            self.end_at_broker()
            self._confirms.close()
            self._in.close()
            self.open = False
            raise

    def _arrive_at_broker(self, frame: tuple[Any, ...]) -> None:
        session = self._session
        if session is None:
            return
        try:
            frame[0](session, *frame[1:-1], **frame[-1])
        except BrokerError as error:
            self.fail(error)

    def _arrive_at_client(self, event: Event) -> "MemoryChannel":
        if self.open:
            self.open = event.__class__ is not Closed
            self.inbox.append(event)
        return self
