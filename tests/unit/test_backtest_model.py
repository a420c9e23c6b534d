import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from consumer.backtest.files import MAX_BYTES, content_hash
from consumer.execution import execute
from consumer.models.backtest import Backtest
from producer.run_sections import RunFile, parse
from producer.runfile import submission
from protocol.definition import Sampling
from protocol.errors import UnsupportedError, UsageError
from protocol.messages import Chunk, Failure, FailureKind, Partial
from protocol.model import validated
from protocol.streams import BlockStream
from tests.support.backtest_golden import WORKER, chunk, hashes

GOLDEN = [
    "870b814561ed26cb1f9d73f7b9dfa635719f72e5cc0293fb2934cc187c3773f6",
    "26f83354e56435f008b390e5bd29f08d009be58dfb94d891d37e59ae344fa360",
]
RATES_HASH = "73db21584dd46cebf5cd6df75ebb6de7afcdeebff52f54d5046ca8e459c0fbb3"


def prices_csv(path: Path, days: int = 60) -> str:
    lines = (
        f"2026-{1 + d // 28:02}-{1 + d % 28:02},{10 + d % 7},{20 + d % 5}" for d in range(days)
    )
    path.write_text("date,gold,silver\n" + "\n".join(lines) + "\n")
    return str(path)


def run_file(**sections: Any) -> RunFile:
    return parse({"run": {"model": "backtest"}, **sections}, "test")


def test_the_parameters_of_a_run_say_all_that_its_answer_depends_on() -> None:
    assert validated(Backtest, {}).params() == {
        "mode": "bootstrap", "data": "ecb", "data_hash": RATES_HASH, "pair": "EURUSD",
        "strategy": "crossover", "fast": 50, "slow": 200, "cost": 1.0, "days_per_year": 256.0,
    }  # fmt: skip
    targeted = validated(Backtest, {"strategy": "momentum", "volatility_target": 0.1}).params()
    assert targeted["look_back"] == 250
    assert (targeted["volatility_look_back"], targeted["max_leverage"]) == (60, 3.0)
    assert "fast" not in targeted
    assert "pair" not in validated(Backtest, {"legs": ["EURUSD", "EURJPY"]}).params()


def test_parameters_read_back_are_the_same_parameters() -> None:
    for params in (
        {},
        {"legs": ["EURUSD", "EURJPY"], "weights": [1.0, -1.0], "volatility_target": 0.1},
        {"strategy": "momentum", "mode": "history", "first_date": "2001-02-03"},
    ):
        once = validated(Backtest, params)
        assert validated(Backtest, once.params()) == once


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"mode": "replay"}, "params.mode = 'replay' is not allowed: it should be 'bootstrap' or"),
        ({"data": "prices.csv"}, "params.data = 'prices.csv': it should be 'ecb' or an absolute"),
        ({"data": "/" + "x" * 200}, "params.data = .* at most 200 characters"),
        ({"data_hash": "0"}, "params.data_hash = '0' is not allowed: it should match pattern"),
        ({"data_hash": "A" * 64}, "params.data_hash = .* it should match pattern"),
        ({"pair": ""}, "params.pair = '' is not allowed: it should have at least 1 character"),
        ({"pair": "E" * 41}, "params.pair = .* at most 40 characters"),
        ({"pair": "EURXXX"}, "params: pair: 'EURXXX' is no currency pair"),
        ({"pair": "EURBRL"}, "params: pair: 'BRL' has no price on 1999-01-04"),
        ({"legs": []}, "params.legs = .* at least 1 item"),
        ({"legs": ["EURUSD"] * 201}, "params.legs = .* at most 200 items"),
        ({"legs": ["EURUSD", "USDUSD"]}, "params: legs: 'USDUSD' is no currency pair"),
        ({"pair": "EURUSD", "legs": ["EURUSD"]}, "give either pair or legs"),
        ({"legs": ["EURUSD"], "weights": [0.5, 0.5]}, "weights has 2 numbers for 1 leg"),
        ({"weights": [1.0]}, "weights has 1 number for 0 legs"),
        (
            {"legs": ["EURUSD"], "weights": [-10.1]},
            r"weights.0 = -10.1 .* greater than or equal",
        ),
        ({"legs": ["EURUSD"], "weights": [10.1]}, r"weights.0 = 10.1 .* less than or equal to 10"),
        ({"first_date": "1.2.2005"}, "params.first_date = '1.2.2005': it should be a date"),
        ({"last_date": "2005-02-30"}, "params.last_date = '2005-02-30': it should be a date"),
        (
            {"first_date": "2006-01-01", "last_date": "2005-01-01"},
            "first_date 2006-01-01 is after last_date 2005-01-01",
        ),
        ({"strategy": "hope"}, "params.strategy = 'hope' is not allowed"),
        ({"fast": 0}, "params.fast = 0 is not allowed: it should be greater than or equal to 1"),
        ({"slow": 5001}, "params.slow = 5001 .* less than or equal to 5000"),
        ({"fast": 20, "slow": 20}, "fast = 20 should be below slow = 20"),
        ({"fast": 21, "slow": 20}, "fast = 21 should be below slow = 20"),
        ({"look_back": 20}, "look_back is of strategy = 'momentum' only"),
        ({"strategy": "momentum", "look_back": 0}, "look_back = 0 .* greater than or equal to 1"),
        ({"strategy": "momentum", "look_back": 5001}, "look_back = 5001 .* less than or equal"),
        ({"strategy": "momentum", "slow": 20}, "slow is of strategy = 'crossover' only"),
        (
            {"strategy": "momentum", "look_back": 300, "last_date": "2000-01-31"},
            "the data leave 0 days to trade after the 300 that the rule looks back",
        ),
        ({"cost": -0.1}, "params.cost = -0.1 .* greater than or equal to 0"),
        ({"cost": 1000.1}, "params.cost = 1000.1 .* less than or equal to 1000"),
        ({"volatility_target": 0.0}, "volatility_target = 0.0 .* greater than 0"),
        ({"volatility_target": 5.1}, "volatility_target = 5.1 .* less than or equal to 5"),
        (
            {"volatility_target": 0.1, "volatility_look_back": 1},
            "volatility_look_back = 1 .* greater than or equal to 2",
        ),
        (
            {"volatility_target": 0.1, "volatility_look_back": 5001},
            "volatility_look_back = 5001 .* less than or equal to 5000",
        ),
        ({"volatility_target": 0.1, "max_leverage": 0.0}, "max_leverage = 0.0 .* greater than 0"),
        ({"volatility_target": 0.1, "max_leverage": 101.0}, "max_leverage = 101.0 .* equal to 100"),
        ({"max_leverage": 2.0}, "max_leverage is of use only with volatility_target"),
        ({"volatility_look_back": 20}, "volatility_look_back is of use only with volatility_targ"),
        ({"days_per_year": 0.9}, "days_per_year = 0.9 .* greater than or equal to 1"),
        ({"days_per_year": 367.0}, "days_per_year = 367.0 .* less than or equal to 366"),
        ({"mean_block_length": 0.9}, "mean_block_length = 0.9 .* greater than or equal to 1"),
        ({"mean_block_length": 1e5}, "mean_block_length = 100000.0 .* less than or equal to 10000"),
        ({"mode": "history", "mean_block_length": 5.0}, "mean_block_length is of mode = 'bootst"),
        ({"spread": 1}, "params.spread is no parameter of model 'backtest'"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        submission(run_file(params=params))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "params",
    [
        {"fast": 1, "slow": 5000}, {"cost": 0}, {"cost": 1000}, {"days_per_year": 1},
        {"days_per_year": 366}, {"mean_block_length": 1}, {"mean_block_length": 10_000},
        {"volatility_target": 5, "volatility_look_back": 2, "max_leverage": 100},
        {"volatility_target": 0.001, "volatility_look_back": 5000, "max_leverage": 0.1},
        {"strategy": "momentum", "look_back": 1}, {"strategy": "momentum", "look_back": 5000},
        {"legs": ["EURUSD"], "weights": [-10]}, {"legs": ["EURUSD"] * 200},
        {"pair": "EURBRL", "first_date": "2008-01-02"},
    ],
)  # fmt: skip
def test_the_bounds_themselves_are_allowed_and_give_finite_figures(params: dict[str, Any]) -> None:
    answer = execute(chunk(params, block_size=2), WORKER)
    assert isinstance(answer, Partial)
    drawdown = Backtest.outputs.index("max_drawdown")
    assert 0 <= answer.statistics.minimum[drawdown] <= answer.statistics.maximum[drawdown] <= 1


def test_exactly_20_days_to_trade_are_enough(tmp_path: Path) -> None:
    data = prices_csv(tmp_path / "prices.csv", days=31)
    rule = {"data": data, "pair": "gold", "strategy": "momentum"}
    validated(Backtest, rule | {"look_back": 10})
    with pytest.raises(UsageError, match="the data leave 19 days to trade after the 11 that"):
        validated(Backtest, rule | {"look_back": 11})


def test_a_date_may_be_written_as_toml_has_dates(tmp_path: Path) -> None:
    from producer.run_sections import read_run_file  # noqa: PLC0415

    path = tmp_path / "run.toml"
    path.write_text('[run]\nmodel = "backtest"\n[params]\nfirst_date = 2005-01-03\n')
    (cell,) = submission(read_run_file(path)).definition.cells
    assert cell["first_date"] == "2005-01-03"


def test_what_happened_is_one_sample_in_a_block_of_one() -> None:
    definition = submission(run_file(params={"mode": "history"})).definition
    assert (definition.block_size, definition.stop.samples, definition.blocks) == (1, 1, 1)
    answer = execute(chunk({"mode": "history"}, block_size=1, blocks=1), WORKER)
    assert isinstance(answer, Partial)
    assert answer.statistics.samples == 1
    assert answer.statistics.minimum == answer.statistics.maximum


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        (
            {"params": {"mode": "history"}, "sampling": {"block_size": 2}},
            "sampling.block_size = 2 is not allowed with mode = 'history': it should be 1, and",
        ),
        (
            {"sampling": {"block_size": 1}},
            "sampling.block_size = 1 is not allowed with mode = 'bootstrap': it should be even",
        ),
        ({"sampling": {"block_size": 3}}, "sampling.block_size = 3 is not allowed"),
        (
            {"cells": [{"mode": "history"}, {"mode": "bootstrap"}]},
            "sampling.block_size = 256 is not allowed with mode = 'history'",
        ),
        (
            {"params": {"mode": "history"}, "stop": {"samples": 1000}},
            "stop.samples = 1000 is not allowed: these parameters give one sample",
        ),
    ],
)
def test_a_way_of_sampling_that_a_mode_cannot_have_is_refused(
    sections: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        submission(run_file(**sections))


def refusal(declared: Chunk) -> str:
    failure = execute(declared, WORKER)
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.UNSUPPORTED_MODEL
    return failure.text


def test_a_consumer_tells_nothing_of_data_that_a_chunk_does_not_know(tmp_path: Path) -> None:
    data = prices_csv(tmp_path / "prices.csv")
    params = {"data": data, "pair": "gold", "fast": 2, "slow": 5}
    declared = chunk(params)
    assert isinstance(execute(declared, WORKER), Partial)
    before = content_hash(data)
    absent = f"data = {data!r} with SHA-256 {before} is not on this machine"
    prices_csv(tmp_path / "prices.csv", days=59)
    assert refusal(declared) == absent
    with (tmp_path / "prices.csv").open("ab") as file:
        file.truncate(MAX_BYTES + 1)
    assert refusal(declared) == absent
    (tmp_path / "prices.csv").unlink()
    assert refusal(declared) == absent
    (tmp_path / "prices.csv").mkdir()
    assert refusal(declared) == absent


def test_a_chunk_without_the_hash_of_its_data_is_refused_before_a_file_is_opened(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("quartz,1,1\n")
    texts = set()
    for data in (secret, tmp_path / "none"):
        params = {"data": str(data), "pair": "gold"}
        answer = execute(chunk({}).model_copy(update={"params": params}), WORKER)
        assert isinstance(answer, Failure)
        assert answer.kind is FailureKind.INVALID_PARAMS
        texts.add(answer.text)
    assert texts == {"params: data_hash is missing; a chunk has all parameters"}


def test_a_run_on_data_that_the_producer_does_not_have_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"'/none\.csv' cannot be read here: No such file"):
        submission(run_file(params={"data": "/none.csv", "pair": "gold"}))
    with pytest.raises(
        UnsupportedError, match=f"SHA-256 {RATES_HASH} here, the run needs {'0' * 64}"
    ):
        submission(run_file(params={"data_hash": "0" * 64}))


def test_the_figures_have_the_bits_they_always_had() -> None:
    assert hashes() == GOLDEN


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names a CPU of that family")
def test_the_figures_have_the_same_bits_without_the_vector_units_of_this_machine(
    tmp_path: Path,
) -> None:
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.backtest_golden"],
        capture_output=True,
        check=True,
        cwd=root,
        env=os.environ
        | {
            "NUMBA_CPU_NAME": "x86-64-v2",
            "NUMBA_CPU_FEATURES": "",
            "MONTEMQ_CACHE_DIR": str(tmp_path),
        },
        text=True,
    )
    assert ended.stdout.split() == GOLDEN


def test_a_run_gets_the_outputs_it_asks_for_in_its_order() -> None:
    model = validated(Backtest, {})
    stream = BlockStream(1, 0, 0, 4)
    every = model.samples(stream, Sampling(), model.outputs)
    some = model.samples(stream, Sampling(), ("history_sharpe", "sharpe"))
    assert some.flags.c_contiguous
    assert some.tolist() == [every[6].tolist(), every[2].tolist()]


def test_loading_the_model_imports_neither_compiler_nor_scipy() -> None:
    code = (
        "import sys; from protocol.registry import load_model; load_model('backtest'); "
        "print({'numba', 'scipy', 'currency_converter'} & set(sys.modules))"
    )
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "set()\n"
