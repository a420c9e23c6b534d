"""The order of a campaign's runs, as events in and actions out."""

import pytest

from producer.campaign import GiveUp, Order, Stage, Start
from protocol.errors import UsageError


def order(at_once: int = 16, **after: str) -> Order:
    """Return an order; each value names the runs to wait for, separated by spaces."""
    return Order({name: frozenset(names.split()) for name, names in after.items()}, at_once)


def started(runs: Order) -> list[str]:
    actions = list(runs.actions())
    assert all(isinstance(action, Start) for action in actions)
    return [action.name for action in actions]


def test_runs_that_wait_for_nothing_start_together_and_only_once() -> None:
    runs = order(a="", b="a", c="")
    assert started(runs) == ["a", "c"]
    assert started(runs) == []
    assert runs.waits_for("b") == ("a",)


def test_a_run_starts_when_the_last_of_those_before_it_has_finished() -> None:
    runs = order(a="", b="", c="a b")
    started(runs)
    runs.happened("b", Stage.FINISHED)
    assert started(runs) == []
    assert runs.waits_for("c") == ("a",)
    runs.happened("a", Stage.FINISHED)
    assert started(runs) == ["c"]


def test_what_waits_for_a_failed_run_never_starts_and_independent_branches_go_on() -> None:
    runs = order(a="", b="a", c="b", d="", e="d")
    started(runs)
    runs.happened("a", Stage.FAILED)
    assert list(runs.actions()) == [GiveUp("b", "'a' failed"), GiveUp("c", "'b' not started")]
    runs.happened("d", Stage.FINISHED)
    assert started(runs) == ["e"]
    assert not runs.ended
    runs.happened("e", Stage.FINISHED)
    assert runs.ended
    assert runs.stages == {
        "a": Stage.FAILED, "b": Stage.NOT_STARTED, "c": Stage.NOT_STARTED,
        "d": Stage.FINISHED, "e": Stage.FINISHED,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        (Stage.FINISHED, Stage.FINISHED, Stage.FINISHED),
        (Stage.FINISHED, Stage.FAILED, Stage.FAILED),
        (Stage.FINISHED, Stage.CANCELLED, Stage.CANCELLED),
        (Stage.CANCELLED, Stage.FAILED, Stage.FAILED),
    ],
)
def test_a_campaign_has_failed_where_any_run_failed_else_it_was_cancelled(
    first: Stage, second: Stage, whole: Stage
) -> None:
    runs = order(a="", b="")
    started(runs)
    runs.happened("a", first)
    assert runs.stage is Stage.RUNNING
    runs.happened("b", second)
    assert runs.stage is whole


def test_what_waits_for_a_cancelled_run_is_told_so() -> None:
    runs = order(a="", b="a")
    started(runs)
    runs.happened("a", Stage.CANCELLED)
    assert list(runs.actions()) == [GiveUp("b", "'a' was cancelled")]
    assert runs.stage is Stage.CANCELLED


def test_no_more_runs_than_allowed_go_on_at_once() -> None:
    runs = order(2, a="", b="", c="", d="")
    assert started(runs) == ["a", "b"]
    assert runs.waits_for("c") == ()
    runs.happened("b", Stage.FINISHED)
    assert started(runs) == ["c"]


def test_a_long_chain_ends_without_recursion() -> None:
    names = [f"r{number}" for number in range(1_000)]
    after = {name: frozenset(names[max(0, i - 1) : i]) for i, name in enumerate(names)}
    runs = Order(after)
    for name in names:
        assert started(runs) == [name]
        runs.happened(name, Stage.FINISHED)
    assert runs.ended


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        ({"a": "b"}, "runs.a waits for 'b', which is no run of this campaign; its runs are a"),
        ({"a": "a"}, "runs.a waits for itself"),
        ({"a": "c", "b": "a", "c": "b", "d": ""}, "these runs wait for each other: a → c → b → a"),
    ],
)
def test_an_order_that_cannot_be_followed_is_refused_by_name(
    after: dict[str, str], sentence: str
) -> None:
    with pytest.raises(UsageError) as refused:
        order(**after)
    assert str(refused.value) == sentence
