"""Elementary functions of one double, for use inside compiled functions and from Python.

Each is within 2 units in the last place of the correctly rounded result over its whole range, has
no branch (so that loops over it become vector instructions), and lets NaN through. Polynomials and
rational functions are Chebyshev interpolants computed with 50 digits (those of the normal
distribution by `ops/coefficients.py`); their errors stay below 3e-17 of the result, so that
rounding dominates.
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
_LOG_BIAS = 2.0**52 + 1023.0
_ROOT_TURN, _ROOT_TURN_LOW = 2.5066282746310007, -1.8328579980459167e-16  # sqrt(2 pi)
_FAR = 8.625
"""Where the quantile's second tail begins: sqrt(-2 log p) for p a little below 2**-53."""

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
    r, k = _exp_reduced(710.0 if low > 710.0 else low)
    return _times_power_of_two(_exp_minus_one(r) + 1.0, k)


@inlined
def exp_bounded(x: float) -> float:
    """Return the same bits as `exp`, sooner, for |x| <= 700; anything else gives nonsense."""
    r, k = _exp_reduced(x)
    return from_bits(to_bits(_exp_minus_one(r) + 1.0) + (k << _EXPONENT_SHIFT))


@inlined
def log(x: float) -> float:
    """Return the natural logarithm: minus infinity at 0, NaN below 0."""
    small = x < _TINY
    high, low = _log_parts(x * 2.0**54 if small else x, _LOG_BIAS + (54.0 if small else 0.0))
    result = high + low
    result = result if x < math.inf else x  # infinity and NaN stay what they are
    result = -math.inf if x == 0.0 else result
    return math.nan if x < 0.0 else result


@inlined
def log_normal_range(x: float) -> float:
    """Return the same bits as `log`, sooner, for finite x >= 2**-1022; else nonsense."""
    high, low = _log_parts(x, _LOG_BIAS)
    return high + low


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
def _exp_reduced(x: float) -> tuple[float, np.uint64]:
    """Return r and k, the latter as two's complement in the low bits: x = r + k log(2)."""
    shifted = fma(x, _LOG2_E, _ROUND)
    k = shifted - _ROUND
    return fma(k, -_LN2_LOW, fma(k, -_LN2_HIGH, x)), to_bits(shifted)


@inlined
def _exp_minus_one(r: float) -> float:
    """Return e**r - 1 for |r| <= log(2) / 2, by (e**r - 1 - r) / r**2."""
    p = fma(2.5100375832561234e-08, r, 2.7620075879983367e-07)
    p = fma(p, r, 2.7557268480310024e-06)
    p = fma(p, r, 2.4801521322368692e-05)
    p = fma(p, r, 0.00019841269863040545)
    p = fma(p, r, 0.0013888888917196719)
    p = fma(p, r, 0.008333333333330065)
    p = fma(p, r, 0.041666666666624164)
    p = fma(p, r, 0.16666666666666669)
    p = fma(p, r, 0.5000000000000001)
    return fma(p * r, r, r)


@inlined
def _times_power_of_two(x: float, k: np.uint64) -> float:
    """Return x 2**k for k down to -2046 and up to 2046, in two's complement."""
    # Two factors: neither overflows, and a subnormal result is rounded only once.
    half = np.uint64(np.int64(k) >> _ARITHMETIC_ONE)
    first = from_bits((half + _BIAS) << _EXPONENT_SHIFT)
    return x * first * from_bits((k - half + _BIAS) << _EXPONENT_SHIFT)


@inlined
def _log_parts(x: float, bias: float) -> tuple[float, float]:
    """Return two numbers whose sum is log(x) - log(2) (bias - 2**52 - 1023).

    With x = 2**k (1 + f) and s = f / (2 + f). The first number is 0 or larger than the second.
    """
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
    return k * _LN2_HIGH, f - (square - low)  # the product is exact


@inlined
def normal_cdf(x: float) -> float:
    """Return the standard normal distribution function: 0 below -38.5.

    Below 0 it is exp(-y^2/2) times a smooth function over y + 1.25, y = -x, with the rounding
    errors of square, sum and quotient carried along; above 0, 1 minus that.
    """
    y = x if x >= 0.0 else -x
    y = 39.0 if y > 39.0 else y
    numerator, rest = _scaled_tail(y)
    below = y + 1.25
    below_rest = (y - below) + 1.25 if y >= 1.25 else (1.25 - below) + y
    quotient = numerator / below
    rest = (fma(-quotient, below, numerator) + (rest - quotient * below_rest)) / below
    half = 0.5 * y
    square = half * y
    reduced, k = _exp_reduced(-square)
    power = _exp_minus_one(reduced - fma(half, y, -square))
    tail = _times_power_of_two(quotient + fma(quotient, power, fma(rest, power, rest)), k)
    return 1.0 - tail if x > 0.0 else tail


@inlined
def normal_quantile(p: float) -> float:
    """Return x with normal_cdf(x) = p: infinite at 0 and 1, NaN outside.

    As in Wichura's AS241 (Applied Statistics 37, 1988) one rational function serves the middle, in
    u = p - 1/2, and two the tails, in r = sqrt(-2 log p); they give r - |x|, which is small.
    """
    lower = 1.0 - p if p > 0.5 else p
    small = lower < _TINY
    bias = _LOG_BIAS + (54.0 if small else 0.0)
    high, low = _log_parts(lower * 2.0**54 if small else lower, bias)
    r, rest = _root(high, low)
    near = _quantile_near(lower, r, rest)
    s = r - 8.5
    above = fma(1.9576334073662625e-16, s, 2.9163146438939587e-12)
    above = fma(above, s, 1.7403434290124133e-09)
    above = fma(above, s, 3.0628312880533307e-07)
    above = fma(above, s, 2.246369545455369e-05)
    above = fma(above, s, 0.0007878377616992394)
    above = fma(above, s, 0.013793923211857193)
    above = fma(above, s, 0.11531167333333447)
    above = fma(above, s, 0.3642495493168203)
    below = fma(3.445721981877105e-13, s, 2.588782871768514e-10)
    below = fma(below, s, 5.4945804015658865e-08)
    below = fma(below, s, 4.8861825936850554e-06)
    below = fma(below, s, 0.0002144278471528818)
    below = fma(below, s, 0.004998951628325139)
    below = fma(below, s, 0.06270967941997188)
    below = fma(below, s, 0.3979832837326459)
    below = fma(below, s, 1.0)
    far = r - fma(-rest, fma(fma(0.000112, s, -0.00452), s, 0.0588), above / below)
    below_half = far if r > _FAR else near
    below_half = math.inf if lower == 0.0 else below_half
    below_half = below_half if lower >= 0.0 else math.nan
    return below_half if p > 0.5 else 0.0 - below_half


@inlined
def normal_quantile_near(p: float) -> float:
    """Return the same bits as `normal_quantile`, sooner, for 2**-53 <= p <= 1 - 2**-53."""
    r, rest = quantile_root(p)
    return quantile_from_root(p, r, rest)


@inlined
def quantile_root(p: float) -> tuple[float, float]:
    """Return the first half of `normal_quantile_near`, for loops that do better with two."""
    high, low = _log_parts(1.0 - p if p > 0.5 else p, _LOG_BIAS)
    return _root(high, low)


@inlined
def quantile_from_root(p: float, r: float, rest: float) -> float:
    """Return `normal_quantile_near` from the result of `quantile_root`."""
    below_half = _quantile_near(1.0 - p if p > 0.5 else p, r, rest)
    return below_half if p > 0.5 else 0.0 - below_half


@inlined
def _root(high: float, low: float) -> tuple[float, float]:
    """Return r near sqrt(-2 (high + low)), of the parts of a logarithm, and what r^2 lacks."""
    log_sum = high + low
    square, square_rest = -2.0 * log_sum, -2.0 * ((high - log_sum) + low)
    root = np.sqrt(square)
    return root, fma(-root, root, square) + square_rest


@inlined
def _quantile_near(lower: float, r: float, rest: float) -> float:
    """Return |x| for 2**-53 <= lower <= 1/2, r^2 + rest = -2 log(lower)."""
    u = 0.5 - lower
    lost = (0.5 - u) - lower
    z = u * u
    s = 0.180625 - z
    above = fma(625.065325746334, s, 68589.41719068619)
    above = fma(above, s, 241554.11234600894)
    above = fma(above, s, 262872.99053463)
    above = fma(above, s, 124185.54730959909)
    above = fma(above, s, 29112.399752709563)
    above = fma(above, s, 3525.532128070263)
    above = fma(above, s, 210.31989537018472)
    above = fma(above, s, 4.874765941399952)
    below = fma(35509.46431808932, s, 171982.98098109584)
    below = fma(below, s, 253716.09965853798)
    below = fma(below, s, 164325.0965799307)
    below = fma(below, s, 54319.3889132977)
    below = fma(below, s, 9787.108554703831)
    below = fma(below, s, 967.9298360519297)
    below = fma(below, s, 49.168931922853595)
    below = fma(below, s, 1.0)
    q = r - 2.25
    tail_above = fma(-3.893914966727354e-09, q, -6.878529207423563e-07)
    tail_above = fma(tail_above, q, -3.4093142971755346e-05)
    tail_above = fma(tail_above, q, -0.0007143251094273576)
    tail_above = fma(tail_above, q, -0.007620945127482411)
    tail_above = fma(tail_above, q, -0.04556495574670206)
    tail_above = fma(tail_above, q, -0.15582313189771171)
    tail_above = fma(tail_above, q, -0.2829069414887076)
    tail_above = fma(tail_above, q, -0.2092732755153958)
    tail_above = fma(tail_above, q, -8.171972407558155e-05)
    tail_below = fma(4.637343237737305e-09, q, 8.557073440232678e-07)
    tail_below = fma(tail_below, q, 4.591689329815909e-05)
    tail_below = fma(tail_below, q, 0.0010810388971098546)
    tail_below = fma(tail_below, q, 0.013454165372303192)
    tail_below = fma(tail_below, q, 0.09774368858213486)
    tail_below = fma(tail_below, q, 0.43160350212762527)
    tail_below = fma(tail_below, q, 1.1403722862550887)
    tail_below = fma(tail_below, q, 1.650142570338014)
    tail_below = fma(tail_below, q, 1.0)
    middle = u <= 0.425
    ratio = (above if middle else tail_above) / (below if middle else tail_below)
    inside = fma(u, _ROOT_TURN, u * fma(z, ratio, _ROOT_TURN_LOW))
    # What u lost, times dx/du = sqrt(2 pi) exp(x^2 / 2), to a few percent.
    half = 0.5 * inside * inside
    slope = fma(fma(fma(0.2, half, 0.5), half, 1.0), half, 1.0) * _ROOT_TURN
    # 0.5 / r to a fifth; r - 0.842 is exact where the quantile is much smaller than r.
    outside = (r - 0.842041015625) - fma(-rest, fma(fma(0.0057, q, -0.0622), q, 0.2222), ratio)
    return fma(lost, slope, inside) if middle else outside


@inlined
def _scaled_tail(y: float) -> tuple[float, float]:
    """Return Phi(-y) exp(y^2 / 2) (y + 1.25) and what its rounding lost, 0 <= y <= 39."""
    t = (y - 5.0) / (y + 5.0)
    p = fma(7.126997601847378e-10, t, 3.891609242548944e-09)
    p = fma(p, t, 8.095736635351469e-10)
    p = fma(p, t, -3.0654220676341874e-08)
    p = fma(p, t, -2.4701740102726434e-08)
    p = fma(p, t, 1.8916090109982844e-07)
    p = fma(p, t, 1.4398239707232447e-07)
    p = fma(p, t, -1.2491675532264328e-06)
    p = fma(p, t, -2.3771991635147105e-07)
    p = fma(p, t, 8.743685807969353e-06)
    p = fma(p, t, -8.23536642691283e-06)
    p = fma(p, t, -5.336771165539697e-05)
    p = fma(p, t, 0.00016722733255432798)
    p = fma(p, t, 4.13609021053417e-05)
    p = fma(p, t, -0.0016211846645600766)
    p = fma(p, t, 0.005927289567060054)
    p = fma(p, t, -0.012922572764828276)
    p = fma(p, t, 0.018683488122537815)
    p = fma(p, t, -0.014437204895252914)
    p = fma(p, t, -0.010218616930826815)
    p = fma(p, t, 0.06004757139746406)
    p = fma(p, t, -0.1274166706500118)
    rest = p * t
    value = 0.48074565609378933 + rest
    return value, (0.48074565609378933 - value) + rest
