"""A run in the hands of who submitted it or found it: progress, result, cancel, for asyncio."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

from producer.line import Line
from producer.rpc import FEW_CELLS
from producer.session import raise_unless_finished
from protocol.errors import (
    BrokerError,
    BrokerRefusedError,
    ClientClosedError,
    MontemqError,
    TimedOutError,
)
from protocol.messages import RunState
from protocol.results import Estimate, Result
from protocol.rpc_messages import (
    CancelRequest,
    Missing,
    Results,
    ResultsRequest,
    RunStatus,
    Status,
    StatusRequest,
)
from protocol.settings import RETRY_SECONDS

PARTIAL_SECONDS = 3.0
"""How long to wait for the estimate so far of a run that timed out."""

UPDATE_SECONDS = 0.5


@dataclass(frozen=True)
class Snapshot:
    """How far a run was when the aggregator was asked.

    Attributes
    ----------
    run, state
        Which, and whether it goes on.
    samples, total_samples
        Merged so far, and expected, of all cells together.
    slots, consumers
        Live in all pools together.
    elapsed_seconds
        Since it was declared, until its end if it has ended.
    error
        Why it failed.
    result
        The estimates so far; None where the run has more than 100 cells.
    """

    run: str
    state: RunState
    samples: int
    total_samples: int
    slots: int
    consumers: int
    elapsed_seconds: float
    error: str | None
    result: Result | None

    @property
    def ended(self) -> bool:
        """Whether the run is finished, failed or cancelled."""
        return self.state is not RunState.RUNNING

    @property
    def share(self) -> float:
        """Merged samples in terms of the expected ones, 0 to 1."""
        return min(1.0, self.samples / max(1, self.total_samples))

    @property
    def estimate(self) -> Estimate | None:
        """The estimate so far of the first cell's first output."""
        if self.result is None:
            return None
        return next(iter(self.result.cells[0].outputs.values()))


class AsyncRun:
    """One run of an `AsyncClient`; `submit` and `attach` make it.

    Iterating over it gives a `Snapshot` about twice a second, the last one when it has ended.

    Attributes
    ----------
    run
        Its id.
    """

    def __init__(self, line: Line, run: str, session: asyncio.Task[Result] | None = None) -> None:
        self.run = run
        self._line = line
        self._session = session

    async def progress(self) -> Snapshot:
        """Ask how far it is.

        Raises
        ------
        BrokerError
            The broker or the aggregator cannot be used.
        """
        answer = await self._line.ask(StatusRequest(run=self.run), Status)
        (status,) = answer.runs
        result = await self.estimates() if status.cells <= FEW_CELLS else None
        return _snapshot(answer, status, result)

    async def estimates(self) -> Result:
        """Ask for the result as it is now, whatever the state of the run.

        Raises
        ------
        BrokerError
            The broker or the aggregator cannot be used.
        """
        return (await self._line.ask(ResultsRequest(run=self.run), Results)).result

    async def result(self, timeout: float | None = None) -> Result:  # noqa: ASYNC109
        """Wait for the end of the run and return its result.

        Parameters
        ----------
        timeout
            Seconds to wait at most; None for as long as it takes.

        Raises
        ------
        RunFailedError, RunCancelledError
            It ended so; `partial` is its result all the same.
        TimedOutError
            It goes on; `partial` is the result so far, None where that took over three seconds.
        BrokerError
            The broker or the aggregator cannot be used, and there is no point in waiting.
        ClientClosedError
            The client was closed meanwhile.
        """
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await (self._led(self._session) if self._session else self._followed())
        except TimeoutError:
            if not limit.expired():
                raise
        partial = await self._partial()
        if partial is not None and partial.state != RunState.RUNNING.value:
            return _finished(partial)
        raise TimedOutError(
            f"run '{self.run}' is not finished after {timeout:g} s, and goes on", partial
        )

    async def cancel(self) -> RunState:
        """End the run, keep what is merged, and return its state; one that has ended stays so.

        Raises
        ------
        BrokerError
            The broker or the aggregator cannot be used.
        """
        return RunState((await self._line.ask(CancelRequest(run=self.run), Missing)).state)

    async def updates(self, every: float = UPDATE_SECONDS) -> AsyncIterator[Snapshot]:
        """Give a snapshot now and then, the last one when the run has ended.

        Parameters
        ----------
        every
            Seconds between two; the end is told at once.
        """
        snapshot = await self.progress()
        yield snapshot
        while not snapshot.ended:
            snapshot = await self.next_progress(every)
            yield snapshot

    async def next_progress(self, within: float = UPDATE_SECONDS) -> Snapshot:
        """Ask how far it is once it has ended, or after this many seconds."""
        with self._line.watching(self.run) as told:
            await _wait(told, within)
        return await self.progress()

    def __aiter__(self) -> AsyncIterator[Snapshot]:
        return self.updates()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.run}>"

    async def _led(self, session: asyncio.Task[Result]) -> Result:
        """Wait for the session, which goes on when whoever waits here does not."""
        try:
            return await asyncio.shield(session)
        except asyncio.CancelledError:
            if not session.cancelled():
                raise
            raise ClientClosedError(
                f"the client was closed while run '{self.run}' went on; "
                "what is merged is kept, the same submission goes on from there"
            ) from None

    async def _followed(self) -> Result:
        """Wait for the end of a run that somebody else schedules."""
        with self._line.watching(self.run) as told:
            known = False
            while True:
                told.clear()
                try:
                    (status,) = (await self._line.ask(StatusRequest(run=self.run), Status)).runs
                    known = True
                    if status.state is not RunState.RUNNING:
                        result = await self.estimates()
                        if result.state != RunState.RUNNING.value:
                            return _finished(result)
                except BrokerError as error:
                    if not known or isinstance(error, BrokerRefusedError):
                        raise
                await _wait(told, RETRY_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def _partial(self) -> Result | None:
        try:
            async with asyncio.timeout(PARTIAL_SECONDS):
                return await self.estimates()
        except (MontemqError, TimeoutError):
            return None


async def _wait(told: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await told.wait()
    except TimeoutError:
        pass  # it is asked now


def _finished(result: Result) -> Result:
    raise_unless_finished(result.run, RunState(result.state), result.error, result)
    return result


def _snapshot(answer: Status, status: RunStatus, result: Result | None) -> Snapshot:
    """Return what two answers say together; the result is the later one."""
    return Snapshot(
        run=status.run,
        state=RunState(status.state if result is None else result.state),
        samples=status.samples if result is None else result.samples,
        total_samples=status.total_samples,
        slots=answer.slots,
        consumers=answer.consumers,
        elapsed_seconds=status.elapsed_seconds if result is None else result.elapsed_seconds,
        error=status.error if result is None else result.error,
        result=result,
    )
