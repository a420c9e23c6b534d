"""The truths that the option models are tested against agree with published numbers and each other.

They are written twice, by independent routes: closed forms, quadrature, limits.
"""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.barrier_recursion import discrete_barrier
from tests.support.closed_forms import (
    Market,
    barrier_hit_probability,
    barrier_price,
    black_scholes,
    geometric_average_price,
    geometric_average_strike,
)

DATA = Path(__file__).parents[1] / "data"
TYPES = ("up_and_out", "up_and_in", "down_and_out", "down_and_in")


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_black_scholes_gives_the_reference_prices() -> None:
    for row in rows("european_options.csv"):
        names = ("spot", "strike", "rate", "dividend_yield", "volatility", "maturity")
        market = Market(**{name: float(row[name]) for name in names})
        found = black_scholes(market, row["option_type"] == "call")["price"]
        assert found == pytest.approx(float(row["value"]), abs=1e-11)


def test_the_geometric_average_gives_the_reference_prices() -> None:
    for row in rows("asian_options.csv"):
        if row["averaging"] == "geometric":
            n, spot = int(row["fixings"]), int(row["includes_spot"])
            market = Market(strike=float(row["strike"]))
            times = np.arange(1 - spot, n + 1 - spot) / (n - spot)
            found = geometric_average_price(market, row["option_type"] == "call", times)["price"]
            assert found == pytest.approx(float(row["value"]), abs=1e-9)


def test_an_average_strike_fixed_at_time_zero_is_a_european_option_at_the_spot() -> None:
    market = Market(dividend_yield=0.03)
    times = np.array([0.0])
    for call in (True, False):
        found = geometric_average_strike(market, call, times)["price"]
        assert found == pytest.approx(black_scholes(market, call)["price"], rel=1e-12)


def test_a_published_down_and_out_call_comes_out() -> None:
    assert barrier_price(Market(), 85, "down_and_out", call=True) == pytest.approx(
        9.949270, abs=5e-7
    )


@pytest.mark.parametrize("call", [True, False])
@pytest.mark.parametrize("barrier_type", TYPES)
def test_a_barrier_option_dies_and_lives_at_the_barriers_ends(
    barrier_type: str, call: bool
) -> None:
    near = 100.000001 if barrier_type.startswith("up") else 99.999999
    far = 1e6 if barrier_type.startswith("up") else 1e-4
    market = Market(strike=105.0, dividend_yield=0.02)
    plain = black_scholes(market, call)["price"]
    dead, alive = (far, near) if barrier_type.endswith("in") else (near, far)
    rebate = 3 * market.discount
    assert barrier_price(market, dead, barrier_type, call, 3.0) == pytest.approx(rebate, abs=1e-5)
    assert barrier_price(market, alive, barrier_type, call, 3.0) == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize("strike", [80.0, 100.0, 125.0])
@pytest.mark.parametrize("call", [True, False])
@pytest.mark.parametrize("barrier_type", TYPES)
def test_many_dates_approach_continuous_monitoring(
    barrier_type: str, call: bool, strike: float
) -> None:
    # Broadie, Glasserman and Kou (1997): n dates act like a barrier moved by 0.5826 deviations of
    # a step; what remains is of the order of 1/n.
    market = replace(Market(dividend_yield=0.02, maturity=0.7), strike=strike)
    up = barrier_type.startswith("up")
    barrier, n = (120.0, 120) if up else (85.0, 120)
    moved = barrier * np.exp((-1 if up else 1) * 0.5826 * market.deviation / np.sqrt(n))
    price, hit = discrete_barrier(market, moved, barrier_type, call, 3.0, n)
    assert price == pytest.approx(barrier_price(market, barrier, barrier_type, call, 3.0), abs=0.03)
    assert hit == pytest.approx(barrier_hit_probability(market, barrier, up), abs=1e-3)


def test_one_date_gives_a_difference_of_two_vanilla_options() -> None:
    # Down and out below the strike, watched at maturity only: the barrier has no effect.
    price, hit = discrete_barrier(Market(), 85.0, "down_and_out", call=True, rebate=0.0, fixings=1)
    assert price == pytest.approx(black_scholes(Market(), call=True)["price"], rel=1e-12)
    digital = Market(strike=85.0)
    put = black_scholes(digital, call=False)
    # The probability of ending below the barrier is the put's sensitivity to its strike.
    below = (put["price"] - put["delta"] * 100.0) / 85.0 / digital.discount
    assert hit == pytest.approx(below, rel=1e-12)
