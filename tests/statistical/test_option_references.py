"""Option prices and greeks against known values: each within 4.5 standard errors.

A right model fails one check of independent samples with a chance of 7e-6, one of 32 Sobol blocks
and three controls, whose error has 28 degrees of freedom, with 1.1e-4; the seeds are fixed.
Everything runs through the consumer's and the aggregator's own code.
"""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consumer.models.asian import Asian
from consumer.models.barrier import Barrier
from consumer.models.european import European
from consumer.models.market import Market
from ops.bench.direct import run
from protocol.definition import Method, Sampling
from protocol.results import Estimate
from tests.support import closed_forms
from tests.support.barrier_recursion import discrete_barrier

DATA = Path(__file__).parents[1] / "data"
SEED = 20_260_101
RELATIVE = 2e-4
"""Standard error of a price against the reference tables, over the price."""

MARKET_NAMES = ("spot", "strike", "rate", "dividend_yield", "volatility", "maturity")
GREEKS = ("price", "delta", "vega", "gamma")
WAYS = [
    Sampling(method=method, control_variates=controlled)
    for method in Method
    for controlled in (False, True)
]


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def name_of(value: Any) -> str:
    if isinstance(value, Sampling):
        return f"{value.method}-{'controlled' if value.control_variates else 'bare'}"
    keys = ("averaging", "payoff", "option_type", "spot", "strike", "fixings", "includes_spot")
    return "-".join(value[key] for key in keys if value.get(key))


def params_of(row: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {name: float(row[name]) for name in MARKET_NAMES if row[name]}
    return found | {"option_type": row["option_type"]}


def asian_of(row: dict[str, str]) -> Asian:
    params = params_of(row) | {"averaging": row["averaging"], "payoff": row["payoff"]}
    count = int(row["fixings"])
    if row["first_fixing_day"]:
        first = int(row["first_fixing_day"])
        # The file prints six digits of it; its README gives the maturity exactly.
        params["maturity"] = (first + 330) / 360
        days = (first + i * 330 / (count - 1) for i in range(count))
        return Asian(**params, fixing_times=tuple(round(day) / 360 for day in days))
    if row["includes_spot"] == "1":
        maturity = params["maturity"]
        return Asian(**params, fixing_times=tuple(i * maturity / (count - 1) for i in range(count)))
    return Asian(**params, fixings=count)


def market_of(model: Market) -> closed_forms.Market:
    return closed_forms.Market(**{name: getattr(model, name) for name in MARKET_NAMES})


def agree(found: dict[str, Estimate], truth: dict[str, float], slack: float = 0.0) -> None:
    """Check every output that has a truth; slack is the relative error of the truth itself."""
    for name, value in truth.items():
        mean, error = found[name].mean, found[name].standard_error
        assert mean is not None
        assert error is not None
        assert abs(mean - value) <= 4.5 * error + slack * abs(value), (name, mean, value, error)


@pytest.mark.parametrize("row", rows("asian_options.csv"), ids=name_of)
def test_an_asian_price_agrees_with_its_reference(row: dict[str, str]) -> None:
    sampling = Sampling(method=Method.SOBOL, control_variates=row["averaging"] == "arithmetic")
    # A put far from the money, without controls, varies most; larger nets help it most.
    far = (
        row["averaging"] == "geometric" and row["option_type"] == "put" and row["strike"] == "90.0"
    )
    samples, block_size = (2**20, 2**15) if far else (2**17, 2**12)
    found = run(asian_of(row), sampling, samples, ("price",), block_size, SEED).outputs
    agree(found, {"price": float(row["value"])}, slack=1e-9)
    assert found["price"].standard_error <= RELATIVE * float(row["value"])


@pytest.mark.parametrize("row", rows("european_options.csv"), ids=name_of)
def test_a_european_option_agrees_with_its_reference(row: dict[str, str]) -> None:
    model = European(**params_of(row))
    truth = closed_forms.black_scholes(market_of(model), model.option_type == "call")
    assert truth["price"] == pytest.approx(float(row["value"]), abs=1e-11)
    sampling = Sampling(method=Method.SOBOL, control_variates=True)
    found = run(model, sampling, 2**20, GREEKS, 2**14, SEED).outputs
    agree(found, truth)
    for name, value in truth.items():
        assert found[name].standard_error <= RELATIVE * abs(value)


@pytest.mark.parametrize("sampling", WAYS, ids=name_of)
def test_the_greeks_of_an_asian_call_agree_with_their_references(sampling: Sampling) -> None:
    truth = {
        "price": 6.1560407664, "delta": 0.59385393, "gamma": 0.03057798, "vega": 23.0341505,
    }  # fmt: skip
    found = run(Asian(fixings=12), sampling, 2**19, GREEKS, 2**14, SEED).outputs
    agree(found, truth, slack=1e-8)
    if sampling.control_variates and sampling.method is Method.SOBOL:
        for name, value in truth.items():
            assert found[name].standard_error <= RELATIVE * value


@pytest.mark.parametrize("sampling", WAYS, ids=name_of)
@pytest.mark.parametrize("kind", ["call", "put"])
def test_the_greeks_of_a_european_option_are_black_and_scholes(
    kind: Any, sampling: Sampling
) -> None:
    model = European(
        option_type=kind, strike=110.0, dividend_yield=0.03, maturity=2.0, volatility=0.35
    )
    truth = closed_forms.black_scholes(market_of(model), kind == "call")
    agree(run(model, sampling, 2**19, GREEKS, seed=SEED).outputs, truth)


TIMES = ((0.25, 0.5, 1.25, 1.5), (0.0, 0.5, 1.0))


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("payoff", ["average_price", "average_strike"])
@pytest.mark.parametrize("kind", ["call", "put"])
def test_the_greeks_of_a_geometric_average_agree_with_its_closed_form(
    kind: Any, payoff: Any, times: tuple[float, ...], method: Method
) -> None:
    model = Asian(
        option_type=kind, averaging="geometric", payoff=payoff, fixing_times=times,
        strike=105.0, dividend_yield=0.02, maturity=1.5, volatility=0.3,
    )  # fmt: skip
    price = payoff == "average_price"
    formula = (
        closed_forms.geometric_average_price if price else closed_forms.geometric_average_strike
    )
    truth = formula(market_of(model), kind == "call", np.array(times))
    if not price:
        del truth["gamma"]  # it has none
    found = run(model, Sampling(method=method), 2**18, GREEKS, 4096, SEED).outputs
    agree(found, truth, slack=1e-5)


@pytest.mark.parametrize("payoff", ["average_price", "average_strike"])
def test_gamma_is_how_delta_moves_with_the_spot(payoff: Any) -> None:
    # Nearly all of the noise is common to the two deltas and divides by their distance.
    sampling = Sampling(method=Method.SOBOL, control_variates=True)
    model = Asian(payoff=payoff, fixing_times=(0.0, 0.3, 0.4, 0.9), strike=98.0, volatility=0.4)
    deltas = [
        run(model.model_copy(update={"spot": spot}), sampling, 2**19, ("delta",), 2**14, SEED)
        for spot in (99.0, 101.0)
    ]
    low, high = (found.outputs["delta"] for found in deltas)
    gamma = run(model, sampling, 2**19, ("gamma",), 2**14, SEED).outputs["gamma"]
    error = np.hypot(low.standard_error, high.standard_error) / 2 + gamma.standard_error
    assert abs((high.mean - low.mean) / 2 - gamma.mean) <= 4.5 * error + 1e-4 * abs(gamma.mean)


CONTRACT: dict[str, Any] = {
    "strike": 105.0, "rate": 0.05, "dividend_yield": 0.03, "volatility": 0.3, "maturity": 0.7,
    "rebate": 3.0,
}  # fmt: skip
LEVELS = {"up_and_out": 130.0, "up_and_in": 130.0, "down_and_out": 85.0, "down_and_in": 85.0}


@pytest.mark.parametrize("sampling", WAYS, ids=name_of)
@pytest.mark.parametrize("fixings", [1, 5])
@pytest.mark.parametrize("where", LEVELS)
@pytest.mark.parametrize("kind", ["call", "put"])
def test_a_continuously_watched_barrier_agrees_with_reiner_and_rubinstein(
    kind: Any, where: Any, fixings: int, sampling: Sampling
) -> None:
    model = Barrier(
        option_type=kind, barrier_type=where, barrier=LEVELS[where], monitoring="continuous",
        fixings=fixings, **CONTRACT,
    )  # fmt: skip
    market, up = market_of(model), where.startswith("up")
    truth = {
        "price": closed_forms.barrier_price(market, model.barrier, where, kind == "call", 3.0),
        "hit_probability": closed_forms.barrier_hit_probability(market, model.barrier, up),
    }
    agree(run(model, sampling, 2**17, model.outputs, 1024, SEED).outputs, truth)


@pytest.mark.parametrize("strike", [80.0, 140.0])
@pytest.mark.parametrize("where", LEVELS)
@pytest.mark.parametrize("kind", ["call", "put"])
def test_a_strike_beyond_either_barrier_agrees_with_reiner_and_rubinstein(
    kind: Any, where: Any, strike: float
) -> None:
    model = Barrier(
        option_type=kind, barrier_type=where, barrier=LEVELS[where], monitoring="continuous",
        **{**CONTRACT, "strike": strike},
    )  # fmt: skip
    call = kind == "call"
    truth = closed_forms.barrier_price(market_of(model), model.barrier, where, call, 3.0)
    found = run(model, Sampling(method=Method.SOBOL), 2**17, ("price",), 4096, SEED).outputs
    agree(found, {"price": truth})


def test_a_published_down_and_out_call_comes_out() -> None:
    sampling = Sampling(method=Method.SOBOL, control_variates=True)
    found = run(Barrier(monitoring="continuous"), sampling, 2**20, ("price",), 2**14, SEED).outputs
    agree(found, {"price": 9.949270308634219})
    assert found["price"].standard_error <= 1e-5


@pytest.mark.parametrize("sampling", WAYS, ids=name_of)
@pytest.mark.parametrize("where", LEVELS)
@pytest.mark.parametrize("kind", ["call", "put"])
def test_a_barrier_watched_at_dates_agrees_with_the_recursion(
    kind: Any, where: Any, sampling: Sampling
) -> None:
    model = Barrier(
        option_type=kind, barrier_type=where, barrier=LEVELS[where], fixings=12, **CONTRACT
    )
    price, hit = discrete_barrier(
        market_of(model), model.barrier, where, kind == "call", rebate=3.0, fixings=12
    )
    found = run(model, sampling, 2**17, model.outputs, 1024, SEED).outputs
    agree(found, {"price": price, "hit_probability": hit})


def test_a_barrier_watched_daily_agrees_with_the_recursion() -> None:
    price, hit = discrete_barrier(
        replace(closed_forms.Market()), 85.0, "down_and_out", call=True, rebate=0.0, fixings=252
    )
    found = run(Barrier(), Sampling(control_variates=True), 2**15, seed=SEED).outputs
    agree(found, {"price": price, "hit_probability": hit})
