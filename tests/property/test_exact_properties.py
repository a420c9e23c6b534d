"""Exact numbers against Fraction, and their one wire form."""

import math
import random
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from protocol.exact import Exact, column, exact, rounded_sqrt

doubles = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.builds(exact, st.integers(-(2**200), 2**200), st.integers(-1000, 1000))


@given(numbers, numbers, numbers)
def test_addition_is_associative_commutative_and_lossless(a: Exact, b: Exact, c: Exact) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert (a + b).fraction() == a.fraction() + b.fraction()


@given(numbers, numbers)
def test_multiplication_is_commutative_and_lossless(a: Exact, b: Exact) -> None:
    assert a * b == b * a
    assert (a * b).fraction() == a.fraction() * b.fraction()


@given(st.lists(doubles, min_size=1), st.randoms(use_true_random=False))
def test_a_sum_does_not_depend_on_order(values: list[float], chance: random.Random) -> None:
    total = column(values).total()
    assert total.fraction() == sum(map(Fraction, values))
    chance.shuffle(values)
    assert column(values).total().to_bytes() == total.to_bytes()


@given(st.lists(st.tuples(doubles, doubles), min_size=1))
def test_a_sum_of_products_is_lossless(pairs: list[tuple[float, float]]) -> None:
    left, right = zip(*pairs, strict=True)
    found = column(left).dot(column(right))
    assert found.fraction() == sum(Fraction(a) * Fraction(b) for a, b in pairs)
    assert found.mantissa % 2 == 1 or (found.mantissa, found.shift) == (0, 0)


@given(numbers, numbers)
def test_every_result_is_in_canonical_form(a: Exact, b: Exact) -> None:
    for number in (a, a + b, a * b):
        assert number.mantissa % 2 == 1 or (number.mantissa, number.shift) == (0, 0)


@given(numbers)
def test_the_wire_form_comes_back(number: Exact) -> None:
    assert Exact.from_bytes(number.to_bytes()) == number


@given(st.binary(max_size=40))
def test_bytes_are_refused_or_are_the_one_form_of_their_number(data: bytes) -> None:
    try:
        number = Exact.from_bytes(data)
    except ValueError:
        return
    assert number.to_bytes() == data


@given(numbers, st.integers(1, 8))
def test_another_form_of_the_same_number_is_refused(number: Exact, zeros: int) -> None:
    shifted = Exact(number.mantissa << zeros, number.shift - zeros)
    data = number.to_bytes()
    sign = b"\xff" if number.mantissa < 0 else b"\0"
    for other in (shifted.to_bytes(), data[:2] + sign + data[2:]):
        if other != data:
            try:
                accepted = Exact.from_bytes(other)
            except ValueError:
                continue
            raise AssertionError(f"{other.hex()} was read as {accepted}")


@given(st.fractions(min_value=0, max_denominator=2**70))
def test_a_square_root_is_the_nearest_double(value: Fraction) -> None:
    assert_nearest(value)


@given(st.floats(min_value=0, max_value=1e150), st.sampled_from([-1, 0, 1]))
def test_a_square_root_next_to_a_tie_is_the_nearest_double(root: float, side: int) -> None:
    # The square of the middle between two doubles, and its closest neighbours.
    middle = (Fraction(root) + Fraction(math.nextafter(root, 1e308))) / 2
    assert_nearest(max(Fraction(0), middle**2 + Fraction(side, 2**3000)))


def assert_nearest(value: Fraction) -> None:
    root = rounded_sqrt(value)
    low = (Fraction(root) + Fraction(math.nextafter(root, -1.0))) / 2
    high = (Fraction(root) + Fraction(math.nextafter(root, 1e308))) / 2
    even = int(root.hex().split("p")[0][-1], 16) % 2 == 0
    assert low < 0 or low**2 <= value <= high**2
    assert even or value not in (low**2, high**2)
