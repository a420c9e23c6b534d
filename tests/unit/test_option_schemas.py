"""Parameters of the option models: defaults, and sentences about nonsense beyond the bounds."""

import math
import subprocess
import sys
from typing import Any

import pytest

from consumer.models.asian import Asian
from consumer.models.barrier import Barrier
from consumer.models.european import European
from consumer.models.market import Market
from protocol.definition import Method, Sampling
from protocol.errors import UsageError
from protocol.model import validated
from protocol.registry import load_model

MODELS: tuple[type[Market], ...] = (European, Asian, Barrier)


@pytest.mark.parametrize("model", MODELS)
def test_every_parameter_has_a_description_a_unit_and_a_default(model: type[Market]) -> None:
    for name, field in model.model_json_schema()["properties"].items():
        assert field["description"], name
        assert "unit" in field, name
        assert "default" in field, name


@pytest.mark.parametrize("model", MODELS)
def test_the_models_are_installed(model: type[Market]) -> None:
    assert load_model(model.name) is model


@pytest.mark.parametrize(
    ("model", "params", "sentence"),
    [
        (European, {"volatility": -0.2}, "params.volatility = -0.2 is not allowed: it should be"),
        (European, {"maturity": 0.0}, "params.maturity = 0.0 is not allowed: it should be greater"),
        (European, {"spot": math.nan}, "params.spot = nan is not allowed"),
        (European, {"strike": "100"}, "params.strike = '100' is not allowed"),
        (European, {"option_type": "straddle"}, "params.option_type = 'straddle' is not allowed"),
        (European, {"fixings": 3}, "params.fixings is no parameter of model 'european'"),
        (Asian, {"averaging": "harmonic"}, "params.averaging = 'harmonic' is not allowed"),
        (Asian, {"payoff": "lookback"}, "params.payoff = 'lookback' is not allowed"),
        (Asian, {"fixings": 0}, "params.fixings = 0 is not allowed"),
        (Asian, {"fixing_times": (0.5, 0.2)}, "fixing_times must increase, but 0.2 follows 0.5"),
        (Asian, {"fixing_times": (0.5, 0.5)}, "fixing_times must increase"),
        (Asian, {"fixing_times": (1e-300,)}, "fixing_times begin at 1e-300 after 0, allowed is"),
        (Asian, {"fixing_times": (0.0, 9e-10)}, "fixing_times begin at 9e-10 after 0, allowed is"),
        (
            Asian,
            {"payoff": "average_strike", "fixing_times": (math.nextafter(1.0, 0.0), 1.0)},
            "are all too close to maturity 1.0 for payoff = 'average_strike'",
        ),
        (Asian, {"fixing_times": (0.5, 1.5)}, "fixing_times end at 1.5, after maturity 1.0"),
        (Asian, {"fixing_times": (-0.5, 0.5)}, "params.fixing_times.0 = -0.5 is not allowed"),
        (Asian, {"fixing_times": (101.0,)}, "params.fixing_times.0 = 101.0 is not allowed"),
        (Asian, {"fixing_times": ()}, "params.fixing_times = () is not allowed"),
        (Asian, {"fixing_times": (0.0,) * 4097}, "is not allowed: it should have at most 4096"),
        (Asian, {"fixing_times": (1.0,), "fixings": 3}, "they exclude each other"),
        (Asian, {"fixings": None}, "give either fixings or fixing_times"),
        (Asian, {"fixing_times": (0.0,)}, "fixing_times = (0.0,) fixes only the spot"),
        (Asian, {"payoff": "average_strike", "fixings": 1}, "always pays 0"),
        (Asian, {"payoff": "average_strike", "fixing_times": (1.0,)}, "always pays 0"),
        (Asian, {"volatilty": 0.2}, "params.volatilty is no parameter of model 'asian'"),
        (Barrier, {"barrier_type": "sideways"}, "params.barrier_type = 'sideways' is not allowed"),
        (Barrier, {"monitoring": "weekly"}, "params.monitoring = 'weekly' is not allowed"),
        (Barrier, {"barrier": 100.0}, "barrier = 100.0 must be below spot = 100.0"),
        (Barrier, {"barrier": 120.0}, "barrier = 120.0 must be below spot = 100.0"),
        (Barrier, {"barrier_type": "up_and_in"}, "barrier = 85.0 must be above spot = 100.0"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(
    model: type[Market], params: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        validated(model, params)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_average_strike_may_be_fixed_once_before_maturity() -> None:
    for times in ((0.0,), (0.5,)):
        validated(Asian, {"payoff": "average_strike", "fixing_times": times})


def test_control_variates_of_the_geometric_average_are_refused() -> None:
    with pytest.raises(ValueError, match="the geometric average is the control itself"):
        Asian(averaging="geometric").check_sampling(Sampling(control_variates=True), 1024)
    for model in (Asian(), Asian(payoff="average_strike"), European(), Barrier()):
        for method in Method:
            model.check_sampling(Sampling(method=method, control_variates=True), 1024)


def test_default_parameters_are_part_of_the_definition() -> None:
    assert Asian().params() == Asian(fixings=252).params()
    assert Asian().params()["fixings"] == 252
    assert "fixings" not in Asian(fixing_times=(0.5, 1.0)).params()
    assert Barrier().params()["fixings"] == 252
    assert Barrier(monitoring="continuous").params()["fixings"] == 1
    assert Barrier(monitoring="continuous", fixings=4).params()["fixings"] == 4


def test_parameters_survive_a_round_trip_through_the_definition() -> None:
    for model in (
        European(option_type="put"),
        Asian(),
        Asian(fixing_times=(0.0, 0.5, 1.0)),
        Barrier(monitoring="continuous"),
    ):
        assert validated(type(model), model.params()) == model


def test_a_list_of_fixing_times_stands_for_a_tuple() -> None:
    assert validated(Asian, {"fixing_times": [0.5, 1]}) == Asian(fixing_times=(0.5, 1.0))


def test_loading_and_checking_models_needs_no_compiler() -> None:
    text = (
        "import sys\n"
        "from protocol.model import validated\n"
        "from protocol.registry import load_model\n"
        "for name in ('european', 'asian', 'barrier'):\n"
        "    validated(load_model(name), {})\n"
        "found = {'numba', 'scipy', 'llvmlite'} & set(sys.modules)\n"
        "sys.exit(f'loaded {found}' if found else 0)\n"
    )
    subprocess.run([sys.executable, "-c", text], check=True)  # noqa: S603 - our own text
