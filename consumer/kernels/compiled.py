"""How kernels are compiled; nothing numerical, and not where their machine code is kept.

Processes may start together: numba replaces cache files as a whole, so that the worst that can
happen is the same work done twice.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit
from numba.core import config as numba_config

from consumer.kernels.cache import cache_directory

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a kernel that Python calls; its machine code is kept on disk.

    No fastmath, so that no operation is reordered, fused or left out; division by zero gives an
    infinity; nothing checks indices.
    """
    return _compiled(function, forceinline=False)


def inlined(function: Function) -> Function:
    """Compile a small function that becomes part of the compiled loops that call it."""
    return _compiled(function, forceinline=True)


def _compiled(function: Function, *, forceinline: bool) -> Function:
    directory = cache_directory()
    config = cast(Any, numba_config)
    before = config.CACHE_DIR
    # numba reads the directory once, here; other people's kernels keep their own.
    config.CACHE_DIR = str(directory or "")
    try:
        compiler = njit(
            error_model="numpy", nogil=True, cache=directory is not None, forceinline=forceinline
        )
        return cast(Function, compiler(function))
    finally:
        config.CACHE_DIR = before
