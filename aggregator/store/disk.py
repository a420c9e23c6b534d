"""How much room a store takes on its disk, and how much is left there."""

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes: of the database, of its write-ahead log, and free for this user."""

    database: int
    wal: int
    free: int


def disk_use(store: Path) -> DiskUse:
    """Return what a store takes; a file that is not there takes nothing.

    Raises
    ------
    OSError
        The disk does not answer.
    """
    free = shutil.disk_usage(store.parent).free
    return DiskUse(_size(store), _size(store.with_name(f"{store.name}-wal")), free)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
