"""What the process that slots are forked from loads: the kernels, compiled and checked.

Importing it does the work, once, so that all slots share the memory of the machine code; nothing
but that process and its children has a reason to import it.
"""

import gc

from consumer import slot
from consumer.golden import check
from consumer.kernels.cache import one_at_a_time
from protocol.errors import OtherBitsError

__all__ = ["VERDICT", "slot"]


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


VERDICT = _verdict()
"""Why no slot may be used on this machine; empty when all is well."""

# Objects that the collector never visits again are never written to, and stay shared.
gc.collect()
gc.freeze()
