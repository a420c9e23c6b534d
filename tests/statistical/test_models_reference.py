"""Prices against near-exact values: each within 4.5 standard errors, a chance of 7e-6 each."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from consumer.models.asian import Asian
from consumer.models.pi import Pi
from protocol.definition import Sampling
from protocol.model import Model
from protocol.statistics import collect
from protocol.streams import BlockStream

REFERENCE = Path(__file__).parents[1] / "data" / "asian_options.csv"
SEED = 20_260_101
FIXING_BUDGET = 4_000_000
DEFAULT_CALL = 5.781824408


def rows() -> list[dict[str, str]]:
    with REFERENCE.open(encoding="utf-8") as file:
        return [
            row
            for row in csv.DictReader(file)
            if row["averaging"] == "arithmetic" and row["payoff"] == "average_price"
        ]


def fixing_times(row: dict[str, str], maturity: float) -> tuple[float, ...] | None:
    count = int(row["fixings"])
    if row["first_fixing_day"]:
        days = (int(row["first_fixing_day"]) + i * 330 / (count - 1) for i in range(count))
        return tuple(round(day) / 360 for day in days)
    if row["includes_spot"] == "1":
        return tuple(i * maturity / (count - 1) for i in range(count))
    return None


def model_of(row: dict[str, str]) -> Asian:
    names = ("spot", "strike", "rate", "dividend_yield", "volatility", "maturity")
    params: dict[str, Any] = {name: float(row[name]) for name in names}
    params["option_type"] = row["option_type"]
    if row["first_fixing_day"]:
        # The file prints six digits of it; its README gives the maturity exactly.
        params["maturity"] = (int(row["first_fixing_day"]) + 330) / 360
    times = fixing_times(row, params["maturity"])
    params |= {"fixings": int(row["fixings"])} if times is None else {"fixing_times": times}
    return Asian(**params)


def estimate(model: Model, samples: int) -> tuple[float, float]:
    size = model.block_size
    blocks = range(-(-samples // size))
    statistics = collect(
        (
            model.simulate(BlockStream(SEED, 0, block, size), Sampling(), model.outputs)
            for block in blocks
        ),
        size,
    )
    n, m = statistics.samples, size
    total = statistics.sums[0].fraction()
    scatter = statistics.squares[0].fraction() + statistics.cross[0].fraction() / m - total**2 / n
    return float(total / n), math.sqrt(scatter / (n * (n - 1)))


def name_of(row: dict[str, str]) -> str:
    return "-".join(row[key] for key in ("option_type", "strike", "fixings", "includes_spot"))


@pytest.mark.parametrize("row", rows(), ids=name_of)
def test_an_asian_price_agrees_with_its_reference(row: dict[str, str]) -> None:
    samples = max(16_384, min(262_144, FIXING_BUDGET // int(row["fixings"])))
    mean, error = estimate(model_of(row), samples)
    assert abs(mean - float(row["value"])) < 4.5 * error


def test_the_default_call_agrees_with_its_reference() -> None:
    mean, error = estimate(Asian(), 131_072)
    assert error < 0.025
    assert abs(mean - DEFAULT_CALL) < 4.5 * error


def test_the_mean_of_pi_is_pi() -> None:
    mean, error = estimate(Pi(), 2**22)
    assert error < 0.001
    assert abs(mean - math.pi) < 4.5 * error
