"""Where compiled kernels, and what was found out about this processor, are kept on disk.

Does not load a compiler. The directory is named by a hash of all kernel sources, because numba
itself notices only a change of the file that holds a function, not of those it calls.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CACHE_VARIABLE = "MONTEMQ_CACHE_DIR"

MARKER = "checked-"
"""How the names of files begin that say that all kernels are in the cache."""


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


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Keep other processes with the same cache waiting, so that they find what is done here."""
    directory = cache_directory()
    if directory is None:
        yield
        return
    with (directory / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        yield


def empty_cache() -> None:
    """Remove all machine code, and what says that it is complete, as far as that can be done."""
    directory = cache_directory()
    if directory is None:
        return
    for pattern in (f"{MARKER}*", "**/*.nbi", "**/*.nbc"):
        for path in directory.glob(pattern):
            with contextlib.suppress(OSError):
                path.unlink()


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
