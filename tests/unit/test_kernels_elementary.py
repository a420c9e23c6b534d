"""The elementary functions against mpmath, a library of arbitrary precision."""

import math
from collections.abc import Callable, Iterable

import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

from consumer.kernels import elementary

INF, NAN = math.inf, math.nan
SUBNORMAL, SMALLEST_NORMAL, LARGEST = 5e-324, 2.0**-1022, 1.7976931348623157e308

COUNT = 2_000
MANY = 200_000

counts = pytest.mark.parametrize("count", [COUNT, pytest.param(MANY, marks=pytest.mark.slow)])


def worst_ulp(
    function: Callable[[float], float], exact: Callable[[mpf], mpf], x: Iterable[float]
) -> float:
    """Largest distance from the exact result, in units of the last place of that."""
    worst = 0.0
    with mp.workprec(160):
        for argument in x:
            truth = exact(mpf(argument))
            if abs(truth) > mpf(LARGEST) * (1 + mpf(2) ** -54):
                assert function(argument) == INF, argument
                continue
            unit = mpf(math.ulp(float(truth)))
            distance = float(abs(mpf(function(argument)) - truth) / unit)
            assert not math.isnan(distance), argument
            worst = max(worst, distance)
    return worst


def neighbours(*values: float) -> list[float]:
    """Return each value with those next to it."""
    return [y for x in values for y in (math.nextafter(x, -INF), x, math.nextafter(x, INF))]


def doubles(rng: np.random.Generator, count: int) -> list[float]:
    """Return numbers of all exponents, subnormal ones included, both signs."""
    bits = rng.integers(0, 0x7FF << 52, count, dtype=np.uint64)
    return (bits.view(np.float64) * rng.choice([-1.0, 1.0], count)).tolist()


@counts
def test_exp_is_within_two_ulp_over_its_whole_range(count: int) -> None:
    rng = np.random.default_rng(1)
    half_steps = (np.arange(-1074, 1025) + 0.5) * math.log(2)  # where the reduction is longest
    x = [
        *rng.uniform(-745.2, 709.8, count),
        *rng.uniform(-1, 1, count),
        *rng.uniform(-745.2, -708.3, count // 4),
        *(v for v in doubles(rng, count) if abs(v) < 745),
        *half_steps[:: 1 if count > COUNT else 10],
        *neighbours(0.0, 1.0, -708.3964185322641, 709.782712893384, -745.1332191019411),
    ]
    assert worst_ulp(elementary.exp, mpmath.exp, x) < 2.0


def test_exp_is_right_at_its_ends() -> None:
    ends = [-INF, -LARGEST, -746.0, -745.14, SUBNORMAL, -SUBNORMAL, 709.79, 711.0, LARGEST, INF]
    assert list(map(elementary.exp, ends)) == [0, 0, 0, 0, 1, 1, INF, INF, INF, INF]
    assert math.isnan(elementary.exp(NAN))


def test_the_bounded_exp_has_the_same_bits() -> None:
    for x in [*np.random.default_rng(2).uniform(-700, 700, COUNT), 0.0, -0.0, 700.0, -700.0]:
        assert elementary.exp_bounded(x) == elementary.exp(x)


@counts
def test_log_is_within_two_ulp_over_its_whole_range(count: int) -> None:
    rng = np.random.default_rng(3)
    x = [
        *rng.uniform(0, 1, count),
        *rng.uniform(0.99, 1.01, count),
        *rng.uniform(0.7, 1.42, count),
        *map(abs, doubles(rng, count)),
        *neighbours(1.0, 0.5, math.sqrt(0.5), math.sqrt(2), 2.0**-53, SMALLEST_NORMAL),
        *(SUBNORMAL, 3 * SUBNORMAL, LARGEST),
    ]
    assert worst_ulp(elementary.log, mpmath.log, x) < 2.0


def test_log_is_right_at_its_ends() -> None:
    assert list(map(elementary.log, [0.0, -0.0, 1.0, INF])) == [-INF, -INF, 0.0, INF]
    assert all(math.isnan(elementary.log(x)) for x in (NAN, -INF, -1.0, -SUBNORMAL))


def test_the_log_for_normal_numbers_has_the_same_bits() -> None:
    for x in map(abs, doubles(np.random.default_rng(4), COUNT)):
        if x >= SMALLEST_NORMAL:
            assert elementary.log_normal_range(x) == elementary.log(x)


@counts
@pytest.mark.parametrize(("which", "exact"), [(0, mpmath.cospi), (1, mpmath.sinpi)])
def test_cosine_and_sine_of_turns_are_within_two_ulp(
    which: int, exact: Callable[[mpf], mpf], count: int
) -> None:
    rng = np.random.default_rng(5)
    eighths = np.arange(-16, 17) / 8
    x = [
        *rng.random(count),
        *rng.uniform(-100, 100, count // 4),
        *(rng.choice(eighths, count) + rng.uniform(-1e-9, 1e-9, count)),
        *doubles(rng, count // 2),
        *neighbours(*eighths, 2.0**50 + 0.25, 2.0**51 + 0.5, 2.0**52 + 1, -(2.0**53)),
        *(SUBNORMAL, SMALLEST_NORMAL, LARGEST, 2.0**-53, 1 - 2.0**-53),
    ]

    def turns(u: mpf) -> mpf:
        return exact(2 * u)

    assert worst_ulp(lambda u: elementary.cos_sin_turns(u)[which], turns, x) < 2.0


def test_cosine_and_sine_of_no_number_are_none() -> None:
    for u in (NAN, INF, -INF):
        assert all(map(math.isnan, elementary.cos_sin_turns(u)))


def test_the_bounded_cosine_and_sine_have_the_same_bits() -> None:
    for u in np.random.default_rng(6).uniform(-4, 4, COUNT):
        assert elementary.cos_sin_bounded(u) == elementary.cos_sin_turns(u)


@counts
def test_the_normal_distribution_function_is_within_two_ulp_over_its_whole_range(
    count: int,
) -> None:
    rng = np.random.default_rng(7)
    x = [
        *rng.uniform(-1, 1, count),
        *rng.uniform(-9, 9, count),
        *rng.uniform(-38.5, -9, count),
        *(v for v in doubles(rng, count) if abs(v) < 38),
        *neighbours(0.0, 1.0, -1.0, -37.5193793471445, 8.3),
        *(SUBNORMAL, -SUBNORMAL, -38.48),
    ]
    assert worst_ulp(elementary.normal_cdf, mpmath.ncdf, x) < 2.0


def test_the_normal_distribution_function_is_right_at_its_ends() -> None:
    ends = [-INF, -LARGEST, -38.6, 0.0, -0.0, 9.0, LARGEST, INF]
    assert list(map(elementary.normal_cdf, ends)) == [0, 0, 0, 0.5, 0.5, 1, 1, 1]
    assert math.isnan(elementary.normal_cdf(NAN))


def quantile(p: mpf) -> mpf:
    """Return the normal quantile by Newton's method, begun near enough to need four steps."""
    x = mpf(elementary.normal_quantile(float(p)))
    for _ in range(4):
        if p < 0.4:
            below = mpmath.ncdf(x)
            x -= (mpmath.log(below) - mpmath.log(p)) * below / mpmath.npdf(x)
        else:  # no cancellation near 1/2, where x is small
            x -= (mpmath.erf(x / mpmath.sqrt(2)) / 2 - (p - 0.5)) / mpmath.npdf(x)
    return x


@pytest.mark.parametrize("count", [300, pytest.param(50_000, marks=pytest.mark.slow)])
def test_the_normal_quantile_is_within_two_ulp_over_its_whole_range(count: int) -> None:
    rng = np.random.default_rng(8)
    x = [
        *rng.random(count),
        *rng.uniform(0.07, 0.08, count),  # where the middle and the tail meet
        *np.exp2(rng.uniform(-55, -1, count)),
        *np.exp2(rng.uniform(-1074, -52, count)),
        *(1 - np.exp2(rng.uniform(-53, -1, count))),
        *neighbours(0.25, 0.75, 0.075, 0.925, 2.0**-53, SMALLEST_NORMAL),
        *(SUBNORMAL, 1 - 2.0**-53, 0.5 + 2.0**-53, 0.5 - 2.0**-54),
    ]
    assert worst_ulp(elementary.normal_quantile, quantile, x) < 2.0


def test_the_normal_quantile_is_right_at_its_ends() -> None:
    assert list(map(elementary.normal_quantile, [0.0, -0.0, 0.5, 1.0])) == [-INF, -INF, 0.0, INF]
    outside = (-SUBNORMAL, -1.0, math.nextafter(1.0, 2.0), INF, -INF, NAN)
    assert all(math.isnan(elementary.normal_quantile(p)) for p in outside)


def test_the_normal_quantile_for_uniforms_has_the_same_bits() -> None:
    rng = np.random.default_rng(9)
    for p in [2.0**-53, 1 - 2.0**-53, *rng.random(COUNT), *np.exp2(rng.uniform(-53, -1, COUNT))]:
        assert elementary.normal_quantile_near(p) == elementary.normal_quantile(p)
