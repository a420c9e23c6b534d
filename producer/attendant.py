"""Attends one run over a link that somebody else opens, shares and closes: leads or follows it.

The scheduler decides; this carries out what it decides and tells it what happened. It does not
reconnect: the same attendant goes on over the next link.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from producer.detaching import is_served
from producer.events import Inbox
from producer.pool import no_queue
from producer.rpc import ask
from producer.runfile import Submission
from producer.scheduler import Publish, Scheduler
from producer.tally import Tally
from producer.unserved import Unserved
from protocol import topology
from protocol.amqp_aio import Link
from protocol.amqp_locks import Locks
from protocol.errors import (
    BrokerError,
    ConnectionLostError,
    MontemqError,
    NoAggregatorError,
    RefusedMessageError,
    UnroutableError,
)
from protocol.log_ids import of_chunk
from protocol.messages import Chunk, Finished, Headline, Reissue, RunState
from protocol.rpc_messages import Missing, MissingRequest
from protocol.sentences import no_consumer
from protocol.settings import RETRY_SECONDS

log = logging.getLogger("montemq.producer")

TICK_SECONDS = 0.25
CROWD = 8
REST_SECONDS = 0.01
"""After this many chunks at once nothing is read for so long."""


@dataclass(frozen=True)
class Update:
    """What a person who watches wants to know.

    `total_samples` is what the run is expected to take, which changes while its errors get known;
    `audits` is how many chunks are to be computed again, of the oldest that the aggregator tells;
    `notice` is one sentence worth reading now.
    """

    pool: str
    merged_samples: int
    total_samples: int
    slots: int
    consumers: int
    headline: Headline | None
    audits: int = 0
    notice: str | None = None

    @property
    def waits(self) -> str | None:
        """Why nothing happens, where there is work and nobody to do it."""
        idle = not self.slots and self.merged_samples < self.total_samples
        return no_consumer(self.pool) if idle else None

    @property
    def waits_for_audits(self) -> bool:
        """Whether all is computed, and the run waits for its audits alone."""
        return self.audits > 0 and self.merged_samples >= self.total_samples


Observer = Callable[[Update], None]


class Role(Enum):
    """What an attendant is there for."""

    LEAD = "schedule the run whenever nobody else does"
    WATCH = "only follow it"


WATCH_SECONDS = 10.0
"""Between two looks at who leads, of who only follows somebody who does."""


class Attendant:
    """One producer's part in one run.

    Parameters
    ----------
    submission
        The run.
    observer
        Called on every change.
    chunk_blocks
        Blocks per chunk; for tests and measurements; None to find a good number.
    role
        Whether it may lead.
    tally
        Where to count what it publishes; its own if None.
    locks
        Where the run's is held over one connection after another; its own if None.

    Attributes
    ----------
    declared
        Whether the aggregator is known to have the run.
    asked
        Whether it was asked to have it, answered or not.
    state
        The run's, as last heard.
    """

    def __init__(
        self,
        submission: Submission,
        observer: Observer = lambda _: None,
        chunk_blocks: int | None = None,
        role: Role = Role.LEAD,
        tally: Tally | None = None,
        locks: Locks | None = None,
    ) -> None:
        self.submission = submission
        self.declared = role is Role.WATCH
        self.asked = self.declared
        self.state = RunState.RUNNING
        self._locks = locks or Locks()
        self._observer = observer
        self._role = role
        self._chunk_blocks = chunk_blocks
        self._tally = tally or Tally()
        self._scheduler = self._new_scheduler()
        self._headline: Headline | None = None
        self._expected_blocks = 0
        self._leads = False
        self._link: Link | None = None
        self._unserved = Unserved()
        self._trouble: str | None = None
        self._error: BrokerError | None = None

    async def attend(self, link: Link, inbox: Inbox, *, leads: bool = False) -> None:
        """Schedule the run, or follow it until its leader is gone, until it has ended.

        Parameters
        ----------
        link, inbox
            Where, and what `Events.follow` gave for the run before this is called.
        leads
            Whether the link holds the run's lock.

        Raises
        ------
        RunIdTakenError
            The id names another definition.
        BrokerError
            The broker or the aggregator cannot be used now; call this again over another link.
        """
        self._error, self._leads, self._link = None, leads, link
        asking: set[asyncio.Task[None]] = set()
        try:
            await self._join(link)
            next_look = time.monotonic() + (0 if self._role is Role.WATCH else RETRY_SECONDS)
            while self.state is RunState.RUNNING:
                published = 0
                for action in self._scheduler.actions(time.monotonic()):
                    if isinstance(action, Publish):
                        self._publish(link, inbox, action.chunk)
                        published += 1
                    else:
                        task = asyncio.create_task(self._ask(link, inbox))
                        asking.add(task)
                        task.add_done_callback(asking.discard)
                if published >= CROWD:  # nobody waits for a confirm, and each read costs
                    link.rest(REST_SECONDS)
                await self._next_events(inbox)
                if link.closed.is_set():
                    raise ConnectionLostError(f"the broker at {link.broker}: {link.reason}")
                if self._error is not None:
                    raise self._error
                if not self._leads and time.monotonic() >= next_look:
                    await self._look_after_the_lead(link)
                    next_look = time.monotonic() + self._look_seconds
        except BrokerError:
            self._scheduler.disconnected()
            raise
        finally:
            self._link = None
            self._tally.led.pop(self.submission.run, None)
            for task in asking:
                task.cancel()

    def forget_issued(self) -> None:
        """Take note that the queues are gone with all that was in them: nobody will answer it."""
        self._tally.reissued[Reissue.LOST] += self._scheduler.outstanding
        self._scheduler = self._new_scheduler()

    def show(self, notice: str | None = None) -> None:
        """Tell the observer how far the run is; of one that has ended only what is wrong."""
        if notice is not None:
            self._trouble = notice
        elif self.state is not RunState.RUNNING:
            return
        self._observer(self._update(notice))

    @property
    def trouble(self) -> str | None:
        """Why the run does not go on, as far as that is known; None where nothing is wrong."""
        if self._trouble is not None:
            return self._trouble
        if self._unserved.certain:
            return self._unscheduled
        known = self._expected_blocks > 0
        return self._update().waits if known else None

    @property
    def _unscheduled(self) -> str:
        run = self.submission.run
        return f"nobody schedules it: start `montemq producer`, or `montemq resume {run}`"

    @property
    def _look_seconds(self) -> float:
        watches = self._role is Role.WATCH and not self._unserved.doubtful
        return WATCH_SECONDS if watches else RETRY_SECONDS

    def _update(self, notice: str | None = None) -> Update:
        definition, scheduler = self.submission.definition, self._scheduler
        return Update(
            pool=self.submission.pool,
            merged_samples=scheduler.merged_blocks * definition.block_size,
            # Before the first answer nothing is expected; a bar wants a number all the same.
            total_samples=max(self._expected_blocks, 1) * definition.block_size,
            slots=scheduler.slots,
            consumers=scheduler.consumers,
            headline=self._headline,
            audits=scheduler.wanted_audits,
            notice=notice,
        )

    def _new_scheduler(self) -> Scheduler:
        run, definition = self.submission.run, self.submission.definition
        return Scheduler(run, definition, self._chunk_blocks, self._tally.reissued)

    async def _join(self, link: Link) -> None:
        """Learn what is missing; whoever may lead declares the run for it."""
        self._scheduler.leads(leads=self._leads)
        if self._leads:
            self._tally.led[self.submission.run] = self._scheduler
        if self._role is Role.LEAD:
            self.asked = True
            answer = await ask(link, self.submission.declaration, Missing)
        else:
            answer = await ask(link, MissingRequest(run=self.submission.run), Missing)
        self.declared = True
        self._take(answer)

    async def _look_after_the_lead(self, link: Link) -> None:
        """Take the lead over from a producer that died; who only watches says that nobody leads."""
        run = self.submission.run
        if self._role is Role.LEAD:
            self._leads = await self._locks.take(link, topology.leader_lock(run))
            if self._leads:
                await self._join(link)  # for a term of our own
            return
        served = await is_served(link, run)
        if self._unserved.looked(time.monotonic(), served=served):
            self.show(self._unscheduled)

    def _take(self, answer: Missing) -> None:
        self._scheduler.joined(answer, time.monotonic())
        self._expected_blocks = answer.expected_blocks
        self.state = self._scheduler.state
        self._trouble = None
        self.show()

    def _publish(self, link: Link, inbox: Inbox, chunk: Chunk) -> None:
        pool, lane, attempt = self.submission.pool, self.submission.lane, chunk.attempt
        tally, began = self._tally, time.monotonic()

        def told(error: BrokerError | None) -> None:
            unroutable = isinstance(error, UnroutableError)
            tally.settled(None if error else time.monotonic() - began, returned=unroutable)
            if link is not self._link:
                return  # that was over before
            if error is None:
                self._scheduler.confirmed(attempt)
                return
            if isinstance(error, RefusedMessageError):
                self._scheduler.refused(attempt, time.monotonic())
                return
            self._error = no_queue(pool) if unroutable else ConnectionLostError(str(error))
            inbox.put_nowait(None)

        if log.isEnabledFor(logging.DEBUG):
            log.debug("issued a chunk", extra=of_chunk(chunk))
        link.send(topology.WORK, topology.work_key(pool, lane), chunk, told)
        tally.sent()

    async def _ask(self, link: Link, inbox: Inbox) -> None:
        try:
            answer = await ask(link, MissingRequest(run=self.submission.run), Missing)
        except NoAggregatorError:
            self._scheduler.unanswered()
            self.show("the aggregator does not answer; waiting for it")
        except MontemqError as error:  # also: it has forgotten the run, which is declared again
            self._error = ConnectionLostError(str(error))
        else:
            self._take(answer)
        inbox.put_nowait(None)

    async def _next_events(self, inbox: Inbox) -> None:
        """Take in one event and whatever else is there already."""
        try:
            async with asyncio.timeout(TICK_SECONDS):
                event = await inbox.get()
        except TimeoutError:
            self.show()
            return
        while True:
            if isinstance(event, Finished):
                if event.definition == self.submission.definition.hash:
                    self.state = RunState(event.state)
            elif event is not None:
                self._scheduler.progress(event, time.monotonic())
                self._headline = event.headline
                self._expected_blocks = event.expected_blocks
                self._trouble = None
                self.show()
            if inbox.empty():
                return
            event = inbox.get_nowait()
