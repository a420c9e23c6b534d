"""Processor time of processes, from /proc: a figure that other load moves less than wall time."""

import os
from collections.abc import Iterable
from pathlib import Path

from ops.child_process import descendants
from ops.stack import Stack

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def processor_seconds(pids: Iterable[int]) -> float:
    """Return user and system time of processes that run, in seconds."""
    return sum(sum(map(int, _fields(pid)[11:13])) for pid in pids) / _TICKS


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return int(_fields(pid)[21]) * _PAGE


def processes(stack: Stack) -> dict[str, list[int]]:
    """Return the processes of a stack and this one, by the part that they are."""
    pids = stack.description()["pids"]
    consumers = [p for pid in pids["consumer"] for p in (pid, *(d.pid for d in descendants(pid)))]
    return {
        "broker": [pids["broker"]],
        "aggregator": [pids["aggregator"]],
        "consumer": consumers,
        "producer": [os.getpid()],
    }


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text[text.rindex(")") + 2 :].split()
