"""Whose lock the service tries, and when: never that of a run that makes progress."""

from producer.watchlist import REST_SECONDS, Watchlist
from protocol.settings import RETRY_SECONDS

NOW = 100.0
LATER = NOW + RETRY_SECONDS


def test_at_first_every_run_may_be_without_a_leader() -> None:
    assert Watchlist().look([("a", 0), ("b", 9)], (), NOW) == ["a", "b"]


def test_a_run_that_was_just_declared_is_tried_at_once_and_any_other_new_one_after_a_while() -> (
    None
):
    watchlist = Watchlist()
    watchlist.look([], (), NOW)
    assert watchlist.look([("told", 0), ("found", 0)], {"told"}, NOW) == ["told"]
    watchlist.refused("told", NOW)
    assert watchlist.look([("told", 0), ("found", 0)], (), LATER - 0.1) == []
    assert watchlist.look([("told", 0), ("found", 0)], (), LATER) == ["found", "told"]


def test_a_run_whose_samples_grow_is_left_alone_until_they_stop_growing() -> None:
    watchlist = Watchlist()
    watchlist.look([], (), NOW)
    for step in range(10):
        assert watchlist.look([("a", step)], (), NOW + step * RETRY_SECONDS) == []
    assert watchlist.look([("a", 9)], (), NOW + 9.9 * RETRY_SECONDS) == []
    assert watchlist.look([("a", 9)], (), NOW + 10 * RETRY_SECONDS) == ["a"]


def test_a_held_lock_is_tried_again_every_two_seconds() -> None:
    watchlist = Watchlist()
    tried = []
    for tenth in range(101):
        now = NOW + tenth / 10
        for run in watchlist.look([("a", 0)], (), now):
            watchlist.refused(run, now)
            tried.append(tenth)
    assert tried == [0, 20, 40, 60, 80, 100]


def test_a_run_that_cannot_be_scheduled_rests() -> None:
    watchlist = Watchlist()
    watchlist.look([("a", 0)], (), NOW)
    watchlist.failed("a", NOW)
    assert watchlist.look([("a", 0)], (), NOW + REST_SECONDS - 0.1) == []
    assert watchlist.look([("a", 0)], (), NOW + REST_SECONDS) == ["a"]


def test_a_run_with_samples_that_failed_while_it_was_led_from_here_rests_as_long() -> None:
    watchlist = Watchlist()
    watchlist.look([("a", 9)], (), NOW)
    watchlist.look([], (), NOW)
    watchlist.failed("a", NOW)
    assert watchlist.look([("a", 9)], (), LATER) == []
    assert watchlist.look([("a", 9)], (), NOW + REST_SECONDS - 0.1) == []
    assert watchlist.look([("a", 9)], (), NOW + REST_SECONDS) == ["a"]


def test_those_that_wait_for_longest_come_first_so_that_none_is_passed_over() -> None:
    watchlist = Watchlist()
    runs = [("a", 0), ("b", 0), ("c", 0)]
    assert watchlist.look(runs, (), NOW) == ["a", "b", "c"]
    watchlist.refused("a", NOW)
    assert watchlist.look(runs, (), LATER) == ["b", "c", "a"]


def test_runs_that_ended_are_forgotten() -> None:
    watchlist = Watchlist()
    watchlist.look([(f"r{number}", 0) for number in range(1000)], (), NOW)
    watchlist.look([("last", 0)], (), LATER)
    assert [*watchlist._watched] == ["last"]
