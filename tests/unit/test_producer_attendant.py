"""What an attendant tells those who watch: how far a run is while it goes on, and what is wrong."""

import time
from typing import Any

import pytest

from producer.attendant import Attendant, Update
from producer.runfile import Submission
from protocol.definition import Lane
from protocol.messages import Reissue, RunState, WantedAudit
from protocol.rpc_messages import CellMissing, Missing
from protocol.sentences import no_consumer
from tests.support.run_values import RUN, definition


def answer(state: RunState = RunState.RUNNING, **fields: Any) -> Missing:
    running = state is RunState.RUNNING
    values: dict[str, Any] = {
        "run": RUN, "state": state, "epoch": 1, "sequence": 1, "term": 1, "slots": 0, "busy": 0,
        "consumers": 0, "merged_blocks": 0, "expected_blocks": 8 if running else 0,
        "cells": (CellMissing(cell=0, missing=((0, 8),), cost=None),) if running else (),
        "failed_attempts": (),
    }  # fmt: skip
    return Missing(**values | fields)


def attendant(told: list[Update]) -> Attendant:
    return Attendant(Submission(RUN, definition(), "default", Lane.NORMAL), told.append)


@pytest.mark.parametrize("state", [RunState.FINISHED, RunState.CANCELLED, RunState.FAILED])
def test_of_a_run_that_has_ended_no_progress_is_told(state: RunState) -> None:
    told: list[Update] = []
    one = attendant(told)
    one._take(answer(state))
    one.show()
    assert told == []
    one.show("the broker is gone; trying again")
    assert [update.notice for update in told] == ["the broker is gone; trying again"]


def test_chunks_that_are_gone_with_their_queue_are_counted_as_lost() -> None:
    one = attendant([])
    one._scheduler.leads(leads=True)
    one._take(answer(slots=2, consumers=1))
    issued = list(one._scheduler.actions(time.monotonic()))
    assert issued
    one.forget_issued()
    assert one._tally.reissued == {Reissue.LOST: len(issued)}


def test_who_watches_hears_how_many_audits_a_run_of_which_all_is_computed_waits_for() -> None:
    told: list[Update] = []
    one = attendant(told)
    audit = WantedAudit(cell=0, first_block=0, blocks=8, not_by=("host-a",))
    one._take(answer(slots=2, audits=(audit,)))
    assert (told[-1].audits, told[-1].waits_for_audits) == (1, False)
    one._take(answer(slots=2, audits=(audit,), merged_blocks=8, cells=()))
    assert (told[-1].audits, told[-1].waits_for_audits) == (1, True)
    one._take(answer(slots=2, merged_blocks=8, cells=()))
    assert not told[-1].waits_for_audits


def test_what_holds_a_run_up_is_known_until_it_goes_on() -> None:
    told: list[Update] = []
    one = attendant(told)
    assert one.trouble is None
    one._take(answer())
    assert one.trouble == told[-1].waits == no_consumer("default")
    one.show("the aggregator does not answer; waiting for it")
    assert one.trouble == "the aggregator does not answer; waiting for it"
    one._take(answer(slots=2, consumers=1))
    assert (one.trouble, told[-1].waits) == (None, None)


@pytest.mark.parametrize(
    ("pool", "command"),
    [("default", "`montemq consumer`"), ("gpu", "`montemq consumer --pool gpu`")],
)
def test_who_waits_for_a_consumer_is_told_which_one_to_start(pool: str, command: str) -> None:
    told: list[Update] = []
    one = Attendant(Submission(RUN, definition(), pool, Lane.NORMAL), told.append)
    one._take(answer())
    assert str(one.trouble).endswith(f"start {command}")
