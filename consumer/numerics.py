"""Elementary functions and normals whose bits are the same on every CPU.

Only + - * / sqrt, comparisons and integer operations, each elementwise and rounded by itself;
numpy's own exp, log and sin, its sums and powers are not here, because they follow the CPU.
Polynomials are Chebyshev interpolants computed with 50 digits; their errors stay below 2e-17 of
the result, so that rounding dominates.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from protocol.streams import BlockStream, Words

Doubles = NDArray[np.float64]

TILE = 8192
"""Elements worked on at a time: a tile and its scratch arrays stay in a 1 MiB L2 cache."""

_ROUND = 1.5 * 2.0**52
"""Adding it rounds to an integer, which then stands in the low bits of the sum."""

_LN2_HIGH, _LN2_LOW = 0.6931471804855391, 7.440617110012397e-11  # high: 32 bits, k * high is exact
_LOG2_E = 1.4426950408889634
_TURN, _TURN_LOW = 6.283185307179586, 2.4492935982947064e-16  # 2 pi

# (e^r - 1 - r) / r^2 in r, |r| <= log(2) / 2
_EXP = (
    0.5000000000000001, 0.16666666666666669, 0.041666666666624164, 0.008333333333330065,
    0.0013888888917196719, 0.00019841269863040545, 2.4801521322368692e-05,
    2.7557268480310024e-06, 2.7620075879983367e-07, 2.5100375832561234e-08,
)  # fmt: skip
# (2 atanh(s) - 2 s) / s^3 in s^2, |s| <= (sqrt(2) - 1) / (sqrt(2) + 1)
_LOG = (
    0.666666666666667, 0.39999999999899505, 0.28571428625975487, 0.2222221113479508,
    0.18182889125261723, 0.15331721600556042, 0.14616449685043406,
)  # fmt: skip
# (sin(2 pi r) / r - 2 pi) / r^2 and (cos(2 pi r) - 1) / r^2 in r^2, |r| <= 1/8
_SIN = (
    -41.341702240399755, 81.6052492760517, -76.70585973562093, 42.05868918088512,
    -15.094054182079999, 3.78643334956545,
)  # fmt: skip
_COS = (
    -19.739208802178716, 64.93939402266824, -85.4568172066438, 60.24464135270201,
    -26.426253275854723, 7.903206911569678, -1.6990343940660637,
)  # fmt: skip

_ONE_BITS = np.uint64(0x3FF0000000000000)
_SQRT_HALF_BITS = np.int64(0x3FE6A09E667F3BCD)
_ONE_OVER_SQRT_HALF = np.int64(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
_MANTISSA = np.int64(0x000FFFFFFFFFFFFF)
_TINY = 2.0**-1022


def exp(x: Doubles) -> Doubles:
    """Return e**x within 1 ulp: 0 below -745.2, infinity above 709.8, NaN for NaN.

    Parameters
    ----------
    x
        An array of at least one dimension.
    """
    clamped = np.minimum(np.maximum(x, -746.0), 710.0)
    shifted = clamped * _LOG2_E
    shifted += _ROUND
    k = shifted - _ROUND
    r = clamped
    r -= k * _LN2_HIGH
    k *= _LN2_LOW
    r -= k
    result = _polynomial(r, _EXP)
    result *= r
    result *= r
    result += r
    result += 1.0
    # 2**k as two factors: neither overflows, and a subnormal result is rounded only once.
    bits = shifted.view(np.int64)
    half = bits >> 1
    bits -= half
    with np.errstate(over="ignore", under="ignore"):
        result *= _power_of_two(half)
        result *= _power_of_two(bits)
    return result


def log(x: Doubles) -> Doubles:
    """Return the natural logarithm within 1 ulp.

    Minus infinity at 0, infinity at infinity, NaN below 0 and for NaN.

    Parameters
    ----------
    x
        An array of at least one dimension.
    """
    small = (x > 0.0) & (x < _TINY)
    result = _log_normal(x * np.where(small, 2.0**54, 1.0))
    result -= np.where(small, 54 * _LN2_LOW, 0.0)
    result -= np.where(small, 54 * _LN2_HIGH, 0.0)
    result[x == 0.0] = -np.inf
    result[x < 0.0] = np.nan
    odd = ~(x < np.inf)  # infinity and NaN stay what they are
    result[odd] = x[odd]
    return result


def cos_sin_turns(u: Doubles) -> tuple[Doubles, Doubles]:
    """Return cos(2 pi u) and sin(2 pi u) within 2 ulp, for |u| below 2**50; NaN for NaN.

    Parameters
    ----------
    u
        Angles in turns, an array of at least one dimension.
    """
    shifted = u * 4.0
    shifted += _ROUND
    r = shifted - _ROUND
    r *= -0.25
    r += u  # exact: |r| <= 1/8
    z = r * r
    sine = _polynomial(z, _SIN)
    sine *= z
    sine += _TURN_LOW
    sine *= r
    r *= _TURN
    sine += r
    cosine = _polynomial(z, _COS)
    cosine *= z
    cosine += 1.0
    quadrant = shifted.view(np.int64)
    swap = (quadrant & 1) != 0
    kept = cosine.copy()
    np.copyto(cosine, sine, where=swap)
    np.copyto(sine, kept, where=swap)
    sine_sign = (quadrant & 2) << 62
    quadrant += 1
    cosine_sign = (quadrant & 2) << 62
    for values, sign in ((cosine, cosine_sign), (sine, sine_sign)):
        bits = values.view(np.int64)
        bits ^= sign
    return cosine, sine


def uniforms(
    stream: BlockStream, dimensions: tuple[int, int], pairs: tuple[int, int]
) -> tuple[Doubles, Doubles]:
    """Return the uniforms of even and of odd samples of a tile, each (dimensions, pairs).

    The same bits as `BlockStream.uniform_pairs`, for a part of the block.

    Parameters
    ----------
    stream
        The block's stream.
    dimensions, pairs
        First, and one past the last, of the dimensions and of the sample pairs.
    """
    first, last = dimensions
    w0, w1, w2, w3 = stream.words(first, last - first, pairs=pairs)
    return _uniform(w0, w1), _uniform(w2, w3)


def normals(
    stream: BlockStream, dimensions: tuple[int, int], pairs: tuple[int, int]
) -> tuple[Doubles, Doubles]:
    """Return standard normals of even and of odd samples; parameters as in `uniforms`.

    Box and Muller's transform (Annals of Mathematical Statistics 29, 1958) within one counter:
    the first uniform gives the radius, the second the angle in turns; the even sample gets the
    cosine, the odd one the sine.
    """
    first, second = uniforms(stream, dimensions, pairs)
    radius = _log_normal(first)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    cosine, sine = cos_sin_turns(second)
    cosine *= radius
    sine *= radius
    return cosine, sine


def tiles(dimensions: int, pairs: int) -> Iterator[tuple[tuple[int, int], list[tuple[int, int]]]]:
    """Yield ranges of pairs, each with the ranges of dimensions that make tiles with it."""
    width = min(pairs, TILE)
    height = max(1, TILE // width)
    for start in range(0, pairs, width):
        rows = [(row, min(row + height, dimensions)) for row in range(0, dimensions, height)]
        yield (start, min(start + width, pairs)), rows


def _uniform(low: Words, high: Words) -> Doubles:
    """Return (k + 1/2) 2**-52 with k the upper 52 bits, by way of 1 + k 2**-52."""
    high <<= np.uint64(20)
    low >>= np.uint64(12)
    high |= low
    high |= _ONE_BITS
    result = high.view(np.float64)
    result -= 1.0 - 2.0**-53
    return result


def _polynomial(x: Doubles, coefficients: Sequence[float]) -> Doubles:
    result = x * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        result += coefficient
        result *= x
    result += coefficients[0]
    return result


def _power_of_two(bits: NDArray[np.int64]) -> Doubles:
    bits += 1023
    bits <<= 52
    return bits.view(np.float64)


def _log_normal(x: Doubles) -> Doubles:
    """Logarithm of positive normal numbers: x = 2**k (1 + f), s = f / (2 + f)."""
    bits = x.view(np.int64) + _ONE_OVER_SQRT_HALF
    k = ((bits >> 52) | 0x4330000000000000).view(np.float64)
    k -= 2.0**52 + 1023.0
    bits &= _MANTISSA
    bits += _SQRT_HALF_BITS
    f = bits.view(np.float64)
    f -= 1.0
    s = f / (f + 2.0)
    z = s * s
    result = _polynomial(z, _LOG)
    result *= z
    z = f * f
    z *= 0.5
    result += z
    result *= s
    result += k * _LN2_LOW
    z -= result
    z -= f
    k *= _LN2_HIGH
    k -= z
    return k
