"""The Python API for asyncio: submits runs, leads them while it is open, finds others again."""

import asyncio
import contextlib
import os
from typing import Self, Unpack

from producer.handle import AsyncRun
from producer.line import Line
from producer.reopening import reopen
from producer.rpc import valid
from producer.runfile import Submission
from producer.sections import Sections, What, prepare
from producer.session import RunSession
from protocol.errors import ClientClosedError, UnfinishedError, UsageError
from protocol.results import Result
from protocol.rpc_messages import ResumeRequest, Status, StatusRequest
from protocol.settings import AMQP_URL_VARIABLE, DEFAULT_AMQP_URL, Broker, broker_from_url


class AsyncClient:
    """Runs, from asyncio; use it as a context manager, in one event loop.

    Parameters
    ----------
    broker
        An AMQP address or a broker; the environment variable MONTEMQ_AMQP_URL if None, else
        `amqp://guest:guest@localhost:5672/`.
    password_file
        File that holds the password, instead of the one in the address.

    Raises
    ------
    UsageError
        The address is none, or the password file cannot be read; nothing is connected yet.
    """

    def __init__(
        self,
        broker: str | Broker | None = None,
        *,
        password_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self._broker = broker_of(broker, password_file)
        self._line = Line(self._broker)
        self._sessions: set[asyncio.Task[Result]] = set()
        self._closed = False

    async def submit(
        self, what: What, /, *, detach: bool = False, **sections: Unpack[Sections]
    ) -> AsyncRun:
        """Submit a run: declare it, and schedule it as long as this client is open.

        Parameters
        ----------
        what, **sections
            As `prepare` takes them.
        detach
            Only declare it; the service `montemq producer` schedules it.

        Returns
        -------
        AsyncRun
            The run, declared. The same id and definition is the same run.

        Raises
        ------
        UsageError
            Something about the run is wrong; nothing has been published.
        RunIdTakenError
            The id names another definition.
        BrokerError
            The broker or the aggregator cannot be used, or the pool has no queue.
        """
        self._expect_open()
        submission = prepare(what, **sections)
        if not detach:
            return await self._lead(submission)
        await self._line.declare(submission)
        return AsyncRun(self._line, submission.run)

    async def attach(self, run: str) -> AsyncRun:
        """Find a run that somebody declared; this client follows it and never schedules it.

        Raises
        ------
        UsageError
            No run can have such an id.
        UnknownRunError
            Nobody declared it.
        BrokerError
            The broker or the aggregator cannot be used.
        """
        request = valid(lambda: StatusRequest(run=run))
        await self._line.ask(request, Status)
        return AsyncRun(self._line, run)

    async def resume(self, run: str, *, detach: bool = False) -> AsyncRun:
        """Take a run up again from what is missing, also a failed or cancelled one.

        Parameters
        ----------
        run
            Its id.
        detach
            Only reopen it; the service `montemq producer` schedules it.

        Raises
        ------
        UsageError, UnknownRunError, BrokerError
            As `attach` does.
        """
        self._expect_open()
        submission = await reopen(self._broker, valid(lambda: ResumeRequest(run=run)))
        return AsyncRun(self._line, run) if detach else await self._lead(submission)

    async def status(self) -> Status:
        """Ask for the newest runs, newest first, and the live slots and consumers.

        Raises
        ------
        BrokerError
            The broker or the aggregator cannot be used.
        """
        return await self._line.ask(StatusRequest(), Status)

    async def close(self) -> None:
        """Stop leading and disconnect; runs that go on are kept and can be taken up again."""
        self._closed = True
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await self._line.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _expect_open(self) -> None:
        if self._closed:
            raise ClientClosedError("the client is closed")

    async def _lead(self, submission: Submission) -> AsyncRun:
        """Return once the run is declared; the session goes on behind it."""
        declared = asyncio.Event()
        session = RunSession(self._broker, submission, lambda _: declared.set())
        task = asyncio.create_task(session.result(), name=f"montemq {submission.run}")
        self._sessions.add(task)
        task.add_done_callback(lambda _: declared.set())
        task.add_done_callback(self._on_end)
        try:
            await declared.wait()
        except asyncio.CancelledError:
            task.cancel()
            raise
        run = AsyncRun(self._line, submission.run, task)
        if task.done():  # it ended before, and `result` tells how; or it could not be declared
            with contextlib.suppress(UnfinishedError):
                await run.result()
        return run

    def _on_end(self, task: asyncio.Task[Result]) -> None:
        self._sessions.discard(task)
        if not task.cancelled():
            task.exception()  # asyncio complains of an exception that nobody looked at


def broker_of(
    broker: str | Broker | None, password_file: str | os.PathLike[str] | None = None
) -> Broker:
    """Return the broker that a client is to use; see `AsyncClient`.

    Raises
    ------
    UsageError
        The address is none, or the password file cannot be read.
    """
    if isinstance(broker, Broker):
        if password_file is not None:
            raise UsageError("password_file goes with an address; a Broker has its password")
        return broker
    url = os.environ.get(AMQP_URL_VARIABLE, DEFAULT_AMQP_URL) if broker is None else broker
    return broker_from_url(url, None if password_file is None else os.fspath(password_file))
