"""Elementary functions of one double, for use inside compiled functions and from Python.

Each is within 2 units in the last place of the correctly rounded result over its whole range, has
no branch (so that loops over it become vector instructions), and lets NaN through. Polynomials are
Chebyshev interpolants computed with 50 digits; their errors stay below 2e-17 of the result, so
that rounding dominates.
"""

import math

import numpy as np

from consumer.kernels.compiled import inlined
from consumer.kernels.intrinsics import fma, from_bits, to_bits

_ROUND = 1.5 * 2.0**52
"""Adding it rounds to an integer, which then stands in the low bits of the sum."""

_LN2_HIGH, _LN2_LOW = 0.6931471804855391, 7.440617110012397e-11  # high: 32 bits, k * high is exact
_LOG2_E = 1.4426950408889634
_TURN, _TURN_LOW = 6.283185307179586, 2.4492935982947064e-16  # 2 pi
_TINY = 2.0**-1022

# Constants of integer operations are uint64, all of them: with an int64 numba goes to float64.
_ONE, _TWO = np.uint64(1), np.uint64(2)
_BIAS = np.uint64(1023)
_EXPONENT_SHIFT = np.uint64(52)
_SIGN_SHIFT = np.uint64(62)
_SIGN = np.uint64(1 << 63)
_MANTISSA = np.uint64(0x000FFFFFFFFFFFFF)
_SQRT_HALF_BITS = np.uint64(0x3FE6A09E667F3BCD)
_ONE_OVER_SQRT_HALF = np.uint64(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
_TWO_TO_52_BITS = np.uint64(0x4330000000000000)
_ARITHMETIC_ONE = np.int64(1)


@inlined
def exp(x: float) -> float:
    """Return e**x: 0 below -745.2, infinity above 709.8."""
    low = -746.0 if x < -746.0 else x
    mantissa, k = _exp_parts(710.0 if low > 710.0 else low)
    # 2**k as two factors: neither overflows, and a subnormal result is rounded only once.
    half = np.uint64(np.int64(k) >> _ARITHMETIC_ONE)
    first = from_bits((half + _BIAS) << _EXPONENT_SHIFT)
    return mantissa * first * from_bits((k - half + _BIAS) << _EXPONENT_SHIFT)


@inlined
def exp_bounded(x: float) -> float:
    """Return the same bits as `exp`, sooner, for |x| <= 700; anything else gives nonsense."""
    mantissa, k = _exp_parts(x)
    return from_bits(to_bits(mantissa) + (k << _EXPONENT_SHIFT))


@inlined
def log(x: float) -> float:
    """Return the natural logarithm: minus infinity at 0, NaN below 0."""
    small = x < _TINY
    result = _log_parts(x * 2.0**54 if small else x, 2.0**52 + 1023.0 + (54.0 if small else 0.0))
    result = result if x < math.inf else x  # infinity and NaN stay what they are
    result = -math.inf if x == 0.0 else result
    return math.nan if x < 0.0 else result


@inlined
def log_normal_range(x: float) -> float:
    """Return the same bits as `log`, sooner, for finite x >= 2**-1022; else nonsense."""
    return _log_parts(x, 2.0**52 + 1023.0)


@inlined
def cos_sin_turns(u: float) -> tuple[float, float]:
    """Return cos(2 pi u) and sin(2 pi u); NaN for infinities."""
    magic = from_bits((to_bits(u) & _SIGN) | _TWO_TO_52_BITS)
    fraction = u - ((u + magic) - magic)  # exact
    # From 2**52 on every double is a whole number of turns.
    whole = (u >= 2.0**52) | (u <= -(2.0**52))
    return cos_sin_bounded(u - u if whole else fraction)


@inlined
def cos_sin_bounded(u: float) -> tuple[float, float]:
    """Return the same bits as `cos_sin_turns`, sooner, for |u| <= 2**20; else nonsense."""
    shifted = fma(u, 4.0, _ROUND)
    r = fma(shifted - _ROUND, -0.25, u)  # exact: |r| <= 1/8
    z = r * r
    # (sin(2 pi r) / r - 2 pi) / r^2 and (cos(2 pi r) - 1) / r^2 in r^2
    s = fma(3.78643334956545, z, -15.094054182079999)
    s = fma(s, z, 42.05868918088512)
    s = fma(s, z, -76.70585973562093)
    s = fma(s, z, 81.6052492760517)
    s = fma(s, z, -41.341702240399755)
    sine = fma(fma(s, z, _TURN_LOW), r, r * _TURN)
    c = fma(-1.6990343940660637, z, 7.903206911569678)
    c = fma(c, z, -26.426253275854723)
    c = fma(c, z, 60.24464135270201)
    c = fma(c, z, -85.4568172066438)
    c = fma(c, z, 64.93939402266824)
    c = fma(c, z, -19.739208802178716)
    cosine = fma(c, z, 1.0)
    quadrant = to_bits(shifted)
    swapped = (quadrant & _ONE) == _ONE
    first = to_bits(sine) if swapped else to_bits(cosine)
    second = to_bits(cosine) if swapped else to_bits(sine)
    first ^= ((quadrant + _ONE) & _TWO) << _SIGN_SHIFT
    second ^= (quadrant & _TWO) << _SIGN_SHIFT
    return from_bits(first), from_bits(second)


@inlined
def _exp_parts(x: float) -> tuple[float, np.uint64]:
    """Return a number near 1 and k, its two's complement in the low bits: x = log(number 2**k)."""
    shifted = fma(x, _LOG2_E, _ROUND)
    k = shifted - _ROUND
    r = fma(k, -_LN2_LOW, fma(k, -_LN2_HIGH, x))
    # (e^r - 1 - r) / r^2 in r, |r| <= log(2) / 2
    p = fma(2.5100375832561234e-08, r, 2.7620075879983367e-07)
    p = fma(p, r, 2.7557268480310024e-06)
    p = fma(p, r, 2.4801521322368692e-05)
    p = fma(p, r, 0.00019841269863040545)
    p = fma(p, r, 0.0013888888917196719)
    p = fma(p, r, 0.008333333333330065)
    p = fma(p, r, 0.041666666666624164)
    p = fma(p, r, 0.16666666666666669)
    p = fma(p, r, 0.5000000000000001)
    return fma(p * r, r, r) + 1.0, to_bits(shifted)


@inlined
def _log_parts(x: float, bias: float) -> float:
    """Return log(x) - log(2) (bias - 2**52 - 1023): x = 2**k (1 + f), s = f / (2 + f)."""
    bits = to_bits(x) + _ONE_OVER_SQRT_HALF
    k = from_bits((bits >> _EXPONENT_SHIFT) | _TWO_TO_52_BITS) - bias
    f = from_bits((bits & _MANTISSA) + _SQRT_HALF_BITS) - 1.0
    s = f / (f + 2.0)
    z = s * s
    # (2 atanh(s) - 2 s) / s^3 in s^2, |s| <= (sqrt(2) - 1) / (sqrt(2) + 1)
    p = fma(0.14616449685043406, z, 0.15331721600556042)
    p = fma(p, z, 0.18182889125261723)
    p = fma(p, z, 0.2222221113479508)
    p = fma(p, z, 0.28571428625975487)
    p = fma(p, z, 0.39999999999899505)
    p = fma(p, z, 0.666666666666667)
    square = 0.5 * f * f
    low = fma(k, _LN2_LOW, s * fma(p, z, square))
    return fma(k, _LN2_HIGH, f - (square - low))
