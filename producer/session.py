"""One run from its declaration to its result, over a connection of its own.

Reconnects for as long as it takes; nothing is lost meanwhile, because the ledger knows what is
merged and the broker keeps what was confirmed.
"""

import asyncio
import time

from producer.attendant import Attendant, Observer, Role, Update
from producer.backoff import Backoff
from producer.events import Events, Inbox
from producer.meter import Meter
from producer.pool import AGAIN, expect_queue
from producer.rpc import ask
from producer.runfile import Submission
from protocol import topology
from protocol.amqp_aio import Link, no_aggregator
from protocol.amqp_locks import Locks
from protocol.errors import (
    BrokerError,
    BrokerRefusedError,
    RunCancelledError,
    RunFailedError,
    TimedOutError,
    TopologyMissingError,
)
from protocol.messages import RunState
from protocol.results import Result
from protocol.rpc_messages import Results, ResultsRequest
from protocol.settings import Broker

__all__ = ["Observer", "Role", "RunSession", "Update", "raise_unless_finished"]

REFUSED_SECONDS = 300.0
"""How long a session that the broker refuses keeps trying, once it has declared its run."""


class RunSession:
    """One producer at work on one run.

    Parameters
    ----------
    broker
        Where.
    submission
        What.
    observer
        Called on every change.
    chunk_blocks
        Blocks per chunk; for tests and measurements; None to find a good number.
    role
        Whether it may schedule the run, or only follows what others schedule.
    """

    def __init__(
        self,
        broker: Broker,
        submission: Submission,
        observer: Observer = lambda _: None,
        chunk_blocks: int | None = None,
        role: Role = Role.LEAD,
    ) -> None:
        self._broker = broker
        self._role = role
        self._meter = Meter()
        self._locks = Locks()
        self._attendant = Attendant(
            submission, observer, chunk_blocks, role, self._meter.tally, self._locks
        )

    @property
    def declared(self) -> bool | None:
        """Whether the run is known to the aggregator; None while it was asked and has not said."""
        if self._attendant.declared:
            return True
        return None if self._attendant.asked else False

    async def result(self, timeout: float | None = None) -> Result:  # noqa: ASYNC109
        """See the run to its end and return its result.

        Parameters
        ----------
        timeout
            Seconds to wait at most; None for as long as it takes.

        Raises
        ------
        RunFailedError, RunCancelledError
            How the run ended.
        RunIdTakenError
            The id names another definition.
        TimedOutError
            The run is not finished, what is merged is kept, and it can be taken up again.
        BrokerError
            The broker or the aggregator could not be used at the start, or the broker has refused
            this user for minutes.
        """
        run = self._attendant.submission.run
        try:
            async with asyncio.timeout(timeout):
                result = await self._persist()
        except TimeoutError:
            if timeout is not None and self.declared is None:
                raise no_aggregator(self._broker, timeout) from None
            trouble = self._attendant.trouble
            why = "" if trouble is None else f": {trouble}"
            raise TimedOutError(f"run '{run}' is not finished after {timeout:g} s{why}") from None
        raise_unless_finished(run, RunState(result.state), result.error, result)
        return result

    async def _persist(self) -> Result:
        backoff, refused_since = Backoff(), None
        while True:
            try:
                async with (
                    await Link.open(self._broker, "montemq producer") as link,
                    self._meter.telling(link),
                ):
                    inbox, leads = await self._prepare(link)
                    backoff.succeeded()
                    await self._attendant.attend(link, inbox, leads=leads)
                    wanted = ResultsRequest(run=self._attendant.submission.run)
                    result = (await ask(link, wanted, Results)).result
                    if result.state != RunState.RUNNING.value:
                        return result  # otherwise somebody has reopened it: join again
            except BrokerError as error:
                if not self.declared:
                    raise
                if not isinstance(error, BrokerRefusedError):
                    refused_since = None
                elif refused_since is None:
                    refused_since = time.monotonic()
                elif time.monotonic() - refused_since > REFUSED_SECONDS:
                    raise
                self._attendant.show(f"{error}; trying again")
                if isinstance(error, TopologyMissingError):
                    self._attendant.forget_issued()
                await backoff.sleep()

    async def _prepare(self, link: Link) -> tuple[Inbox, bool]:
        """Subscribe, then take the lead if it is free: in this order nothing is missed.

        A run whose chunks no queue takes is not declared: it would go on for ever without anybody.
        """
        job = self._attendant.submission
        inbox = await (await Events.open(link, self._meter.tally)).follow(job.run)
        if self._role is Role.WATCH:
            return inbox, False
        await expect_queue(link, job.pool, job.lane, "" if self.declared else AGAIN)
        return inbox, await self._locks.take(link, topology.leader_lock(job.run))


def raise_unless_finished(
    run: str, state: RunState, error: str | None, partial: Result | None = None
) -> None:
    """Raise how a run has ended, unless it has finished or goes on.

    Parameters
    ----------
    partial
        Its result as it is, for the error to carry.

    Raises
    ------
    RunFailedError, RunCancelledError
        It has ended so.
    """
    if state is RunState.FAILED:
        raise RunFailedError(f"run '{run}' failed: {error}", partial)
    if state is RunState.CANCELLED:
        raise RunCancelledError(
            f"run '{run}' was cancelled; `montemq resume {run}` takes it up again", partial
        )
