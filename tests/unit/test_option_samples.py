"""Samples of the option models against plain numpy on the same normals, and against each other."""

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from consumer.models import asian, barrier
from consumer.models.asian import Asian
from consumer.models.barrier import Barrier
from consumer.models.european import European
from consumer.models.market import Market
from protocol.definition import Method, Sampling
from protocol.streams import BlockStream
from tests.support import closed_forms

Doubles = NDArray[np.float64]

SIZE = 512
PLAIN, ANTITHETIC = Sampling(), Sampling(method=Method.ANTITHETIC)
CONTROLLED = Sampling(control_variates=True)
MARKET: dict[str, Any] = {
    "spot": 90.0, "strike": 95.0, "rate": 0.04, "dividend_yield": 0.02, "volatility": 0.3,
    "maturity": 1.5,
}  # fmt: skip
TIMES = ((0.25, 0.5, 1.25, 1.5), (0.0, 0.5, 1.0), (0.75,), (1.5,))
BARRIERS = {"up_and_out": 120.0, "up_and_in": 120.0, "down_and_out": 80.0, "down_and_in": 80.0}

EUROPEANS = [European(option_type=kind, **MARKET) for kind in ("call", "put")]
ASIANS = [
    Asian(option_type=kind, averaging=averaging, payoff=payoff, fixing_times=times, **MARKET)
    for kind in ("call", "put")
    for averaging in ("arithmetic", "geometric")
    for payoff in ("average_price", "average_strike")
    for times in TIMES
    if payoff == "average_price" or times != (1.5,)
]
BARRIER_OPTIONS = [
    Barrier(
        option_type=kind, barrier_type=where, barrier=level, rebate=2.0, monitoring=monitoring,
        fixings=5, **MARKET,
    )
    for kind in ("call", "put")
    for where, level in BARRIERS.items()
    for monitoring in ("discrete", "continuous")
]  # fmt: skip
ALL = [*EUROPEANS, *ASIANS, *BARRIER_OPTIONS]
ARITHMETIC = [model for model in ASIANS if model.averaging == "arithmetic"]
CONTROLLABLE = [*EUROPEANS, *ARITHMETIC, *BARRIER_OPTIONS]


def name_of(model: Market) -> str:
    odd = [str(value) for key, value in model.params().items() if key not in MARKET]
    return "-".join([model.name, *odd])


def samples(
    model: Market,
    sampling: Sampling = PLAIN,
    outputs: tuple[str, ...] | None = None,
    size: int = SIZE,
    block: int = 0,
) -> Doubles:
    stream = BlockStream(7, 2, block, size)
    return model.samples(stream, sampling, model.outputs if outputs is None else outputs)


def normals(steps: int, pairs: int) -> Doubles:
    """Return Box and Muller's normals of the block, (steps, 2 * pairs), even samples first."""
    radius, turns = BlockStream(7, 2, 0, 2 * pairs).uniform_pairs(0, steps)
    radius = np.sqrt(-2 * np.log(radius))
    angle = 2 * np.pi * turns
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)), axis=1)


def paths(model: Market, ends: Doubles, z: Doubles) -> Doubles:
    """Return prices at these times, (times, samples), by the textbook."""
    steps = np.diff(ends, prepend=0.0)[:, np.newaxis]
    drift = model.rate - model.dividend_yield - model.volatility**2 / 2
    moves = drift * steps + model.volatility * np.sqrt(steps) * z
    return model.spot * np.exp(np.cumsum(moves, axis=0))


def textbook(model: Market, z: Doubles | None = None) -> Doubles:
    """Return the discounted payoff of each sample."""
    ends = textbook_times(model)
    spots = paths(model, ends, normals(len(ends), SIZE // 2) if z is None else z)
    sign = 1 if model.option_type == "call" else -1
    strike: Any = model.strike
    price = spots[-1]
    if isinstance(model, Asian):
        assert model.fixing_times is not None
        fixed = spots[[i for i, end in enumerate(ends) if end in model.fixing_times]]
        if model.fixing_times[0] == 0.0:
            fixed = np.concatenate((np.full_like(spots[:1], model.spot), fixed))
        geometric = model.averaging == "geometric"
        average = np.exp(np.log(fixed).mean(axis=0)) if geometric else fixed.mean(axis=0)
        if model.payoff == "average_strike":
            strike = average
        else:
            price = average
    value = np.maximum(sign * (price - strike), 0.0)
    if isinstance(model, Barrier):
        value = barrier_value(model, ends, spots, value)
    return np.exp(-model.rate * model.maturity) * value


def textbook_times(model: Market) -> Doubles:
    if isinstance(model, Asian):
        assert model.fixing_times is not None
        late = {model.maturity} if model.payoff == "average_strike" else set()
        return np.array(sorted({*model.fixing_times} - {0.0} | late))
    if isinstance(model, Barrier):
        return np.linspace(0, model.maturity, model.fixings + 1)[1:]
    return np.array([model.maturity])


def barrier_value(model: Barrier, ends: Doubles, spots: Doubles, value: Doubles) -> Doubles:
    distance = np.log(model.barrier / spots)
    if not model.barrier_type.startswith("up"):
        distance = -distance
    alive = np.all(distance > 0, axis=0).astype(float)
    if model.monitoring == "continuous":
        before = np.concatenate((np.full_like(distance[:1], first_distance(model)), distance[:-1]))
        variance = model.volatility**2 * np.diff(ends, prepend=0.0)[:, np.newaxis]
        touched = np.exp(-2 * np.maximum(before, 0) * np.maximum(distance, 0) / variance)
        alive = np.prod(1 - touched, axis=0)
    lives = alive if model.barrier_type.endswith("out") else 1 - alive
    return lives * value + (1 - lives) * model.rebate


def first_distance(model: Barrier) -> float:
    return abs(float(np.log(model.barrier / model.spot)))


@pytest.mark.parametrize("model", ALL, ids=name_of)
def test_prices_are_the_textbooks_on_every_path(model: Market) -> None:
    found = samples(model, outputs=("price",))
    np.testing.assert_allclose(found[0], textbook(model), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("model", ALL, ids=name_of)
def test_an_antithetic_sample_is_the_average_of_a_path_and_its_mirror_image(model: Market) -> None:
    z = normals(len(textbook_times(model)), SIZE // 2)
    average = 0.5 * (textbook(model, z) + textbook(model, -z))
    found = samples(model, ANTITHETIC, ("price",))
    np.testing.assert_allclose(found[0], average, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("sampling", [PLAIN, ANTITHETIC])
@pytest.mark.parametrize("model", [*EUROPEANS, *ASIANS], ids=name_of)
def test_delta_and_vega_are_derivatives_along_the_path(model: Market, sampling: Sampling) -> None:
    for output, field, step in (("delta", "spot", 1e-4), ("vega", "volatility", 1e-6)):
        value = getattr(model, field)
        up, down = (
            samples(type(model)(**{**model.params(), field: value + h}), sampling, ("price",))[0]
            for h in (step, -step)
        )
        found = samples(model, sampling, (output,))[0]
        difference = (up - down) / (2 * step)
        # Only where a payoff ends within the difference may they differ.
        close = np.isclose(difference, found, rtol=1e-6, atol=2e-6)
        assert np.count_nonzero(~close) <= 2
        assert np.any(found != 0.0)


@pytest.mark.parametrize("model", ALL, ids=name_of)
def test_some_outputs_are_rows_of_all_outputs(model: Market) -> None:
    whole = samples(model)
    assert whole.shape == (len(model.outputs), SIZE)
    assert whole.flags.c_contiguous
    for row, name in enumerate(model.outputs):
        np.testing.assert_array_equal(samples(model, outputs=(name,))[0], whole[row])
    backwards = samples(model, outputs=model.outputs[::-1])
    np.testing.assert_array_equal(backwards, whole[::-1])


@pytest.mark.parametrize("sampling", [PLAIN, ANTITHETIC])
@pytest.mark.parametrize("model", CONTROLLABLE, ids=name_of)
def test_controls_come_after_the_outputs_and_change_none(model: Market, sampling: Sampling) -> None:
    outputs = (model.outputs[0],)
    controlled = sampling.model_copy(update={"control_variates": True})
    found = samples(model, controlled, outputs)
    assert found.shape == (1 + len(model.controls), SIZE)
    np.testing.assert_array_equal(found[0], samples(model, sampling, outputs)[0])


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("model", ALL, ids=name_of)
def test_samples_do_not_depend_on_how_a_block_is_cut_into_tiles(
    model: Market, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = Sampling(method=method)
    size, lanes = (1024, 128) if method is Method.SOBOL else (1250, 200)
    whole = samples(model, sampling, size=size)
    monkeypatch.setattr("consumer.kernels.payoff.LANES", lanes)
    np.testing.assert_array_equal(samples(model, sampling, size=size), whole)


def test_the_faster_exponential_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = [samples(model) for model in ASIANS]
    monkeypatch.setattr("consumer.kernels.asian_terms.BOUND", 0.0)
    asian._cell.cache_clear()
    slow = [samples(model) for model in ASIANS]
    assert not any(asian._cell(model).terms.bounded for model in ASIANS)
    monkeypatch.undo()
    asian._cell.cache_clear()
    assert all(asian._cell(model).terms.bounded for model in ASIANS)
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("model", ARITHMETIC, ids=name_of)
def test_controls_are_centred_by_the_closed_forms(model: Asian) -> None:
    market = closed_forms.Market(**MARKET)
    call = model.option_type == "call"
    strike = model.payoff == "average_strike"
    formula = (
        closed_forms.geometric_average_strike if strike else closed_forms.geometric_average_price
    )
    truth = formula(market, call, np.array(model.fixing_times))
    price, delta, vega = asian._cell(model).centres
    assert price == pytest.approx(truth["price"], rel=1e-12)
    assert delta == (0.0 if strike else pytest.approx(truth["delta"], rel=1e-5))
    assert vega == pytest.approx(truth["vega"], rel=1e-6)


@pytest.mark.parametrize("model", ARITHMETIC, ids=name_of)
def test_the_controls_are_the_geometric_averages_outputs_centred(model: Asian) -> None:
    geometric = Asian(**{**model.params(), "averaging": "geometric"})
    outputs = samples(geometric, outputs=("price", "delta", "vega"))
    if model.payoff == "average_strike":
        outputs[1] = 0.0
    controls = samples(model, CONTROLLED, ())
    centres = asian._cell(model).centres[:, np.newaxis]
    np.testing.assert_allclose(controls, outputs - centres, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("model", EUROPEANS, ids=name_of)
def test_the_control_of_a_european_is_its_centred_discounted_terminal_price(
    model: European,
) -> None:
    z = normals(1, SIZE // 2)
    discount = np.exp(-model.rate * model.maturity)
    terminal = paths(model, np.array([model.maturity]), z)[0]
    expected = discount * terminal - model.spot * np.exp(-model.dividend_yield * model.maturity)
    np.testing.assert_allclose(samples(model, CONTROLLED, ())[0], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("model", BARRIER_OPTIONS, ids=name_of)
def test_the_control_of_a_barrier_option_is_the_centred_option_without_barrier(
    model: Barrier,
) -> None:
    without = Barrier(**{
        **model.params(), "barrier": 1e9, "barrier_type": "up_and_out", "monitoring": "discrete",
    })  # fmt: skip
    market = closed_forms.Market(**MARKET)
    truth = closed_forms.black_scholes(market, model.option_type == "call")["price"]
    assert barrier._cell(model).vanilla == pytest.approx(truth, rel=1e-12)
    expected = samples(without, outputs=("price",))[0] - truth
    np.testing.assert_allclose(samples(model, CONTROLLED, ())[0], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("monitoring", ["discrete", "continuous"])
@pytest.mark.parametrize("where", ["up", "down"])
def test_in_and_out_are_the_option_without_barrier_on_every_path(
    where: str, monitoring: str
) -> None:
    both = [
        model
        for model in BARRIER_OPTIONS
        if model.barrier_type.startswith(where)
        and model.monitoring == monitoring
        and model.option_type == "call"
    ]
    assert {model.barrier_type for model in both} == {f"{where}_and_out", f"{where}_and_in"}
    vanilla = samples(both[0], CONTROLLED, ())[0] + barrier._cell(both[0]).vanilla
    rebate = 2.0 * np.exp(-MARKET["rate"] * MARKET["maturity"])
    total = sum(samples(model, outputs=("price",))[0] for model in both)
    np.testing.assert_allclose(total, vanilla + rebate, rtol=1e-12)
    np.testing.assert_array_equal(*(samples(m, outputs=("hit_probability",)) for m in both))


def test_watching_between_the_dates_can_only_find_more_hits() -> None:
    for continuous in BARRIER_OPTIONS:
        if continuous.monitoring == "continuous":
            discrete = Barrier(**{**continuous.params(), "monitoring": "discrete"})
            more = samples(continuous, outputs=("hit_probability",))
            fewer = samples(discrete, outputs=("hit_probability",))
            assert set(np.unique(fewer)) == {0.0, 1.0}
            assert np.all(more >= fewer)
            assert np.any(more > fewer)


def test_equal_fixings_and_the_same_times_give_the_same_bits() -> None:
    times = tuple(i * 2.0 / 7 for i in range(1, 8))
    equal, explicit = Asian(maturity=2.0, fixings=7), Asian(maturity=2.0, fixing_times=times)
    np.testing.assert_array_equal(samples(equal), samples(explicit))


def test_an_average_strike_fixed_at_time_zero_is_a_european_option_at_the_spot() -> None:
    outputs = ("price", "vega")
    strike = Asian(payoff="average_strike", fixing_times=(0.0,), **MARKET)
    european = European(**{**MARKET, "strike": MARKET["spot"]})
    found, expected = samples(strike, outputs=outputs), samples(european, outputs=outputs)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)
    # Its control is the option itself.
    control = samples(strike, CONTROLLED, ("price",))
    truth = asian._cell(strike).centres[0]
    np.testing.assert_allclose(control[1], control[0] - truth, rtol=1e-11, atol=1e-11)


def test_an_average_strike_has_no_gamma() -> None:
    found = samples(Asian(payoff="average_strike", fixings=12), outputs=("gamma",))
    np.testing.assert_array_equal(found, 0.0)


def corners() -> list[dict[str, Any]]:
    """Return all combinations of the bounds of the underlying, the contract and its maturity."""
    ends = {
        "spot": (1e-9, 1e9), "strike": (0.0, 1e9), "volatility": (1e-6, 5.0),
        "maturity": (1e-6, 100.0), "rate": (-1.0, 1.0), "dividend_yield": (-1.0, 1.0),
        "option_type": ("call", "put"),
    }  # fmt: skip
    return [dict(zip(ends, values, strict=True)) for values in itertools.product(*ends.values())]


def test_samples_and_their_squares_are_finite_wherever_bounds_meet() -> None:
    for corner in corners():
        spot = corner["spot"]
        for model in (
            European(**corner),
            Asian(fixings=3, **corner),
            Asian(fixing_times=(1e-9,), **corner),
            Asian(fixings=3, payoff="average_strike", **corner),
            Barrier(fixings=2, barrier=0.5 * spot, rebate=1e9, **corner),
            Barrier(barrier=0.9999999 * spot, monitoring="continuous", **corner),
            Barrier(barrier=1e-12, monitoring="continuous", **corner),
        ):
            found = samples(model, CONTROLLED, size=16)
            assert np.isfinite(found * found).all(), (model.name, corner)


@pytest.mark.parametrize("sampling", [PLAIN, ANTITHETIC])
@pytest.mark.parametrize("kind", ["call", "put"])
@pytest.mark.parametrize(
    "extreme",
    [
        {"volatility": 5.0, "maturity": 100.0},
        {"volatility": 1e-6, "maturity": 1e-6},
        {"volatility": 5.0, "maturity": 100.0, "rate": 1.0, "dividend_yield": -1.0},
        {"volatility": 5.0, "maturity": 100.0, "rate": -1.0, "dividend_yield": 1.0},
        {"rate": 1.0, "maturity": 100.0, "spot": 1e9, "strike": 0.0},
        {"spot": 1e-9, "strike": 1e9},
    ],
)
def test_samples_are_finite_at_the_ends_of_the_bounds(
    extreme: dict[str, Any], kind: Any, sampling: Sampling
) -> None:
    controlled = sampling.model_copy(update={"control_variates": True})
    low = extreme.get("spot", 100.0) / 2
    for model in (
        European(option_type=kind, **extreme),
        Asian(option_type=kind, fixings=50, **extreme),
        Asian(option_type=kind, fixings=50, payoff="average_strike", **extreme),
        Barrier(option_type=kind, fixings=50, barrier=low, **extreme),
        Barrier(option_type=kind, fixings=50, barrier=low, monitoring="continuous", **extreme),
    ):
        assert np.isfinite(samples(model, controlled, size=4096)).all(), model.name
    geometric = Asian(option_type=kind, fixings=50, averaging="geometric", **extreme)
    assert np.isfinite(samples(geometric, sampling, size=4096)).all()
