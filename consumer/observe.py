"""Looks at the machine for the rules of courtesy: the shell around `consumer.courtesy`.

What is looked at may block (a login manager, a long list of processes): `Watch` does it in a thread
of its own. Nothing is decided here.
"""

import logging
import math
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

import psutil

from consumer.courtesy import Observation, Rules

LOOK_SECONDS = 5.0
LOAD_SECONDS = 60.0
"""The time constant of the kernel's first load average."""
LOGIN_SECONDS = 5.0
"""How long the login manager may take to answer."""

Seen = TypeVar("Seen")

_TERMINALS = ("pts/[0-9]*", "tty[0-9]*")
_GRAPHICAL = {"x11", "wayland", "mir"}

log = logging.getLogger("montemq.consumer")


class OwnLoad:
    """Our own share of the load average: how many of us wanted to run, decayed as the kernel's."""

    def __init__(self) -> None:
        self._share = 0.0
        self._at: float | None = None

    def update(self, running: int, now: float) -> float:
        """Take in how many run now, and return the share."""
        if self._at is not None:
            kept = math.exp(-(now - self._at) / LOAD_SECONDS)
            self._share = kept * self._share + (1 - kept) * running
        self._at = now
        return self._share


class ProcessorUse:
    """How much of the processors others used since the last look."""

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None
        self._own: dict[psutil.Process, float] = {}

    def look(self, ours: Iterable[psutil.Process]) -> float | None:
        """Return percent of all processors; None at the first look."""
        times = psutil.cpu_times()
        idle = times.idle + times.iowait
        total = sum(times) - times.guest - times.guest_nice  # these stand in other fields as well
        own = {process: _seconds(process) for process in ours}
        used_by_us = sum(max(0.0, spent - self._own.get(p, 0.0)) for p, spent in own.items())
        before, self._before, self._own = self._before, (total, idle), own
        if before is None or total <= before[0]:
            return None
        passed = total - before[0]
        others = passed - max(0.0, idle - before[1]) - used_by_us
        return min(100.0, max(0.0, 100.0 * others / passed))


class Observer:
    """Looks at what the rules ask for, and at nothing else."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._own_load = OwnLoad()
        self._use = ProcessorUse()

    def look(self) -> Observation:
        """Return the machine as it is now; it may take seconds."""
        rules = self._rules
        measured = rules.max_load is not None or rules.max_cpu_percent is not None
        ours = _family() if measured or rules.pause_programs else []
        time.tzset()  # a laptop travels
        return Observation(
            local=datetime.now().astimezone(),
            load=None if rules.max_load is None else self._load(ours),
            cpu_percent=None if rules.max_cpu_percent is None else self._use.look(ours),
            idle_seconds=idle_seconds() if rules.pause_when_active else None,
            on_battery=_on_battery() if rules.pause_on_battery else None,
            programs=_running(rules.pause_programs, ours),
            free_memory=_free_memory() if rules.min_free_memory is not None else None,
        )

    def _load(self, ours: Iterable[psutil.Process]) -> float:
        running = sum(_wants_to_run(process) for process in ours)
        return max(0.0, psutil.getloadavg()[0] - self._own_load.update(running, time.monotonic()))


class Watch(Generic[Seen]):
    """A thread that looks every few seconds and tells; it ends with `stop` or the process.

    Parameters
    ----------
    look
        Returns what there is to see; it may take seconds.
    tell
        Called in the thread with what was seen.
    every
        Seconds between two looks.
    """

    def __init__(
        self, look: Callable[[], Seen], tell: Callable[[Seen], None], every: float
    ) -> None:
        self._look, self._tell, self._every = look, tell, every
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Tell no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            seen = self._look()
            if not self._stopped.is_set():
                self._tell(seen)


def idle_seconds() -> float | None:
    """Return how long ago somebody has touched a key; None where nothing tells.

    Terminals tell by when they were last read, desktops through systemd's login manager. A desktop
    that does not report idleness counts as used for as long as somebody is logged in.
    """
    now = time.time()
    idle = [*_terminals(now), *_desktops(now)]
    return max(0.0, min(idle)) if idle else None


def _terminals(now: float) -> Iterable[float]:
    for pattern in _TERMINALS:
        for terminal in Path("/dev").glob(pattern):
            try:
                yield now - terminal.stat().st_atime
            except OSError:  # just closed
                continue


def _desktops(now: float) -> list[float]:
    if shutil.which("loginctl") is None:
        return []
    sessions = [line.split()[0] for line in _login("list-sessions", "--no-legend") if line.split()]
    if not sessions:
        return []
    wanted = ("Type", "Class", "State", "IdleHint", "IdleSinceHint")
    lines = _login("show-session", *(f"--property={name}" for name in wanted), "--", *sessions)
    return idle_desktops(lines, now)


def idle_desktops(lines: Iterable[str], now: float) -> list[float]:
    """Return for how many seconds each desktop has been idle.

    Parameters
    ----------
    lines
        `NAME=VALUE`, with an empty line between sessions, as `loginctl show-session` prints them.
    now
        Seconds since the epoch.
    """
    found, session = [], dict[str, str]()
    for line in (*lines, ""):
        if line:
            name, _, value = line.partition("=")
            session[name] = value
            continue
        person = session.get("Class") == "user" and session.get("State") != "closing"
        if person and session.get("Type") in _GRAPHICAL:
            since = session.get("IdleSinceHint", "")
            idle = session.get("IdleHint") == "yes" and since.isdecimal()
            found.append(now - int(since) / 1e6 if idle else 0.0)
        session = {}
    return found


def _login(*arguments: str) -> list[str]:
    try:
        answer = subprocess.run(  # noqa: S603 - no text of anybody else's
            ["loginctl", "--no-pager", *arguments],  # noqa: S607 - where the system has it
            capture_output=True, check=True, text=True, timeout=LOGIN_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.splitlines()


def _family() -> list[psutil.Process]:
    """Return this process and all below it."""
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it has ended
        return 0.0
    return times.user + times.system


def _wants_to_run(process: psutil.Process) -> bool:
    try:
        return process.status() in (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)
    except psutil.Error:
        return False


def _on_battery() -> bool | None:
    battery = psutil.sensors_battery()
    return None if battery is None else battery.power_plugged is False


def _running(programs: frozenset[str], ours: Iterable[psutil.Process]) -> frozenset[str]:
    if not programs:
        return frozenset()
    own = set(ours)
    return programs & {
        process.info["name"]
        for process in psutil.process_iter(["name", "status"])
        if process not in own and process.info["status"] != psutil.STATUS_ZOMBIE
    }


def _free_memory() -> int:
    available: int = psutil.virtual_memory().available
    return available
