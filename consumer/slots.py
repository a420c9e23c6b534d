"""The slots as the agent sees them: processes that it starts, feeds, reads and kills.

Nothing here waits for a slot: what it is given at a time is smaller than a pipe's buffer, an answer
is read once it has begun to arrive. Slots are forked from a server that has loaded the kernels, so
they start at once and share its memory.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

import psutil

from consumer.answers import Worker
from consumer.events import SlotCrashed, SlotDone, SlotReady
from consumer.fork_server import await_end_of_server, start_server
from consumer.slot import READY, pack_chunks, slot_main, unpack_answers
from protocol.messages import FailureKind
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
        except (OSError, EOFError) as error:
            ours.close()
            if isinstance(error, ConnectionError | EOFError):
                await_end_of_server()
            raise
        finally:
            theirs.close()
        self._running[number] = _Process(process, ours)
        self._watch(number, ours.fileno())

    def give(self, number: int, bodies: Sequence[bytes]) -> None:
        """Send a slot chunks; if it has just died, `SlotCrashed` says so."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._running[number].pipe.send_bytes(pack_chunks(bodies))

    def read(self, number: int) -> list[SlotEvent]:
        """Return what a slot has to say; to be called only when its pipe is readable."""
        try:
            message = self._running[number].pipe.recv_bytes()
        except (EOFError, OSError):
            return [SlotCrashed(number, self._bury(number))]
        if message == READY:
            return [SlotReady(number)]
        return [
            SlotDone(number, type_name, body, FailureKind(kind) if kind else None, text, *times)
            for type_name, body, kind, text, *times in unpack_answers(message)
        ]

    def kill(self, number: int) -> None:
        """Kill a slot's process; `SlotCrashed` follows, unless it has been read already."""
        if (slot := self._running.get(number)) is not None:
            _kill(slot.process)

    def sizes(self) -> dict[int, int]:
        """Return the bytes that each slot has for itself, in memory or swapped out.

        Any thread may ask, because counting takes its time. What slots share with the process that
        they were forked from would not be free without them, so it does not count; a limit of the
        kernel's would count all of it, and what numba only reserves.
        """
        found = {}
        for number, slot in tuple(self._running.items()):
            with contextlib.suppress(psutil.Error):  # it has just ended
                used = psutil.Process(slot.process.pid).memory_full_info()
                found[number] = used.uss + used.swap
        return found

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
        if code == _SERVER_GONE:
            await_end_of_server()  # or it would be asked once more for the next slot
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
