"""The slots as the agent sees them: processes that it starts, feeds, reads and kills.

Nothing here waits for a slot: a body is smaller than a pipe's buffer, an answer is read once it
has begun to arrive. Slots are forked from a server that has loaded numpy, so they start at once
and share its memory.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess

from consumer.answers import Worker
from consumer.events import SlotCrashed, SlotDone, SlotReady
from consumer.kernels.width import vector_environment
from consumer.slot import READY, slot_main
from protocol.messages import Failure, decode

SINGLE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""One slot per core is all the parallelism there is; libraries must not add their own."""
GOODBYE_SECONDS = 2.0

SlotEvent = SlotReady | SlotDone | SlotCrashed


@dataclass(frozen=True, slots=True)
class _Process:
    process: ForkServerProcess
    pipe: Connection


class Slots:
    """The slots' processes.

    Parameters
    ----------
    worker
        Who they compute for.
    watch
        Called with a slot's number and a descriptor when a slot is started: whenever something can
        be read from it, `read` is to be called.
    unwatch
        Called with the descriptor before it is closed.
    """

    def __init__(
        self,
        worker: Worker,
        watch: Callable[[int, int], None],
        unwatch: Callable[[int], None],
    ) -> None:
        self._worker, self._watch, self._unwatch = worker, watch, unwatch
        self._running: dict[int, _Process] = {}
        self._context = start_server()

    def start(self, number: int) -> None:
        """Start a slot's process; `SlotReady` follows."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=slot_main, args=(theirs, self._worker), name=f"slot-{number}", daemon=True
        )
        process.start()
        theirs.close()
        self._running[number] = _Process(process, ours)
        self._watch(number, ours.fileno())

    def give(self, number: int, body: bytes) -> None:
        """Send an idle slot a chunk; if it has just died, `SlotCrashed` says so."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._running[number].pipe.send_bytes(body)

    def read(self, number: int) -> SlotEvent:
        """Return what a slot has to say; to be called only when its pipe is readable."""
        try:
            message = self._running[number].pipe.recv_bytes()
        except (EOFError, OSError):
            return SlotCrashed(number, self._bury(number))
        if message == READY:
            return SlotReady(number)
        type_bytes, body = message.split(b"\0", 1)
        type_name = type_bytes.decode()
        if type_name == Failure.type:
            return SlotDone(number, type_name, body, decode(type_name, body, Failure).kind)
        return SlotDone(number, type_name, body)

    def kill(self, number: int) -> None:
        """Kill a slot's process; `SlotCrashed` follows."""
        self._running[number].process.kill()

    def close(self) -> None:
        """End all slots; whatever they compute is lost."""
        for slot in self._running.values():
            slot.process.kill()
            slot.pipe.close()
        for slot in self._running.values():
            slot.process.join(GOODBYE_SECONDS)
        self._running.clear()

    def _bury(self, number: int) -> str:
        slot = self._running.pop(number)
        self._unwatch(slot.pipe.fileno())
        slot.pipe.close()
        slot.process.kill()  # a pipe can be closed without the process being gone
        slot.process.join(GOODBYE_SECONDS)
        code = slot.process.exitcode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"


def start_server() -> ForkServerContext:
    """Start the process that slots are forked from, wait until it can, and return its context.

    The first time on a machine the kernels are compiled, which can take a minute.
    """
    for name in SINGLE_THREAD:
        os.environ[name] = "1"
    os.environ.update(vector_environment())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["consumer.preload"])
    # A signal to the whole group must not end the server before the agent has drained. It inherits
    # the mask; the tracker comes first because starting it resets the mask.
    resource_tracker.ensure_running()
    held = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    # Whoever starts a process waits for the server: here, not in the loop that keeps heartbeats.
    first = context.Process(target=_nothing, name="first", daemon=True)
    first.start()
    first.join()
    return context


def _nothing() -> None:
    """Show by being run that the server is ready."""
