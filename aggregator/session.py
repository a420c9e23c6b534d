"""One reign of an aggregator: from taking the lock to losing the connection, the lock or the store.

It takes what arrives in batches: apply to the ledger, commit, and only then acknowledge, reply and
publish. Whatever goes wrong ends the session; the next one starts from what the store holds.
"""

import asyncio
import logging
import time
from collections import Counter as Tally
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Self

from prometheus_client import Counter

from aggregator.books import Outcome
from aggregator.changes import Changes
from aggregator.failures import FailureRecord
from aggregator.history import Point
from aggregator.hosts import Hosts
from aggregator.identity import check_identity
from aggregator.leaders import Leaders
from aggregator.ledger import Ledger
from aggregator.metrics import DEAD_LETTER, EVENT, REPLY, Metrics
from aggregator.news import Refusal, routing_key
from aggregator.result import result
from aggregator.rpc import REQUESTS, Responder
from aggregator.standings import Standings
from aggregator.store.holder import end_stopped_holder
from aggregator.store.sqlite import Store
from aggregator.watch import FLEET, Watch
from protocol import topology
from protocol.amqp_aio import Delivery, Link
from protocol.amqp_locks import Locks
from protocol.errors import BrokerError, ConnectionLostError, MessageRefusedError, StoreError
from protocol.log_ids import of_chunk, of_run
from protocol.machines import may_speak
from protocol.messages import (
    Chunk,
    Failure,
    Leader,
    Message,
    Partial,
    RefusalReason,
    RunState,
    Telemetry,
    decode,
)
from protocol.results import Result
from protocol.rpc_messages import ErrorCode, ErrorReply
from protocol.settings import Broker
from protocol.statistics import Statistics

log = logging.getLogger("montemq.aggregator")

BATCH = 1_000
CROWD = 3
GATHER_SECONDS = 0.025
"""After a batch this large nothing is read for so long: each read and each disk write costs."""

PREFETCH = 4_000
"""Unacknowledged results at most; bounds the memory whatever waits in the queue."""

OUTBOX = 10_000
MAX_RATES = 1_000
"""Of the runs that go on, how fast so many of the newest go is known."""

TICK_SECONDS = 1.0
COMPLAINT_SECONDS = 10.0


@dataclass(frozen=True)
class Office:
    """What every session of one process works with; `clock` gives seconds since the epoch."""

    store: Store
    executor: Executor
    metrics: Metrics
    clock: Callable[[], float]
    audit_share: float = 0.0
    oldest_consumer: str = ""
    hosts: Hosts = field(default_factory=Hosts)
    leaders: Leaders = field(default_factory=Leaders)
    watch: Watch = field(default_factory=Watch)
    locks: Locks = field(default_factory=Locks)
    complained: dict[str, float] = field(default_factory=dict)

    def refuse(self, delivery: Delivery, error: MessageRefusedError) -> None:
        """Count a refusal and log it, but a flood of them only now and then."""
        self.metrics.rejected.labels(error.reason).inc()
        now = self.clock()
        if now - self.complained.get(error.reason, float("-inf")) >= COMPLAINT_SECONDS:
            self.complained[error.reason] = now
            log.warning("refused a message on %s: %s", delivery.queue, error)


class Session:
    """The active aggregator, until something ends it.

    Build one with `begin`.
    """

    def __init__(self, incoming: Link, outgoing: Link, ledger: Ledger, office: Office) -> None:
        self.ledger = ledger
        self.clock = office.clock
        self.hosts = office.hosts
        self.leaders = office.leaders
        self.watch = office.watch
        self.responder = Responder(ledger, office.hosts, office.watch, office.store)
        self._incoming = incoming
        self._outgoing = outgoing
        self._store = office.store
        self._executor = office.executor
        self._metrics = office.metrics
        self._inbox: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._outbox: asyncio.Queue[tuple[str, Message]] = asyncio.Queue(OUTBOX)
        self._answers: asyncio.Queue[tuple[Delivery, Message]] = asyncio.Queue(OUTBOX)
        self._replies: list[tuple[Delivery, Message]] = []
        self._refuse = office.refuse
        self._tally: Tally[tuple[Counter, str | None]] = Tally()

    @classmethod
    async def begin(cls, broker: Broker, office: Office, *, adopt: bool) -> Self:
        """Take the lock, check that the broker knows this store, raise the epoch, load the ledger.

        Raises
        ------
        LockedError
            Another aggregator is active.
        StoreError
            The broker belongs to another store, or this one cannot be used.
        BrokerError
            The broker cannot be used.
        """
        incoming = await Link.open(broker, "montemq aggregator (in)")
        outgoing = None
        try:
            await office.locks.hold(incoming, topology.AGGREGATOR_LOCK)
            await check_identity(incoming, office.store, office.refuse, adopt=adopt)
            outgoing = await Link.open(broker, "montemq aggregator (out)", confirms=False)
            ledger = await asyncio.get_running_loop().run_in_executor(
                office.executor, _take_over, office
            )
        except BaseException:
            await incoming.close()
            if outgoing is not None:
                await outgoing.close()
            raise
        log.info(
            "active: epoch %d, %d runs going on, %d ended",
            ledger.epoch, len(ledger.active), len(ledger.ended),
        )  # fmt: skip
        return cls(incoming, outgoing, ledger, office)

    async def run(self) -> None:
        """Serve until the connection is lost or the store refuses.

        Raises
        ------
        ConnectionLostError
            A connection ended.
        StoreError
            A commit failed; nothing of it was acknowledged.
        """
        try:
            # Telemetry first, so that the fleet is known when the first run asks for slots.
            await self._consume(topology.TELEMETRY_QUEUE, no_ack=True)
            for queue in (topology.RPC_QUEUE, topology.DEAD_QUEUE, topology.RESULTS_QUEUE):
                await self._consume(queue)
            async with asyncio.TaskGroup() as group:
                for part in (
                    self._work(), self._tick(), self._publish(), self._answer(), self._watch()
                ):  # fmt: skip
                    group.create_task(part)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            await self._incoming.close()
            await self._outgoing.close()

    async def result(self, run: str) -> Result | None:
        """Return a run's result as it is now, None where there is no such run.

        Raises
        ------
        StoreError
            The store cannot be read.
        """
        books = self.ledger.active.get(run)
        if books is not None:
            return result(books, self.clock())
        # In the store's thread, so that it never reads the middle of a transaction.
        found: Result | None = await self.call_store(self._store.result, run)
        return found

    async def points(self, run: str, cell: int) -> list[Point]:
        """Return how a cell converged, without where it is now.

        Raises
        ------
        StoreError
            The store cannot be read.
        """
        found: list[Point] = await self.call_store(self._store.history, run, cell)
        return found

    async def failures(self, run: str) -> list[FailureRecord]:
        """Return the failures that are kept of a run that has ended.

        Raises
        ------
        StoreError
            The store cannot be read.
        """
        found: list[FailureRecord] = await self.call_store(self._store.failures, run)
        return found

    async def statistics(self, run: str, cell: int) -> Statistics | None:
        """Return all that counts of a cell, None where nothing does.

        Raises
        ------
        StoreError
            The store cannot be read.
        """
        books = self.ledger.active.get(run)
        if books is not None:
            return books.cells[cell].statistics()
        found: Statistics | None = await self.call_store(self._store.statistics, run, cell)
        return found

    def waiting(self) -> dict[str, int]:
        """Return how many messages wait within this process, and where."""
        return {
            "inbox": self._inbox.qsize(),
            "events": self._outbox.qsize(),
            "replies": self._answers.qsize(),
        }

    async def call_store(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a store method in the store's thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, *arguments)

    async def _consume(self, queue: str, *, no_ack: bool = False) -> None:
        await self._incoming.consume(
            queue, self._inbox.put_nowait, prefetch=PREFETCH, no_ack=no_ack
        )

    async def _work(self) -> None:
        while True:
            batch = [await self._inbox.get()]
            while len(batch) < BATCH and not self._inbox.empty():
                batch.append(self._inbox.get_nowait())
            if len(batch) >= CROWD:  # under load, fewer and larger batches; a lone run never waits
                self._incoming.rest(GATHER_SECONDS)
            received = Tally(delivery.queue for delivery in batch if delivery is not None)
            for queue, amount in received.items():
                self._metrics.received.labels(queue).inc(amount)
            for delivery in batch:
                self._apply(delivery)
            self.ledger.record(self.clock())
            await self._commit(self.ledger.take_changes())
            self._show_counts()
            await self._acknowledge(batch)
            self._tell()

    def _apply(self, delivery: Delivery | None) -> None:
        now = self.clock()
        if delivery is None:
            self.ledger.tick(now)
            self.hosts.forget_silent(now)
            self.leaders.forget_silent(now)
            self._show_progress(now)
            return
        try:
            _HANDLERS[delivery.queue](self, delivery, now)
        except MessageRefusedError as error:
            self._refuse(delivery, error)

    def _show_progress(self, now: float) -> None:
        """Take in how far the runs are, and tell those who watch that time has passed."""
        active = self.ledger.newest(now, MAX_RATES, RunState.RUNNING)[0]
        self.watch.look(active, now)
        self.watch.tell_of_runs(run.run for run in active)
        self.watch.tell(FLEET)

    def _on_result(self, delivery: Delivery, now: float) -> None:
        message: Partial | Failure = decode(delivery.type, delivery.body, Partial, Failure)
        _check_speaker(delivery.routing_key.partition(".")[2], message)
        if isinstance(message, Partial):
            self._count(self._metrics.partials, None)
            outcome = self.ledger.partial(message, now)
            if outcome is Outcome.MERGED:
                self._count(self._metrics.merged_samples, None, message.statistics.samples)
        else:
            outcome = self.ledger.failure(message, now)
            self._count(self._metrics.failures, message.kind.value)
        self._count(self._metrics.results, outcome.value)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s %s", message.type.split(".")[0], outcome, extra=of_chunk(message))

    def _count(self, counter: Counter, label: str | None, amount: int = 1) -> None:
        """Count once the batch is committed: what is not comes again."""
        self._tally[counter, label] += amount

    def _on_dead_letter(self, delivery: Delivery, now: float) -> None:
        outcome = self.ledger.dead_letter(decode(delivery.type, delivery.body, Chunk), now)
        self._count(self._metrics.results, outcome.value)
        self._count(self._metrics.failures, DEAD_LETTER)

    def _on_telemetry(self, delivery: Delivery, now: float) -> None:
        telemetry: Telemetry | Leader = decode(delivery.type, delivery.body, Telemetry, Leader)
        _check_speaker(delivery.routing_key, telemetry)
        if isinstance(telemetry, Leader):
            self.leaders.hear(telemetry, now)
            return
        self.hosts.hear(telemetry, now)
        self.ledger.heartbeat(telemetry, now)

    def _on_request(self, delivery: Delivery, now: float) -> None:
        if not (delivery.reply_to or "").startswith(topology.DIRECT_REPLY + "."):
            raise MessageRefusedError(RefusalReason.INVALID, "reply_to is no direct reply address")
        try:
            request: Message = decode(delivery.type, delivery.body, *REQUESTS)
        except MessageRefusedError as error:
            text = str(error)[:2000]
            self._replies.append((delivery, ErrorReply(code=ErrorCode.INVALID, text=text)))
            raise
        reply = self.responder.answer(request, now)
        self._replies.append((delivery, reply))
        outcome = reply.code.value if isinstance(reply, ErrorReply) else "ok"
        self._metrics.rpc.labels(request.type.split(".")[0], outcome).inc()

    def _show_counts(self) -> None:
        if self._tally[self._metrics.merged_samples, None]:
            self._metrics.last_merge.set(self.clock())
        for (counter, label), amount in self._tally.items():
            (counter if label is None else counter.labels(label)).inc(amount)
        self._tally.clear()

    async def _commit(self, changes: Changes) -> None:
        if not changes:
            return
        started = time.monotonic()
        try:
            await self.call_store(self._store.commit, changes, self.ledger.epoch)
        except StoreError:
            self._metrics.commit_errors.inc()
            raise
        self._metrics.commit_seconds.observe(time.monotonic() - started)
        for run in sorted(changes.declared | changes.reopened):
            what = "declared" if run in changes.declared else "reopened"
            log.info("run %s %s", run, what, extra=of_run(run))
        for outcome, times in changes.audited.items():
            self._metrics.audits.labels(outcome.value).inc(times)
        for standing in changes.standings.values():
            if standing.refused is not None:
                log.warning("host %s sent other numbers than two hosts: refused", standing.host)
        for run, ended in changes.results.items():
            said = f"digest {ended.digest}" if ended.digest else ended.error or "no digest"
            log.info("run %s %s: %s", run, ended.state, said, extra=of_run(run))

    async def _acknowledge(self, batch: list[Delivery | None]) -> None:
        # Deliveries come in the order of their tags, so everything up to the last one is done.
        tags = [d.tag for d in batch if d is not None and d.queue != topology.TELEMETRY_QUEUE]
        if tags:
            await self._incoming.ack(max(tags), multiple=True)

    def _tell(self) -> None:
        # A blocked publisher must not stall commits; who misses an event or a reply asks again.
        for reply in self._replies:
            if self._answers.full():
                self._metrics.dropped.labels(REPLY).inc()
            else:
                self._answers.put_nowait(reply)
        self._replies.clear()
        events = self.ledger.take_events(self.clock())
        self.watch.tell_of_runs(e.run for e in events if not isinstance(e, Refusal))
        for event in events:
            if self._outbox.full():
                self._metrics.dropped.labels(EVENT).inc()
            else:
                self._outbox.put_nowait((routing_key(event), event))

    async def _publish(self) -> None:
        while True:
            key, event = await self._outbox.get()
            await self._outgoing.publish(
                topology.EVENTS, key, event, persistent=False, mandatory=False
            )

    async def _answer(self) -> None:
        """Send replies over a connection of their own.

        RabbitMQ 3 closes the connection of whoever answers a forged reply address, and a forged
        one cannot be told from a real one; that must end nothing but this connection.
        """
        link = await self._open_for_replies()
        try:
            while True:
                request, reply = await self._answers.get()
                if link.closed.is_set():
                    await link.close()
                    link = await self._open_for_replies()
                try:
                    await link.publish(
                        "", request.reply_to or "", reply,
                        persistent=False, mandatory=False, correlation_id=request.correlation_id,
                    )  # fmt: skip
                except BrokerError as error:
                    log.warning("a reply was lost: %s", error)
        finally:
            await link.close()

    async def _open_for_replies(self) -> Link:
        return await Link.open(self._incoming.broker, "montemq aggregator (re)", confirms=False)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self._metrics.loop_lag.observe(loop.time() - due)
            self._metrics.blocked.set(self._outgoing.blocked)
            if self.ledger.standings.refused:  # until an operator says otherwise, in the store
                self.ledger.standings.reread(await self.call_store(self._store.standings))
            self._inbox.put_nowait(None)

    async def _watch(self) -> None:
        waits = [asyncio.ensure_future(x.closed.wait()) for x in (self._incoming, self._outgoing)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        reasons = [x.reason for x in (self._incoming, self._outgoing) if x.closed.is_set()]
        raise ConnectionLostError(f"the connection to the broker was lost: {reasons[0]}")


def _check_speaker(user: str, message: Partial | Failure | Telemetry | Leader) -> None:
    """Refuse what a machine's own user tells of another one: the broker vouches for the user."""
    if not may_speak(user, message.host, "" if isinstance(message, Leader) else message.consumer):
        text = f"user '{user[:200]}' does not speak for host '{message.host}'"
        raise MessageRefusedError(RefusalReason.INVALID, text)


_HANDLERS: dict[str, Callable[[Session, Delivery, float], None]] = {
    topology.RESULTS_QUEUE: Session._on_result,  # noqa: SLF001 - the class's own table
    topology.DEAD_QUEUE: Session._on_dead_letter,  # noqa: SLF001
    topology.TELEMETRY_QUEUE: Session._on_telemetry,  # noqa: SLF001
    topology.RPC_QUEUE: Session._on_request,  # noqa: SLF001
}


def _take_over(office: Office) -> Ledger:
    store = office.store
    try:
        epoch = store.take_over()
    except StoreError:
        pid = end_stopped_holder(store.path)
        if pid is None:
            raise
        log.warning("ended process %d, which was stopped in the middle of a commit", pid)
        epoch = store.take_over()
    return Ledger(
        epoch,
        store.active_runs(),
        store.ended_runs(),
        store.names(),
        Standings(store.standings(), office.audit_share),
        office.oldest_consumer,
    )
