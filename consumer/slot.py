"""The main function of a slot's process: chunks' bytes in, partials' or failures' bytes out.

It knows neither broker nor clock limits; whoever started it decides what happens to it.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

import numpy as np

from consumer.answers import Worker
from consumer.execution import Executor
from protocol.codec import pack, unpack
from protocol.errors import MessageRefusedError
from protocol.messages import Chunk, Failure, Partial, decode, encode
from protocol.model_file import ModelFile
from protocol.registry import Registry

READY = b"ready"
ANSWER_SECONDS = 0.01
"""What is answered waits so long at most for further answers."""

PIPE_LIMIT = 1 << 28
"""Far above any message within the machine."""


class Answer(NamedTuple):
    """A slot's answer to one chunk; kind and text are those of a failure, CPU of a partial."""

    type: str
    body: bytes
    kind: str | None
    text: str
    seconds: float
    cpu_seconds: float


def pack_chunks(bodies: Sequence[bytes]) -> bytes:
    """Return the message that gives a slot chunks."""
    return pack(bodies)


def unpack_answers(message: bytes) -> list[Answer]:
    """Return what a slot's message answers, in the order of its chunks."""
    fields = unpack(message, PIPE_LIMIT, max_text=PIPE_LIMIT)
    return [Answer(*answer) for answer in fields]


def slot_main(pipe: Connection, worker: Worker, model_files: Sequence[ModelFile] = ()) -> None:
    """Compute chunks until the pipe or the parent is gone.

    Sends `READY` once, then the answers to what `pack_chunks` made, in its order, several in one
    message where they follow each other closely. Besides the installed models it has those of the
    model files.
    """
    # A signal to the whole group is the agent's to handle: it decides when a chunk is given up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # All slots are copies of one process: a model that wrongly uses numpy's global generator shall
    # at least not draw the same numbers in each of them.
    np.random.seed()  # noqa: NPY002 - the legacy generator is the one that is meant
    executor = Executor(worker, Registry(model_files).load)
    outbox = _Outbox(pipe)
    try:
        pipe.send_bytes(READY)
        while True:
            bodies = unpack(pipe.recv_bytes(), PIPE_LIMIT, max_text=PIPE_LIMIT)
            _answer_all(outbox, bodies, executor)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


class _Outbox:
    """Sends answers, several in one message, each within `ANSWER_SECONDS`.

    Only a model that keeps Python's lock delays them, until the end of a block.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._answers: list[Answer] = []
        self._since = 0.0
        self._lock = threading.Lock()
        self._begun = threading.Event()
        # A thread, because the chunk that follows may take as long as it likes.
        threading.Thread(target=self._send_late, daemon=True).start()

    def add(self, answer: Answer, now: float) -> None:
        """Send an answer soon."""
        with self._lock:
            self._answers.append(answer)
            first = len(self._answers) == 1
        if first:
            self._since = now
            self._begun.set()
        elif now - self._since >= ANSWER_SECONDS:
            self.send()

    def send(self) -> None:
        """Send what there is now."""
        with self._lock:
            answers, self._answers = self._answers, []
            if answers:
                self._pipe.send_bytes(pack(answers))

    def _send_late(self) -> None:
        with contextlib.suppress(OSError):  # who computes sees the end of the pipe as well
            while self._begun.wait():
                self._begun.clear()
                time.sleep(ANSWER_SECONDS)
                self.send()


def _answer_all(outbox: _Outbox, bodies: Sequence[bytes], executor: Executor) -> None:
    began = time.perf_counter()
    for body in bodies:
        message = _answer(body, executor)
        kind, text, cpu = _summary(message)
        ended = time.perf_counter()
        outbox.add(Answer(message.type, encode(message), kind, text, ended - began, cpu), ended)
        began = ended
    outbox.send()


def _summary(message: Partial | Failure) -> tuple[str | None, str, float]:
    if isinstance(message, Failure):
        return message.kind, message.text, 0.0
    return None, "", message.cpu_seconds


def _answer(body: bytes, executor: Executor) -> Partial | Failure:
    try:
        chunk = decode(Chunk.type, body, Chunk)
    except MessageRefusedError as error:
        # The agent passes on only what it could decode itself: this is a bug, not bad input.
        raise RuntimeError("a slot was given a chunk that is none") from error
    return executor.execute(chunk)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # at once, in the middle of a chunk too: nobody is left to take its answer
