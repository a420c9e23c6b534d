"""Blocks simulated in a process that has no history; nothing is compared here."""

import contextlib
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from consumer.model_check.blocks import BlockError, Place, Subject, digests
from protocol.errors import MontemqError

FRESH_SECONDS = 300.0
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Fresh:
    """What a fresh process found.

    Attributes
    ----------
    digests
        Of the blocks it was asked for.
    peak, before
        Bytes of memory at most, and before the model was loaded; 0 where the system does not say.
    loading
        Seconds of CPU that it took to load the model.
    """

    digests: dict[Place, bytes]
    peak: int
    before: int
    loading: float


def in_fresh_processes(
    subject: Subject, orders: Sequence[Sequence[Place]], size: int
) -> list[Fresh]:
    """Simulate blocks in a new process for each order, all at once.

    A new process has another hash seed, another address space and no history.

    Raises
    ------
    BlockError
        A process died or took too long, or a block failed there.
    """
    context = multiprocessing.get_context("spawn")
    started = []
    for order in orders:
        ours, theirs = context.Pipe(duplex=False)
        arguments = (theirs, subject, tuple(order), size)
        process = context.Process(target=_fresh_main, args=arguments, daemon=True)
        process.start()
        theirs.close()
        started.append((process, ours))
    try:
        return [_received(pipe) for _, pipe in started]
    finally:
        for process, pipe in started:
            pipe.close()
            process.kill()
            process.join()


def _received(pipe: Connection) -> Fresh:
    if not pipe.poll(FRESH_SECONDS):
        raise BlockError(f"in a fresh process: no answer within {FRESH_SECONDS:g} s")
    try:
        answer = pipe.recv()
    except EOFError:
        raise BlockError("in a fresh process: it died") from None
    if isinstance(answer, Fresh):
        return answer
    raise BlockError(f"in a fresh process: {answer}")


def _fresh_main(pipe: Connection, subject: Subject, order: Sequence[Place], size: int) -> None:
    sys.stdout = sys.stderr  # what a model prints is no data of ours
    before, start = _memory("VmRSS"), time.process_time()
    try:
        loaded = subject.load()
        loading = time.process_time() - start
        found = digests(loaded, order, size)
        loaded.samples(order[0], loaded.model.block_size)
    except MontemqError as error:
        pipe.send(str(error))
    else:
        pipe.send(Fresh(found, _memory("VmHWM"), before, loading))


def _memory(field: str) -> int:
    """Return a field of this process's memory in bytes; unlike rusage it forgets the parent."""
    with contextlib.suppress(OSError):
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0
