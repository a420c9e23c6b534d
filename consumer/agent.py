"""The consumer's shell: events from broker, slots and signals to the policy, its actions to them.

Nothing is decided here but when to give up because the broker cannot be used. The main thread only
waits; everything happens in the loop's thread, which never computes, so that heartbeats go on
whatever a slot does.
"""

import contextlib
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from consumer import events as e
from consumer.answers import Worker
from consumer.courtesy import Rules
from consumer.fork_server import loading, loading_again, server_lives
from consumer.guard import Guard
from consumer.limits import Limits
from consumer.policy import Policy
from consumer.refusals import REFUSALS, Refusal, refused
from consumer.signals import received, signals_told
from consumer.slots import Slots
from consumer.vigil import Vigil, Wakefulness
from protocol.amqp_pika import Incoming, Link
from protocol.definition import Lane
from protocol.errors import (
    BrokerError,
    BrokerRefusedError,
    MessageRefusedError,
    OtherBitsError,
    TopologyMissingError,
)
from protocol.log_ids import of_chunk
from protocol.machines import machine_of
from protocol.messages import (
    Chunk,
    Command,
    ConsumerState,
    Control,
    Failure,
    FailureKind,
    Finished,
    Golden,
    Partial,
    Suspension,
    Telemetry,
    decode,
    encode,
)
from protocol.model_file import ModelFile
from protocol.origin import host_name, software_version
from protocol.settings import Broker
from protocol.topology import (
    CONTROL,
    EVENTS,
    EVERYBODY,
    RESULTS,
    TELEMETRY,
    control_key,
    failure_key,
    finished_key,
    partial_key,
    refused_key,
    work_queue,
)

TICK_SECONDS = 0.25
TELEMETRY_SECONDS = 2.0
REFUSED_SECONDS = 300.0
"""How long an agent that the broker refuses keeps trying, once it has worked."""

LOST_HEARTBEATS = 2
"""After so many a broker takes a connection for dead."""

log = logging.getLogger("montemq.consumer")

Listener = Callable[[Telemetry], None]


def run_agent(
    broker: Broker,
    *,
    slots: int | None,
    pool: str,
    name: str | None = None,
    on_ready: Callable[[], None] | None = None,
    model_files: Sequence[ModelFile] = (),
    listener: Listener | None = None,
    rules: Rules = Rules(),  # noqa: B008 - frozen
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> int:
    """Consume a pool's chunks until SIGTERM or SIGINT; the second one does not wait for chunks.

    Parameters
    ----------
    broker
        Where the chunks are.
    slots
        How many are computed at a time; None for one per core that this process may use.
    pool
        Whose chunks.
    name
        What the consumer calls itself; `<host>-<6 hex>` unless given.
    on_ready
        Called once, in the loop's thread, when chunks can arrive.
    model_files
        Models that the slots have besides the installed ones; loadable, as a `Registry` has found.
    listener
        Called, in the loop's thread, with all that the aggregator is told of the consumer.
    rules
        When the machine may be used.
    limits
        What the slots may take.

    Returns
    -------
    int
        The exit code, 0.

    Raises
    ------
    BrokerError
        The broker refused the agent at the start, or for five minutes; one that does not answer is
        waited for.
    OtherBitsError
        The models' numbers would differ from those of other machines.
    HostRefusedError
        They did, or the version of this montemq is refused.
    """
    host = machine_of(broker.user) or host_name()
    worker = Worker(name or f"{host}-{secrets.token_hex(3)}", host)
    slots = slots or len(os.sched_getaffinity(0))
    agent = Agent(
        broker, worker, slots, pool, on_ready, model_files, listener, rules, limits
    )  # fmt: skip
    with signals_told(agent.listen):  # from here on a signal drains, even while slots start
        thread = threading.Thread(target=agent.run, name="broker")
        thread.start()
        thread.join()
    if agent.error is not None:
        raise agent.error
    return 0


class Agent:
    """One consumer; see `run_agent`.

    Attributes
    ----------
    error
        Why it ended, where that was not asked for.
    """

    def __init__(
        self,
        broker: Broker,
        worker: Worker,
        slots: int,
        pool: str,
        on_ready: Callable[[], None] | None,
        model_files: Sequence[ModelFile],
        listener: Listener | None,
        rules: Rules,
        limits: Limits,
    ) -> None:
        self.error: Exception | None = None
        self._broker, self._worker, self._pool = broker, worker, pool
        self._on_ready, self._listener = on_ready, listener
        self._policy = Policy(worker, slots, limits)
        self._lanes = {work_queue(pool, lane): lane for lane in Lane}
        names = (worker.consumer, worker.host, EVERYBODY)
        events = (finished_key("*"), refused_key(worker.host))
        bindings = [
            *((EVENTS, key) for key in events),
            *((CONTROL, control_key(name)) for name in names),
        ]
        self._link = Link(broker, self, worker.consumer, bindings)
        self._slots = Slots(worker, self._watch, self._link.remove_reader, model_files)
        memory, in_loop = limits.slot_memory, self._link.call_threadsafe
        self._guard = Guard(rules, memory, self._slots.sizes, in_loop, self._on_guard)
        self._held: list[int] | None = []  # slots to start once they can be forked
        self._events: list[e.Event] = []
        self._given: dict[int, list[bytes]] = {}
        self._vigil, self._wakefulness = Vigil(), Wakefulness()
        self._signals = 0
        self._ready = False
        self._refused_since: float | None = None
        self._said = ""  # of a broker that is away
        self._connections = 0
        self._rejected = 0
        self._golden: Golden | None = None

    def run(self) -> None:
        """Serve until the policy exits or `error` is set."""
        log.info("consumer %s: pool %s, %s", self._worker.consumer, self._pool, self._broker)
        try:
            loading().add_done_callback(self._loaded)
            self._link.call_later(0.0, self._tick)
            self._link.call_later(0.0, self._heartbeat)
            with self._guard.watching():
                self._link.run()
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits
            self.error = error
        finally:
            self._slots.close()
        log.info("consumer %s stopped", self._worker.consumer)

    def listen(self, signals: socket.socket) -> None:
        """Read signals from a socket: of those that end, the first drains, the second stops."""

        def read() -> None:
            for number in received(signals):
                self._on_signal(number)

        self._link.add_reader(signals.fileno(), read)

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGTSTP:
            self._obey(Command.QUIET, "SIGTSTP")
        elif number == signal.SIGCONT:
            self._obey(Command.RESUME, "SIGCONT")
        else:
            self._signals += 1
            self._obey(Command.DRAIN if self._signals == 1 else Command.STOP, "a signal")

    # what happens

    def on_connected(self) -> None:
        """Consume, if a slot is ready."""
        self._said = ""
        self._connections += 1
        log.info("connected to %s", self._broker)
        self._handle(e.Connected())
        self._send_telemetry()

    def on_consuming(self) -> None:
        """Tell whoever started the agent, the first time."""
        self._refused_since = None
        self._vigil.confirmed(time.monotonic())
        self._get_ready("ready for chunks")

    def _get_ready(self, said: str) -> None:
        if not self._ready:
            self._ready = True
            log.info("%s", said)
            if self._on_ready is not None:
                self._on_ready()

    def on_lost(self, error: BrokerError) -> None:
        """Log it; give up when the broker refuses at the start, or keeps refusing."""
        now = time.monotonic()
        self._vigil.stopped()
        self._handle(e.Disconnected())
        if not isinstance(error, BrokerRefusedError | TopologyMissingError):
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        patience = REFUSED_SECONDS if self._ready else 0.0
        if self._refused_since is not None and now - self._refused_since >= patience:
            self.error = error
            self._link.close()
        elif str(error) != self._said:  # once, however long the broker is away
            self._said = str(error)
            log.warning("%s; trying again", error)

    def on_message(self, incoming: Incoming) -> None:
        """Decode a chunk or the end of a run; what is neither is refused, and nothing stops."""
        try:
            if incoming.exchange == CONTROL:  # and from nowhere else: operators alone write there
                told = decode(incoming.type, incoming.body, Control)
                self._obey(Command(told.command), f"an operator at {told.by}")
            elif incoming.queue is None:
                self._on_event(decode(incoming.type, incoming.body, Finished, *REFUSALS))
            else:
                chunk = decode(incoming.type, incoming.body, Chunk)
                lane = self._lanes[incoming.queue]
                self._vigil.heard(time.monotonic())
                if log.isEnabledFor(logging.DEBUG):
                    log.debug("received a chunk", extra=of_chunk(chunk))
                self._handle(e.Delivered(incoming.receipt, lane, chunk, incoming.body))
        except MessageRefusedError as error:
            self._rejected += 1
            log.warning("refused a message from %s: %s", incoming.queue or incoming.exchange, error)
            if incoming.queue is not None:
                self._link.bury(incoming.receipt)

    def _on_event(self, event: Finished | Refusal) -> None:
        if isinstance(event, Finished):
            self._handle(e.RunEnded(event.run, event.definition, event.term))
        elif self.error is None and (heard := refused(event, self._worker)):
            self.error, end = heard
            self._steer(end)

    def on_settled(self, token: int, taken: bool) -> None:
        """Acknowledge what was answered, or publish the answer again."""
        self._handle(e.Confirmed(token) if taken else e.Refused(token))

    def _watch(self, slot: int, fd: int) -> None:
        self._link.add_reader(fd, partial(self._on_slot, slot))

    def _on_slot(self, slot: int) -> None:
        for event in self._slots.read(slot):
            self._handle(event)

    def _obey(self, command: Command, by: str) -> None:
        """Do what an operator says; to be quiet twice is to be quiet, and so on."""
        match command:
            case Command.QUIET:
                self._steer(e.Suspend(Suspension.QUIET, f"{by} said so"))
            case Command.RESUME if Suspension.QUIET not in self._policy.reasons:
                return  # SIGCONT comes with other things as well
            case Command.RESUME:
                self._steer(e.Resume(Suspension.QUIET))
            case Command.DRAIN:
                self._steer(e.Drain())
            case Command.STOP:
                self._steer(e.Stop())

    def _on_guard(self, event: e.Suspend | e.Resume | e.SlotTooLarge) -> None:
        if isinstance(event, e.SlotTooLarge):
            self._handle(event)
        else:
            self._steer(event)

    def _steer(self, event: e.Suspend | e.Resume | e.Drain | e.Stop) -> None:
        log.info("%s", _said(event))
        self._handle(event)
        self._handle_all()  # before it is told
        self._send_telemetry()

    def _loaded(self, verdict: Future[str]) -> None:
        """Pass on, from the thread that has loaded the kernels, what came of it."""
        self._link.call_threadsafe(partial(self._on_loaded, verdict.result()))

    def _on_loaded(self, verdict: str) -> None:
        self._golden = Golden.FAILED if verdict else Golden.PASSED
        if verdict:
            self.error = OtherBitsError(verdict)
            self._send_telemetry(ConsumerState.STOPPED)
            self._link.close()
            return
        held, self._held = self._held or [], None
        for slot in held:
            self._start_slot(slot)

    def _tick(self) -> None:
        self._link.call_later(TICK_SECONDS, self._tick)
        self._handle(e.Tick())
        self._keep_vigil(time.monotonic())

    def _keep_vigil(self, now: float) -> None:
        """Connect anew where the broker must have given this agent up, or does not deliver."""
        slept = self._wakefulness.slept(now, time.clock_gettime(time.CLOCK_BOOTTIME))
        if slept > LOST_HEARTBEATS * self._broker.heartbeat:
            self._link.reconnect(f"the machine has slept for {slept:.0f} s")
        elif complaint := self._vigil.overdue(now):
            self._link.reconnect(complaint)
        elif self._policy.idle and self._vigil.is_due(now):
            for queue in self._lanes:
                self._link.inspect(queue, partial(self._on_inspected, queue))

    def _on_inspected(self, queue: str, ready: int, consumers: int) -> None:
        if self._policy.idle and (complaint := self._vigil.seen(queue, ready, consumers)):
            self._link.reconnect(complaint)

    # what is done about it

    def _handle(self, event: e.Event) -> None:
        """Have the policy take in an event, with all others of this turn of the loop."""
        if not self._events:
            self._link.call_later(0.0, self._handle_all)
        self._events.append(event)

    def _handle_all(self) -> None:
        events, self._events = self._events, []
        if not events:
            return
        announced = self._policy.announced
        actions = self._policy.handle_all(events, time.monotonic())
        if self._policy.announced != announced:
            self._send_telemetry()  # before the first chunk can come
        if self._policy.could_consume:
            self._get_ready("ready, and suspended")  # whoever waits for it waits no longer
        for action in actions:
            self._do(action)
        given, self._given = self._given, {}
        for slot, bodies in given.items():
            self._slots.give(slot, bodies)

    def _do(self, action: e.Action) -> None:  # noqa: C901 - one line per action
        match action:
            case e.StartChunk(slot, _, body):
                self._given.setdefault(slot, []).append(body)
            case e.Publish(token, type_name, body):
                _log_answer(type_name, body)
                key = partial_key if type_name == Partial.type else failure_key
                self._link.publish(RESULTS, key(self._broker.user), type_name, body, token)
            case e.Ack(receipt):
                self._link.ack(receipt)
            case e.Return(receipt):
                self._link.give_back(receipt)
            case e.Consume(prefetch):
                self._vigil.asked(time.monotonic())
                self._link.consume(list(self._lanes), prefetch)
            case e.StopConsuming():
                self._vigil.stopped()
                self._link.stop_consuming()
            case e.StartSlot(slot):
                self._start_slot(slot)
            case e.KillSlot(slot):
                self._kill_slot(slot)
            case e.Note(text):
                log.warning("%s", text)
            case e.Exit():
                self._send_telemetry(ConsumerState.STOPPED)
                self._link.close()

    def _start_slot(self, slot: int) -> None:
        if self._held is None and not server_lives():
            log.warning("the process that slots are forked from is gone; starting another one")
            self._held = []
            loading_again().add_done_callback(self._loaded)
        if self._held is not None:
            self._held.append(slot)
            return
        try:
            self._slots.start(slot)
        except (OSError, EOFError) as error:
            crashed = e.SlotCrashed(slot, f"it could not be started: {error!r}")
            self._link.call_later(0.0, partial(self._handle, crashed))

    def _kill_slot(self, slot: int) -> None:
        if self._held is not None and slot in self._held:
            self._held.remove(slot)
        else:
            self._slots.kill(slot)

    def _heartbeat(self) -> None:
        self._link.call_later(TELEMETRY_SECONDS, self._heartbeat)
        self._send_telemetry()

    def _send_telemetry(self, state: ConsumerState | None = None) -> None:
        now_doing = ConsumerState.DRAINING if self._policy.draining else ConsumerState.RUNNING
        message = Telemetry(
            consumer=self._worker.consumer,
            host=self._worker.host,
            pool=self._pool,
            slots=self._policy.announced,
            busy=self._policy.busy,
            state=state or now_doing,
            version=software_version(),
            golden=self._golden,
            suspended=self._policy.suspension(time.monotonic()),
            totals=self._policy.tally.totals(
                max(0, self._connections - 1), self._link.cancels, self._rejected
            ),
        )
        self._link.publish(TELEMETRY, self._broker.user, message.type, encode(message))
        if self._listener is not None:
            self._listener(message)


def _said(event: e.Suspend | e.Resume | e.Drain | e.Stop) -> str:
    match event:
        case e.Suspend(_, text, give_back):
            what = "are given back" if give_back else "are finished"
            return f"suspended: {text}; chunks that run {what}"
        case e.Resume(reason):
            return f"no longer suspended for this reason: {reason}"
        case e.Drain():
            return "draining"
        case e.Stop():
            return "stopping at once"


def _log_answer(type_name: str, body: bytes) -> None:
    """Say that a chunk failed; where everything is said, also that one was computed or left."""
    if type_name != Failure.type and not log.isEnabledFor(logging.DEBUG):
        return
    with contextlib.suppress(MessageRefusedError):  # the aggregator will say so
        answer = decode(type_name, body, Partial, Failure)
        ids = of_chunk(answer)
        if isinstance(answer, Partial):
            log.debug("answered a chunk", extra=ids)
        elif answer.kind is FailureKind.DECLINED:  # an audit that is another host's
            log.debug("left a chunk to others: %s", answer.text, extra=ids)
        else:
            log.warning("a chunk failed: %s: %s", answer.kind, answer.text, extra=ids)
