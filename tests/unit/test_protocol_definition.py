"""What a run's answer depends on: its hash, its limits, its checkpoints."""

from itertools import pairwise
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from protocol.definition import Definition, Lane, Method, Name, Params, RunId, Sampling, Stop
from protocol.messages import decode, encode
from protocol.rpc_messages import Declare

FIELDS: dict[str, Any] = {
    "model": "asian",
    "model_version": 1,
    "outputs": ("price", "delta"),
    "cells": ({"strike": 100.0}, {"strike": 110.0}),
    "seed": 42,
    "block_size": 1024,
    "sampling": {"method": "pseudo"},
    "stop": {"samples": 1 << 20},
}


def definition(**changes: Any) -> Definition:
    return Definition.model_validate(FIELDS | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "european"},
        {"model_version": 2},
        {"outputs": ("price",)},
        {"outputs": ("delta", "price")},
        {"cells": ({"strike": 100.0},)},
        {"cells": ({"strike": 110.0}, {"strike": 100.0})},
        {"cells": ({"strike": 100.0}, {"strike": 110.00000000000001})},
        {"cells": ({"strike": 100.0}, {"strike": 110})},
        {"cells": ({"strike": 100.0}, {"barrier": 110.0})},
        {"seed": 43},
        {"bump": {"strike": 0.5}},
        {"bump": {"strike": 1}},
        {"bump": {"spot": 0.5}},
        {"quantiles": (0.5,)},
        {"quantiles": (0.25, 0.5)},
        {"block_size": 2048},
        {"sampling": {"method": "antithetic"}},
        {"sampling": {"common_random_numbers": True}},
        {"sampling": {"control_variates": True}, "controls": ("geometric",)},
        {"stop": {"samples": (1 << 20) + 1}},
        {"stop": {"confidence": 0.99}},
    ],
)
def test_the_hash_changes_with_every_field(changes: dict[str, Any]) -> None:
    assert definition(**changes).hash != definition().hash


def test_the_outputs_reported_are_those_asked_for_then_their_bumps() -> None:
    assert definition().reported == ("price", "delta")
    assert definition(bump={"strike": 1.0}).reported == (
        "price", "delta", "price_bump", "delta_bump",
    )  # fmt: skip


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    cells = ({"a": 1, "b": 2.0},)
    other = dict(reversed(list(FIELDS.items()))) | {"cells": ({"b": 2.0, "a": 1},)}
    assert Definition.model_validate(other).hash == definition(cells=cells).hash


def test_the_hash_fills_defaults_in() -> None:
    bare = {key: value for key, value in FIELDS.items() if key not in ("sampling", "stop")}
    assert Definition.model_validate(bare).hash == definition().hash


def test_the_hash_survives_the_wire() -> None:
    declare = Declare(run="r", definition=definition(), pool="default", lane=Lane.LOW)
    assert decode("declare.v1", encode(declare), Declare).definition.hash == definition().hash


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "Asian"}, "match pattern"),
        ({"model": "asian\n"}, "match pattern"),
        ({"model_version": 0}, "greater than or equal to 1"),
        ({"model_version": True}, "valid integer"),
        ({"outputs": ()}, "at least 1"),
        ({"outputs": ("price", "price")}, "same name"),
        ({"outputs": ["price"]}, "valid tuple"),
        ({"cells": ()}, "at least 1"),
        ({"cells": ({},) * 10_001}, "at most 10000"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"seed": 2**64}, "less than"),
        ({"seed": 1.0}, "valid integer"),
        ({"block_size": 0}, "greater than or equal to 1"),
        ({"block_size": 2**24 + 2}, "less than or equal to 16777216"),
        (
            {"block_size": 1000, "sampling": {"method": "sobol"}},
            "sampling.block_size = 1000 is not allowed with sampling.method = 'sobol'",
        ),
        ({"block_size": 1, "sampling": {"method": "sobol"}}, "a power of two, at least 2"),
        ({"sampling": {"control_variates": True}}, "if and only if"),
        ({"controls": ("geometric",)}, "if and only if"),
        (
            {"sampling": {"control_variates": True}, "controls": tuple("abcdefg")},
            "2 outputs and 7 control variates are 9 columns, allowed are 8; ask for fewer in",
        ),
        ({"sampling": {"method": "quasi"}}, "'pseudo', 'antithetic' or 'sobol'"),
        ({"sampling": {"method": b"pseudo"}}, "text only"),
        ({"sampling": {"common_random_numbers": 1}}, "valid boolean"),
        ({"stop": {"samples": 0}}, "greater than or equal to 1"),
        ({"stop": {"confidence": 1.0}}, "less than or equal to"),
        ({"stop": {"samples": 2**62}, "block_size": 2}, "allowed are 4294967296 blocks"),
        ({"bump": {"strike": 0}}, "other than 0"),
        ({"bump": {"strike": 2**63}}, "below 2"),
        ({"bump": {"strike": True}}, "a finite number"),
        ({"bump": {"strike": float("nan")}}, "a finite number"),
        ({"bump": {"strike": "x"}}, "a finite number"),
        ({"bump": {"Strike": 1.0}}, "match pattern"),
        ({"bump": {f"p{i}": 1.0 for i in range(17)}}, "at most 16"),
        ({"bump": {"a": 1.0}, "outputs": ("x", "x_bump")}, "the name of another one's bump"),
        (
            {"bump": {"a": 1.0}, "outputs": tuple(f"x{i}" for i in range(129))},
            "258 outputs with bumps, allowed are 256",
        ),
        (
            {
                "bump": {"a": 1.0},
                "outputs": ("x", "y", "z"),
                "sampling": {"control_variates": True},
                "controls": ("c", "d", "e"),
            },
            "6 outputs and 3 control variates are 9 columns, allowed are 8",
        ),
        ({"quantiles": (0.5, 0.25)}, "must increase"),
        ({"quantiles": (0.5, 0.5)}, "must increase"),
        ({"quantiles": (0.0,)}, "greater than 0"),
        ({"quantiles": (1.0,)}, "less than 1"),
        ({"quantiles": (0.5, float("nan"))}, "than"),
        (
            {"quantiles": (0.5,), "sampling": {"method": "antithetic"}},
            "samples are averages of pairs; allowed are 'pseudo' and 'sobol'",
        ),
        (
            {"quantiles": (0.5,), "outputs": tuple("abcde"), "bump": {"s": 1.0}},
            "outputs.quantiles of 10 outputs, allowed are 8; ask for fewer in outputs.names",
        ),
        ({"dimension": 3}, "not permitted"),
    ],
)
def test_a_wrong_field_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        definition(**changes)


def test_parameters_that_do_not_fit_a_chunk_are_refused_when_the_run_is_declared() -> None:
    wide = {f"p{i}": tuple(float(j) for j in range(4096)) for i in range(3)}
    with pytest.raises(ValidationError, match=r"parameters of cell 1 take \d+ bytes"):
        definition(cells=({}, wide))


@pytest.mark.parametrize(
    "value",
    [True, 0, -(2**63), 2**63 - 1, 1.5, -0.0, "", "ä" * 200, (), (1, 2.5, "x", False)],
)
def test_a_parameter_keeps_its_value_and_type(value: object) -> None:
    kept = TypeAdapter(Params).validate_python({"p": value})["p"]
    assert (kept, type(kept)) == (value, type(value))


@pytest.mark.parametrize(
    "value",
    [None, 2**63, -(2**63) - 1, float("nan"), float("inf"), "x" * 201, b"x", {"a": 1}, ((1,),),
     (None,), (0,) * 4097, "\ud800", 1j],
)  # fmt: skip
def test_a_parameter_of_another_kind_is_refused_in_one_complaint(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Params).validate_python({"p": value})
    assert caught.value.error_count() == 1


def test_a_parameter_given_as_an_enumeration_becomes_plain_text() -> None:
    kept = TypeAdapter(Params).validate_python({"p": Method.SOBOL})["p"]
    assert type(kept) is str


@pytest.mark.parametrize("name", ["a.b", "", "-a", "a" * 101, "a b", "ä", "a\n", "#", "*"])
def test_a_run_id_is_one_word_of_a_routing_key(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(RunId).validate_python(name)


@pytest.mark.parametrize("name", ["A", "1a", "_a", "a-b", "a.b", "a" * 41])
def test_a_name_is_short_and_lower_case(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


def test_a_definition_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        definition().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize("block_size", [2, 100, 512, 1024, 16_384, 1 << 20])
@pytest.mark.parametrize("samples", [1, 1000, 16_384, 100_000, 12_345_678, 1 << 33])
def test_checkpoints_increase_and_end_at_the_limit(block_size: int, samples: int) -> None:
    some = definition(block_size=block_size, stop={"samples": samples})
    points = some.checkpoints
    assert list(points) == sorted(set(points))
    assert points[-1] == some.blocks == -(-samples // block_size)
    if len(points) > 1:
        assert points[0] == max(32, -(-16_384 // block_size))
    assert all(b == a + a // 2 for a, b in pairwise(points[:-1]))


def test_the_defaults_are_those_of_the_specification() -> None:
    assert (Sampling().method, Stop().samples, Stop().confidence) == ("pseudo", 1 << 20, 0.95)
