"""How many chunks are asked for: by how long they take, and not another count every moment."""

import pytest

from consumer.appetite import LONGEST_PATIENCE, PATIENCE, Appetite


def after(*seconds: float, slots: int = 1, appetite: Appetite | None = None) -> Appetite:
    """Return an appetite that has seen chunks, each so often that they are the mean."""
    found = appetite or Appetite(slots)
    for each in seconds:
        for _ in range(50):
            found.measured(each)
    return found


def count(appetite: Appetite, idle: int = 0, waiting: int = 0) -> int | None:
    return appetite.prefetch(idle, waiting)


@pytest.mark.parametrize(
    ("seconds", "one", "sixteen"),
    [(5.0, 1, 16), (0.5, 2, 19), (0.015, 33, 528), (0.001, 256, 4096)],
    ids=["long", "half a second", "short", "tiny"],
)
def test_the_shorter_chunks_are_the_more_may_wait(seconds: float, one: int, sixteen: int) -> None:
    assert count(after(seconds)) == one
    assert count(after(seconds, slots=16)) == sixteen


def test_before_any_chunk_came_back_none_waits() -> None:
    assert count(Appetite(4)) == 4


def test_the_first_chunk_tells_at_once_that_they_are_not_long() -> None:
    appetite = Appetite(1)
    appetite.measured(0.7)
    assert count(appetite) == 2


@pytest.mark.parametrize(
    ("low", "between", "high", "below", "above"),
    [
        (0.3, 0.7, 1.5, 2, 1),
        (0.015, 0.03, 0.05, 33, 2),
        (0.001, 0.005, 0.015, 256, 33),
    ],
    ids=["long", "short", "tiny"],
)
def test_between_two_bounds_the_count_stays_what_it_was(
    low: float, between: float, high: float, below: int, above: int
) -> None:
    appetite = after(low)
    counts = [count(after(seconds, appetite=appetite)) for seconds in (between, high, between, low)]
    assert counts == [below, above, above, below]


def test_one_chunk_that_had_to_wait_for_a_core_changes_nothing() -> None:
    appetite = after(0.01)
    appetite.measured(0.05)
    assert count(appetite) == 33


def test_where_chunks_waited_too_long_only_idle_slots_are_fed() -> None:
    appetite = after(5.0, slots=4)
    appetite.overfed()
    assert count(appetite, idle=0) is None
    assert count(appetite, idle=3) == 3
    assert count(appetite, idle=3, waiting=1) is None
    assert count(after(2.0, appetite=appetite), idle=0) is None
    assert count(after(0.3, appetite=appetite), idle=0) == 5


def test_having_been_overfed_is_over_for_good_once_chunks_are_shorter() -> None:
    appetite = after(5.0)
    appetite.overfed()
    assert count(after(0.5, 5.0, appetite=appetite)) == 1


def test_the_patience_doubles_up_to_what_a_work_queue_bears() -> None:
    appetite, found = Appetite(1), []
    for _ in range(6):
        found.append(appetite.patience)
        appetite.overfed()
    assert found == [PATIENCE, 20.0, 40.0, 80.0, 160.0, LONGEST_PATIENCE]
