import hashlib
import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest
from numpy.typing import NDArray

from consumer import numerics
from protocol.streams import BlockStream

Doubles = NDArray[np.float64]
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628621")


def worst_ulp(got: Doubles, x: Doubles, exact: Callable[[Decimal], Decimal]) -> float:
    """Largest error of a vector, in units of the last place of the exact result."""
    worst = 0.0
    with localcontext() as context:
        context.prec = 60
        for value, argument in zip(got.tolist(), x.tolist(), strict=True):
            truth = exact(Decimal(argument))
            unit = Decimal(math.ulp(float(truth)))
            worst = max(worst, float(abs(Decimal(value) - truth) / unit))
    return worst


def taylor(x: Decimal, first: int) -> Decimal:
    """Sine (first = 1) or cosine (first = 0) of a small number."""
    term = x if first else Decimal(1)
    total, n = Decimal(0), first
    while abs(term) > Decimal("1e-70"):
        total += term
        n += 2
        term *= -x * x / (n * (n - 1))
    return total


def test_exp_is_within_one_ulp_over_its_whole_range() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate((rng.uniform(-708, 709, 400), rng.uniform(-1, 1, 400), [0.0, 1.0, -1e-300]))
    assert worst_ulp(numerics.exp(x), x, Decimal.exp) < 1.0


def test_exp_of_subnormal_results_is_within_one_ulp() -> None:
    x = np.random.default_rng(2).uniform(-745, -708.4, 200)
    assert worst_ulp(numerics.exp(x), x, Decimal.exp) < 1.0


def test_log_is_within_one_ulp_over_its_whole_range() -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate(
        (
            rng.uniform(0, 1, 300),
            rng.uniform(0.99, 1.01, 300),
            np.exp2(rng.uniform(-1074, 1023, 300)),
            [2.0**-53, 1 - 2.0**-53, 5e-324, 1.7976931348623157e308],
        )
    )
    assert worst_ulp(numerics.log(x), x, Decimal.ln) < 1.0


def test_log_of_one_is_zero() -> None:
    assert numerics.log(np.array([1.0])).tolist() == [0.0]


@pytest.mark.parametrize("first", [0, 1])
def test_cosine_and_sine_of_turns_are_within_two_ulp(first: int) -> None:
    rng = np.random.default_rng(4)
    near = rng.choice([0.0, 0.25, 0.5, 0.75, 1.0], 200) + rng.uniform(-1e-9, 1e-9, 200)
    u = np.concatenate((rng.random(600), near))
    # The argument is reduced exactly, as a decimal, to within a quarter turn of zero.
    quarter = np.rint(u * 4).astype(int)

    def exact(turns: Decimal) -> Decimal:
        quarters = int((turns * 4).to_integral_value())
        x = 2 * PI * (turns - Decimal(quarters) / 4)
        index = (quarters + (1 - first)) % 4  # cosine is sine a quarter turn ahead
        value = taylor(x, 1 - index % 2)
        return -value if index >= 2 else value

    assert set(quarter.tolist()) == {0, 1, 2, 3, 4}
    assert worst_ulp(numerics.cos_sin_turns(u)[first], u, exact) < 2.0


def test_elementary_functions_are_right_at_their_ends() -> None:
    inf, nan = math.inf, math.nan
    ends = np.array([-inf, -746.0, 0.0, 709.78, 709.79, inf, nan])
    expected = [0.0, 0.0, 1.0, math.exp(709.78), inf, inf, nan]
    np.testing.assert_allclose(numerics.exp(ends), expected, rtol=1e-15)
    logs = numerics.log(np.array([-inf, -1.0, -0.0, 0.0, inf, nan]))
    np.testing.assert_array_equal(logs, [nan, nan, -inf, -inf, inf, nan])
    assert all(math.isnan(v[0]) for v in numerics.cos_sin_turns(np.array([nan])))


def test_elementary_functions_leave_their_argument_alone() -> None:
    x = np.array([0.3, 0.7])
    numerics.exp(x)
    numerics.log(x)
    numerics.cos_sin_turns(x)
    assert x.tolist() == [0.3, 0.7]


@pytest.mark.parametrize("stream", [BlockStream(2**64 - 5, 7, 3, 1024), BlockStream(0, 0, 0, 2)])
def test_a_tile_has_the_same_bits_as_the_whole_block(stream: BlockStream) -> None:
    half = stream.size // 2
    pairs = (half // 3, half)
    for tile, whole in zip(
        numerics.uniforms(stream, (2, 5), pairs), stream.uniform_pairs(0, 5), strict=True
    ):
        np.testing.assert_array_equal(tile, whole[2:5, pairs[0] : pairs[1]])


def test_normals_are_box_muller_of_the_uniforms_of_one_counter() -> None:
    stream = BlockStream(11, 1, 5, 512)
    first, second = stream.uniform_pairs(0, 4)
    radius = np.sqrt(-2 * np.log(first))
    even, odd = numerics.normals(stream, (0, 4), (0, 256))
    np.testing.assert_allclose(even, radius * np.cos(2 * np.pi * second), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(odd, radius * np.sin(2 * np.pi * second), rtol=1e-12, atol=1e-14)


def test_normals_have_the_moments_of_a_normal() -> None:
    # 262,144 draws, seed fixed; each bound is 4.5 standard errors: a chance of 7e-6 each.
    z = np.concatenate(numerics.normals(BlockStream(5, 0, 0, 4096), (0, 64), (0, 2048)), axis=None)
    n = z.size
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(z**power) - mean) < 4.5 * math.sqrt(variance / n)


def test_normals_have_the_bits_they_always_had() -> None:
    digest = hashlib.sha256()
    for half in numerics.normals(BlockStream(2026, 3, 9, 1024), (0, 16), (0, 512)):
        digest.update(half.astype("<f8").tobytes())
    assert digest.hexdigest() == (
        "59743d046fe4dedc9be416de7eb29f95063019eb5399bf6d342eb4fb8dc22f45"
    )


def test_tiles_cover_every_pair_and_dimension_once() -> None:
    seen = np.zeros((70, 20_000), dtype=int)
    for pairs, rows in numerics.tiles(70, 20_000):
        for row in rows:
            seen[slice(*row), slice(*pairs)] += 1
    assert np.all(seen == 1)
