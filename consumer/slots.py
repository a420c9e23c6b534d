"""The slots as the agent sees them: processes that it starts, feeds, reads and kills.

Nothing here waits for a slot: a body is smaller than a pipe's buffer, an answer is read once it
has begun to arrive. Slots are forked from a server that has loaded the kernels, so they start at
once and share its memory.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from consumer.answers import Worker
from consumer.events import SlotCrashed, SlotDone, SlotReady
from consumer.fork_server import start_server
from consumer.slot import READY, slot_main
from protocol.messages import Failure, decode
from protocol.model_file import ModelFile

GOODBYE_SECONDS = 2.0

_SERVER_GONE = 255
"""What multiprocessing takes for an exit code that no server is left to tell."""

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
    model_files
        Models that they have besides the installed ones.
    """

    def __init__(
        self,
        worker: Worker,
        watch: Callable[[int, int], None],
        unwatch: Callable[[int], None],
        model_files: Sequence[ModelFile] = (),
    ) -> None:
        self._worker, self._watch, self._unwatch = worker, watch, unwatch
        self._model_files = tuple(model_files)
        self._running: dict[int, _Process] = {}

    def start(self, number: int) -> None:
        """Start a slot's process; `SlotReady` follows. It waits for the server where that loads.

        Raises
        ------
        OSError, EOFError
            It could not be started; the server may have ended.
        """
        context = start_server()
        ours, theirs = context.Pipe()
        process = context.Process(
            target=slot_main,
            args=(theirs, self._worker, self._model_files),
            name=f"slot-{number}",
            daemon=True,
        )
        try:
            process.start()
        except (OSError, EOFError):
            ours.close()
            raise
        finally:
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
            failure = decode(type_name, body, Failure)
            return SlotDone(number, type_name, body, failure.kind, failure.text)
        return SlotDone(number, type_name, body)

    def kill(self, number: int) -> None:
        """Kill a slot's process; `SlotCrashed` follows."""
        _kill(self._running[number].process)

    def close(self) -> None:
        """End all slots; whatever they compute is lost."""
        for slot in self._running.values():
            _kill(slot.process)
            slot.pipe.close()
        for slot in self._running.values():
            slot.process.join(GOODBYE_SECONDS)
        self._running.clear()

    def _bury(self, number: int) -> str:
        slot = self._running.pop(number)
        self._unwatch(slot.pipe.fileno())
        slot.pipe.close()
        _kill(slot.process)  # a pipe can be closed without the process being gone
        slot.process.join(GOODBYE_SECONDS)
        code = slot.process.exitcode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"


def _kill(process: ForkServerProcess) -> None:
    """Kill a process, whose exit code is made up, too early, when its server has ended first."""
    if process.exitcode == _SERVER_GONE and process.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    else:
        process.kill()
