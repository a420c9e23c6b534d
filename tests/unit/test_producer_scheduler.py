"""The scheduler: its window, what it issues, and what it issues again."""

from itertools import pairwise
from typing import Any

import pytest

from producer.scheduler import (
    FIRST_WINDOW,
    MAX_PATIENCE_SECONDS,
    PATIENCE_SECONDS,
    RETRY_SECONDS,
    SILENCE_SECONDS,
    AskMissing,
    Publish,
    Scheduler,
)
from protocol.definition import Definition
from protocol.messages import CellProgress, Chunk, Progress, RunState
from protocol.ranges import Ranges
from protocol.rpc_messages import CellMissing, Missing
from tests.support.run_values import RUN, chunk, definition

BIG = 10**4
"""Slots enough for any window."""


class Harness:
    """A scheduler that leads, with an aggregator that knows what is merged."""

    def __init__(self, of: Definition, chunk_blocks: int = 8, slots: int = 2) -> None:
        self.definition = of
        self.scheduler = Scheduler(RUN, of, chunk_blocks)
        self.scheduler.leads(leads=True)
        self.merged = [Ranges() for _ in of.cells]
        self.slots = slots
        self.epoch, self.sequence, self.term = 1, 0, 1
        self.now = 1_000.0
        self.join()

    def join(self, **fields: Any) -> None:
        cells = tuple(
            CellMissing(cell=cell, missing=gaps)
            for cell, merged in enumerate(self.merged)
            if (gaps := tuple((a, b - a) for a, b in merged.gaps(0, self.definition.blocks)))
        )
        values: dict[str, Any] = {
            "run": RUN, "state": RunState.RUNNING, "epoch": self.epoch, "sequence": self.sequence,
            "term": self.term, "slots": self.slots, "consumers": 1, "merged_blocks": 0,
            "cells": cells, "failed_attempts": (),
        }  # fmt: skip
        self.scheduler.joined(Missing(**values | fields), self.now)

    def progress(self, *cells: int, **fields: Any) -> None:
        self.sequence += 1
        values: dict[str, Any] = {
            "run": RUN, "epoch": self.epoch, "sequence": self.sequence, "failed_attempts": (),
            "cells": tuple(
                CellProgress(cell=cell, merged=tuple((a, b - a) for a, b in self.merged[cell]))
                for cell in cells
            ),
            "slots": self.slots, "consumers": 1, "merged_blocks": sum(map(len, self.merged)),
            "cpu_seconds": 0.0, "headline": None,
        }  # fmt: skip
        self.scheduler.progress(Progress(**values | fields), self.now)

    def actions(self) -> tuple[list[Chunk], int]:
        """Return what is published, and how often it asked."""
        actions = list(self.scheduler.actions(self.now))
        published = [action.chunk for action in actions if isinstance(action, Publish)]
        return published, sum(isinstance(action, AskMissing) for action in actions)

    def publish(self) -> list[Chunk]:
        published, _ = self.actions()
        for one in published:
            self.scheduler.confirmed(one.attempt)
        return published

    def asks(self) -> bool:
        return self.actions()[1] == 1

    def merge(self, *chunks: Chunk) -> None:
        for one in chunks:
            self.merged[one.cell].add(one.first_block, one.stop_block)
        self.progress(*sorted({one.cell for one in chunks}))


def spans(chunks: list[Chunk]) -> list[tuple[int, int]]:
    return [(one.first_block, one.stop_block) for one in chunks]


# What is issued


def test_a_chunk_carries_all_that_is_needed_to_compute_it() -> None:
    harness = Harness(definition(cells=2))
    first = harness.publish()[0]
    assert first == chunk(harness.definition, 0, 8, attempt=1 << 32)


def test_no_chunk_crosses_a_checkpoint_and_all_blocks_come_once() -> None:
    harness = Harness(definition(108, cells=2), chunk_blocks=7, slots=BIG)
    chunks = harness.publish()
    edges = (0, 32, 48, 72, 108)
    for one in chunks:
        assert any(a <= one.first_block < one.stop_block <= b for a, b in pairwise(edges))
        assert one.blocks <= 7
    for cell in range(2):
        found = sorted(spans([one for one in chunks if one.cell == cell]))
        assert [found[0][0], found[-1][1]] == [0, 108]
        assert all(before[1] == after[0] for before, after in pairwise(found))
    assert len({one.attempt for one in chunks}) == len(chunks)


def test_without_faults_every_block_is_issued_exactly_once() -> None:
    harness = Harness(definition(162, cells=3), chunk_blocks=5)
    issued = [Ranges() for _ in range(3)]
    while chunks := harness.publish():
        for one in chunks:
            assert not issued[one.cell].overlap(one.first_block, one.stop_block)
            issued[one.cell].add(one.first_block, one.stop_block)
            harness.now += 0.01
            harness.merge(one)
    assert [list(ranges) for ranges in issued] == [[(0, 162)]] * 3
    assert harness.scheduler.outstanding == 0


def test_only_what_is_missing_is_issued() -> None:
    harness = Harness(definition(), slots=BIG)
    harness.publish()
    fresh = Harness(definition(), chunk_blocks=64, slots=BIG)
    fresh.merged[0] = Ranges([(4, 30), (48, 108)])
    fresh.join()
    fresh.scheduler.disconnected()
    fresh.join()
    assert spans(fresh.publish()) == [(0, 4), (30, 32), (32, 48)]


def test_a_follower_issues_nothing_but_still_asks() -> None:
    harness = Harness(definition())
    harness.scheduler.leads(leads=False)
    harness.now += SILENCE_SECONDS
    assert harness.actions() == ([], 1)
    harness.scheduler.leads(leads=True)
    assert harness.publish()


@pytest.mark.parametrize("state", [RunState.FINISHED, RunState.FAILED, RunState.CANCELLED])
def test_an_ended_run_needs_nothing(state: RunState) -> None:
    harness = Harness(definition())
    harness.join(state=state, cells=())
    harness.now += 100
    assert harness.actions() == ([], 0)


# The window


def test_without_slots_only_a_few_chunks_are_issued() -> None:
    assert len(Harness(definition(), slots=0, chunk_blocks=1).publish()) == FIRST_WINDOW


def test_the_window_grows_with_the_slots() -> None:
    counts = [len(Harness(definition(), 1, slots).publish()) for slots in (1, 2, 10)]
    assert counts == [FIRST_WINDOW + 2, FIRST_WINDOW + 4, FIRST_WINDOW + 20]


def test_the_window_grows_with_the_rate_to_a_quarter_of_a_second_of_work() -> None:
    harness = Harness(definition(10_000), chunk_blocks=1, slots=1)
    waiting = harness.publish()
    for _ in range(4_000):  # 1,000 chunks a second for 4 s
        harness.now += 0.001
        done = waiting.pop(0)
        harness.merge(done)
        waiting += harness.publish()
    assert 240 <= harness.scheduler.window <= 270
    assert len(waiting) == harness.scheduler.window


def test_the_window_is_never_exceeded() -> None:
    harness = Harness(definition(2_000), chunk_blocks=3, slots=3)
    waiting: list[Chunk] = []
    while published := harness.publish():
        waiting += published
        assert harness.scheduler.outstanding <= harness.scheduler.window
        harness.now += 0.02
        harness.merge(waiting.pop(len(waiting) // 2))


# What is issued again


def test_a_failed_attempt_is_issued_again_a_moment_later_under_a_new_number() -> None:
    harness = Harness(definition(32), chunk_blocks=32)
    [first] = harness.publish()
    harness.progress(failed_attempts=(first.attempt, 12345))
    assert harness.publish() == []
    harness.now += RETRY_SECONDS
    [second] = harness.publish()
    assert spans([second]) == spans([first])
    assert second.attempt > first.attempt


def test_a_failed_attempt_that_only_an_answer_tells_is_issued_again_without_patience() -> None:
    harness = Harness(definition(32), chunk_blocks=16)
    first, second = harness.publish()
    harness.join(failed_attempts=(first.attempt, 12345))
    [again] = harness.publish()
    assert spans([again]) == spans([first])
    assert again.attempt > second.attempt
    # Told a second time, it is another attempt that is under way by now.
    harness.join(failed_attempts=(first.attempt,))
    assert harness.publish() == []


def test_an_attempt_that_failed_is_put_back_once_however_late_it_is_told_again() -> None:
    harness = Harness(definition(32), chunk_blocks=32)
    [first] = harness.publish()
    harness.progress(failed_attempts=(first.attempt,))
    harness.publish()
    harness.progress(failed_attempts=(first.attempt,))
    harness.sequence -= 2
    harness.progress(failed_attempts=(first.attempt,))
    assert harness.publish() == []


def test_a_refused_chunk_is_issued_again_after_a_pause() -> None:
    harness = Harness(definition(32), chunk_blocks=32)
    [first], _ = harness.actions()
    harness.scheduler.refused(first.attempt, harness.now)
    harness.now += 0.9 * RETRY_SECONDS
    assert harness.publish() == []
    harness.now += 0.1 * RETRY_SECONDS
    assert spans(harness.publish()) == [(0, 32)]


def test_after_a_disconnection_only_unconfirmed_chunks_are_issued_again() -> None:
    harness = Harness(definition(32), chunk_blocks=8)
    chunks, _ = harness.actions()
    for one in chunks[:3]:
        harness.scheduler.confirmed(one.attempt)
    harness.scheduler.disconnected()
    harness.join()
    [again] = harness.publish()
    assert spans([again]) == spans(chunks[3:])
    assert again.attempt not in {one.attempt for one in chunks}


def test_an_unconfirmed_chunk_that_was_merged_after_all_is_not_issued_again() -> None:
    harness = Harness(definition(32), chunk_blocks=32)
    [first], _ = harness.actions()
    harness.scheduler.disconnected()
    harness.merged[0].add(first.first_block, first.stop_block)
    harness.join()
    assert harness.publish() == []


def test_attempts_are_never_reused_across_terms() -> None:
    harness = Harness(definition(1_000), chunk_blocks=1)
    seen: set[int] = set()
    for term in (1, 2, 2, 5, 3):  # 3: an answer from an older store
        harness.term = term
        harness.scheduler.disconnected()
        harness.join()
        published, _ = harness.actions()
        attempts = {one.attempt for one in published}
        assert published
        assert not attempts & seen
        seen |= attempts
    assert {attempt >> 32 for attempt in seen} == {1, 2, 5}


# Asking


def test_silence_makes_it_ask_and_only_once_until_answered() -> None:
    harness = Harness(definition())
    harness.now += SILENCE_SECONDS - 0.01
    assert not harness.asks()
    harness.now += 0.01
    assert harness.asks()
    harness.now += 100
    assert not harness.asks()
    harness.scheduler.unanswered()
    assert harness.asks()


def test_progress_breaks_the_silence() -> None:
    harness = Harness(definition())
    for _ in range(5):  # not so often that the chunks that were issued count as late
        harness.now += SILENCE_SECONDS - 0.1
        harness.progress()
        assert not harness.asks()


def test_a_gap_in_the_sequence_makes_it_ask_at_once() -> None:
    harness = Harness(definition())
    harness.sequence += 1
    harness.progress()
    assert harness.asks()
    harness.join()
    harness.progress()
    assert not harness.asks()


def test_a_new_epoch_makes_it_ask_at_once() -> None:
    harness = Harness(definition())
    harness.epoch += 1
    harness.progress()
    assert harness.asks()


def test_old_progress_is_ignored() -> None:
    harness = Harness(definition(32), chunk_blocks=32)
    harness.progress()
    harness.progress()
    harness.sequence -= 2
    harness.progress(slots=99)
    assert harness.scheduler.slots == 2
    assert not harness.asks()


def test_a_disconnection_forgets_an_unanswered_question() -> None:
    harness = Harness(definition())
    harness.now += SILENCE_SECONDS
    assert harness.asks()
    harness.scheduler.disconnected()
    harness.now += SILENCE_SECONDS
    assert harness.asks()


# Losses


def wait(harness: Harness, seconds: float) -> list[Chunk]:
    """Let time pass, then let the aggregator answer that the same is still missing."""
    harness.now += seconds
    harness.join()
    return harness.publish()


def test_a_chunk_that_was_lost_is_issued_again_after_patience() -> None:
    harness = Harness(definition(32), chunk_blocks=32)
    harness.publish()
    assert wait(harness, PATIENCE_SECONDS) == []
    assert spans(wait(harness, 0.1)) == [(0, 32)]


def test_a_chunk_is_never_lost_by_silence_alone() -> None:
    harness = Harness(definition(32), chunk_blocks=32)
    harness.publish()
    harness.now += 10 * MAX_PATIENCE_SECONDS
    assert harness.actions() == ([], 1)
    harness.progress()
    assert harness.publish() == []


def test_every_loss_in_a_row_doubles_the_patience_and_a_result_resets_it() -> None:
    harness = Harness(definition(108), chunk_blocks=4, slots=0)
    harness.slots = 2
    harness.join()
    waiting = harness.publish()
    for losses in range(4):
        patience = PATIENCE_SECONDS * 2**losses
        assert wait(harness, patience) == []
        again = wait(harness, 0.1)
        assert sorted(spans(again)) == sorted(spans(waiting))
        waiting = again
    harness.merge(waiting.pop())
    newest = harness.publish()
    slowest = PATIENCE_SECONDS  # whatever was computed took no longer than this
    assert wait(harness, slowest) == []
    assert sorted(spans(wait(harness, 0.1))) == sorted(spans(waiting + newest))


def test_a_purge_of_very_many_chunks_costs_one_patience() -> None:
    harness = Harness(definition(5_000), chunk_blocks=1, slots=2_000)
    lost = harness.publish()
    assert len(lost) > 4_000
    assert sorted(spans(wait(harness, PATIENCE_SECONDS + 0.1))) == sorted(spans(lost))


def test_patience_has_an_end() -> None:
    harness = Harness(definition(32), chunk_blocks=32)
    harness.publish()
    for _ in range(1_100):
        assert len(wait(harness, MAX_PATIENCE_SECONDS + 0.1)) == 1


def test_slow_chunks_are_given_four_times_as_long_as_the_slowest() -> None:
    harness = Harness(definition(48), chunk_blocks=32)
    first, second = harness.publish()
    harness.now += 25.0
    harness.merge(first)
    assert wait(harness, 100.0 - 25.0) == []
    assert spans(wait(harness, 0.1)) == spans([second])


def test_nothing_is_lost_while_no_consumer_lives() -> None:
    harness = Harness(definition(32), chunk_blocks=32, slots=0)
    harness.publish()
    assert wait(harness, 10 * MAX_PATIENCE_SECONDS) == []
    harness.slots = 2
    assert wait(harness, 0.0) == []  # it can be computed only from now on
    assert wait(harness, PATIENCE_SECONDS) == []
    assert len(wait(harness, 0.1)) == 1


def test_consumers_that_are_heard_of_in_progress_start_the_patience_too() -> None:
    harness = Harness(definition(32), chunk_blocks=32, slots=0)
    harness.publish()
    harness.now += 1_000
    harness.slots = 2
    harness.progress()
    assert wait(harness, PATIENCE_SECONDS) == []


def test_what_is_merged_counts_for_the_watcher() -> None:
    harness = Harness(definition())
    harness.merge(*harness.publish())
    assert harness.scheduler.merged_blocks == 32 + 16 + 8 * 2
    assert (harness.scheduler.slots, harness.scheduler.consumers) == (2, 1)


def test_it_asks_for_a_chunk_that_is_late_although_others_still_come_back() -> None:
    harness = Harness(definition(2_000), chunk_blocks=1)
    lost, *waiting = harness.publish()
    asked = 0
    while not asked and harness.now < 1_000.0 + 2 * PATIENCE_SECONDS:
        harness.now += 1.0
        harness.merge(waiting.pop(0))
        published, asked = harness.actions()
        waiting += published
    assert asked
    harness.join()
    assert spans([lost])[0] in spans(harness.publish())
