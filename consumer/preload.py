"""What the process that slots are forked from loads: the kernels, compiled and checked.

Importing it does the work, once, so that all slots share the memory of the machine code; nothing
but that process and its children has a reason to import it.
"""

import gc
import os
import threading

from consumer import slot
from consumer.golden import check
from consumer.kernels.cache import one_at_a_time
from protocol.errors import OtherBitsError

__all__ = ["VERDICT", "slot"]

POLL_SECONDS = 0.2


def _verdict() -> str:
    try:
        with (
            one_at_a_time()
        ):  # the first to come compiles, the others wait for what it leaves in the cache
            check()
    except OtherBitsError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a compiler may raise whatever it likes
        return f"the kernels cannot be compiled or loaded: {type(error).__name__}: {error}"
    return ""


def _end_with(parent: int, loaded: threading.Event) -> None:
    """End in the middle of compiling when the agent is gone; later the server sees to that."""
    while not loaded.wait(POLL_SECONDS):
        if os.getppid() != parent:
            os._exit(1)


_loaded = threading.Event()
_watch = threading.Thread(target=_end_with, args=(os.getppid(), _loaded))
_watch.start()
VERDICT = _verdict()
"""Why no slot may be used on this machine; empty when all is well."""

# No thread may run when slots are forked.
_loaded.set()
_watch.join()
# Objects that the collector never visits again are never written to, and stay shared.
gc.collect()
gc.freeze()
