"""Tables and progress for people: rounded to the error, and safe whatever the texts say."""

import io
from typing import Any

import pytest
from rich.console import Console

from producer import progress as progress_module
from producer.progress import ProgressDisplay
from producer.quiet import Quiet
from producer.session import Update
from producer.status_table import status_table
from producer.tables import print_result, result_table
from protocol.definition import Lane, Stop
from protocol.messages import TOLD_AUDITS, Headline, RunState
from protocol.result_texts import footnotes, title, with_error
from protocol.results import CellResult, EndedBy, Estimate, Quantile, Result
from protocol.rpc_messages import RunStatus, Status
from tests.support.drawing import drawn

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
    return Status(
        runs=(RunStatus(**values | fields),), total=1, slots=4, consumers=2, clock=0.0, store="s"
    )


def shown(what: Any, width: int = 200) -> str:
    return "\n".join(drawn(what, width))


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
    assert title(result()) == "r1: asian finished, seed 7, pseudo, 1.2 s, 2.0 s of CPU"
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


TARGET = Stop(samples=1 << 20, standard_error=0.01, relative_error=0.002, outputs=("price",))


def with_endings(stop: Stop, *endings: EndedBy | None, overshoot: int = 0) -> Result:
    found = result(*({"strike": float(number)} for number in range(len(endings))), stop=stop)
    cells = tuple(
        cell.model_copy(update={"ended_by": by, "overshoot": overshoot})
        for cell, by in zip(found.cells, endings, strict=True)
    )
    return found.model_copy(update={"cells": cells})


def test_with_a_target_each_cell_tells_what_ended_it_and_the_rest_is_told_below() -> None:
    found = with_endings(TARGET, EndedBy.ERROR, EndedBy.SAMPLES, None, overshoot=512)
    lines = shown(result_table(found)).splitlines()
    ends = [line.strip("│ ").split("│")[-1].strip() for line in lines if "price" in line]
    assert ends == ["error", "samples", "—"]
    notes = footnotes(found)
    assert "target: standard error 0.01 and relative error 0.002 of price" in notes
    assert "1 of 3 cells reached 1,048,576 samples before their target" in notes
    assert "1,536 samples were computed beyond the end of their cells" in notes


def test_a_time_limit_that_ended_cells_is_told() -> None:
    found = with_endings(Stop(seconds=60.0), EndedBy.SECONDS, EndedBy.SAMPLES)
    assert any("the time limit of 60 s ended 1 of 2 cells" in note for note in footnotes(found))
    assert not any("target" in note for note in footnotes(found))


def test_without_target_and_time_limit_nothing_is_said_of_the_end() -> None:
    found = with_endings(Stop(), EndedBy.SAMPLES)
    assert "ended by" not in shown(result_table(found))
    assert len(footnotes(found)) == 1


def test_a_run_that_ended_in_time_with_nothing_is_done_in_the_status() -> None:
    empty = status(samples=0, total_samples=0, state=RunState.FINISHED)
    assert "100.0%" in shown(status_table(empty))


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
    assert f"seed 7, {method}, 1.2 s" in title(found)
    assert footnotes(found)[-1].endswith(f"divided by so much against as many {against}")


@pytest.mark.parametrize("sampling", ["pseudo", "antithetic"])
def test_without_sobol_and_controls_no_factor_is_shown(sampling: str) -> None:
    found = result(sampling=sampling)
    assert "÷" not in shown(result_table(found))
    assert len(footnotes(found)) == 1


def test_a_factor_that_is_not_known_is_a_dash() -> None:
    unknown = ESTIMATE.model_copy(update={"variance_reduction": None})
    assert shown(result_table(result(estimate=unknown, sampling="sobol"))).count("—") == 1


def test_a_quantile_stands_with_its_interval() -> None:
    quantile = Quantile(probability=0.5, value=1.5512, ci_low=0.90616, ci_high=2.187)
    found = result(estimate=ESTIMATE.model_copy(update={"quantiles": (quantile,)}))
    assert "1.55 (0.906 … 2.19)" in shown(result_table(found))
    told = "quantiles are those of the samples (in brackets: interval), to 0.8 %"
    assert told in footnotes(found)


def test_quantiles_have_a_column_each() -> None:
    quantiles = tuple(
        Quantile(probability=p, value=v, ci_low=None, ci_high=None)
        for p, v in ((0.005, -1.23456), (0.5, 7.0))
    )
    found = result(estimate=ESTIMATE.model_copy(update={"quantiles": quantiles}), sampling="sobol")
    told = "quantiles are those of the samples, to 0.8 %; more samples may move them further"
    assert told in footnotes(found)
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


def test_very_many_cells_are_cut_and_the_rest_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    many = result(*({"strike": float(k)} for k in range(250)))
    assert "199.0" in shown(result_table(many))
    assert "200.0" not in shown(result_table(many))
    print_result(many)
    assert "\n50 more cells: see --json\n" in capsys.readouterr().out


def test_footnotes_tell_digest_and_engines_and_the_error_comes_last_on_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert footnotes(result()) == ["digest " + "ab" * 32]
    failed = result(digest=None, state="failed", error="why", engines=("a", "b"))
    assert footnotes(failed) == [
        "no digest: failed",
        "computed by different engines: a, b",
    ]
    print_result(failed)
    assert capsys.readouterr().out.endswith("\ncomputed by different engines: a, b\nwhy\n")


def test_a_status_shows_share_and_fleet() -> None:
    text = shown(status_table(status()))
    assert "25.0%" in text
    assert "2 live consumers with 4 slots" in text
    assert "older" not in text
    one = status().model_copy(update={"consumers": 1, "slots": 1})
    assert shown(status_table(one)).splitlines()[-1].rstrip() == "1 live consumer with 1 slot"


def test_a_title_does_not_wrap_where_its_table_is_narrow(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_result(result())
    assert capsys.readouterr().out.splitlines()[0] == (
        "r1: asian finished, seed 7, pseudo, 1.2 s, 2.0 s of CPU"
    )


def test_a_time_limit_before_the_first_checkpoint_is_told_in_the_table() -> None:
    cell = CellResult(
        params={}, state="finished", samples=0, outputs={"price": ESTIMATE},
        ended_by=EndedBy.SECONDS, checkpoint=0,
    )  # fmt: skip
    limited = result(stop=Stop(samples=2048, seconds=1.0), cells=(cell,))
    assert "seconds: no checkpoint was reached" in shown(result_table(limited))
    reached = limited.cells[0].model_copy(update={"checkpoint": 1, "samples": 1024})
    assert "no checkpoint" not in shown(result_table(result(stop=limited.stop, cells=(reached,))))


def test_a_status_says_how_many_runs_it_leaves_out() -> None:
    text = shown(status_table(status().model_copy(update={"total": 1_235})))
    assert "1,234 older runs are left out" in text


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


@pytest.mark.usefixtures("at_once")
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
    assert "25.0%" in file.getvalue()
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
        "pool": "default", "merged_samples": 250, "total_samples": 1000, "slots": 2, "consumers": 1,
        "headline": Headline(output="price", mean=5.78182, standard_error=0.0123), "notice": None,
    }  # fmt: skip
    return Update(**values | fields)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first plain line be due with the first update."""
    monkeypatch.setattr(progress_module, "FIRST_SECONDS", 0.0)


def lines(*updates: Update) -> list[str]:
    """Return what a display prints where there is no terminal."""
    file = io.StringIO()
    with ProgressDisplay("run-1", Console(file=file, force_terminal=False, width=40)) as display:
        for one in updates:
            display(one)
    return file.getvalue().splitlines()


@pytest.mark.usefixtures("at_once")
def test_without_a_terminal_there_is_a_plain_line_now_and_then() -> None:
    [line] = lines(update(), update(), update())
    assert line == "run-1   25.0%  price 5.782 ± 0.012  1 consumer, 2 slots"


@pytest.mark.usefixtures("at_once")
def test_a_plain_line_has_the_rate_once_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    last = lines(update(), update(), update())[-1]
    assert last == "run-1   25.0%  price 5.782 ± 0.012  0 samples/s  1 consumer, 2 slots"


@pytest.mark.usefixtures("at_once")
def test_a_run_that_waits_for_its_audits_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    found = lines(update(audits=3), update(audits=3, merged_samples=1000))
    assert found == [
        "run-1   25.0%  price 5.782 ± 0.012  1 consumer, 2 slots",
        "run-1  100.0%  price 5.782 ± 0.012  waiting for another machine to audit 3 chunks",
    ]
    assert "machine to audit 1 chunk " in on_a_terminal(update(audits=1, merged_samples=1000))
    [line] = lines(update(audits=199, merged_samples=1000))
    assert line.endswith("machine to audit 199 chunks")
    [line] = lines(update(audits=TOLD_AUDITS, merged_samples=1000))
    assert line.endswith("waiting for another machine to audit at least 200 chunks")
    [line] = lines(update(audits=3, merged_samples=1000, slots=0))
    assert line.endswith("waiting for another machine to audit 3 chunks  1 consumer, 0 slots")


def test_the_first_second_of_a_run_prints_no_line() -> None:
    assert lines(update(), update(merged_samples=1000)) == []
    pace = progress_module.Pace()
    assert [pace.due(now) for now in (7.0, 7.9, 8.0, 12.9, 13.0)] == [
        False, False, True, False, True,
    ]  # fmt: skip


@pytest.mark.usefixtures("at_once")
def test_lines_are_repeated_after_their_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    assert len(lines(update(), update(merged_samples=1000))) == 2


def on_a_terminal(*updates: Update) -> str:
    """Return what a display draws on a terminal."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=160, color_system=None)
    with ProgressDisplay("run-1", console) as display:
        for one in updates:
            display(one)
    return file.getvalue()


def test_the_bar_follows_what_the_run_is_expected_to_take() -> None:
    assert "50%" in on_a_terminal(update(), update(total_samples=500))


def test_a_notice_is_printed_at_once_and_as_it_is() -> None:
    long = "again " * 20 + "and again"
    found = lines(update(notice="[red]lost[/red]"), update(notice=long))
    assert [line for line in found if "run-1" not in line] == ["[red]lost[/red]", long]


def test_nobody_working_is_said_once_per_time_that_it_happens() -> None:
    idle, busy = update(slots=0, consumers=0), update()
    found = lines(idle, idle, busy, idle)
    waiting = [line for line in found if line.startswith("waiting: no consumer is live")]
    assert len(waiting) == 2
    assert {line.endswith("start `montemq consumer`") for line in waiting} == {True}


def test_quiet_tells_each_thing_that_is_wrong_once(capsys: pytest.CaptureFixture[str]) -> None:
    idle = update(slots=0, consumers=0)
    with Quiet() as quiet:
        for one in (update(), idle, update(notice="lost\x1b"), update(notice="lost\x1b"), idle):
            quiet(one)
            quiet.updated("calls", one)
    waiting = (
        "waiting: no consumer is live in this run's pool, or one is still loading or suspended; "
        "start `montemq consumer`"
    )
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [waiting, f"calls: {waiting}", "lost ", "calls: lost "]
    assert shown.out == ""


def test_a_finished_run_waits_for_nobody() -> None:
    done = update(merged_samples=1000, slots=0, consumers=0)
    assert not any("waiting" in line for line in lines(done))


def test_no_line_has_terminal_codes() -> None:
    assert not any("\x1b" in line for line in lines(update(notice="n"), update(slots=0)))
