from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from consumer.backtest import history
from consumer.kernels import strategy
from consumer.models.backtest import Backtest
from protocol.definition import Sampling
from protocol.model import validated
from protocol.streams import BlockStream
from tests.support import plain_backtest as plain

Doubles = NDArray[np.float64]

RULES: list[dict[str, Any]] = [
    {"strategy": "crossover", "fast": 3, "slow": 21},
    {"strategy": "momentum", "look_back": 40},
    {"strategy": "momentum", "look_back": 5, "volatility_target": 0.1, "volatility_look_back": 20},
]


def backtest(**params: Any) -> Backtest:
    model = validated(Backtest, params)
    assert isinstance(model, Backtest)
    return model


def held(prices: Doubles, rule: dict[str, Any]) -> Doubles:
    return history.positions(backtest(**rule), prices, strategy.daily_returns(prices))


def walk(seed: int, days: int = 400) -> Doubles:
    steps = np.random.default_rng(seed).normal(0, 0.01, days)
    return np.asarray(np.exp(np.cumsum(steps)))


@pytest.mark.parametrize("rule", RULES)
def test_changing_future_prices_never_changes_past_positions(rule: dict[str, Any]) -> None:
    prices = walk(1)
    whole = held(prices, rule)
    assert np.unique(np.sign(whole)).size > 1  # it does trade
    for day in (60, 61, 200, 398):
        changed = prices.copy()
        changed[day + 1 :] = walk(day, 399 - day)
        assert held(changed, rule)[: day + 1].tolist() == whole[: day + 1].tolist()
        assert held(prices[: day + 1], rule).tolist() == whole[: day + 1].tolist()


def test_a_day_earns_what_was_held_the_evening_before() -> None:
    positions = np.array([0.0, 1.0, -1.0, 0.5, 2.0])
    returns = np.array([0.0, 0.1, 0.2, 0.3, 0.4])
    total = np.zeros(3)  # the position at the end of the second day is the first one
    strategy.add_net_returns(total, 2.0, positions, returns, 0.01)
    assert total == pytest.approx(
        [2 * (0.2 - 0.01), 2 * (-0.3 - 0.01 * 2), 2 * (0.5 * 0.4 - 0.01 * 1.5)]
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("price", [0.1, 1.95583, 15.6466])
def test_a_flat_stretch_means_position_0(rule: dict[str, Any], price: float) -> None:
    prices = np.concatenate((walk(2, 100), np.full(100, price), walk(3, 100)))
    positions = held(prices, rule)
    assert not positions[100 + 40 : 200].any()  # as soon as all that it looks back on is flat
    assert positions[240:].any()


def test_without_volatility_there_is_no_position_to_aim_at_one() -> None:
    prices = np.concatenate((walk(2, 100), np.full(100, 1.5)))
    rule = RULES[1] | {"volatility_target": 0.1, "volatility_look_back": 20}
    assert held(prices, RULES[1])[125] != 0  # momentum still sees the move of 40 days ago
    assert not held(prices, rule)[120:].any()


def test_prices_that_never_move_give_figures_of_0(tmp_path: Any) -> None:
    path = tmp_path / "pegged.csv"
    days = np.arange("2024-01-01", "2025-01-01", dtype="datetime64[D]")
    path.write_text("date,peg\n" + "".join(f"{day},1.95583\n" for day in days))
    for mode, size in (("history", 1), ("bootstrap", 2)):
        model = backtest(
            data=str(path), pair="peg", mode=mode, **(RULES[2] | {"max_leverage": 100.0})
        )
        rows = model.samples(BlockStream(1, 0, 0, size), Sampling(), model.outputs)
        assert rows.tolist() == [[0.0] * size] * 8 + [[1.0] * size]


def test_a_position_aims_at_the_volatility_up_to_the_largest_leverage() -> None:
    prices = walk(4)
    rule = RULES[2] | {"volatility_target": 0.2, "max_leverage": 1.3}
    expected = plain.at_volatility(plain.momentum(prices, 5), prices, 20, 0.2, 1.3)
    found = held(prices, rule)
    assert found == pytest.approx(expected, rel=1e-12)
    assert np.abs(found).max() == 1.3
    assert 0 < np.abs(found[20:]).min() < 1.2


@pytest.mark.parametrize("pair", ["EURUSD", "USDJPY", "NZDHKD"])
@pytest.mark.parametrize(
    ("rule", "warm_up"),
    [
        ({"fast": 20, "slow": 100}, 99),
        ({"strategy": "momentum", "look_back": 250}, 250),
        ({"fast": 5, "slow": 30, "volatility_target": 0.08, "volatility_look_back": 90}, 90),
    ],
)
def test_history_agrees_with_a_plain_back_test(
    pair: str, rule: dict[str, Any], warm_up: int
) -> None:
    model = backtest(mode="history", pair=pair, cost=2.5, **rule)
    prices = model.prices()[0]
    positions = (
        plain.momentum(prices, rule["look_back"])
        if "look_back" in rule
        else plain.crossover(prices, rule["fast"], rule["slow"])
    )
    if "volatility_target" in rule:
        positions = plain.at_volatility(positions, prices, 90, 0.08, 3.0)
    net = plain.net_returns(prices, positions, warm_up, 2.5)
    assert history.net_returns(model) == pytest.approx(net, rel=1e-9, abs=1e-15)
    rows = model.samples(BlockStream(1, 0, 0, 1), Sampling(), model.outputs)
    assert rows[:4, 0] == pytest.approx(plain.figures(net), rel=1e-9)
    assert rows[4:8].tolist() == rows[:4].tolist()
    assert rows[8, 0] == pytest.approx(plain.block_length(net), rel=1e-9)


def test_a_portfolio_is_the_weighted_sum_of_its_legs_with_equal_weights_unless_given() -> None:
    legs = ["EURUSD", "GBPJPY", "AUDCAD"]
    alone = [history.net_returns(backtest(pair=leg)) for leg in legs]
    mixed = history.net_returns(backtest(legs=legs, weights=[0.5, -1.0, 2.0]))
    assert mixed == pytest.approx(0.5 * alone[0] - alone[1] + 2 * alone[2], rel=1e-12, abs=1e-17)
    equal = history.net_returns(backtest(legs=legs))
    assert equal == pytest.approx(sum(alone) / 3, rel=1e-12, abs=1e-17)


def test_only_the_days_between_first_and_last_date_count() -> None:
    whole = backtest().prices()[0]
    part = backtest(first_date="2005-01-03", last_date="2009-12-31").prices()[0]
    assert (part[0], part[-1]) == (1.3507, 1.4406)  # the euro on these two days
    start = whole.tolist().index(part[0])
    assert part.tolist() == whole[start : start + len(part)].tolist()
    assert 5 * 250 < len(part) < 5 * 262
