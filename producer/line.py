"""One connection to the broker for all questions of a client, made anew when it was lost."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from producer.detaching import declare
from producer.rpc import ask
from producer.runfile import Submission
from protocol import topology
from protocol.amqp_aio import Delivery, Link
from protocol.errors import ClientClosedError, ConnectionLostError, MessageRefusedError
from protocol.messages import Finished, Message, decode
from protocol.rpc_messages import Missing
from protocol.settings import Broker

Answer = TypeVar("Answer", bound=Message)
Value = TypeVar("Value")

NAME = "montemq client"


class Line:
    """Asks the aggregator, and hears which runs end; connects when it is first needed.

    Parameters
    ----------
    broker
        Where.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._link: Link | None = None
        self._connecting = asyncio.Lock()
        self._watchers: defaultdict[str, list[asyncio.Event]] = defaultdict(list)
        self._closed = False

    async def ask(self, request: Message, answer: type[Answer]) -> Answer:
        """Send a request and return its answer.

        Raises
        ------
        UsageError, UnknownRunError, RunIdTakenError
            The aggregator did not carry it out, and says why.
        BrokerError
            The broker or the aggregator cannot be used.
        ClientClosedError
            The line is closed.
        """
        return await self._twice(lambda link: ask(link, request, answer))

    async def declare(self, job: Submission) -> Missing:
        """Declare a run whose chunks a queue takes, and leave it to the service.

        Raises
        ------
        RunIdTakenError, BrokerError, ClientClosedError
            As `ask` does.
        """
        return await self._twice(lambda link: declare(link, job))

    @contextlib.contextmanager
    def watching(self, run: str) -> Iterator[asyncio.Event]:
        """Give an event that is set when the run is said to have ended.

        The broker may lose what is said, and nothing is heard while there is no connection: so ask
        as well.
        """
        told = asyncio.Event()
        self._watchers[run].append(told)
        try:
            yield told
        finally:
            self._watchers[run].remove(told)
            if not self._watchers[run]:
                del self._watchers[run]

    async def close(self) -> None:
        """Disconnect for good; whoever watches is woken up."""
        self._closed = True
        for events in self._watchers.values():
            for told in events:
                told.set()
        async with self._connecting:
            if self._link is not None:
                await self._link.close()

    async def _twice(self, work: Callable[[Link], Awaitable[Value]]) -> Value:
        """Do something once more where the connection was lost: all that is done here may be."""
        link = await self._connected()
        try:
            return await work(link)
        except ConnectionLostError:
            return await work(await self._connected(instead_of=link))

    async def _connected(self, instead_of: Link | None = None) -> Link:
        """Return a link that lives, as far as anybody knows, and is not the given one."""
        async with self._connecting:
            if self._closed:
                raise ClientClosedError("the client is closed")
            old = self._link
            if old is not None and (old is instead_of or old.closed.is_set()):
                self._link = None
                await old.close()
            if self._link is None:
                self._link = await self._open()
            return self._link

    async def _open(self) -> Link:
        link = await Link.open(self._broker, NAME)
        try:
            await link.subscribe(topology.EVENTS, (topology.finished_key("*"),), self._on_event)
        except BaseException:
            await link.close()
            raise
        return link

    async def _on_event(self, delivery: Delivery) -> None:
        try:
            finished: Finished = decode(delivery.type, delivery.body, Finished)
        except MessageRefusedError:
            return  # a newer aggregator's: those who wait ask as well
        for told in self._watchers.get(finished.run, ()):
            told.set()
