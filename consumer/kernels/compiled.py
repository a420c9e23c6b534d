"""How kernels are compiled and where their machine code is kept; nothing numerical.

The cache is keyed by a hash of all kernel sources, because numba itself notices only a change of
the file that holds a function, not of those it calls. Processes may start together: numba replaces
cache files as a whole, so that the worst that can happen is the same work done twice.
"""

import contextlib
import functools
import hashlib
import os
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.core import config as numba_config

CACHE_VARIABLE = "MONTEMQ_CACHE_DIR"

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a kernel that Python calls; its machine code is kept on disk.

    No fastmath, so that no operation is reordered, fused or left out; division by zero gives an
    infinity; nothing checks indices.
    """
    directory = cache_directory()
    config = cast(Any, numba_config)
    before = config.CACHE_DIR
    # numba reads the directory once, here; other people's kernels keep their own.
    config.CACHE_DIR = str(directory or "")
    try:
        compiler = njit(error_model="numpy", nogil=True, cache=directory is not None)
        return cast(Function, compiler(function))
    finally:
        config.CACHE_DIR = before


def inlined(function: Function) -> Function:
    """Compile a small function that becomes part of the compiled loops that call it."""
    return cast(Function, njit(error_model="numpy", forceinline=True)(function))


@functools.cache
def cache_directory() -> Path | None:
    """Return where machine code is kept, or None where nothing can be written.

    `MONTEMQ_CACHE_DIR` if set, else inside the virtual environment, else the user's cache.
    """
    for base in _candidates():
        directory = base / f"kernels-{_sources_hash()}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(directory, os.W_OK):
            return directory
    return None


def _candidates() -> list[Path]:
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return [Path(given)]
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "montemq"
    if sys.prefix == sys.base_prefix:
        return [users]
    return [Path(sys.prefix) / "var" / "cache" / "montemq", users]


def _sources_hash() -> str:
    digest = hashlib.sha256()
    with contextlib.suppress(PackageNotFoundError):  # run from a checkout
        digest.update(version("montemq").encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(b"\0" + path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
