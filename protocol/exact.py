"""Exact binary numbers: integers scaled by a power of two, so that sums do not depend on order.

Addition and multiplication of `Exact` lose nothing; rounding happens once, in an estimate.
"""

import math
import operator
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

MAX_SHIFT = 2200
"""Largest absolute shift on the wire: squares of the smallest doubles reach 2**-2148."""

MAX_BYTES = 600
"""Longest wire form: 2 bytes of shift, a mantissa that spans the range of squares and 64 bits."""

SHIFT_BYTES = 2


class Exact:
    """The number mantissa · 2**shift in canonical form: an odd mantissa, or zero as (0, 0).

    Build one with `exact`, `from_float` or `from_bytes`; the constructor does not normalise. Not
    a dataclass: pydantic would turn one into a map, and these are made by the thousand.
    """

    __slots__ = ("mantissa", "shift")

    def __init__(self, mantissa: int, shift: int) -> None:
        self.mantissa = mantissa
        self.shift = shift

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Exact):
            return NotImplemented
        return self.mantissa == other.mantissa and self.shift == other.shift

    def __hash__(self) -> int:
        return hash((self.mantissa, self.shift))

    def __repr__(self) -> str:
        return f"Exact({self.mantissa}, {self.shift})"

    def __add__(self, other: "Exact") -> "Exact":
        if self.shift <= other.shift:
            return exact(self.mantissa + (other.mantissa << (other.shift - self.shift)), self.shift)
        return exact((self.mantissa << (self.shift - other.shift)) + other.mantissa, other.shift)

    def __mul__(self, other: "Exact") -> "Exact":
        # A product of odd mantissas is odd, so this is canonical as it stands.
        mantissa = self.mantissa * other.mantissa
        return Exact(mantissa, self.shift + other.shift) if mantissa else ZERO

    def fraction(self) -> Fraction:
        """Return the same number as a `Fraction`."""
        if self.shift >= 0:
            return Fraction(self.mantissa << self.shift)
        return Fraction(self.mantissa, 1 << -self.shift)

    def to_bytes(self) -> bytes:
        """Return the wire form: shift as big-endian int16, mantissa as shortest two's complement.

        Raises
        ------
        OverflowError
            The shift is beyond ±2200 or the form is longer than 600 bytes.
        """
        if abs(self.shift) > MAX_SHIFT:
            raise OverflowError(f"shift {self.shift} is beyond ±{MAX_SHIFT}")
        length = _byte_length(self.mantissa)
        if length > MAX_BYTES - SHIFT_BYTES:
            raise OverflowError(
                f"mantissa of {length} bytes is longer than {MAX_BYTES - SHIFT_BYTES}"
            )
        return struct.pack(">h", self.shift) + self.mantissa.to_bytes(length, "big", signed=True)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Exact":
        """Read the wire form; whatever is not canonical is refused.

        Raises
        ------
        ValueError
            The form is too long or short, out of range, or another form of the same number.
        """
        if not SHIFT_BYTES <= len(data) <= MAX_BYTES:
            raise ValueError(f"exact number of {len(data)} bytes, allowed are 2 to {MAX_BYTES}")
        shift: int = struct.unpack(">h", data[:SHIFT_BYTES])[0]
        number = cls(int.from_bytes(data[SHIFT_BYTES:], "big", signed=True), shift)
        length = _byte_length(number.mantissa)
        odd_or_zero = number.mantissa & 1 or number == ZERO
        if not odd_or_zero or abs(shift) > MAX_SHIFT or len(data) != SHIFT_BYTES + length:
            raise ValueError(f"exact number {data.hex()} is not in canonical form")
        return number


ZERO = Exact(0, 0)


def _byte_length(mantissa: int) -> int:
    """Return how many bytes the shortest two's complement has; zero has none."""
    return (mantissa + (mantissa < 0)).bit_length() // 8 + 1 if mantissa else 0


def exact(mantissa: int, shift: int = 0) -> Exact:
    """Return mantissa · 2**shift in canonical form."""
    if not mantissa:
        return ZERO
    zeros = (mantissa & -mantissa).bit_length() - 1
    return Exact(mantissa >> zeros, shift + zeros)


def from_float(value: float) -> Exact:
    """Return a finite double, exactly.

    Raises
    ------
    OverflowError, ValueError
        The value is an infinity or NaN.
    """
    numerator, denominator = value.as_integer_ratio()
    return exact(numerator, 1 - denominator.bit_length())


@dataclass(frozen=True, slots=True)
class Column:
    """Finite doubles as integers times one power of two, so that many are summed at a time.

    Attributes
    ----------
    integers, shift
        Each number is its integer · 2**shift.
    """

    integers: list[int]
    shift: int

    def total(self) -> Exact:
        """Return the sum."""
        return exact(sum(self.integers), self.shift)

    def dot(self, other: "Column") -> Exact:
        """Return the sum of the products with another column of the same length."""
        products = map(operator.mul, self.integers, other.integers)
        return exact(sum(products), self.shift + other.shift)


def column(values: Iterable[float]) -> Column:
    """Return finite doubles, at least one, exactly.

    Raises
    ------
    OverflowError, ValueError
        A value is an infinity or NaN.
    """
    ratios = [float(value).as_integer_ratio() for value in values]
    # Denominators are powers of two.
    bits = [denominator.bit_length() for _, denominator in ratios]
    finest = max(bits)
    integers = [number << (finest - own) for (number, _), own in zip(ratios, bits, strict=True)]
    return Column(integers, 1 - finest)


def rounded_sqrt(value: Fraction) -> float:
    """Return the double nearest to the square root of a rational >= 0, ties to even.

    Raises
    ------
    ValueError
        The value is negative.
    OverflowError
        The root is larger than the largest double.
    """
    if value < 0:
        raise ValueError(f"square root of the negative number {value}")
    if not value:
        return 0.0
    scale = max(0, 130 - value.numerator.bit_length() + value.denominator.bit_length()) // 2 + 1
    square, remainder = divmod(value.numerator << (2 * scale), value.denominator)
    root = math.isqrt(square)
    # The sticky bit keeps the rounding right where something was cut off, and only there.
    sticky = remainder > 0 or root * root != square
    return float(Fraction(2 * root + sticky, 1 << (scale + 1)))
