"""Where compiled kernels, and what was found out about this processor, are kept on disk.

Does not load a compiler. The directory is named by a hash of all kernel sources, because numba
itself notices only a change of the file that holds a function, not of those it calls. What other
sources have left is removed once nobody has used it for a week: checkouts may share a directory.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CACHE_VARIABLE = "MONTEMQ_CACHE_DIR"

MARKER = "checked-"
"""How the names of files begin that say that all kernels are in the cache."""

UNUSED_SECONDS = 7 * 86_400.0
"""After so long without use, a directory is removed; what needs it again compiles again."""

_NAME = re.compile(r"kernels-[0-9a-f]{16}(\.removed)?")
_USED = "used"
"""File that says by its time when a directory was used last, and by its lock that it still is."""


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
            with contextlib.suppress(OSError):  # it could be removed, which would cost time only
                _hold(directory)
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


def remove_unused() -> None:
    """Remove what other sources have left beside this cache and nobody uses any more."""
    mine = cache_directory()
    if mine is None:
        return
    for directory in mine.parent.glob("kernels-*"):
        if directory != mine and _NAME.fullmatch(directory.name) and not directory.is_symlink():
            with contextlib.suppress(OSError):  # in use, not ours to remove, or just removed
                _remove_if_unused(directory)


def _hold(directory: Path) -> None:
    """Have a directory in use until this process, and all that are forked from it, have ended."""
    used = directory / _USED
    while True:
        descriptor = os.open(used, os.O_WRONLY | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.utime(descriptor)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(used.stat(), os.fstat(descriptor)):
                return
        # Somebody was removing it.
        os.close(descriptor)
        directory.mkdir(parents=True, exist_ok=True)


def _remove_if_unused(directory: Path) -> None:
    grave = directory.with_suffix(".removed")
    if directory != grave:
        used = directory / _USED
        last = (used if used.exists() else directory).stat().st_mtime
        if time.time() - last < UNUSED_SECONDS:
            return
        with used.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where somebody holds it
            directory.rename(grave)  # as a whole: nobody finds half of it
    shutil.rmtree(grave, ignore_errors=True)


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
