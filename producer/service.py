"""The service that schedules runs which nobody else does: detached, or their producer died.

Of several services one is active and the others stand by; whether a run has a producer of its own,
its leader lock decides. All runs share one connection and one subscription.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from producer.attendant import Attendant
from producer.backoff import Backoff
from producer.events import Events
from producer.meter import Listener, Meter
from producer.pool import expect_queue
from producer.rpc import ask
from producer.runfile import Submission
from producer.tally import Tally
from producer.watchlist import Watchlist
from protocol import topology
from protocol.amqp_aio import Link
from protocol.amqp_locks import Locks
from protocol.definition import Lane
from protocol.errors import BrokerError, ConnectionLostError, MontemqError, NoAggregatorError
from protocol.log_ids import of_run
from protocol.messages import RunState
from protocol.rpc_messages import DeclarationRequest, Declare, RunStatus, Status, StatusRequest
from protocol.settings import RETRY_SECONDS, Broker

log = logging.getLogger("montemq.producer")

GRACE_SECONDS = 0.25
"""A run that was just declared is left alone for so long: many are over by then."""

MAX_REFUSALS = 25
"""How many held locks are tried in one look at most: the broker logs each refusal."""

JOINING = 16
"""How many runs are taken over at the same time."""


class ProducerService:
    """The process: stands by or is active, reconnects for as long as it takes.

    Parameters
    ----------
    broker
        Where.
    listener
        Who hears what the aggregator is told of this process.
    """

    def __init__(self, broker: Broker, listener: Listener | None = None) -> None:
        self._broker = broker
        self._meter = Meter(listener)
        self._locks = Locks()
        self._on_ready: Callable[[], None] = lambda: None
        self._ready = False

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Schedule until cancelled; then every run is free for the next service.

        Parameters
        ----------
        on_ready
            Called once the service is active or stands by.

        Raises
        ------
        BrokerError
            The broker cannot be used at the start; later losses are waited out.
        """
        self._on_ready = on_ready
        backoff = Backoff()
        while True:
            try:
                async with await Link.open(self._broker, "montemq producer service") as link:
                    await self._wait_for_turn(link)
                    async with self._meter.telling(link):
                        desk = Desk(link, self._meter.tally, self._locks)
                        await desk.serve(self._tell_ready, backoff.succeeded)
            except BrokerError as error:
                if not self._ready:
                    raise
                log.warning("%s; trying again", error)
                await backoff.sleep()

    async def _wait_for_turn(self, link: Link) -> None:
        waited = False
        while not await self._locks.take(link, topology.PRODUCER_LOCK):
            if not waited:
                waited = True
                log.info("standing by: another producer service is active")
                self._tell_ready()
            await asyncio.sleep(RETRY_SECONDS)

    def _tell_ready(self) -> None:
        if not self._ready:
            self._ready = True
            self._on_ready()


class Desk:
    """What the active service does over one connection.

    Parameters
    ----------
    link
        Holds the lock of the service, and those of the runs.
    tally
        Where to count what is published.
    locks
        What this process holds, or has held over an earlier connection.
    """

    def __init__(self, link: Link, tally: Tally | None = None, locks: Locks | None = None) -> None:
        self._link = link
        self._tally = tally
        self._locks = locks or Locks()
        self._watchlist = Watchlist()
        self._declared: set[str] = set()
        self._wake = asyncio.Event()
        self._attended: dict[str, Attendant | None] = {}
        self._joining = asyncio.Semaphore(JOINING)
        self._group = asyncio.TaskGroup()
        self._silent = False

    async def serve(self, *on_active: Callable[[], None]) -> None:
        """Adopt and schedule runs until the connection is lost.

        Raises
        ------
        BrokerError
            The connection or the topology is gone.
        """
        try:
            async with self._group:
                self._events = await Events.open(self._link, self._tally, self._on_declared)
                log.info("active at %s", self._link.broker)
                for call in on_active:
                    call()
                while not self._link.closed.is_set():
                    await self._look_around()
                    await self._pause()
                raise ConnectionLostError(f"the broker at {self._link.broker}: {self._link.reason}")
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            for run in self._attended:
                log.info("released run %s", run, extra=of_run(run))

    def _on_declared(self, run: str) -> None:
        self._declared.add(run)
        self._wake.set()

    async def _pause(self) -> None:
        """Wait for the next look: soon when a run was declared, else for the usual time."""
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(GRACE_SECONDS)

    async def _look_around(self) -> None:
        """Adopt the runs that seem to have no leader."""
        self._wake.clear()
        declared, self._declared = self._declared, set()
        try:
            running = await self._running()
        except NoAggregatorError as error:
            self._declared |= declared
            if not self._silent:
                log.warning("%s; waiting for it", error)
            self._silent = True
            return
        self._silent = False
        others = [(run.run, run.samples) for run in running if run.run not in self._attended]
        for run in running:
            self._follow_move(run)
        refusals = 0
        for run_id in self._watchlist.look(others, declared, _now()):
            if not await self._adopt(run_id):
                self._watchlist.refused(run_id, _now())
                refusals += 1
            if refusals == MAX_REFUSALS:
                return

    async def _running(self) -> list[RunStatus]:
        """Return all runs that go on; one answer has room for the newest ones only."""
        found: list[RunStatus] = []
        while True:
            last = found[-1].age if found else None
            wanted = StatusRequest(state=RunState.RUNNING, older_than=last)
            page = await ask(self._link, wanted, Status)
            found.extend(page.runs)
            if not page.runs or len(page.runs) >= page.total:
                return found

    def _follow_move(self, status: RunStatus) -> None:
        """Publish to another pool or lane from now on, if the run was declared there again."""
        attendant = self._attended.get(status.run)
        if attendant is not None:
            moved = replace(attendant.submission, pool=status.pool, lane=Lane(status.lane))
            attendant.submission = moved

    async def _adopt(self, run: str) -> bool:
        """Schedule a run from now on unless somebody else does; say whether this service does."""
        if not await self._locks.take(self._link, topology.leader_lock(run)):
            return False
        self._attended[run] = None
        self._group.create_task(self._attend(run))
        return True

    async def _attend(self, run: str) -> None:
        """Schedule a run whose lock this link holds, and give the lock back at its end."""
        inbox = await self._events.follow(run)
        try:
            attendant = self._attended[run] = Attendant(
                await self._read(run), tally=self._tally, locks=self._locks
            )
            log.info("adopted run %s", run, extra=of_run(run))
            await attendant.attend(self._link, inbox, leads=True)
            log.info("run %s %s", run, attendant.state, extra=of_run(run))
        except MontemqError as error:
            if self._link.closed.is_set():
                raise
            self._watchlist.failed(run, _now())
            log.warning("released run %s: %s", run, error, extra=of_run(run))
        except Exception:  # whatever is wrong with one run, the others are scheduled
            self._watchlist.failed(run, _now())
            log.exception("released run %s", run, extra=of_run(run))
        await self._events.leave(run)
        await self._locks.give_back(self._link, topology.leader_lock(run))
        del self._attended[run]

    async def _read(self, run: str) -> Submission:
        """Return a run as it was declared, once there is a queue for its chunks."""
        async with self._joining:
            job = Submission.of(await ask(self._link, DeclarationRequest(run=run), Declare))
            await expect_queue(self._link, job.pool, job.lane, "")
            return job


def _now() -> float:
    return asyncio.get_running_loop().time()
