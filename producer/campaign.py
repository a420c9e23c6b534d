"""Which runs of a campaign may start, as a pure state machine: what happened in, what to do out.

It knows names and their order, neither what a run computes nor who computes it.
"""

import graphlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from protocol.errors import UsageError

AT_ONCE = 16
"""How many runs are followed at the same time: each has a connection and a share of the pool."""


class Stage(StrEnum):
    """How far a run of a campaign is."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NOT_STARTED = "not_started"
    """A run that it waited for did not finish; it is never declared."""


ENDED = frozenset({Stage.FINISHED, Stage.FAILED, Stage.CANCELLED, Stage.NOT_STARTED})


@dataclass(frozen=True, slots=True)
class Start:
    """Start this run, and report how it ended."""

    name: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Take note that this run will not start, and why."""

    name: str
    why: str


class Order:
    """The runs of one campaign.

    Parameters
    ----------
    after
        For each run, in the order of the file, the runs that it waits for.
    at_once
        How many may run at the same time.

    Raises
    ------
    UsageError
        A run waits for one that is not there, for itself, or in a cycle.
    """

    def __init__(self, after: Mapping[str, frozenset[str]], at_once: int = AT_ONCE) -> None:
        check_order(after)
        places = {name: number for number, name in enumerate(after)}
        self.after = {
            name: tuple(sorted(names, key=places.__getitem__)) for name, names in after.items()
        }
        """The runs that each waits for, in the order of the file."""
        self.stages = dict.fromkeys(after, Stage.WAITING)
        self._at_once = at_once

    @property
    def ended(self) -> bool:
        """Whether nothing runs and nothing will."""
        return all(stage in ENDED for stage in self.stages.values())

    @property
    def stage(self) -> Stage:
        """How the campaign as a whole is: failed where any run failed, else cancelled."""
        stages = set(self.stages.values())
        if not self.ended:
            return Stage.RUNNING
        return next(
            (one for one in (Stage.FAILED, Stage.CANCELLED) if one in stages), Stage.FINISHED
        )

    def waits_for(self, name: str) -> tuple[str, ...]:
        """Return the runs that a run still waits for, in the order of the file."""
        return tuple(one for one in self.after[name] if self.stages[one] is not Stage.FINISHED)

    def happened(self, name: str, stage: Stage) -> None:
        """Take note that a running run finished, failed or was cancelled."""
        self.stages[name] = stage

    def actions(self) -> Iterator[Start | GiveUp]:
        """Yield what is to be done now; call it at the start and after every event."""
        while hopeless := self._hopeless():
            self.stages[hopeless.name] = Stage.NOT_STARTED
            yield hopeless
        free = self._at_once - sum(one is Stage.RUNNING for one in self.stages.values())
        for name, stage in self.stages.items():
            if free and stage is Stage.WAITING and not self.waits_for(name):
                free -= 1
                self.stages[name] = Stage.RUNNING
                yield Start(name)

    def _hopeless(self) -> GiveUp | None:
        """Return the first waiting run that waits for one which will never finish."""
        for name, stage in self.stages.items():
            for other in self.waits_for(name) if stage is Stage.WAITING else ():
                if (how := self.stages[other]) in ENDED:
                    was = "was " if how is Stage.CANCELLED else ""
                    return GiveUp(name, f"'{other}' {was}{how.value.replace('_', ' ')}")
        return None


def check_order(after: Mapping[str, frozenset[str]]) -> None:
    """Refuse an order that no campaign can follow.

    Raises
    ------
    UsageError
        One sentence that names the run, or the whole cycle.
    """
    for name, names in after.items():
        if unknown := sorted(names - after.keys()):
            raise UsageError(
                f"runs.{name} waits for '{unknown[0]}', which is no run of this campaign; "
                f"its runs are {', '.join(after)}"
            )
        if name in names:
            raise UsageError(f"runs.{name} waits for itself")
    try:
        graphlib.TopologicalSorter({name: sorted(names) for name, names in after.items()}).prepare()
    except graphlib.CycleError as error:
        cycle = " → ".join(reversed(error.args[1]))
        raise UsageError(f"these runs wait for each other: {cycle}") from None
