"""The scheduler: its window, what it issues, and what it issues again."""

import math
import pickle
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from producer.late import (
    FIRST_IDLE_SECONDS,
    IDLE_SECONDS,
    MAX_PATIENCE_SECONDS,
    OVERTAKEN_SECONDS,
    PATIENCE_SECONDS,
    SILENT_SECONDS,
)
from producer.scheduler import (
    OUTAGE_SECONDS,
    RETRY_SECONDS,
    SILENCE_SECONDS,
    AskMissing,
    Publish,
    Scheduler,
)
from producer.window import FIRST_WINDOW
from protocol.definition import Definition, Stop
from protocol.messages import CellProgress, Chunk, Progress, Reissue, RunState
from protocol.ranges import Ranges
from protocol.rpc_messages import CellMissing, Missing
from tests.support.run_values import RUN, chunk, definition

BIG = 10**4
"""Slots enough for any window."""


class Harness:
    """A scheduler that leads, with an aggregator that knows what is merged."""

    def __init__(self, of: Definition, chunk_blocks: int | None = 8, slots: int = 2) -> None:
        self.definition = of
        self.reissued = Counter[Reissue]()
        self.scheduler = Scheduler(RUN, of, chunk_blocks, self.reissued)
        self.scheduler.leads(leads=True)
        self.merged = [Ranges() for _ in of.cells]
        self.slots = slots
        self.busy = slots
        self.costs: dict[int, float] = {}
        self.epoch, self.sequence, self.term = 1, 0, 1
        self.now = 1_000.0
        self.join()

    def join(self, **fields: Any) -> None:
        cells = tuple(
            CellMissing(cell=cell, missing=gaps, cost=self.costs.get(cell))
            for cell, merged in enumerate(self.merged)
            if (gaps := tuple((a, b - a) for a, b in merged.gaps(0, self.definition.blocks)))
        )
        values: dict[str, Any] = {
            "run": RUN, "state": RunState.RUNNING, "epoch": self.epoch, "sequence": self.sequence,
            "term": self.term, "slots": self.slots, "busy": self.busy, "consumers": 1,
            "merged_blocks": 0, "expected_blocks": 0,
            "cells": cells, "failed_attempts": (),
        }  # fmt: skip
        self.scheduler.joined(Missing(**values | fields), self.now)

    def progress(self, *cells: int, **fields: Any) -> None:
        self.sequence += 1
        values: dict[str, Any] = {
            "run": RUN, "epoch": self.epoch, "sequence": self.sequence, "failed_attempts": (),
            "cells": tuple(
                CellProgress(
                    cell=cell,
                    merged=tuple((a, b - a) for a, b in self.merged[cell]),
                    cost=self.costs.get(cell),
                )
                for cell in cells
            ),
            "slots": self.slots, "consumers": 1, "merged_blocks": sum(map(len, self.merged)),
            "expected_blocks": 0, "cpu_seconds": 0.0, "headline": None,
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
        assert not harness.reissued
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
    assert counts == [2, 4, 20]


def test_the_window_grows_with_the_rate_to_a_quarter_of_a_second_of_work() -> None:
    harness = Harness(definition(10_000), chunk_blocks=1, slots=1)
    waiting = harness.publish()
    for _ in range(4_000):  # 1,000 chunks a second for 4 s
        harness.now += 0.001
        done = waiting.pop(0)
        harness.merge(done)
        waiting += harness.publish()
    assert 230 <= harness.scheduler.window <= 270
    assert len(waiting) == harness.scheduler.window


def test_the_window_opens_within_tenths_of_a_second_where_chunks_are_short() -> None:
    harness = Harness(definition(10_000), chunk_blocks=1)
    harness.costs[0] = 1e-4
    published, merged = harness.publish(), 0
    for _ in range(20):  # rounds of 25 ms, however many chunks they hold
        harness.now += 0.025
        merged += len(published)
        harness.merge(*published)
        published = harness.publish()
    assert merged >= 2_000


def test_a_burst_at_the_start_of_a_run_of_long_chunks_opens_no_window_for_work_to_pile_up() -> None:
    harness = Harness(definition(10_000), chunk_blocks=1, slots=64)
    harness.costs[0] = 0.5
    published = harness.publish()
    harness.now += 0.5
    for one in published[:63]:  # all within a moment, as all have begun together
        harness.now += 0.001
        harness.merge(one)
        assert harness.scheduler.window <= 2 * 64


def test_the_window_is_never_exceeded() -> None:
    harness = Harness(definition(2_000), chunk_blocks=3, slots=3)
    harness.costs[0] = 0.01
    waiting: list[Chunk] = []
    while published := harness.publish():
        waiting += published
        assert harness.scheduler.outstanding <= harness.scheduler.window
        harness.now += 0.02
        harness.merge(waiting.pop(len(waiting) // 2))


def test_the_window_is_the_slots_alone_where_chunks_take_long() -> None:
    harness = Harness(definition(2_000), chunk_blocks=1)
    harness.costs[0] = 60.0
    waiting = harness.publish()
    for _ in range(4):
        for _ in range(6):  # the aggregator speaks all the time
            harness.now += 5.0
            harness.progress()
        harness.merge(waiting.pop(0))
        waiting += harness.publish()
    assert harness.scheduler.window == len(waiting) == 2


def test_the_window_shrinks_where_chunks_come_back_late_because_others_share_the_slots() -> None:
    alone, shared = (Harness(definition(2_000), chunk_blocks=1, slots=8) for _ in range(2))
    for harness, seconds in ((alone, 0.5 / 8), (shared, 4 * 0.5 / 8)):
        harness.costs[0] = 0.5
        waiting = harness.publish()
        for _ in range(100):
            harness.now += seconds
            harness.merge(waiting.pop(0))
            waiting += harness.publish()
    assert alone.scheduler.window == 16
    assert 9 <= shared.scheduler.window <= 11


def test_what_a_scheduler_holds_follows_the_window_and_not_the_run() -> None:
    def held(blocks: int) -> int:
        harness = Harness(definition(blocks), chunk_blocks=None, slots=4)
        harness.costs[0] = 1e-4
        waiting = harness.publish()
        for _ in range(200):
            harness.now += 0.125
            harness.merge(waiting.pop(0))
            waiting += harness.publish()
        assert len(waiting) <= 8
        return len(pickle.dumps(harness.scheduler))

    assert held(2**32) <= 1.2 * held(2**20)  # a billion samples, and 4 * 10**12 of them


# The sizes of chunks


def test_the_first_chunks_have_one_block_and_later_ones_take_half_a_second() -> None:
    harness = Harness(definition(200_000), chunk_blocks=None)
    harness.merged[0].add(0, 70_000)
    harness.join()
    first = harness.publish()
    assert {one.blocks for one in first} == {1}
    harness.costs[0] = 0.001
    harness.now += 0.01
    harness.merge(*first)
    assert max(one.blocks for one in harness.publish()) == 500


def test_chunks_shrink_towards_the_end_so_that_slots_finish_together() -> None:
    harness = Harness(definition(48), chunk_blocks=None)
    harness.merged[0].add(0, 32)
    harness.costs[0] = 0.1
    harness.join()
    harness.scheduler._sizing.came_back(10, 0.1)
    sizes = []
    while published := harness.publish():
        sizes += [one.blocks for one in published]
        harness.now += 0.1
        harness.merge(*published)
    assert sizes == [4, 3, 2, 1, 1, 1, 1, 1, 1, 1]


def test_a_far_sample_limit_does_not_keep_chunks_long_where_a_target_is_nearly_reached() -> None:
    stop = Stop(samples=2**36, standard_error=1e-3, outputs=("x",))
    sizes = {}
    for expected in (108, 100_000):
        harness = Harness(definition(108).model_copy(update={"stop": stop}), chunk_blocks=None)
        harness.merged[0].add(0, 100)
        harness.costs[0] = 0.02
        harness.join(expected_blocks=expected, merged_blocks=100)
        harness.scheduler._sizing.came_back(1_000, 0.1)
        sizes[expected] = harness.publish()[0].blocks
    assert sizes == {108: 2, 100_000: 8}


def test_cells_that_are_not_measured_are_taken_for_the_costliest() -> None:
    harness = Harness(definition(2_000, cells=3), chunk_blocks=None, slots=1)
    for cell in (0, 1):
        harness.merged[cell].add(0, 1_800)
    harness.merged[2].add(0, 48)
    harness.costs = {0: 0.001, 1: 0.02}
    harness.join()
    harness.scheduler._sizing.came_back(10_000, 0.1)
    [first, *_] = harness.publish()
    assert (first.cell, first.blocks) == (2, 6)


def test_earlier_segments_of_all_cells_come_before_later_ones() -> None:
    harness = Harness(definition(108, cells=3), chunk_blocks=64, slots=BIG)
    harness.merged[0].add(0, 32)
    harness.join()
    found = [(one.cell, one.first_block) for one in harness.publish()]
    assert found == [
        (1, 0), (2, 0), (0, 32), (1, 32), (2, 32), (0, 48), (1, 48), (2, 48), (0, 72), (1, 72),
        (2, 72),
    ]  # fmt: skip


def test_a_cell_that_ends_early_needs_nothing_more_and_says_nothing_about_time() -> None:
    harness = Harness(definition(2_000, cells=2), chunk_blocks=1)
    harness.publish()
    harness.merged[0].add(0, 2_000)
    harness.progress(0)
    assert {one.cell for one in harness.publish()} == {1}
    assert wait(harness, FIRST_IDLE_SECONDS) == []  # nothing has come back yet


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
    assert harness.reissued == {Reissue.FAILED: 1}


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
    assert harness.reissued == {Reissue.FAILED: 1}


def test_an_attempt_that_failed_is_put_back_once_however_late_it_is_told_again() -> None:
    harness = Harness(definition(32), chunk_blocks=32)
    [first] = harness.publish()
    harness.progress(failed_attempts=(first.attempt,))
    harness.publish()
    harness.progress(failed_attempts=(first.attempt,))
    harness.sequence -= 2
    harness.progress(failed_attempts=(first.attempt,))
    assert harness.publish() == []


def test_where_all_fails_nothing_new_is_issued_before_what_failed_is_tried_again() -> None:
    harness = Harness(definition(10_000), chunk_blocks=1)
    first = harness.publish()
    for one in first:
        harness.progress(failed_attempts=(one.attempt,))
        after = harness.publish()
    assert after == []
    for _ in range(2):  # until a block has failed three times
        harness.now += RETRY_SECONDS
        again = harness.publish()
        assert spans(again)[: len(first)] == spans(first)[: len(again)]
        harness.progress(failed_attempts=tuple(one.attempt for one in again))
    assert max(one.stop_block for one in again) <= 2 * len(first)


def test_failures_between_which_chunks_are_merged_hold_nothing_back() -> None:
    harness = Harness(definition(10_000), chunk_blocks=1)
    waiting = harness.publish()
    for _ in range(50):
        bad, good, *waiting = waiting
        harness.progress(failed_attempts=(bad.attempt,))
        harness.merge(good)
        waiting += (new := harness.publish())
        assert len(new) >= 2


def test_a_refused_chunk_is_issued_again_after_a_pause() -> None:
    harness = Harness(definition(32), chunk_blocks=32)
    [first], _ = harness.actions()
    harness.scheduler.refused(first.attempt, harness.now)
    harness.now += 0.9 * RETRY_SECONDS
    assert harness.publish() == []
    harness.now += 0.1 * RETRY_SECONDS
    assert spans(harness.publish()) == [(0, 32)]
    assert harness.reissued == {Reissue.REFUSED: 1}


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
    assert harness.reissued == {Reissue.UNCONFIRMED: 1}


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


# What is late


def wait(harness: Harness, seconds: float) -> list[Chunk]:
    """Let time pass while the aggregator speaks, which then answers that the same is missing."""
    for _ in range(math.ceil(seconds / SILENCE_SECONDS)):
        harness.now += seconds / math.ceil(seconds / SILENCE_SECONDS)
        harness.progress()
    harness.join()
    return harness.publish()


def begun(blocks: int = 2_000, cost: float = 0.5) -> tuple[Harness, list[Chunk]]:
    """Return a harness whose chunks of one block come back after a second, and what is issued."""
    harness = Harness(definition(blocks), chunk_blocks=1)
    harness.costs[0] = cost
    waiting = harness.publish()
    for _ in range(20):
        harness.now += 0.25
        harness.merge(waiting.pop(0))
        waiting += harness.publish()
    return harness, waiting


def test_a_chunk_that_was_lost_before_anything_came_back_is_issued_again_after_patience() -> None:
    harness = Harness(definition(32), chunk_blocks=32)
    harness.publish()
    assert wait(harness, PATIENCE_SECONDS) == []
    assert spans(wait(harness, 0.1)) == [(0, 32)]
    assert harness.reissued == {Reissue.LATE: 1}


def test_a_chunk_is_never_lost_by_silence_alone() -> None:
    harness = Harness(definition(32), chunk_blocks=32)
    harness.publish()
    harness.now += 10 * MAX_PATIENCE_SECONDS
    assert harness.actions() == ([], 1)
    harness.progress()
    assert harness.publish() == []


def test_a_chunk_that_later_ones_overtook_by_far_is_issued_again_as_it_was() -> None:
    harness, waiting = begun()
    lost, *others = waiting
    for _ in range(60):
        harness.now += 0.25
        harness.merge(others.pop(0))
        published, asked = harness.actions()
        others += published
        if asked:
            break
    age = harness.now - 1_005.0
    assert OVERTAKEN_SECONDS < age < 13.0
    harness.join()
    again = [one for one in harness.publish() if spans([one]) == spans([lost])]
    assert len(again) == 1
    assert again[0].attempt != lost.attempt


def test_a_purged_queue_is_noticed_long_before_patience_ends_and_once() -> None:
    harness, waiting = begun()
    lost = sorted(spans(waiting))
    assert wait(harness, 0.9 * SILENT_SECONDS) == []
    again = wait(harness, SILENT_SECONDS)
    assert sorted(spans(again)) == lost
    assert wait(harness, 2 * SILENT_SECONDS) == []
    assert sorted(spans(wait(harness, 2 * SILENT_SECONDS))) == lost


def test_where_slots_idle_what_cannot_be_at_work_is_lost() -> None:
    harness, waiting = begun()
    harness.busy = 1
    assert wait(harness, 0.9 * IDLE_SECONDS) == []
    again = wait(harness, 0.2 * IDLE_SECONDS)
    assert sorted(spans(again)) == sorted(spans(waiting[1:]))  # the oldest one is at work


def test_slots_that_idle_before_anything_came_back_may_still_load() -> None:
    harness = Harness(definition(32), chunk_blocks=32)
    harness.busy = 0
    harness.publish()
    assert wait(harness, FIRST_IDLE_SECONDS) == []
    assert len(wait(harness, 0.1)) == 1


def test_slots_that_are_all_at_work_say_nothing_of_ours() -> None:
    harness, _ = begun()
    harness.busy = 9
    assert wait(harness, 0.9 * SILENT_SECONDS) == []


def test_an_aggregator_that_was_away_is_not_held_against_the_chunks() -> None:
    harness, _ = begun()
    for _ in range(5):
        harness.now += 10 * OUTAGE_SECONDS
        assert harness.asks()
        harness.join()
        assert harness.publish() == []


def test_another_aggregator_may_have_partials_to_read_before_chunks_are_late() -> None:
    harness, _ = begun()
    harness.now += OUTAGE_SECONDS - 1
    harness.epoch += 1
    harness.join()
    assert harness.publish() == []
    assert wait(harness, 1.0) == []


def test_every_copy_doubles_the_patience_for_its_chunk() -> None:
    harness = Harness(definition(48), chunk_blocks=32, slots=10)
    lost = sorted(spans(harness.publish()))
    for copies in range(4):
        assert wait(harness, PATIENCE_SECONDS * 2**copies) == []
        assert sorted(spans(wait(harness, 1.0))) == lost


def test_windows_of_copies_that_came_to_nothing_double_the_patience_for_all() -> None:
    harness, waiting = begun()
    before = len(waiting)
    for _ in range(2):  # everything is lost twice
        waiting = wait(harness, 0.9 * SILENT_SECONDS) + wait(harness, 5 * SILENT_SECONDS)
        assert len(waiting) == before
    harness.merge(*waiting)
    fresh = harness.publish()
    assert wait(harness, 1.5 * SILENT_SECONDS) == []
    assert sorted(spans(wait(harness, 3 * SILENT_SECONDS))) == sorted(spans(fresh))


def test_a_purge_of_very_many_chunks_costs_one_patience() -> None:
    harness = Harness(definition(5_000), chunk_blocks=1, slots=2_000)
    lost = harness.publish()
    assert len(lost) == 4_000
    assert sorted(spans(wait(harness, PATIENCE_SECONDS + 0.1))) == sorted(spans(lost))


def test_patience_has_an_end() -> None:
    harness = Harness(definition(32), chunk_blocks=32)
    harness.publish()
    for _ in range(20):
        assert len(wait(harness, MAX_PATIENCE_SECONDS + 0.1)) == 1


def test_chunks_that_must_take_long_are_given_the_time() -> None:
    harness = Harness(definition(2_000), chunk_blocks=1)
    harness.costs[0] = 60.0
    first, *_ = harness.publish()
    for _ in range(20):
        harness.now += 3.0
        harness.progress()
    harness.merge(first)
    harness.publish()
    assert wait(harness, 8 * 60.0) == []


def test_nothing_is_lost_while_no_consumer_lives() -> None:
    harness = Harness(definition(32), chunk_blocks=32, slots=0)
    harness.publish()
    assert wait(harness, 10 * PATIENCE_SECONDS) == []
    harness.slots = harness.busy = 2
    assert wait(harness, 0.1) == []  # it can be computed only from now on
    assert wait(harness, PATIENCE_SECONDS) == []
    assert len(wait(harness, 0.1)) == 1


def test_at_the_end_of_a_run_idle_slots_take_copies_early() -> None:
    harness, waiting = begun(blocks=24)
    assert harness.publish() == []
    harness.now += 0.25
    harness.merge(*waiting[:-1])
    harness.now += 1.5
    assert harness.asks()
    harness.join()
    assert spans(harness.publish()) == spans(waiting[-1:])


def test_copies_at_the_end_are_no_more_than_the_slots() -> None:
    harness, _ = begun(blocks=24)
    assert harness.scheduler.outstanding == 4
    assert len(wait(harness, 2.5)) == harness.slots


def test_while_blocks_are_left_nothing_is_copied_that_early() -> None:
    harness, _ = begun()
    harness.now += 1.8
    assert not harness.asks()


def test_a_copy_counts_as_well_as_the_first_attempt_and_a_failure_of_one_leaves_the_other() -> None:
    harness, waiting = begun(blocks=24)
    [copy, *_] = wait(harness, 2.5)
    [first] = [one for one in waiting if spans([one]) == spans([copy])]
    harness.progress(failed_attempts=(first.attempt,))
    harness.now += RETRY_SECONDS
    assert spans([copy]) not in [spans([one]) for one in harness.publish()]
    harness.progress(failed_attempts=(copy.attempt,))
    harness.now += RETRY_SECONDS
    assert spans([copy])[0] in spans(harness.publish())


def test_a_chunk_of_which_a_part_is_merged_is_cut_anew() -> None:
    harness = Harness(definition(32), chunk_blocks=16)
    harness.publish()
    harness.merged[0].add(0, 4)
    harness.progress(0)
    harness.now += 0.2
    assert harness.asks()
    harness.join()
    assert spans(harness.publish()) == [(4, 16)]
    assert harness.reissued == {Reissue.OVERLAP: 1}


def test_nothing_more_is_issued_of_a_cell_that_has_ended() -> None:
    harness = Harness(definition(10_000, cells=2), chunk_blocks=8)
    first = harness.publish()
    assert {chunk.cell for chunk in first} == {0}
    harness.merged[0].add(0, 10_000)  # what progress says of a cell that has ended
    harness.progress(0)
    assert {chunk.cell for chunk in harness.publish()} == {1}


def test_what_is_merged_counts_for_the_watcher() -> None:
    harness = Harness(definition())
    harness.merge(*harness.publish())
    assert harness.scheduler.merged_blocks == 4 * 8
    assert (harness.scheduler.slots, harness.scheduler.consumers) == (2, 1)
