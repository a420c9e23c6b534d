"""A plan for people: ranges only where there are some, and no word of more than they hold."""

import io
from dataclasses import replace

from rich.console import Console

from producer.pilot import Measured
from producer.plan import Overhead, plan
from producer.plan_cell import CellPilot, Rule, Spread
from producer.plan_table import print_plan
from protocol.definition import Stop
from tests.support.run_values import definition

RULE = Rule(100, (32, 48, 72, 108, 162, 200), 0.02)


def shown(
    error: float, *, targeted: bool = True, limit: float | None = None, latency: float = 0.1
) -> str:
    """Return a plan whose pilot knows the variance with this relative error, at 100 blocks."""
    spread = Spread(mean=10.0, mean_error=0.0, variance=4.0, variance_error=error, replicates=8)
    rule = replace(RULE, seconds=limit)
    found = plan([CellPilot(8_000, 0.25, (spread,))], rule, Overhead(latency, 0.002), 1)
    runs = tuple(f"pi-plan-{number}" for number in range(1, 6))
    measured = Measured(plan=found, runs=runs, seconds=1.5, cells=1, replicates=8)
    stop = Stop(samples=20_000, seconds=limit)
    if targeted:
        stop = Stop(samples=20_000, standard_error=0.02, outputs=("pi",), seconds=limit)
    of = definition().model_copy(update={"stop": stop})
    file = io.StringIO()
    print_plan(measured, of, Console(file=file, width=200))
    return file.getvalue()


def rows_of(text: str) -> dict[str, str]:
    """Return the last column by the first."""
    lines = (line.strip("│ ").split() for line in text.splitlines() if line.startswith("│"))
    return {line[0]: line[-1] for line in lines}


def test_a_range_that_is_none_has_no_column() -> None:
    text = shown(0.0)
    assert "between" not in text
    assert "27.2 … 27.2" not in text
    assert "…" not in text.replace("pi-plan-1 … pi-plan-5", "")
    assert "within two standard errors it ends at the same checkpoints" in text


def test_a_range_is_that_of_the_samples_and_says_so() -> None:
    text = shown(0.03)
    assert "between" in text
    assert "samples       10,800 (10,800 … 16,200), at the checkpoints of the definition" in text
    assert (
        "only the number of samples is uncertain here, by two standard errors; "
        "how fast the machines are may change\n"
    ) in text


def test_without_a_target_the_number_of_samples_is_certain() -> None:
    said = "the number of samples is certain; how fast the machines are may change"
    assert said in shown(0.0, targeted=False)
    assert said not in shown(0.0)


def test_the_runs_of_a_pilot_are_named_once() -> None:
    text = shown(0.0)
    assert ": pi-plan-1 … pi-plan-5\n" in text
    assert "pi-plan-2" not in text


def test_enough_slots_are_those_that_are_used_half() -> None:
    assert "beyond 7 slots efficiency is below 50%\n" in shown(
        0.0, latency=5.0
    )  # 32.1 s, 8.97 s on 7
    assert "beyond 2 slots efficiency is below 50%\n" in shown(0.0, latency=1e4)


def test_under_a_time_limit_everything_is_of_the_run_as_it_will_be() -> None:
    text = shown(0.0, targeted=False, limit=10.0)
    assert "until 20,480 samples or 10 s; a pilot" in text
    # 9.9 s of computing on one slot are 39 blocks: the checkpoint at 32.
    assert "samples       3,200, at the checkpoints of the definition, on 1 slot\n" in text
    assert "  1 cell ended by the limit of 10 s at the last checkpoint before\n" in text
    assert "core seconds  9.8" in text
    assert "samples in 10 s" in text
    assert (rows_of(text)["1"], rows_of(text)["16"]) == ("3,200", "10,800")
    assert "how many samples there are in time is up to the machines" in text
    assert "certain" not in text
    assert "live now: 1 slot takes 10 s for 3,200 samples\n" in text
    assert (
        "\n1 slot takes 10 s for 3,200 samples, 128 slots take 0.566 s for 10,800 samples" in text
    )


def test_a_time_limit_that_ends_nothing_changes_no_sentence_about_the_samples() -> None:
    text = shown(0.0, limit=100.0)
    assert "ended by the limit" not in text
    assert "only the number of samples is uncertain" in text
    assert "samples in" not in shown(0.0)


def test_of_a_time_limit_within_the_latency_no_more_than_all_is_overhead() -> None:
    text = shown(0.0, limit=0.05, latency=0.1)
    assert ": 100.00% of the time on one slot\n" in text
    assert "1 slot takes 0.05 s for 0 samples, 0.05 s of it overhead: do not distribute\n" in text
