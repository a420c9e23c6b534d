"""Child processes that leave nothing behind: they die with their parent, helpers included.

Linux only; it knows nothing of what the children do.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

POLL_SECONDS = 0.02

_PR_SET_PDEATHSIG = 1
# Loaded here, because between fork and exec of a threaded program an import can deadlock.
_LIBC = ctypes.CDLL(None, use_errno=True)


class Process(NamedTuple):
    """A process by pid and start time, so that a pid used again is another process."""

    pid: int
    started: int

    def alive(self) -> bool:
        """Return whether it still runs; a zombie does not."""
        return _process(self.pid) == self


def die_with_parent() -> Callable[[], None]:
    """Return a `preexec_fn` that has the kernel SIGKILL the child when its parent ends.

    The kernel ties this to the *thread* that started the child: start it from a thread that lives
    as long as the child shall. The setting survives exec, but not a set-user-id program.
    """
    parent = os.getpid()

    def set_death_signal() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before prctl was called
            os.kill(os.getpid(), signal.SIGKILL)

    return set_death_signal


def descendants(pid: int) -> list[Process]:
    """Return the children of a process, their children and so on, as they are now."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        for child in parents.get(queue.pop(), ()):
            queue.append(child)
            if process := _process(child):
                found.append(process)
    return found


def wait_until_gone(processes: Iterable[Process], seconds: float) -> None:
    """Wait until these processes have ended; what still runs after `seconds` gets SIGKILL."""
    deadline = time.monotonic() + seconds
    for process in processes:
        while process.alive():
            if time.monotonic() > deadline:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(POLL_SECONDS)


def _process(pid: int) -> Process | None:
    fields = _stat(pid)
    return Process(pid, int(fields[19])) if fields and fields[0] not in "ZX" else None


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on, none when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()
