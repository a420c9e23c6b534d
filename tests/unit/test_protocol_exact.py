"""Exact numbers: canonical form, wire form, rounding of the square root."""

import math
from fractions import Fraction

import pytest

from protocol.exact import MAX_BYTES, ZERO, Exact, column, exact, from_float, rounded_sqrt


def test_a_power_of_two_moves_into_the_shift() -> None:
    assert exact(12, 3) == Exact(3, 5)


def test_zero_has_one_form() -> None:
    assert exact(0, 77) == ZERO
    assert from_float(-0.0) == ZERO
    assert from_float(3.0) + from_float(-3.0) == ZERO
    assert from_float(3.0) * ZERO == ZERO


@pytest.mark.parametrize("value", [0.1, -2.5, 5e-324, 1.7976931348623157e308, 3.0, -0.75])
def test_a_double_is_held_exactly(value: float) -> None:
    assert from_float(value).fraction() == Fraction(value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_infinities_and_nan_have_no_exact_number(value: float) -> None:
    with pytest.raises((OverflowError, ValueError)):
        from_float(value)


def test_the_square_of_the_smallest_double_has_a_wire_form() -> None:
    square = from_float(5e-324) * from_float(5e-324)
    assert Exact.from_bytes(square.to_bytes()) == square


def test_sums_over_the_whole_range_of_squares_have_a_wire_form() -> None:
    largest, smallest = from_float(1.7976931348623157e308), from_float(5e-324)
    total = largest * largest * exact(2**32) + smallest * smallest
    assert Exact.from_bytes(total.to_bytes()) == total


def test_equal_numbers_hash_alike_and_differ_from_other_types() -> None:
    assert len({exact(2), exact(1, 1), exact(3)}) == 2
    assert exact(1) != 1
    assert repr(exact(-6)) == "Exact(-3, 1)"


def test_a_sum_of_zeros_is_zero() -> None:
    assert column([0.0, -0.0]).total() == ZERO


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_column_has_no_infinity_and_no_nan(value: float) -> None:
    with pytest.raises((OverflowError, ValueError)):
        column([1.0, value])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "too short"),
        ("00", "too short"),
        ("000002", "even mantissa"),
        ("000000", "zero with a mantissa byte"),
        ("0001", "zero with a shift"),
        ("00000001", "needless leading zero"),
        ("0000ffff", "needless leading sign"),
        ("089901", "shift above 2200"),
        ("f76701", "shift below -2200"),
    ],
)
def test_a_form_that_is_not_canonical_is_refused(data: str, why: str) -> None:
    with pytest.raises(ValueError, match="exact number"):
        pytest.fail(f"{why}: {Exact.from_bytes(bytes.fromhex(data))}")


def test_a_form_longer_than_the_limit_is_refused() -> None:
    longest = b"\0\0" + b"\x7f" * (MAX_BYTES - 2)
    assert Exact.from_bytes(longest).to_bytes() == longest
    with pytest.raises(ValueError, match="601 bytes"):
        Exact.from_bytes(longest + b"\x7f")


@pytest.mark.parametrize("number", [Exact(1, 2201), Exact(1, -2201), exact((1 << 4784) - 1)])
def test_a_number_beyond_the_limits_has_no_wire_form(number: Exact) -> None:
    with pytest.raises(OverflowError):
        number.to_bytes()


def test_the_root_of_a_perfect_square_is_exact() -> None:
    assert rounded_sqrt(Fraction(9, 4)) == 1.5
    assert rounded_sqrt(Fraction(0)) == 0.0


def test_a_root_half_way_between_two_doubles_rounds_to_the_even_one() -> None:
    half_way = 2**53 + 1
    assert rounded_sqrt(Fraction(half_way**2)) == float(2**53)
    assert rounded_sqrt(Fraction(half_way**2) + Fraction(1, 10**40)) == float(2**53 + 2)


def test_the_root_of_a_tiny_and_of_a_huge_number_keeps_all_its_bits() -> None:
    assert rounded_sqrt(Fraction(5e-324) ** 2) == 5e-324
    assert rounded_sqrt(Fraction(1.7976931348623157e308) ** 2) == 1.7976931348623157e308


def test_the_root_of_a_negative_number_is_refused_even_when_no_double_holds_it() -> None:
    with pytest.raises(ValueError, match="negative"):
        rounded_sqrt(Fraction(-(10**400)))
