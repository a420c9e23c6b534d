"""How the slots step back for whoever uses the machine: processor, disk, and their own session.

The agent itself goes on as it was started, so that heartbeats are on time.
"""

import contextlib
import os
from pathlib import Path

import psutil

NICEST = 19
_VARIABLE = "MONTEMQ_SLOT_NICE"
"""Carries the choice from the agent to the process that slots are forked from."""

_FIRST_TO_GO = Path("/proc/self/oom_score_adj")
_AUTOGROUP = Path("/proc/self/autogroup")


def choose_niceness(nice: int) -> None:
    """Choose the niceness of slots, 0 to 19, before the first is started; 0 changes nothing."""
    os.environ[_VARIABLE] = str(nice)


def step_back() -> None:
    """Take the niceness that was chosen, and with any above 0 be the last on disks and in memory.

    For the process that slots are forked from: they inherit all of it. Linux shares processors
    between sessions first, and only then between the processes of each: it gets a session of its
    own, as nice as itself, or niced slots would crowd a desktop all the same.
    """
    chosen = int(os.environ.get(_VARIABLE, "0"))
    if chosen <= 0:
        return
    process = psutil.Process()
    nice = max(chosen, process.nice())
    process.nice(nice)
    process.ionice(psutil.IOPRIO_CLASS_IDLE)
    with contextlib.suppress(OSError):  # where memory runs out, the owner's programs are to live on
        _FIRST_TO_GO.write_text("1000", encoding="ascii")
    with contextlib.suppress(OSError):  # the leader of a session cannot leave it, nor need it
        os.setsid()
    if os.getsid(0) == os.getpid():  # never that of whoever has started us
        with contextlib.suppress(OSError):  # not every kernel groups by session
            _AUTOGROUP.write_text(str(nice), encoding="ascii")
