"""Drives a scheduler over AMQP: declares the run, leads or follows it, and returns its result.

Reconnects for as long as it takes; nothing is lost meanwhile, because the ledger knows what is
merged and the broker keeps what was confirmed.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from producer.pool import AGAIN, expect_queue, no_queue
from producer.rpc import ask
from producer.runfile import Submission
from producer.scheduler import AskMissing, Publish, Scheduler
from protocol import topology
from protocol.amqp_aio import Delivery, Link
from protocol.errors import (
    BrokerError,
    BrokerRefusedError,
    ConnectionLostError,
    LockedError,
    MessageRefusedError,
    MontemqError,
    NoAggregatorError,
    RefusedMessageError,
    RunCancelledError,
    RunFailedError,
    TimedOutError,
    TopologyMissingError,
    UnroutableError,
)
from protocol.messages import Chunk, Finished, Headline, Progress, RunState, decode
from protocol.results import Result
from protocol.rpc_messages import Missing, MissingRequest, Results, ResultsRequest
from protocol.settings import RETRY_SECONDS, Broker

TICK_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 15.0
DEFAULT_CHUNKS = 256
"""A run is cut into about this many chunks unless a chunk size is given."""

MAX_CHUNK_BLOCKS = 64


@dataclass(frozen=True)
class Update:
    """What a person who watches wants to know; `notice` is one sentence worth reading now."""

    merged_samples: int
    total_samples: int
    slots: int
    consumers: int
    headline: Headline | None
    notice: str | None = None


Observer = Callable[[Update], None]


def default_chunk_blocks(submission: Submission) -> int:
    """Return how many blocks a chunk has where nobody says."""
    blocks = submission.definition.blocks * len(submission.definition.cells)
    return max(1, min(MAX_CHUNK_BLOCKS, blocks // DEFAULT_CHUNKS))


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
        Blocks per chunk; a moderate number where None.
    """

    def __init__(
        self,
        broker: Broker,
        submission: Submission,
        observer: Observer = lambda _: None,
        chunk_blocks: int | None = None,
    ) -> None:
        self._broker = broker
        self._submission = submission
        self._observer = observer
        self._scheduler = Scheduler(
            submission.run,
            submission.definition,
            chunk_blocks or default_chunk_blocks(submission),
        )
        self._headline: Headline | None = None
        self._events: asyncio.Queue[Progress | Finished | None] = asyncio.Queue()
        self._ended = False
        self._leads = False
        self._declared = False
        self._error: BrokerError | None = None

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
            The run goes on, and the same command takes it up again.
        BrokerError
            The broker or the aggregator could not be used at the start.
        """
        try:
            async with asyncio.timeout(timeout):
                result = await self._persist()
        except TimeoutError:
            raise TimedOutError(
                f"run '{self._submission.run}' is not finished after {timeout:g} s; "
                "what is merged is kept, the same command goes on from there"
            ) from None
        if result.state == RunState.FAILED.value:
            raise RunFailedError(f"run '{result.run}' failed: {result.error}")
        if result.state == RunState.CANCELLED.value:
            raise RunCancelledError(
                f"run '{result.run}' was cancelled; `montemq resume {result.run}` takes it up again"
            )
        return result

    async def _persist(self) -> Result:
        failures, joined = 0, False
        while True:
            try:
                async with await Link.open(self._broker, "montemq producer") as link:
                    await self._join(link)
                    failures, joined = 0, True
                    await self._attend(link)
                    wanted = ResultsRequest(run=self._submission.run)
                    result = (await ask(link, wanted, Results)).result
                    if result.state != RunState.RUNNING.value:
                        return result  # otherwise somebody has reopened it: join again
            except BrokerError as error:
                if not joined or isinstance(error, BrokerRefusedError | TopologyMissingError):
                    raise
                self._scheduler.disconnected()
                delay = min(MAX_BACKOFF_SECONDS, RETRY_SECONDS * 2**failures)
                delay *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter
                failures += 1
                self._show(f"{error}; trying again")
                await asyncio.sleep(delay)

    async def _join(self, link: Link) -> None:
        """Subscribe, take the lead if it is free, declare: in this order nothing is missed.

        A run whose chunks no queue takes is not declared: it would go on for ever without anybody.
        """
        self._events = asyncio.Queue()
        self._ended, self._error = False, None
        run = self._submission.run
        keys = (topology.progress_key(run), topology.finished_key(run))
        await link.subscribe(topology.EVENTS, keys, self._on_event)
        await expect_queue(link, self._submission.pool, self._submission.lane, self._then)
        self._leads = await _try_lock(link, run)
        await self._declare(link)

    async def _declare(self, link: Link) -> None:
        self._scheduler.leads(leads=self._leads)
        answer = await ask(link, self._submission.declaration, Missing)
        self._scheduler.joined(answer, time.monotonic())
        self._declared = True
        self._show()

    async def _attend(self, link: Link) -> None:
        """Schedule until the run has ended."""
        next_lock = time.monotonic() + RETRY_SECONDS
        publishing: set[asyncio.Task[None]] = set()
        try:
            while not self._ended and self._scheduler.state is RunState.RUNNING:
                for action in self._scheduler.actions(time.monotonic()):
                    task = asyncio.create_task(self._perform(link, action))
                    publishing.add(task)
                    task.add_done_callback(publishing.discard)
                await self._next_event()
                if link.closed.is_set():
                    raise ConnectionLostError(f"the broker at {self._broker}: {link.reason}")
                if self._error is not None:
                    raise self._error
                if not self._leads and time.monotonic() >= next_lock:
                    next_lock = time.monotonic() + RETRY_SECONDS
                    self._leads = await _try_lock(link, self._submission.run)
                    if self._leads:  # the leader died: go on with a term of our own
                        await self._declare(link)
        finally:
            for task in publishing:
                task.cancel()

    async def _perform(self, link: Link, action: Publish | AskMissing) -> None:
        if isinstance(action, Publish):
            await self._publish(link, action.chunk)
        else:
            await self._ask(link)

    async def _publish(self, link: Link, chunk: Chunk) -> None:
        pool, lane = self._submission.pool, self._submission.lane
        try:
            await link.publish(topology.WORK, topology.work_key(pool, lane), chunk)
            self._scheduler.confirmed(chunk.attempt)
        except RefusedMessageError:
            self._scheduler.refused(chunk.attempt, time.monotonic())
        except UnroutableError:
            self._error = no_queue(pool, self._then)
            self._events.put_nowait(None)
        except BrokerError as error:
            self._error = ConnectionLostError(str(error))
            self._events.put_nowait(None)

    @property
    def _then(self) -> str:
        """What to do once the pool's queue is there."""
        return f"`montemq resume {self._submission.run}`" if self._declared else AGAIN

    async def _ask(self, link: Link) -> None:
        try:
            answer = await ask(link, MissingRequest(run=self._submission.run), Missing)
        except NoAggregatorError:
            self._scheduler.unanswered()
            self._show("the aggregator does not answer; waiting for it")
        except MontemqError as error:  # also: it has forgotten the run, which is declared again
            self._error = ConnectionLostError(str(error))
        else:
            self._scheduler.joined(answer, time.monotonic())
        self._events.put_nowait(None)

    async def _on_event(self, delivery: Delivery) -> None:
        try:
            self._events.put_nowait(decode(delivery.type, delivery.body, Progress, Finished))
        except MessageRefusedError:
            self._events.put_nowait(None)  # a newer aggregator's event: the next silence asks

    async def _next_event(self) -> None:
        """Take in one event and whatever else is there already."""
        try:
            async with asyncio.timeout(TICK_SECONDS):
                event = await self._events.get()
        except TimeoutError:
            self._show()
            return
        while True:
            if isinstance(event, Finished):
                self._ended = event.definition == self._submission.definition.hash
            elif event is not None:
                self._scheduler.progress(event, time.monotonic())
                self._headline = event.headline
                self._show()
            if self._events.empty():
                return
            event = self._events.get_nowait()

    def _show(self, notice: str | None = None) -> None:
        definition, scheduler = self._submission.definition, self._scheduler
        self._observer(
            Update(
                merged_samples=scheduler.merged_blocks * definition.block_size,
                total_samples=definition.blocks * len(definition.cells) * definition.block_size,
                slots=scheduler.slots,
                consumers=scheduler.consumers,
                headline=self._headline,
                notice=notice,
            )
        )


async def _try_lock(link: Link, run: str) -> bool:
    try:
        await link.lock(topology.leader_lock(run))
    except LockedError:
        return False
    return True
