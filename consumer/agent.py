"""The consumer's shell: events from broker, slots and signals to the policy, its actions to them.

Nothing is decided here but when to give up because the broker cannot be used. The main thread only
waits for signals; everything else happens in the loop's thread, which never computes, so that
heartbeats go on whatever a slot does.
"""

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
from importlib.metadata import PackageNotFoundError, version

from consumer import events as e
from consumer.answers import Worker
from consumer.fork_server import loading, loading_again, server_lives
from consumer.policy import Policy
from consumer.slots import Slots
from protocol.amqp_pika import Incoming, Link
from protocol.definition import Lane
from protocol.errors import (
    BrokerError,
    BrokerRefusedError,
    MessageRefusedError,
    OtherBitsError,
    TopologyMissingError,
)
from protocol.messages import Chunk, ConsumerState, Finished, Partial, Telemetry, decode, encode
from protocol.model_file import ModelFile
from protocol.settings import Broker
from protocol.topology import (
    EVENTS,
    RESULTS,
    TELEMETRY,
    failure_key,
    finished_key,
    partial_key,
    work_queue,
)

TICK_SECONDS = 0.25
TELEMETRY_SECONDS = 2.0
REFUSED_SECONDS = 300.0
"""How long an agent that the broker refuses keeps trying, once it has worked."""

log = logging.getLogger(__name__)


def run_agent(
    broker: Broker,
    *,
    slots: int | None,
    pool: str,
    name: str | None = None,
    on_ready: Callable[[], None] | None = None,
    wait: bool = False,
    model_files: Sequence[ModelFile] = (),
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
    wait
        Keep trying when the broker cannot be used at the start.
    model_files
        Models that the slots have besides the installed ones; loadable, as a `Registry` has found.

    Returns
    -------
    int
        The exit code, 0.

    Raises
    ------
    BrokerError
        The broker could not be used at the start, or refused the agent for five minutes.
    OtherBitsError
        The models' numbers would differ from those of other machines.
    """
    host = socket.gethostname()
    worker = Worker(name or f"{host}-{secrets.token_hex(3)}", host)
    slots = slots or len(os.sched_getaffinity(0))
    agent = Agent(broker, worker, slots, pool, on_ready, wait=wait, model_files=model_files)
    # Handlers first: from here on a signal drains, even while slots start.
    before = {number: signal.signal(number, agent.signalled) for number in _SIGNALS}
    thread = threading.Thread(target=agent.run, name="broker")
    try:
        thread.start()
        thread.join()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if agent.error is not None:
        raise agent.error
    return 0


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


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
        *,
        wait: bool,
        model_files: Sequence[ModelFile],
    ) -> None:
        self.error: Exception | None = None
        self._broker, self._worker, self._pool = broker, worker, pool
        self._on_ready, self._wait = on_ready, wait
        self._policy = Policy(worker, slots)
        self._lanes = {work_queue(pool, lane): lane for lane in Lane}
        self._link = Link(broker, self, worker.consumer, [(EVENTS, finished_key("*"))])
        self._slots = Slots(worker, self._watch, self._link.remove_reader, model_files)
        self._held: list[int] | None = []  # slots to start once they can be forked
        self._signals = 0
        self._ready = False
        self._refused_since: float | None = None

    def run(self) -> None:
        """Serve until the policy exits or `error` is set."""
        log.info("consumer %s: pool %s, %s", self._worker.consumer, self._pool, self._broker)
        try:
            loading().add_done_callback(self._loaded)
            self._link.call_later(0.0, self._tick)
            self._link.call_later(0.0, self._heartbeat)
            self._link.run()
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits
            self.error = error
        finally:
            self._slots.close()
        log.info("consumer %s stopped", self._worker.consumer)

    def signalled(self, number: int, _frame: object) -> None:
        """Handle a signal: the first one drains, the second one stops."""
        self._signals += 1
        event = e.Drain() if self._signals == 1 else e.Stop()
        del number
        self._link.call_threadsafe(partial(self._end, event))

    # what happens

    def on_connected(self) -> None:
        """Consume, if a slot is ready."""
        log.info("connected to %s", self._broker)
        self._handle(e.Connected())
        self._send_telemetry()

    def on_consuming(self) -> None:
        """Tell whoever started the agent, the first time."""
        self._refused_since = None
        if not self._ready:
            self._ready = True
            log.info("ready for chunks")
            if self._on_ready is not None:
                self._on_ready()

    def on_lost(self, error: BrokerError) -> None:
        """Log it, and give up at the start or when the broker keeps refusing."""
        now = time.monotonic()
        self._handle(e.Disconnected())
        if not isinstance(error, BrokerRefusedError | TopologyMissingError):
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        refused_for = 0.0 if self._refused_since is None else now - self._refused_since
        at_start = not self._ready and not self._wait
        if at_start or (refused_for > REFUSED_SECONDS and not self._wait):
            self.error = error
            self._link.close()
        else:
            log.warning("%s; trying again", error)

    def on_message(self, incoming: Incoming) -> None:
        """Decode a chunk or the end of a run; what is neither is refused, and nothing stops."""
        try:
            if incoming.queue is None:
                finished = decode(incoming.type, incoming.body, Finished)
                self._handle(e.RunEnded(finished.run, finished.definition, finished.term))
            else:
                chunk = decode(incoming.type, incoming.body, Chunk)
                lane = self._lanes[incoming.queue]
                self._handle(e.Delivered(incoming.receipt, lane, chunk, incoming.body))
        except MessageRefusedError as error:
            log.warning("refused a message from %s: %s", incoming.queue or EVENTS, error)
            if incoming.queue is not None:
                self._link.bury(incoming.receipt)

    def on_settled(self, token: int, taken: bool) -> None:
        """Acknowledge what was answered, or publish the answer again."""
        self._handle(e.Confirmed(token) if taken else e.Refused(token))

    def _watch(self, slot: int, fd: int) -> None:
        self._link.add_reader(fd, partial(self._on_slot, slot))

    def _on_slot(self, slot: int) -> None:
        event = self._slots.read(slot)
        if isinstance(event, e.SlotDone) and event.kind is not None:
            log.warning("a chunk failed in slot %d: %s", slot, event.kind)
        self._handle(event)

    def _end(self, event: e.Drain | e.Stop) -> None:
        log.info("draining" if isinstance(event, e.Drain) else "stopping at once")
        self._handle(event)
        self._send_telemetry()

    def _loaded(self, verdict: Future[str]) -> None:
        """Pass on, from the thread that has loaded the kernels, what came of it."""
        self._link.call_threadsafe(partial(self._on_loaded, verdict.result()))

    def _on_loaded(self, verdict: str) -> None:
        if verdict:
            self.error = OtherBitsError(verdict)
            self._link.close()
            return
        held, self._held = self._held or [], None
        for slot in held:
            self._start_slot(slot)

    def _tick(self) -> None:
        self._link.call_later(TICK_SECONDS, self._tick)
        self._handle(e.Tick())

    # what is done about it

    def _handle(self, event: e.Event) -> None:
        for action in self._policy.handle(event, time.monotonic()):
            self._do(action)

    def _do(self, action: e.Action) -> None:  # noqa: C901 - one line per action
        match action:
            case e.StartChunk(slot, _, body):
                self._slots.give(slot, body)
            case e.Publish(token, type_name, body):
                key = partial_key if type_name == Partial.type else failure_key
                self._link.publish(RESULTS, key(self._broker.user), type_name, body, token)
            case e.Ack(receipt):
                self._link.ack(receipt)
            case e.Return(receipt):
                self._link.give_back(receipt)
            case e.Consume(prefetch):
                self._link.consume(list(self._lanes), prefetch)
            case e.StopConsuming():
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
            slots=self._policy.slots,
            busy=self._policy.busy,
            state=state or now_doing,
            version=_version(),
        )
        self._link.publish(TELEMETRY, self._broker.user, message.type, encode(message))


def _version() -> str:
    try:
        return version("montemq")
    except PackageNotFoundError:
        return "unknown"
