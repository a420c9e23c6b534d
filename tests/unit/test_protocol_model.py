"""The model interface: validation sentences, moments of samples, the smallest model."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from protocol.definition import Definition, Method, Sampling
from protocol.errors import UsageError
from protocol.model import GeneratorModel, Model, moments, tree_sum, validated
from protocol.streams import BlockStream


class Toy(GeneratorModel):
    name: ClassVar[str] = "toy"
    outputs: ClassVar[tuple[str, ...]] = ("x", "y")

    spot: Annotated[float, Field(gt=0)] = 100.0
    fixings: Annotated[int, Field(ge=1, le=10)] = 2
    kind: Literal["call", "put"] = "call"
    label: Annotated[str, Field(min_length=2)] = "ab"
    times: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    strike: float

    @field_validator("strike")
    @classmethod
    def _not_thirteen(cls, value: float) -> float:
        if value == 13:
            raise ValueError("13 brings bad luck")
        return value

    @model_validator(mode="after")
    def _below_spot(self) -> Self:
        if self.strike > self.spot:
            raise ValueError("the strike must not lie above the spot")
        return self

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        return self.strike + rng.random((n, 2))


class Bare(GeneratorModel):
    name: ClassVar[str] = "bare"
    outputs: ClassVar[tuple[str, ...]] = ("x",)

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        return rng.random((n, 1))


class Misshapen(Toy):
    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        return rng.random(n)


def test_a_model_without_parameters_says_that_it_has_none() -> None:
    assert validated(Bare, {}) == Bare()
    with pytest.raises(UsageError) as refused:
        validated(Bare, {"color": 2}, "cells[1]")
    assert str(refused.value) == "cells[1].color is no parameter of model 'bare', which has none"


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({}, "params.strike is missing; model 'toy' needs it"),
        (
            {"strike": 1, "color": 2},
            (
                "params.color is no parameter of model 'toy'; "
                "allowed are spot, fixings, kind, label, times, strike"
            ),
        ),
        ({"strike": 1, "spot": -1}, "params.spot = -1 is not allowed: it should be greater than 0"),
        (
            {"strike": 1, "fixings": 2.5},
            "params.fixings = 2.5 is not allowed: it should be a valid integer",
        ),
        (
            {"strike": 1, "fixings": 11},
            "params.fixings = 11 is not allowed: it should be less than or equal to 10",
        ),
        (
            {"strike": 1, "fixings": True},
            "params.fixings = True is not allowed: it should be a valid integer",
        ),
        (
            {"strike": "1"},
            "params.strike = '1' is not allowed: it should be a valid number",
        ),
        (
            {"strike": math.nan},
            "params.strike = nan is not allowed: it should be a finite number",
        ),
        (
            {"strike": 1, "kind": "cal"},
            "params.kind = 'cal' is not allowed: it should be 'call' or 'put'",
        ),
        (
            {"strike": 1, "label": "a"},
            "params.label = 'a' is not allowed: it should have at least 2 characters",
        ),
        (
            {"strike": 1, "times": [0.5, "x"]},
            "params.times.1 = 'x' is not allowed: it should be a valid number",
        ),
        (
            {"strike": 1, "times": []},
            ("params.times = () is not allowed: it should have at least 1 item"),
        ),
        ({"strike": 13}, "params.strike = 13: 13 brings bad luck"),
        ({"strike": 101}, "params: the strike must not lie above the spot"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_value_and_what_is_allowed(
    params: Mapping[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        validated(Toy, params)
    assert str(caught.value) == sentence


def test_the_place_of_a_wrong_parameter_can_be_named() -> None:
    with pytest.raises(UsageError, match=r"^cells\.3\.strike is missing"):
        validated(Toy, {}, "cells.3")


def test_parameters_hold_the_defaults_and_leave_out_what_is_not_set() -> None:
    assert validated(Toy, {"strike": 5}).params() == {
        "spot": 100.0, "fixings": 2, "kind": "call", "label": "ab", "strike": 5.0,
    }  # fmt: skip


def test_a_list_stands_for_a_tuple() -> None:
    assert validated(Toy, {"strike": 5, "times": [1, 2.5]}).params()["times"] == (1.0, 2.5)


def hash_of(params: Mapping[str, Any]) -> bytes:
    cells = (validated(Toy, params).params(),)
    return Definition(
        model="toy", model_version=1, outputs=("x", "y"), cells=cells, seed=0, block_size=2
    ).hash


def test_the_definition_hash_does_not_depend_on_how_a_number_is_spelt() -> None:
    assert hash_of({"strike": 1}) == hash_of({"strike": 1.0})
    assert hash_of({"strike": 1}) == hash_of({"spot": 100, "strike": 1.0, "fixings": 2})
    assert hash_of({"strike": 1}) != hash_of({"strike": 1.0000000000000002})


def test_a_block_is_a_function_of_its_stream() -> None:
    model = validated(Toy, {"strike": 5})
    first = model.simulate(BlockStream(1, 0, 0, 64), Sampling(), model.outputs)
    assert first == model.simulate(BlockStream(1, 0, 0, 64), Sampling(), model.outputs)
    assert first != model.simulate(BlockStream(1, 0, 1, 64), Sampling(), model.outputs)


def test_samples_of_a_wrong_shape_are_refused() -> None:
    model = validated(Misshapen, {"strike": 5})
    with pytest.raises(ValueError, match=r"shape \(64,\), expected \(64, 2\)"):
        model.simulate(BlockStream(1, 0, 0, 64), Sampling(), model.outputs)


def test_moments_agree_with_numpy() -> None:
    samples = np.random.default_rng(5).normal(3.0, 2.0, (1000, 3))
    found = moments(np.ascontiguousarray(samples.T), 3)
    assert np.allclose(found.sums, samples.sum(axis=0), rtol=1e-13)
    assert np.allclose(found.squares, samples.var(axis=0) * 1000, rtol=1e-12)
    assert np.array_equal(found.minimum, samples.min(axis=0))
    assert np.array_equal(found.maximum, samples.max(axis=0))


def test_only_the_outputs_asked_for_are_given_in_the_order_asked() -> None:
    model = validated(Toy, {"strike": 5})
    stream = BlockStream(1, 0, 0, 64)
    x, y = model.samples(stream, Sampling(), ("x", "y"))
    for outputs, rows in ((("y", "x"), [y, x]), (("y",), [y])):
        found = model.samples(stream, Sampling(), outputs)
        assert np.array_equal(found, rows)
        assert found.flags.c_contiguous
        assert model.simulate(stream, Sampling(), outputs) == moments(found, len(outputs))


class Steered(Toy):
    """Has a control column, the centred uniform number behind the first output."""

    methods: ClassVar[tuple[Method, ...]] = (Method.PSEUDO, Method.SOBOL)
    controls: ClassVar[tuple[str, ...]] = ("uniform",)
    single_sample_blocks: ClassVar[bool] = True

    def samples(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> NDArray[np.float64]:
        rows = super().samples(stream, sampling, outputs)
        return (
            np.vstack((rows, rows[:1] - self.strike - 0.5)) if sampling.control_variates else rows
        )


CONTROLLED = Sampling(control_variates=True)


def test_with_controls_the_second_moments_are_the_lower_triangle_by_rows() -> None:
    model, stream = validated(Steered, {"strike": 5}), BlockStream(1, 0, 0, 63)
    samples = model.samples(stream, CONTROLLED, ("x", "y"))
    found = model.simulate(stream, CONTROLLED, ("x", "y"))
    matrix = np.cov(samples, bias=True) * 63
    assert np.allclose(found.squares, matrix[np.tril_indices(3)], rtol=1e-12)
    assert np.allclose(found.sums, samples.sum(axis=1), rtol=1e-13)
    # The diagonal has the same bits as without controls.
    plain = model.simulate(stream, Sampling(), ("x", "y"))
    assert [found.squares[0], found.squares[2]] == plain.squares
    assert (found.minimum, found.maximum) == (plain.minimum, plain.maximum)


def test_a_control_column_that_is_missing_is_noticed() -> None:
    class Forgetful(Steered):
        controls: ClassVar[tuple[str, ...]] = ("uniform", "another")

    model = validated(Forgetful, {"strike": 5})
    with pytest.raises(ValueError, match=r"shape \(2, 8\), expected \(3, 8\)"):
        model.simulate(BlockStream(1, 0, 0, 8), CONTROLLED, ("x",))


@pytest.mark.parametrize(
    ("model", "sampling", "block_size", "sentence"),
    [
        (Toy, Sampling(), 3, "sampling.block_size = 3 is not allowed: it should be even"),
        (Toy, Sampling(), 1, "sampling.block_size = 1 is not allowed: it should be even"),
        (Steered, Sampling(), 3, "sampling.block_size = 3 is not allowed: it should be even or 1"),
        (
            Toy,
            Sampling(method=Method.ANTITHETIC),
            2,
            "sampling.method = 'antithetic' is not offered by model 'toy'; allowed are pseudo",
        ),
        (Toy, CONTROLLED, 2, "sampling.control_variates = true: model 'toy' has none"),
        (
            Steered,
            Sampling(method=Method.SOBOL),
            48,
            (
                "sampling.block_size = 48 is not allowed with sampling.method = 'sobol': "
                "it should be a power of two, at least 2"
            ),
        ),
    ],
)
def test_sampling_that_a_model_cannot_have_is_refused(
    model: type[Model], sampling: Sampling, block_size: int, sentence: str
) -> None:
    with pytest.raises(ValueError, match="sampling") as caught:
        validated(model, {"strike": 5}).check_sampling(sampling, block_size)
    assert str(caught.value) == sentence


def test_sampling_that_a_model_offers_is_accepted() -> None:
    model = validated(Steered, {"strike": 5})
    for sampling, size in (
        (Sampling(), 1), (Sampling(), 6), (CONTROLLED, 2), (Sampling(method=Method.SOBOL), 64),
    ):  # fmt: skip
        model.check_sampling(sampling, size)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 31, 64, 100])
def test_a_tree_sum_leaves_nothing_out(length: int) -> None:
    assert tree_sum(np.arange(length, dtype=np.float64)[np.newaxis]) == [length * (length - 1) / 2]


def test_a_tree_sum_folds_halves_onto_each_other() -> None:
    # 1e16 meets -1e16 first, so that nothing small is lost; from left to right, 1.0 would be.
    assert tree_sum(np.array([[1e16, 1.0, -1e16, 1.0]])) == [2.0]
