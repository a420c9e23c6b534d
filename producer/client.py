"""The Python API for everybody else: an `AsyncClient` in a thread of its own, asked and waited for.

It adds no behaviour: what a call does stands with the method of the same name of `AsyncClient` and
`AsyncRun`.
"""

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Self, TypeVar, Unpack

from producer.async_client import AsyncClient, broker_of
from producer.handle import UPDATE_SECONDS, AsyncRun, Snapshot
from producer.sections import Sections, What, prepare
from protocol.errors import ClientClosedError, UsageError
from protocol.messages import RunState
from protocol.results import Result
from protocol.rpc_messages import Status
from protocol.settings import Broker

Value = TypeVar("Value")


class Client:
    """Runs, from plain Python; use it as a context manager, or call `close`.

    Any thread may use it. It starts one thread of its own when it is first used, so it can be made
    before a process forks; used before that, it cannot be used in the child, and says so.

    Parameters
    ----------
    broker, password_file
        As `AsyncClient` takes them.

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
        self._background = _Background(broker_of(broker, password_file))

    def submit(self, what: What, /, *, detach: bool = False, **sections: Unpack[Sections]) -> "Run":
        """Submit a run: declare it, and schedule it as long as this client is open.

        As `AsyncClient.submit`.
        """
        submission = prepare(what, **sections)
        return self._run(lambda client: client.submit(submission, detach=detach))

    def attach(self, run: str) -> "Run":
        """Find a run that somebody declared, as `AsyncClient.attach`."""
        return self._run(lambda client: client.attach(run))

    def resume(self, run: str, *, detach: bool = False) -> "Run":
        """Take a run up again, also a failed or cancelled one, as `AsyncClient.resume`."""
        return self._run(lambda client: client.resume(run, detach=detach))

    def status(self) -> Status:
        """Ask for the newest runs, and the live slots and consumers, as `AsyncClient.status`."""
        return self._background.call(lambda client: client.status())

    def close(self) -> None:
        """Stop leading, disconnect and end the thread; calls that wait end as well.

        Runs that go on are kept and can be taken up again.
        """
        self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, call: Callable[[AsyncClient], Coroutine[Any, Any, AsyncRun]]) -> "Run":
        return Run(self._background, self._background.call(call))


class Run:
    """One run of a `Client`; `submit` and `attach` make it.

    Iterating over it gives a `Snapshot` about twice a second, the last one when it has ended.

    Attributes
    ----------
    run
        Its id.
    """

    def __init__(self, background: "_Background", run: AsyncRun) -> None:
        self.run = run.run
        self._background = background
        self._async = run

    def progress(self) -> Snapshot:
        """Ask how far it is, as `AsyncRun.progress`."""
        return self._background.call(lambda _: self._async.progress())

    def estimates(self) -> Result:
        """Ask for the result as it is now, as `AsyncRun.estimates`."""
        return self._background.call(lambda _: self._async.estimates())

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the end of the run and return its result, as `AsyncRun.result`."""
        return self._background.call(lambda _: self._async.result(timeout))

    def cancel(self) -> RunState:
        """End the run and keep what is merged, as `AsyncRun.cancel`."""
        return self._background.call(lambda _: self._async.cancel())

    def updates(self, every: float = UPDATE_SECONDS) -> Iterator[Snapshot]:
        """Give a snapshot now and then until the end, as `AsyncRun.updates`."""
        snapshot = self.progress()
        yield snapshot
        while not snapshot.ended:
            snapshot = self._background.call(lambda _: self._async.next_progress(every))
            yield snapshot

    def __iter__(self) -> Iterator[Snapshot]:
        return self.updates()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.run}>"


class _Background:
    """An `AsyncClient` and its event loop in a thread, which starts with the first call."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._lock = threading.Lock()
        self._closed = False
        # Set by the thread before `_ready`, for as long as it runs.
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._client: AsyncClient

    def call(self, work: Callable[[AsyncClient], Coroutine[Any, Any, Value]]) -> Value:
        """Run a coroutine over there and wait for it; whoever stops waiting cancels it."""
        future = self._scheduled(work)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ClientClosedError("the client was closed meanwhile") from None
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the thread and wait for that; in a child of its process there is nothing to do."""
        if self._thread is not None and self._process != os.getpid():
            return
        with self._lock:
            if self._thread is not None and not self._closed:
                self._loop.call_soon_threadsafe(self._stop.set)
            self._closed = True
        if self._thread is not None:
            self._thread.join()

    def _scheduled(
        self, work: Callable[[AsyncClient], Coroutine[Any, Any, Value]]
    ) -> concurrent.futures.Future[Value]:
        if self._thread is not None and self._process != os.getpid():
            raise UsageError(
                "this client was in use before the process forked; make one in each process"
            )
        with self._lock:
            if self._closed:
                raise ClientClosedError("the client is closed")
            if self._thread is None:
                self._start()
            return asyncio.run_coroutine_threadsafe(work(self._client), self._loop)

    def _start(self) -> None:
        self._process = os.getpid()
        # A daemon, because a client that nobody closes must not keep a program from ending.
        self._thread = threading.Thread(target=self._work, name="montemq client", daemon=True)
        self._thread.start()
        self._ready.wait()

    def _work(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with AsyncClient(self._broker) as self._client:
            self._ready.set()
            await self._stop.wait()
