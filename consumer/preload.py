"""What the process that slots are forked from loads: the kernels, compiled and checked.

Importing it does the work, once, so that all slots share the memory of the machine code; nothing
but that process and its children has a reason to import it.
"""

import contextlib
import gc
import hashlib
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

from consumer import slot
from consumer.golden import NotComputedError, check
from consumer.kernels.cache import MARKER, cache_directory, empty_cache, one_at_a_time
from consumer.priority import step_back
from protocol.errors import OtherBitsError

__all__ = ["VERDICT", "slot"]

POLL_SECONDS = 0.2

log = logging.getLogger("montemq.consumer")


def _verdict() -> str:
    error = _failure()
    if error is not None and not _is_other_bits(error):
        # Most likely a damaged file, which numba would read again at every start.
        log.warning("%s; compiling all kernels again", _said(error))
        with one_at_a_time():
            empty_cache()
        error = _failure()
    if error is None or _is_other_bits(error):
        return str(error or "")
    return (
        f"the kernels cannot be compiled or loaded, not even from an emptied cache "
        f"('{cache_directory()}'): {_said(error)}"
    )


def _failure() -> Exception | None:
    """Compile or load the kernels, check them, and return what went wrong."""
    try:
        marker = _marker()
        # The first to come compiles, the others wait for what it leaves in the cache.
        known = marker is not None and marker.exists()
        with contextlib.nullcontext() if known else one_at_a_time():
            check()
            if marker is not None and not known:
                with contextlib.suppress(OSError):  # it saves time, no more
                    marker.touch()
    except Exception as error:  # noqa: BLE001 - a compiler may raise whatever it likes
        return error
    return None


def _is_other_bits(error: Exception) -> bool:
    return isinstance(error, OtherBitsError) and not isinstance(error, NotComputedError)


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, OtherBitsError) else f"{type(error).__name__}: {error}"


def _marker() -> Path | None:
    """Return the file that says that all kernels are in the cache for just this machine code.

    Its name has all that numba chooses machine code by, and the versions that it keeps apart.
    """
    directory = cache_directory()
    if directory is None:
        return None
    import numba  # noqa: PLC0415 - a failure is to be told like all others
    from numba.core.registry import cpu_target  # noqa: PLC0415

    codegen: Any = cpu_target.target_context.codegen()
    key = (numba.__version__, sys.version_info[:3], codegen.magic_tuple())
    return directory / f"{MARKER}{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}"


def _end_with(parent: int, loaded: threading.Event) -> None:
    """End in the middle of compiling when the agent is gone; later the server sees to that."""
    while not loaded.wait(POLL_SECONDS):
        if os.getppid() != parent:
            os._exit(1)


step_back()  # compiling shall be as little in anybody's way as computing
_loaded = threading.Event()
_watch = threading.Thread(target=_end_with, args=(os.getppid(), _loaded))
_watch.start()
gc.disable()  # what is loaded stays: looking through it again and again takes a tenth of the time
VERDICT = _verdict()
"""Why no slot may be used on this machine; empty when all is well."""

# No thread may run when slots are forked.
_loaded.set()
_watch.join()
# Objects that the collector never visits again are never written to, and stay shared.
gc.collect()
gc.freeze()
gc.enable()
