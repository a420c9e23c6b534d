"""The main function of a slot's process: a chunk's bytes in, a partial's or failure's bytes out.

It knows neither broker nor clock limits; whoever started it decides what happens to it.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait

import numpy as np

from consumer.answers import Worker
from consumer.execution import execute
from protocol.errors import MessageRefusedError
from protocol.messages import Chunk, decode, encode
from protocol.model_file import ModelFile
from protocol.registry import Registry

READY = b"ready"


def slot_main(pipe: Connection, worker: Worker, model_files: Sequence[ModelFile] = ()) -> None:
    """Compute chunks until the pipe or the parent is gone.

    Sends `READY` once, then for each body of a chunk the answer's type, a zero byte, and its body.
    Besides the installed models it has those of the model files.
    """
    # A signal to the whole group is the agent's to handle: it decides when a chunk is given up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # All slots are copies of one process: a model that wrongly uses numpy's global generator shall
    # at least not draw the same numbers in each of them.
    np.random.seed()  # noqa: NPY002 - the legacy generator is the one that is meant
    registry = Registry(model_files)
    try:
        pipe.send_bytes(READY)
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes(), worker, registry))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _answer(body: bytes, worker: Worker, registry: Registry) -> bytes:
    try:
        chunk = decode(Chunk.type, body, Chunk)
    except MessageRefusedError as error:
        # The agent passes on only what it could decode itself: this is a bug, not bad input.
        raise RuntimeError("a slot was given a chunk that is none") from error
    answer = execute(chunk, worker, registry.load)
    return answer.type.encode() + b"\0" + encode(answer)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # at once, in the middle of a chunk too: nobody is left to take its answer
