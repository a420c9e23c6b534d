"""What `montemq top` knows from look to look, and how it fits on a screen."""

import json
from typing import Any

import pytest

from ops.top.overview import (
    ENDED_SECONDS,
    MAX_ENDED,
    Looks,
    Order,
    Overview,
    RunLine,
)
from ops.top.tables import FRAME_LINES, screen, share_out, snapshot
from protocol.definition import Lane
from protocol.messages import Headline, RunState, Suspension
from protocol.rpc_messages import Condition, Fleet, FleetMember, RunStatus, Status
from tests.support.drawing import drawn
from tests.support.fresh_python import loaded_by

NOW = 1000.0
ESTIMATE = Headline(output="price", mean=5.781824, standard_error=0.0123)


def run(name: str = "r1", **fields: Any) -> RunStatus:
    values: dict[str, Any] = {
        "run": name, "state": RunState.RUNNING, "model": "asian", "pool": "default",
        "lane": Lane.LOW, "cells": 1, "samples": 500, "total_samples": 2000, "created": 900.0,
        "elapsed_seconds": 100.0, "error": None,
    }  # fmt: skip
    return RunStatus(**values | fields)


def ended_run(name: str = "r1", **fields: Any) -> RunLine:
    return RunLine(run(name, **fields), ESTIMATE)


def member(name: str = "host-1", **fields: Any) -> FleetMember:
    values: dict[str, Any] = {
        "consumer": name, "host": f"{name}.example", "pool": "default", "slots": 4, "busy": 3,
        "state": Condition.RUNNING, "version": "0.1.0", "samples_per_second": 1.25e6,
        "last_seen": NOW - 1,
    }  # fmt: skip
    return FleetMember(**values | fields)


def status(
    *runs: RunStatus,
    clock: float = NOW,
    total: int | None = None,
    rates: tuple[float | None, ...] | None = None,
) -> Status:
    count = len(runs) if total is None else total
    return Status(
        runs=runs, headlines=(ESTIMATE,) * len(runs), rates=rates, total=count, slots=8,
        consumers=2, clock=clock, store="s",
    )  # fmt: skip


def fleet(*members: FleetMember, clock: float = NOW, total: int | None = None) -> Fleet:
    count = len(members) if total is None else total
    return Fleet(consumers=members, total=count, clock=clock)


def overview(*runs: RunStatus, members: tuple[FleetMember, ...] = (), **totals: int) -> Overview:
    told = fleet(*members, total=totals.get("consumers"))
    return Looks().take_in(status(*runs, total=totals.get("runs")), told)


def row(lines: list[str], beginning: str) -> list[str]:
    return next(line for line in lines if line.startswith(beginning)).split()


# From look to look


def line_of(run: RunStatus, rate: float | None) -> RunLine:
    (line,) = Looks().take_in(status(run, rates=(rate,)), fleet()).runs
    return line


def test_an_aggregator_that_tells_no_rates_leaves_them_unknown() -> None:
    (line,) = overview(run()).runs
    assert (line.share, line.rate, line.left) == (0.25, None, None)


@pytest.mark.parametrize(
    ("rate", "left"), [(None, None), (0.0, None), (150.0, 8.0)], ids=["unknown", "still", "going"]
)
def test_what_is_told_of_the_rate_tells_the_time_left(
    rate: float | None, left: float | None
) -> None:
    line = line_of(run(samples=800), rate)
    assert (line.rate, line.left) == (rate, left)


def test_a_run_that_ends_is_asked_after_once_and_stays_in_sight_for_a_minute() -> None:
    looks = Looks()
    looks.take_in(status(run("a"), run("b")), fleet())
    after = status(run("b"), clock=NOW + 1)
    assert looks.vanished(after) == ["a"]
    ended = ended_run("a", state=RunState.FINISHED, samples=2000)
    seen = [looks.take_in(after, fleet(), [ended])]
    for seconds in (2, ENDED_SECONDS, ENDED_SECONDS + 1):
        later = status(run("b"), clock=NOW + seconds)
        assert looks.vanished(later) == []
        seen.append(looks.take_in(later, fleet()))
    shown = [[line.status.run for line in one.sorted_runs(Order.NEWEST)] for one in seen]
    assert shown == [["b", "a"], ["b", "a"], ["b", "a"], ["b"]]


def test_of_those_that_ended_the_last_one_comes_first() -> None:
    looks = Looks()
    for second, name in enumerate("abc"):
        ended = ended_run(name, state=RunState.FINISHED)
        found = looks.take_in(status(clock=NOW + second), fleet(), [ended])
    assert [line.status.run for line in found.ended] == ["c", "b", "a"]


def test_more_samples_than_were_expected_leave_no_time() -> None:
    line = line_of(run(samples=2100), 200.0)
    assert (line.share, line.left) == (1.0, 0.0)


def test_runs_whose_end_nobody_knows_come_last_in_the_order_of_it() -> None:
    found = Looks().take_in(status(run("still"), run("goes"), rates=(0.0, 100.0)), fleet())
    assert [line.status.run for line in found.sorted_runs(Order.LEFT)] == ["goes", "still"]


def test_a_run_that_is_reopened_is_no_ended_one_any_more() -> None:
    looks = Looks()
    looks.take_in(status(run()), fleet())
    failed = ended_run(state=RunState.FAILED)
    assert looks.take_in(status(clock=NOW + 1), fleet(), [failed]).ended
    found = looks.take_in(status(run(), clock=NOW + 2), fleet())
    assert (len(found.runs), found.ended) == (1, ())


def test_a_run_that_only_fell_out_of_the_answer_has_not_ended() -> None:
    looks = Looks()
    looks.take_in(status(run("old")), fleet())
    after = status(run("new"), clock=NOW + 1, total=2)
    assert looks.take_in(after, fleet(), [RunLine(run("old"))]).ended == ()


def test_however_many_runs_end_at_once_few_are_asked_after() -> None:
    looks = Looks()
    looks.take_in(status(*(run(f"r{number}") for number in range(500))), fleet())
    assert len(looks.vanished(status())) == MAX_ENDED


def test_runs_are_sorted_as_told() -> None:
    told = status(
        run("a", samples=1, total_samples=100, created=1.0),
        run("b", samples=15, total_samples=100, created=3.0),
        run("c", samples=70, total_samples=10_000, created=2.0),
        rates=(1.0, 5.0, 50.0),
    )
    found = Looks().take_in(told, fleet())
    orders = {order: [line.status.run for line in found.sorted_runs(order)] for order in Order}
    assert orders == {
        Order.NEWEST: ["b", "c", "a"],
        Order.DONE: ["b", "a", "c"],
        Order.RATE: ["c", "b", "a"],
        Order.LEFT: ["b", "a", "c"],
    }


def test_the_orders_come_round() -> None:
    order, seen = Order.NEWEST, []
    for _ in Order:
        seen.append(order)
        order = order.next
    assert (set(seen), order) == (set(Order), Order.NEWEST)


def test_consumers_that_not_all_is_well_with_come_first() -> None:
    found = overview(
        members=(
            member("fine-2"), member("fine-1"), member("silent", last_seen=NOW - 6),
            member("draining", state=Condition.DRAINING), member("gone", state=Condition.LOST),
        )
    )  # fmt: skip
    names = [one.consumer for one in found.sorted_consumers()]
    assert names == ["draining", "gone", "silent", "fine-1", "fine-2"]


def test_json_has_runs_and_consumers_with_rates() -> None:
    told = status(run(samples=600), total=7, rates=(100.0,))
    found = Looks().take_in(told, fleet(member()))
    content = json.loads(json.dumps(found.as_json()))
    (line,) = content["runs"]
    assert (line["run"], line["state"], line["samples"]) == ("r1", "running", 600)
    assert (line["samples_per_second"], line["seconds_left"]) == (100.0, 14.0)
    assert line["headline"] == {"output": "price", "mean": 5.781824, "standard_error": 0.0123}
    assert content["consumers"] == [member().model_dump(mode="json")]
    assert (content["total_runs"], content["total_consumers"], content["slots"]) == (7, 1, 8)


# On a screen


def test_a_run_has_its_state_progress_estimate_rate_and_time_left() -> None:
    found = Looks().take_in(status(run(samples=800), rates=(150.0,)), fleet(member()))
    lines = drawn(screen(found, Order.NEWEST, (160, 50), ""))
    assert row(lines, "r1") == [
        "r1", "running", "asian", "1", "40.0%", "price", "5.782", "±", "0.012", "800", "150",
        "00:08", "default",
    ]  # fmt: skip
    assert lines[0].startswith("montemq: 1 run going on, 2 consumers with 8 slots, 3 busy, 150")


def test_a_consumer_has_host_version_slots_busy_state_pool_and_last_word() -> None:
    lines = drawn(screen(overview(members=(member(),)), Order.NEWEST, (160, 50), ""))
    assert row(lines, "host-1") == [
        "host-1", "host-1.example", "default", "running", "4", "3", "1.25", "M", "1", "s", "0.1.0",
    ]  # fmt: skip


def test_a_suspended_consumer_says_why() -> None:
    suspended = member(state=Condition.SUSPENDED, suspended=Suspension.HOURS)
    lines = drawn(snapshot(overview(members=(suspended,)), Order.NEWEST, 160))
    assert "suspended: hours" in next(line for line in lines if line.startswith("host-1"))


def test_a_consumer_whose_rate_is_unknown_tells_none() -> None:
    loading = member(state=Condition.LOADING, slots=0, busy=0, samples_per_second=None)
    lines = drawn(snapshot(overview(members=(loading,)), Order.NEWEST, 160))
    assert row(lines, "host-1")[3:7] == ["loading", "0", "0", "—"]


def test_a_consumer_that_went_is_told_of_but_no_slot_of_it_is_busy() -> None:
    gone = member("host-2", state=Condition.LOST, samples_per_second=None, last_seen=NOW - 90)
    lines = drawn(snapshot(overview(members=(member(), gone)), Order.NEWEST, 160))
    assert row(lines, "host-2")[2:] == ["default", "lost", "4", "90", "s", "0.1.0"]
    assert ", 3 busy" in lines[0]


def test_while_no_rate_is_known_none_is_told() -> None:
    lines = drawn(screen(overview(run()), Order.NEWEST, (160, 50), ""))
    assert lines[0].endswith("0 busy")


def test_of_a_failed_run_the_error_is_told_without_a_terminals_codes() -> None:
    looks = Looks()
    looks.take_in(status(run()), fleet())
    failed = ended_run(state=RunState.FAILED, error="cell 0: \x1b[2Jboom [red]x[/red]")
    found = looks.take_in(status(clock=NOW + 1), fleet(), [failed])
    text = "\n".join(drawn(snapshot(found, Order.NEWEST, 200)))
    assert "failed" in text
    assert "boom [red]x[/red]" in text
    assert "\x1b" not in text


def test_of_resampled_histories_no_estimate_is_shown() -> None:
    lines = drawn(snapshot(overview(run(model="backtest")), Order.NEWEST, 160))
    assert "±" not in "".join(lines)


def test_of_several_cells_the_estimate_says_which_one_it_is() -> None:
    lines = drawn(snapshot(overview(run(cells=12)), Order.NEWEST, 160))
    assert "5.782 ± 0.012 (cell 0 of 12)" in "\n".join(lines)


def test_what_is_wrong_stands_in_one_line_of_its_own() -> None:
    calm = drawn(screen(overview(run()), Order.RATE, (80, 20), ""))
    wrong = drawn(screen(overview(run()), Order.RATE, (80, 20), "trying again: lost " * 9))
    assert calm[1] == "q quits, s sorts the runs (now by: rate)"
    assert wrong[1].startswith("trying again: lost")
    assert wrong[2:] == calm[2:]


@pytest.mark.parametrize("size", [(200, 60), (100, 24), (80, 24), (60, 12), (40, 8)])
def test_a_screen_is_never_longer_or_wider_than_the_terminal(size: tuple[int, int]) -> None:
    long = [run(f"{'a' * 60}-{number}", pool="p" * 40, cells=10_000) for number in range(40)]
    consumers = tuple(member(f"{'h' * 90}{number:02}", version="v" * 64) for number in range(40))
    found = overview(*long, members=consumers)
    lines = drawn(screen(found, Order.NEWEST, size, "x" * 300), size[0])
    assert len(lines) == size[1]
    assert max(map(len, lines)) <= size[0]


def test_what_a_screen_leaves_out_is_counted() -> None:
    found = overview(
        *(run(f"r{number}") for number in range(30)),
        members=tuple(member(f"h{number}") for number in range(30)),
        runs=500,
        consumers=900,
    )
    lines = drawn(screen(found, Order.NEWEST, (160, 26), ""))
    assert any(line.startswith("run (10 of 500) ") for line in lines)
    assert any(line.startswith("consumer (10 of 900) ") for line in lines)
    assert len([line for line in lines if line[:2] in {"r0", "r1", "r2"}]) > 1


@pytest.mark.parametrize(
    ("lines", "runs", "consumers", "expected"),
    [
        (20, 3, 4, (3, 4)),
        (20, 50, 50, (10, 10)),
        (21, 50, 50, (11, 10)),
        (20, 50, 4, (16, 4)),
        (20, 4, 50, (4, 16)),
        (1, 5, 5, (1, 0)),
        (0, 5, 5, (0, 0)),
        (-3, 5, 5, (0, 0)),
    ],
)
def test_the_lines_are_shared_out(
    lines: int, runs: int, consumers: int, expected: tuple[int, int]
) -> None:
    assert share_out(lines, runs, consumers) == expected


def test_the_frame_is_as_high_as_it_says() -> None:
    assert len(drawn(screen(overview(), Order.NEWEST, (80, 30), ""))) == FRAME_LINES


def test_a_snapshot_as_json_loads_neither_numpy_nor_rich_nor_a_scheduler() -> None:
    lines = "import ops.commands.top, ops.top.looking"
    assert not loaded_by(lines, "numpy", "rich", "producer.scheduler", "producer.runfile")
