"""Frees the store from a stopped process that holds SQLite's write lock; Linux only.

A process that is stopped in the middle of a commit keeps the lock for as long as it is stopped,
and nobody else can write. Whoever holds the broker's lock may end it: the broker has given it up.
"""

import os
import signal
from pathlib import Path

WRITE_LOCK = 120
"""Byte of the -shm file: https://www.sqlite.org/walformat.html#locks."""


def end_stopped_holder(store: Path) -> int | None:
    """Kill the process that holds the store's write lock, if it is stopped; return its id.

    Read from /proc, because opening and closing the file here would drop our own locks on it.
    """
    try:
        status = Path(f"{store}-shm").stat()
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    device = os.major(status.st_dev), os.minor(status.st_dev)
    file = f"{device[0]:02x}:{device[1]:02x}:{status.st_ino}"
    for fields in map(str.split, lines):
        # 7: POSIX ADVISORY WRITE <pid> <file> <first byte> <last byte>
        if fields[1:4] == ["POSIX", "ADVISORY", "WRITE"] and fields[5:7] == [file, str(WRITE_LOCK)]:
            pid = int(fields[4])
            if _is_stopped(pid):
                os.kill(pid, signal.SIGKILL)
                return pid
    return None


def _is_stopped(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] == "T"
