"""Tables and progress for people: rounded to the error, and safe whatever the texts say."""

import io
from typing import Any

import pytest
from rich.console import Console

from producer import progress as progress_module
from producer.progress import ProgressDisplay
from producer.session import Update
from producer.tables import footnotes, result_table, status_table, with_error
from protocol.definition import Lane
from protocol.messages import Headline, RunState
from protocol.results import CellResult, Estimate, Quantile, Result
from protocol.rpc_messages import RunStatus, Status

ESTIMATE = Estimate(
    mean=5.78182, standard_error=0.0123, ci_low=5.75771, ci_high=5.80593, confidence=0.95,
    error_reliable=True,
    standard_deviation=1.5,
    variance_reduction=1.0,
)  # fmt: skip


def result(*cells: dict[str, Any], estimate: Estimate = ESTIMATE, **fields: Any) -> Result:
    values: dict[str, Any] = {
        "run": "r1", "state": "finished", "model": "asian", "model_version": 1, "seed": 7,
        "sampling": "pseudo", "block_size": 1024, "digest": "ab" * 32, "reproducible": True,
        "elapsed_seconds": 1.25, "cpu_seconds": 2.0, "samples": 2048,
        "cells": tuple(
            CellResult(params=p, state="finished", samples=2048, outputs={"price": estimate})
            for p in cells or ({"strike": 100.0},)
        ),
        "engines": ("portable",), "error": None,
    }  # fmt: skip
    return Result(**values | fields)


def status(**fields: Any) -> Status:
    values: dict[str, Any] = {
        "run": "r1", "state": RunState.FAILED, "model": "asian", "pool": "default",
        "lane": Lane.LOW, "cells": 1, "samples": 512, "total_samples": 2048, "created": 0.0,
        "elapsed_seconds": 3.14, "error": None,
    }  # fmt: skip
    return Status(runs=(RunStatus(**values | fields),), slots=4, consumers=2, clock=0.0, store="s")


def shown(what: Any, width: int = 200) -> str:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(what)
    return file.getvalue()


# Rounding


@pytest.mark.parametrize(
    ("mean", "error", "expected"),
    [
        (5.781824408, 0.0123, "5.782 ± 0.012"),
        (5.781824408, 0.000123, "5.78182 ± 0.00012"),
        (1234.5, 123.0, "1234 ± 123"),
        (1234.5, 12.3, "1234 ± 12"),
        (1234.56, 1.23, "1234.6 ± 1.2"),
        (-0.5, 0.025, "-0.500 ± 0.025"),
        (0.0, 0.1, "0.00 ± 0.10"),
        (1.0, 0.0, "1"),
        (1.5, None, "1.5"),
        (None, None, "—"),
        (1.0, 1e-17, "1 ± 1e-17"),
        (1.0, 5e-324, "1 ± 4.9e-324"),
    ],
)
def test_a_mean_has_as_many_decimals_as_two_digits_of_its_error(
    mean: float | None, error: float | None, expected: str
) -> None:
    assert with_error(mean, error) == expected


def test_a_result_shows_estimate_interval_and_samples() -> None:
    text = shown(result_table(result()))
    assert "r1: asian finished, seed 7, pseudo, 1.2 s, 2.0 s of CPU" in " ".join(text.split())
    assert "0.95 interval" in text
    assert "5.782 ± 0.012" in text
    assert "5.758 … 5.806" in text
    assert "2,048" in text


def test_an_unreliable_error_says_so() -> None:
    doubtful = ESTIMATE.model_copy(update={"error_reliable": False})
    assert "(error unreliable)" in shown(result_table(result(estimate=doubtful)))
    reason = "error unreliable: more samples are needed to know the error itself"
    assert reason in footnotes(result(estimate=doubtful))
    sobol = footnotes(result(estimate=doubtful, sampling="sobol"))
    assert f"{reason}, with sobol more than 200 blocks of 1,024" in sobol
    assert not any("unreliable" in line for line in footnotes(result()))


def test_an_output_without_an_error_has_no_interval() -> None:
    nothing = Estimate(
        mean=None, standard_error=None, ci_low=None, ci_high=None, confidence=0.95,
        error_reliable=False,
    )  # fmt: skip
    text = shown(result_table(result(estimate=nothing)))
    assert text.count("—") == 2


STEERED = ESTIMATE.model_copy(update={"variance_reduction": 2230.49})


@pytest.mark.parametrize(
    ("sampling", "controls", "method", "against"),
    [
        ("sobol", False, "sobol", "plain samples"),
        ("pseudo", True, "pseudo with control variates", "plain samples"),
        ("antithetic", True, "antithetic with control variates", "pairs without control variates"),
    ],
)
def test_a_reduced_variance_is_shown_with_what_it_is_against(
    sampling: str, controls: bool, method: str, against: str
) -> None:
    found = result(estimate=STEERED, sampling=sampling, control_variates=controls)
    text = shown(result_table(found))
    assert "÷ 2,230" in text
    assert f"seed 7, {method}, 1.2 s" in " ".join(text.split())
    assert footnotes(found)[-1].endswith(f"divided by so much against as many {against}")


@pytest.mark.parametrize("sampling", ["pseudo", "antithetic"])
def test_without_sobol_and_controls_no_factor_is_shown(sampling: str) -> None:
    found = result(sampling=sampling)
    assert "÷" not in shown(result_table(found))
    assert len(footnotes(found)) == 1


def test_a_factor_that_is_not_known_is_a_dash() -> None:
    unknown = ESTIMATE.model_copy(update={"variance_reduction": None})
    assert shown(result_table(result(estimate=unknown, sampling="sobol"))).count("—") == 1


def test_quantiles_have_a_column_each() -> None:
    quantiles = tuple(
        Quantile(probability=p, value=v, ci_low=None, ci_high=None)
        for p, v in ((0.005, -1.23456), (0.5, 7.0))
    )
    found = result(estimate=ESTIMATE.model_copy(update={"quantiles": quantiles}))
    assert "quantiles are known to 0.8 %, however many samples there are" in footnotes(found)
    text = shown(result_table(found))
    assert "0.5 % quantile" in text
    assert "50 % quantile" in text
    assert "-1.23 " in text  # as many digits as a bin of the histogram knows
    assert " 7 " in text


def test_a_cell_without_quantiles_yet_keeps_its_numbers_in_their_columns() -> None:
    quantiles = (Quantile(probability=0.5, value=7.0, ci_low=None, ci_high=None),)
    known = result(estimate=ESTIMATE.model_copy(update={"quantiles": quantiles})).cells[0]
    empty = CellResult(params={"strike": 1.0}, state="running", samples=0, outputs=known.outputs | {
        "price": Estimate(mean=None, standard_error=None, ci_low=None, ci_high=None,
                          confidence=0.95, error_reliable=False),
    })  # fmt: skip
    lines = shown(result_table(result().model_copy(update={"cells": (empty, known)}))).splitlines()
    row = next(line for line in lines if "1.0" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][-2:] == ["—", "0"]


def test_only_parameters_that_vary_have_a_column() -> None:
    cells = [{"strike": strike, "spot": 100.0} for strike in (90.0, 110.0)]
    text = shown(result_table(result(*cells)))
    assert "strike" in text
    assert "110.0" in text
    assert "spot" not in text


def test_very_many_cells_are_cut_and_the_rest_is_told() -> None:
    many = result(*({"strike": float(k)} for k in range(250)))
    assert "199.0" in shown(result_table(many))
    assert "200.0" not in shown(result_table(many))
    assert "50 more cells: see --json" in footnotes(many)


def test_footnotes_tell_digest_engines_and_error() -> None:
    assert footnotes(result()) == ["digest " + "ab" * 32]
    failed = result(digest=None, state="failed", error="why", engines=("a", "b"))
    assert footnotes(failed) == [
        "no digest: failed",
        "computed by different engines: a, b",
        "why",
    ]


def test_a_status_shows_share_and_fleet() -> None:
    text = shown(status_table(status()))
    assert "25.0%" in text
    assert "2 live consumers with 4 slots" in text


# Hostile texts

HOSTILE = (
    "[bold]b[/bold]", "[/]", "[/nothing]", r"\[red]x[/red]", r"\\[/red]", "[link=http://x]y[/link]",
    "[", "]", "\\", ":bomb:",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_in_an_error_is_shown_as_it_is(text: str) -> None:
    assert text in shown(status_table(status(error=text)))


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_in_a_parameter_is_shown_as_it_is(text: str) -> None:
    assert text in shown(result_table(result({"name": text}, {"name": "other"})))


def test_terminal_codes_do_not_reach_the_terminal() -> None:
    for text in (
        shown(status_table(status(error="\x1b]0;owned\x07\x1b[31m"))),
        shown(result_table(result({"name": "\x1b[2J"}, {"name": "x"}))),
    ):
        assert "\x1b" not in text
        assert "\x07" not in text


# Resampled histories


def resampled(mean: float, spread: float | None, *quantiles: float) -> Estimate:
    return Estimate(
        mean=mean,
        standard_error=None if spread is None else spread / 32,
        ci_low=None,
        ci_high=None,
        confidence=0.95,
        error_reliable=True,
        standard_deviation=spread,
        quantiles=tuple(
            Quantile(probability=p, value=v, ci_low=None, ci_high=None)
            for p, v in zip((0.05, 0.95), quantiles, strict=False)
        ),
    )


def backtest(**outputs: Estimate) -> Result:
    cells = tuple(
        CellResult(params={"legs": legs}, state="finished", samples=1024, outputs=outputs)
        for legs in (("EURUSD",), ("A", "B"), tuple(f"LEG{i}" for i in range(27)))
    )
    return result(model="backtest", cells=cells)


def test_of_resampled_histories_what_happened_stands_beside_their_spread() -> None:
    found = backtest(
        sharpe=resampled(0.25, 0.19, -0.06, 0.55), history_sharpe=resampled(0.31, 0.0, 0.31, 0.31)
    )
    text = shown(result_table(found))
    assert text.count("0.31 ± 0.19 (-0.06 … 0.55)") == 3  # one row per cell
    assert "history_sharpe" not in text
    for legs in ("EURUSD", "A, B", "LEG0 … (27)"):
        assert f"│ {legs} " in text
    assert footnotes(found)[:2] == [
        (
            "each figure: what happened ± standard deviation of 1,024 resampled histories "
            "(5 % … 95 % quantile of them)"
        ),
        (
            "simulation error: at most 0.031 of a standard deviation, in the mean of the resampled "
            "histories; more samples lower it, but tell no more about the strategy"
        ),
    ]


def test_the_standard_error_of_resampled_histories_is_never_shown_as_an_accuracy() -> None:
    found = backtest(sharpe=resampled(0.25, 0.32))
    text = shown(result_table(found))
    assert "0.25 ± 0.32" in text
    assert "0.250 ± 0.010" not in text
    assert "interval" not in text
    assert footnotes(found)[0] == (
        "each figure: mean of the resampled histories ± standard deviation of 1,024 resampled "
        "histories"
    )
    file = io.StringIO()
    with ProgressDisplay("run-1", Console(file=file, width=80), estimate=False) as display:
        display(update())
    assert "±" not in file.getvalue()


def test_what_happened_alone_and_constants_have_no_spread() -> None:
    found = backtest(
        sharpe=resampled(0.25, None), history_sharpe=resampled(0.25, None),
        block_length=resampled(1.4, 1e-16),
    )  # fmt: skip
    text = shown(result_table(found))
    assert "±" not in text
    assert "│   0.25 │          1.4 │" in text
    assert len(footnotes(backtest(sharpe=resampled(0.25, None)))) == 1


# Progress


def update(**fields: Any) -> Update:
    values: dict[str, Any] = {
        "merged_samples": 250, "total_samples": 1000, "slots": 2, "consumers": 1,
        "headline": Headline(output="price", mean=5.78182, standard_error=0.0123), "notice": None,
    }  # fmt: skip
    return Update(**values | fields)


def lines(*updates: Update) -> list[str]:
    """Return what a display prints where there is no terminal."""
    file = io.StringIO()
    with ProgressDisplay("run-1", Console(file=file, force_terminal=False, width=40)) as display:
        for one in updates:
            display(one)
    return file.getvalue().splitlines()


def test_without_a_terminal_there_is_a_plain_line_now_and_then() -> None:
    [line] = lines(update(), update(), update())
    assert line == "run-1   25.0%  price 5.782 ± 0.012  0  samples/s  1 consumer, 2 slots"


def test_lines_are_repeated_after_their_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    assert len(lines(update(), update(merged_samples=1000))) == 2


def test_a_notice_is_printed_at_once_and_as_it_is() -> None:
    found = lines(update(notice="[red]lost[/red]"), update(notice="again"))
    assert [line for line in found if "run-1" not in line] == ["[red]lost[/red]", "again"]


def test_nobody_working_is_said_once_per_time_that_it_happens() -> None:
    idle, busy = update(slots=0, consumers=0), update()
    found = lines(idle, idle, busy, idle)
    text = " ".join(found)
    assert text.count("waiting: no consumer is live") == 2


def test_a_finished_run_waits_for_nobody() -> None:
    done = update(merged_samples=1000, slots=0, consumers=0)
    assert not any("waiting" in line for line in lines(done))


def test_no_line_has_terminal_codes() -> None:
    assert not any("\x1b" in line for line in lines(update(notice="n"), update(slots=0)))
