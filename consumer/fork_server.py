"""The process that slots are forked from: started, loaded and checked in the background.

The first start on a machine chooses the width of vectors by a timing and compiles the kernels,
which can take a minute; whoever connects to a broker meanwhile must not wait for it.
"""

import contextlib
import functools
import logging
import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from typing import Any

from consumer.kernels.cache import remove_unused
from consumer.kernels.width import vector_environment

SINGLE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""One slot per core is all the parallelism there is; libraries must not add their own."""

_ENDING_SECONDS = 2.0

log = logging.getLogger("montemq.consumer")


@functools.cache
def loading() -> Future[str]:
    """Start the server, once, and return at once.

    Returns
    -------
    Future[str]
        Done when slots can be forked; says why none may be, empty when all is well.
    """
    future: Future[str] = Future()
    # A daemon, because nobody waits for the kernels who has nothing to compute.
    threading.Thread(target=_load, args=(future,), name="loading", daemon=True).start()
    return future


def loading_again() -> Future[str]:
    """Start the server anew, once `server_lives` has denied it; see `loading`."""
    loading.cache_clear()
    return loading()


def server_lives() -> bool:
    """Say, at once, whether the server runs; it can be killed at any time, for its memory too."""
    pid = _server_pid()
    try:  # without WNOWAIT, multiprocessing would not find its child any more
        return pid is not None and (
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        )
    except ChildProcessError:
        return False


def await_end_of_server() -> None:
    """Wait a moment for a server that is ending: it gives its pipes up before it is seen to end."""
    _end_of_server()


def start_server() -> ForkServerContext:
    """Start the process that slots are forked from, and return its context; it goes on loading."""
    for name in SINGLE_THREAD:
        os.environ[name] = "1"
    os.environ.update(_vectors())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["consumer.preload"])
    # A signal to the whole group must not end the server before the agent has drained. It inherits
    # the mask; the tracker comes first because starting it resets the mask.
    resource_tracker.ensure_running()
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGTSTP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


@functools.cache
def _vectors() -> dict[str, str]:
    """Ask once: a timing that fails takes its time, and would fail at every start of a slot."""
    return vector_environment()


def _server_pid() -> int | None:
    server: Any = forkserver
    pid: int | None = server._forkserver._forkserver_pid  # noqa: SLF001 - said nowhere else
    return pid


def _load(future: Future[str]) -> None:
    log.info("loading the kernels; the first start on a machine compiles them")
    try:
        future.set_result(_verdict(start_server()))
    except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for an answer
        future.set_result(_sentence(error))
    else:
        remove_unused()


def _verdict(context: ForkServerContext) -> str:
    ours, theirs = context.Pipe()
    process = context.Process(target=_report, args=(theirs,), name="check", daemon=True)
    process.start()  # returns once the server has loaded everything
    theirs.close()
    try:
        verdict: str = ours.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"their check ended with exit code {process.exitcode}") from None
    process.join()
    return verdict


def _report(pipe: Connection) -> None:
    try:
        from consumer.preload import VERDICT  # noqa: PLC0415 - loaded in the server, and only there
    except Exception as error:  # noqa: BLE001 - the server keeps an ImportError to itself
        verdict = f"the kernels cannot be loaded: {type(error).__name__}: {error}"
    else:
        verdict = VERDICT
    with contextlib.suppress(BrokenPipeError):  # the agent has ended meanwhile
        pipe.send(verdict)


def _sentence(error: Exception) -> str:
    """Say why there is no verdict: how the server ended, or else the error here."""
    end = _end_of_server()
    if end is None:
        return f"the kernels could not be loaded: {type(error).__name__}: {error}"
    return f"the process that slots are forked from {end} while it loaded the kernels"


def _end_of_server() -> str | None:
    """Return how the server ended, None if it goes on or never was; it may be ending just now."""
    pid = _server_pid()
    if pid is None:
        return None
    try:
        sentinel = os.pidfd_open(pid)
        try:
            wait([sentinel], _ENDING_SECONDS)
        finally:
            os.close(sentinel)
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, ProcessLookupError):
        return "ended"  # somebody else has asked how
    if end is None:
        return None
    if end.si_code == os.CLD_EXITED:
        return f"ended with exit code {end.si_status}"
    return f"was killed by {signal.Signals(end.si_status).name}"
