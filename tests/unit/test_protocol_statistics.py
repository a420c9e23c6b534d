"""Exact statistics: what is collected, what is merged, what no doubles can give."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
from pydantic import ValidationError

from protocol.errors import NotFiniteError
from protocol.exact import Exact, exact, from_float
from protocol.statistics import BlockMoments, Statistics, collect


def block(total: float, square: float = 1.0, low: float = -1.0, high: float = 1.0) -> BlockMoments:
    return BlockMoments([total], [square], [low], [high])


def fields(**changes: Any) -> dict[str, Any]:
    return collect([block(1.0), block(2.5, 3.0)], 4).model_dump() | changes


def test_a_partial_holds_the_sums_of_its_blocks() -> None:
    statistics = collect([block(1.0, 0.5, -3.0, 2.0), block(2.5, 3.0, -1.0, 7.0)], 4)
    assert (statistics.blocks, statistics.samples, statistics.outputs) == (2, 8, 1)
    assert statistics.sums == (from_float(3.5),)
    assert statistics.cross == (from_float(7.25),)
    assert statistics.squares == (from_float(3.5),)
    assert statistics.fourth == (from_float(9.25),)
    assert (statistics.minimum, statistics.maximum) == ((-3.0,), (7.0,))


def test_sums_lose_nothing_where_doubles_would() -> None:
    statistics = collect([block(1e16), block(1.0), block(-1e16)], 2)
    assert statistics.sums[0].fraction() == 1
    assert statistics.cross[0].fraction() == 2 * Fraction(10) ** 32 + 1


def test_controls_bring_the_lower_triangle_by_rows() -> None:
    triangle = [0.5, 1.0, 1.0, 2.0, 0.0, 4.0]
    first = BlockMoments([1.0, 2.0, 3.0], triangle, [0.0], [1.0])
    statistics = collect([first], 2)
    assert [number.fraction() for number in statistics.cross] == [1, 2, 4, 3, 6, 9]
    assert [number.fraction() for number in statistics.squares] == triangle
    # The controls explain 1²/1 + 2²/4, more than there is: never below 0.
    assert [number.fraction() for number in statistics.fourth] == [0]


def test_extremes_never_hold_a_negative_zero() -> None:
    statistics = collect([block(0.0, 1.0, -0.0, -0.0), block(0.0, 1.0, 0.0, -0.0)], 2)
    assert math.copysign(1, statistics.minimum[0]) == 1
    assert math.copysign(1, statistics.maximum[0]) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(4))
def test_nan_and_infinities_are_never_collected(value: float, place: int) -> None:
    numbers = [1.0, 1.0, 1.0, 1.0]
    numbers[place] = value
    with pytest.raises(NotFiniteError):
        collect([block(1.0), block(*numbers)], 2)


def test_collecting_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no block"):
        collect([], 2)


def test_blocks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        collect([block(1.0), BlockMoments([1.0, 2.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0])], 2)


def test_a_merge_equals_collecting_all_at_once() -> None:
    blocks = [block(0.1 * i, 0.3 * i, -i, i) for i in range(1, 8)]
    assert collect(blocks[:3], 2).merge(collect(blocks[3:], 2)) == collect(blocks, 2)


def test_statistics_of_different_shapes_do_not_merge() -> None:
    wide = collect([BlockMoments([1.0, 2.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0])], 2)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        collect([block(1.0)], 2).merge(wide)


HUGE = exact(1, 1060)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"blocks": 0}, "greater than or equal to 1"),
        ({"blocks": -2}, "greater than or equal to 1"),
        ({"blocks": True}, "valid integer"),
        ({"blocks": 2.0}, "valid integer"),
        ({"blocks": 3}, "8 samples in 3 blocks"),
        ({"samples": 0}, "greater than or equal to 1"),
        ({"sums": ()}, "1 outputs in 0 columns"),
        ({"fourth": ()}, "0 outputs in 1 columns"),
        ({"residuals": (exact(1),)}, "1 residuals of 1 outputs"),
        ({"sums": (1.0,)}, "instance of Exact"),
        ({"cross": (exact(9), exact(9))}, "differ in shape"),
        ({"minimum": (0.0, 0.0)}, "differ in length"),
        ({"minimum": (math.nan,)}, "finite"),
        ({"maximum": (math.inf,)}, "finite"),
        ({"minimum": (2.0,)}, "above its maximum"),
        ({"minimum": (-0.0,)}, "-0.0"),
        ({"maximum": (-0.0,)}, "-0.0"),
        ({"squares": (exact(-1),)}, "negative"),
        ({"fourth": (exact(-1),)}, "fourth is less"),
        ({"cross": (exact(6),)}, "cross is less"),
        ({"fourth": (exact(7),)}, "fourth is less"),
        ({"sums": (HUGE,), "cross": (HUGE * HUGE,)}, "larger than that many doubles"),
        ({"cross": (exact(1, 2199),)}, "larger than that many doubles"),
        ({"fourth": (exact(1, 2199),)}, "larger than that many doubles"),
        ({"sums": (Exact(1, -1075),)}, "no multiple of"),
        ({"cross": (exact(9) + Exact(1, -2149),)}, "no multiple of"),
        ({"sums": (exact(0),) * 257}, "at most 256"),
        ({"mean": 0.0}, "not permitted"),
    ],
)
def test_what_no_doubles_can_give_is_refused(changes: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Statistics.model_validate(fields(**changes))


def test_the_limits_of_what_doubles_can_give_are_accepted() -> None:
    largest = 1.7976931348623157e308
    extreme = collect([block(largest, largest), block(-largest, 5e-324)], 2)
    assert Statistics.model_validate(extreme.model_dump()) == extreme


def with_control() -> dict[str, Any]:
    """Return statistics of one output and one control."""
    moments = BlockMoments([1.0, 2.0], [10.0, 3.0, 1.0], [0.0], [1.0])
    return collect([moments, moments], 4).model_dump()


def test_with_controls_the_residuals_are_what_the_control_leaves_within_blocks() -> None:
    found = Statistics.model_validate(with_control())
    assert [number.fraction() for number in found.residuals] == [2]  # 2 (10 - 3² / 1)
    assert [number.fraction() for number in found.fourth] == [2]
    assert found.left == found.residuals
    assert found.merge(found).residuals == (exact(4),)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"residuals": ()}, "0 residuals of 1 outputs"),
        ({"residuals": (exact(-1),)}, "negative"),
        ({"residuals": (exact(21),)}, "larger than its sum of squares"),
        ({"residuals": (exact(3),)}, "fourth is less"),
        ({"residuals": (Exact(1, -1075),)}, "no multiple of"),
        ({"cross": (exact(2),)}, "differ in shape"),
    ],
)
def test_wrong_statistics_with_controls_are_refused(
    changes: Mapping[str, Any], sentence: str
) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Statistics.model_validate(with_control() | changes)


def test_a_regression_that_overflows_is_not_collected() -> None:
    moments = BlockMoments([0.0, 0.0], [1e308, 1e308, 1e-300], [0.0], [1.0])
    with pytest.raises(NotFiniteError, match="regression"):
        collect([moments], 2)


def test_at_most_eight_columns_come_with_controls() -> None:
    nine = BlockMoments([1.0] * 9, [1.0] * 45, [0.0], [1.0])
    with pytest.raises(ValidationError, match="allowed are 8"):
        collect([nine], 2)


def test_outputs_alone_may_be_many() -> None:
    many = BlockMoments([1.0] * 256, [1.0] * 256, [0.0] * 256, [1.0] * 256)
    assert collect([many], 2).outputs == 256
