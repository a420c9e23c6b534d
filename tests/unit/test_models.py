import math
from typing import Any

import numpy as np
import pytest

from consumer.models.asian import Asian
from consumer.models.pi import Pi
from protocol.definition import Sampling
from protocol.errors import UsageError
from protocol.model import Model, moments, validated
from protocol.statistics import BlockMoments
from protocol.streams import BlockStream


def simulate(model: Model, block: int = 0, size: int = 1024, seed: int = 1) -> BlockMoments:
    return model.simulate(BlockStream(seed, 0, block, size), Sampling(), model.outputs)


def test_pi_counts_the_darts_inside_the_circle() -> None:
    stream = BlockStream(3, 0, 0, 2048)
    even, odd = stream.uniform_pairs(0, 2)
    samples = 4.0 * np.concatenate((np.hypot(*even) < 1, np.hypot(*odd) < 1))
    found = simulate(Pi(), size=2048, seed=3)
    assert found.sums == [samples.sum()]
    assert found.squares[0] == pytest.approx(samples.var() * 2048, rel=1e-14)
    assert (found.minimum, found.maximum) == ([0.0], [4.0])


def test_pi_counts_exactly_what_its_samples_hold() -> None:
    samples = Pi().samples(BlockStream(1, 0, 0, 4096), Sampling(), ("pi",))
    counted, summed = simulate(Pi(), size=4096), moments(samples, 1)
    assert (counted.sums, counted.minimum, counted.maximum) == (
        summed.sums, summed.minimum, summed.maximum,
    )  # fmt: skip
    assert counted.squares[0] == pytest.approx(summed.squares[0], rel=1e-14)


def test_models_have_the_bits_they_always_had() -> None:
    pi, asian = simulate(Pi(), size=65_536), simulate(Asian())
    assert pi.sums == [205_988.0]
    assert [value.hex() for value in (*asian.sums, *asian.squares)] == [
        "0x1.7ee08cda519c0p+12",
        "0x1.053d92a407cfap+16",
    ]


def test_a_fixing_at_zero_is_the_spot_itself() -> None:
    found = simulate(Asian(fixing_times=(0.0,), spot=130.0, rate=0.1))
    assert found.minimum == found.maximum
    assert found.minimum[0] == pytest.approx(30 * math.exp(-0.1), rel=1e-15)


def test_equal_fixings_and_the_same_times_give_the_same_bits() -> None:
    times = tuple(i * 2.0 / 7 for i in range(1, 8))
    assert simulate(Asian(maturity=2.0, fixings=7)) == simulate(
        Asian(maturity=2.0, fixing_times=times)
    )


def test_put_and_call_differ_by_the_forward_on_every_path() -> None:
    call, put = simulate(Asian(fixings=12)), simulate(Asian(fixings=12, option_type="put"))
    forward = simulate(Asian(fixings=12, strike=0.0))
    discounted_strike = 1024 * 100 * math.exp(-0.05)
    parity = forward.sums[0] - discounted_strike
    assert call.sums[0] - put.sums[0] == pytest.approx(parity, rel=1e-10)


def test_default_parameters_are_part_of_the_definition() -> None:
    assert Asian().params() == Asian(fixings=252).params()
    assert Asian().params()["fixings"] == 252
    assert "fixings" not in Asian(fixing_times=(0.5, 1.0)).params()


def test_parameters_survive_a_round_trip_through_the_definition() -> None:
    for model in (Asian(), Asian(fixing_times=(0.0, 0.5, 1.0)), Pi()):
        assert validated(type(model), model.params()) == model


def test_every_parameter_has_a_description_and_a_unit() -> None:
    for name, field in Asian.model_json_schema()["properties"].items():
        assert field["description"], name
        assert "unit" in field, name


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"volatility": -0.2}, "params.volatility = -0.2 is not allowed: it should be greater"),
        ({"maturity": 0.0}, "params.maturity = 0.0 is not allowed: it should be greater than 0"),
        ({"fixings": 0}, "params.fixings = 0 is not allowed"),
        ({"fixings": 5000}, "params.fixings = 5000 is not allowed"),
        ({"fixing_times": (0.5, 0.2)}, "fixing_times must increase, but 0.2 follows 0.5"),
        ({"fixing_times": (0.5, 0.5)}, "fixing_times must increase"),
        ({"fixing_times": (0.5, 1.5)}, "fixing_times end at 1.5, after maturity 1.0"),
        ({"fixing_times": (-0.5, 0.5)}, "params.fixing_times.0 = -0.5 is not allowed"),
        ({"fixing_times": ()}, "params.fixing_times = () is not allowed"),
        ({"fixing_times": (1.0,), "fixings": 3}, "they exclude each other"),
        ({"fixings": None}, "give either fixings or fixing_times"),
        ({"spot": math.nan}, "params.spot = nan is not allowed"),
        ({"strike": "100"}, "params.strike = '100' is not allowed"),
        ({"option_type": "straddle"}, "params.option_type = 'straddle' is not allowed"),
        ({"volatilty": 0.2}, "params.volatilty is no parameter of model 'asian'"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        validated(Asian, params)
    assert sentence in str(caught.value)
