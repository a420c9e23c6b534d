"""When a lent machine is left to its owner: the rules, with a time that moves by hand."""

from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import events as e
from consumer.courtesy import AWAY_SECONDS, Courtesy, Observation, OnSuspend, Rules
from consumer.hours import Hours
from protocol.messages import Suspension

MONDAY_NOON = datetime(2026, 11, 16, 12)  # noqa: DTZ001 - the time on the wall
STEP = 5.0
GIB = 2**30

EVERY_RULE = Rules(
    hours=Hours.read("mon 19:00-07:00"), max_load=4.0, max_cpu_percent=50.0, pause_when_active=True,
    pause_on_battery=True, pause_programs=frozenset({"game"}), min_free_memory=GIB,
)  # fmt: skip
NOBODY = Observation(
    MONDAY_NOON.replace(hour=20), load=0.0, cpu_percent=0.0, idle_seconds=9e9, on_battery=False,
    programs=frozenset(), free_memory=8 * GIB,
)  # fmt: skip
DISTURBED: dict[Suspension, dict[str, Any]] = {
    Suspension.HOURS: {"local": MONDAY_NOON},
    Suspension.ACTIVE: {"idle_seconds": 3.0},
    Suspension.BATTERY: {"on_battery": True},
    Suspension.PROGRAM: {"programs": frozenset({"game"})},
    Suspension.LOAD: {"load": 4.1},
    Suspension.CPU: {"cpu_percent": 50.1},
    Suspension.MEMORY: {"free_memory": GIB - 1},
}


class Machine:
    """Shows observations to the rules, one every five seconds, and knows which reasons hold."""

    def __init__(self, rules: Rules = EVERY_RULE, first: Observation = NOBODY) -> None:
        self.courtesy = Courtesy(rules)
        self.now = 0.0
        self.holding: set[Suspension] = set()
        self.changes: list[e.Suspend | e.Resume] = []
        self.show(first)

    def show(self, seen: Observation, seconds: float = 0.0) -> set[Suspension]:
        """Show the same for so long; return the reasons that hold then."""
        end = self.now + seconds
        while True:
            for change in self.courtesy.observe(seen, self.now):
                assert (change.reason in self.holding) is isinstance(change, e.Resume)
                self.holding ^= {change.reason}
                self.changes.append(change)
            if self.now >= end:
                return self.holding
            self.now += STEP


@pytest.mark.parametrize("reason", DISTURBED)
def test_each_rule_suspends_for_its_own_reason_and_goes_on_afterwards(reason: Suspension) -> None:
    machine = Machine()
    assert machine.holding == set()
    disturbed = replace(NOBODY, **DISTURBED[reason])
    assert machine.show(disturbed, 60) == {reason}
    (change,) = machine.changes
    assert isinstance(change, e.Suspend)
    assert change.text
    assert machine.show(NOBODY, AWAY_SECONDS) == set()


@pytest.mark.parametrize("reason", DISTURBED)
def test_without_a_rule_nothing_suspends(reason: Suspension) -> None:
    assert not Rules().any
    assert Machine(Rules()).show(replace(NOBODY, **DISTURBED[reason]), 600) == set()


@pytest.mark.parametrize("reason", DISTURBED)
def test_a_machine_that_is_in_use_at_the_start_is_not_used_even_for_a_moment(
    reason: Suspension,
) -> None:
    assert Machine(first=replace(NOBODY, **DISTURBED[reason])).holding == {reason}


@pytest.mark.parametrize("reason", set(DISTURBED) - {Suspension.HOURS, Suspension.PROGRAM})
def test_what_cannot_be_told_suspends_nothing(reason: Suspension) -> None:
    unknown = dict.fromkeys(DISTURBED[reason])
    assert Machine(first=replace(NOBODY, **unknown)).holding == set()


@pytest.mark.parametrize("on_suspend", OnSuspend)
def test_it_is_said_what_becomes_of_chunks_that_run(on_suspend: OnSuspend) -> None:
    machine = Machine(replace(EVERY_RULE, on_suspend=on_suspend), replace(NOBODY, on_battery=True))
    (change,) = machine.changes
    assert isinstance(change, e.Suspend)
    assert change.give_back is (on_suspend is OnSuspend.RETURN)
    assert not Rules(on_suspend=on_suspend).any


@pytest.mark.parametrize("field", ["load", "cpu_percent"])
def test_a_peak_of_load_passes_and_a_lull_does_not_resume(field: str) -> None:
    limit = {"load": 4.0, "cpu_percent": 50.0}[field]
    over, between, under = (replace(NOBODY, **{field: limit * x}) for x in (1.1, 0.9, 0.7))
    machine = Machine()
    assert machine.show(over, 10) == set()
    assert machine.show(between, 0) == set()  # the peak is over
    assert machine.show(over, 10) == set()
    machine.show(over, 10)
    assert machine.holding
    assert machine.show(between, 600)  # below the limit is not enough
    assert machine.show(under, 30)
    assert machine.show(between, 5)
    assert machine.show(under, 50)  # nor is a lull
    assert machine.show(under, 20) == set()


def test_a_user_who_pauses_to_read_still_uses_the_machine() -> None:
    machine = Machine(first=replace(NOBODY, idle_seconds=59.0))
    assert machine.holding == {Suspension.ACTIVE}
    assert machine.show(replace(NOBODY, idle_seconds=299.0)) == {Suspension.ACTIVE}
    assert machine.show(replace(NOBODY, idle_seconds=300.0)) == set()
    assert machine.show(replace(NOBODY, idle_seconds=61.0)) == set()


def test_several_reasons_hold_and_end_each_on_its_own() -> None:
    both = replace(NOBODY, local=MONDAY_NOON, on_battery=True)
    machine = Machine(first=both)
    assert machine.holding == {Suspension.HOURS, Suspension.BATTERY}
    assert machine.show(replace(both, on_battery=False), 60) == {Suspension.HOURS}


loads = st.sampled_from([0.0, 2.9, 3.1, 3.9, 4.1, 9.0])


@given(st.lists(st.tuples(loads, st.floats(0.1, 90.0)), min_size=2, max_size=60))
def test_whatever_the_load_does_work_never_flickers(course: list[tuple[float, float]]) -> None:
    courtesy, now = Courtesy(Rules(max_load=4.0)), 0.0
    courtesy.observe(NOBODY, now)
    held, switches = False, [0.0]
    seen: list[tuple[float, float]] = []
    for load, seconds in course:
        now += seconds
        seen.append((now, load))
        for change in courtesy.observe(replace(NOBODY, load=load), now):
            held = isinstance(change, e.Suspend)
            switches.append(now)
            window = 15.0 if held else 60.0
            recent = [value for at, value in seen if at >= now - window]
            assert all(value > 4.0 if held else value <= 3.0 for value in recent)
    assert all(later - earlier >= 15.0 for earlier, later in pairwise(switches[1:]))
