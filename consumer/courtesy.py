"""Whether a machine has room for guests: rules, what was observed, and what follows; pure.

Whoever flickers annoys twice and loses work. What is measured must be over its limit for a while
before work is suspended, and well below it for longer before it goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum, auto

from consumer import events as e
from consumer.hours import Hours
from protocol.messages import Suspension

ACTIVE_SECONDS = 60.0
"""Whoever has touched a key so lately uses the machine."""
AWAY_SECONDS = 300.0
"""Whoever has touched none for so long does not."""
RETREAT = 0.75
"""Load and processor use must fall to this share of their limit before work goes on."""
SPARE_MEMORY = 1.25
"""So many times the memory that must be free has to be free before work goes on."""


class OnSuspend(StrEnum):
    """What becomes of the chunks that run when the machine is needed."""

    FINISH = "finish"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Rules:
    """When a machine may be used; nothing keeps from it unless it is said.

    Attributes
    ----------
    hours
        In which hours.
    max_load
        Up to which load average that is not our own.
    max_cpu_percent
        Up to which use of the processors by others, in percent of all of them.
    pause_when_active, pause_on_battery
        Whether not while a user is active, or without mains.
    pause_programs
        While none of these runs.
    min_free_memory
        While so many bytes are available.
    on_suspend
        What becomes of the chunks that run.
    """

    hours: Hours | None = None
    max_load: float | None = None
    max_cpu_percent: float | None = None
    pause_when_active: bool = False
    pause_on_battery: bool = False
    pause_programs: frozenset[str] = frozenset()
    min_free_memory: int | None = None
    on_suspend: OnSuspend = OnSuspend.FINISH

    @property
    def any(self) -> bool:
        """Whether there is a rule at all."""
        return self != Rules(on_suspend=self.on_suspend)


@dataclass(frozen=True, slots=True)
class Observation:
    """A machine at one moment; None where it cannot be told, or is not asked for.

    Attributes
    ----------
    local
        The time on the wall.
    load
        The load average, our own share taken off.
    cpu_percent
        How much others use the processors.
    idle_seconds
        Since somebody has last touched a key.
    on_battery
        Whether there is no mains.
    programs
        Those of the named programs that run.
    free_memory
        Bytes that are available.
    """

    local: datetime
    load: float | None = None
    cpu_percent: float | None = None
    idle_seconds: float | None = None
    on_battery: bool | None = None
    programs: frozenset[str] = frozenset()
    free_memory: int | None = None


class _Sign(Enum):
    """What a look tells: to suspend, to go on, or neither."""

    STOP = auto()
    KEEP = auto()
    GO = auto()


@dataclass(frozen=True, slots=True)
class _Rule:
    """One reason to suspend.

    Attributes
    ----------
    look
        What an observation says about it, and the sentence for people.
    before_stop, before_go
        For how many seconds it has to say so.
    """

    look: Callable[[Rules, Observation], tuple[_Sign, str]]
    before_stop: float
    before_go: float


@dataclass(slots=True)
class _State:
    holds: bool = False
    since: float | None = None
    """Since when the sign has been against it; None while it is not."""


@dataclass
class Courtesy:
    """Which rules keep a machine from being used, from one observation to the next."""

    rules: Rules
    _states: dict[Suspension, _State] = field(default_factory=dict, init=False)

    def observe(self, observation: Observation, now: float) -> list[e.Suspend | e.Resume]:
        """Return what changes because of an observation.

        The first one suspends at once: nothing has been begun that flickering could harm.

        Parameters
        ----------
        observation
            What was seen.
        now
            Seconds on any clock that never goes back.
        """
        first = not self._states
        changes: list[e.Suspend | e.Resume] = []
        for reason, rule in _RULES.items():
            state = self._states.setdefault(reason, _State())
            sign, text = rule.look(self.rules, observation)
            against = _Sign.GO if state.holds else _Sign.STOP
            if sign is not against:
                state.since = None
                continue
            state.since = now if state.since is None else state.since
            patience = rule.before_go if state.holds else rule.before_stop
            if not first and now - state.since < patience:
                continue
            state.holds, state.since = not state.holds, None
            if state.holds:
                changes.append(e.Suspend(reason, text, self._gives_back))
            else:
                changes.append(e.Resume(reason))
        return changes

    @property
    def _gives_back(self) -> bool:
        return self.rules.on_suspend is OnSuspend.RETURN


def _sign(stop: bool, go: bool) -> _Sign:
    return _Sign.STOP if stop else _Sign.GO if go else _Sign.KEEP


def _hours(rules: Rules, seen: Observation) -> tuple[_Sign, str]:
    outside = rules.hours is not None and not rules.hours.include(seen.local)
    text = "" if rules.hours is None else f"it is not within the hours {rules.hours.text!r}"
    return _sign(outside, not outside), text


def _active(rules: Rules, seen: Observation) -> tuple[_Sign, str]:
    idle = seen.idle_seconds
    if not rules.pause_when_active or idle is None:
        return _Sign.GO, ""
    return _sign(idle < ACTIVE_SECONDS, idle >= AWAY_SECONDS), "a user is active"


def _battery(rules: Rules, seen: Observation) -> tuple[_Sign, str]:
    low = rules.pause_on_battery and seen.on_battery is True
    return _sign(low, not low), "the machine runs on its battery"


def _program(rules: Rules, seen: Observation) -> tuple[_Sign, str]:
    running = rules.pause_programs & seen.programs
    return _sign(bool(running), not running), f"{', '.join(sorted(running))} runs"


def _load(rules: Rules, seen: Observation) -> tuple[_Sign, str]:
    return _measured(seen.load, rules.max_load, "the load of others is {:.1f}, the limit {:g}")


def _cpu(rules: Rules, seen: Observation) -> tuple[_Sign, str]:
    text = "others use {:.0f} % of the processors, the limit is {:g} %"
    return _measured(seen.cpu_percent, rules.max_cpu_percent, text)


def _measured(value: float | None, limit: float | None, text: str) -> tuple[_Sign, str]:
    if value is None or limit is None:
        return _Sign.GO, ""
    return _sign(value > limit, value <= RETREAT * limit), text.format(value, limit)


def _memory(rules: Rules, seen: Observation) -> tuple[_Sign, str]:
    free, least = seen.free_memory, rules.min_free_memory
    if free is None or least is None:
        return _Sign.GO, ""
    text = f"{free / 2**20:,.0f} MiB of memory are free, {least / 2**20:,.0f} MiB must be"
    return _sign(free < least, free >= SPARE_MEMORY * least), text


_RULES = {
    Suspension.HOURS: _Rule(_hours, 0.0, 0.0),
    Suspension.ACTIVE: _Rule(_active, 0.0, 0.0),  # its two limits are times already
    Suspension.BATTERY: _Rule(_battery, 0.0, 30.0),
    Suspension.PROGRAM: _Rule(_program, 0.0, 30.0),
    Suspension.LOAD: _Rule(_load, 15.0, 60.0),
    Suspension.CPU: _Rule(_cpu, 15.0, 60.0),
    Suspension.MEMORY: _Rule(_memory, 0.0, 60.0),
}
"""Memory is given back at once, because what runs takes more of it; a peak of load may pass."""
