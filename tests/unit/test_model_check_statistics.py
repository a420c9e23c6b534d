"""The statistical tests of blocks: exact where a small case can be counted, else their size."""

import itertools
import math

import numpy as np
import pytest

from consumer.model_check.statistics import bits, centred_z, dispersion, serial_z

BLOCKS = 256


@pytest.mark.parametrize("values", [(1, 2, 3, 4, 5, 6), (0, 0, 1, 1, 1, 5), (3, 1, 1, 9, 9)])
def test_over_all_permutations_the_serial_test_has_mean_0_and_variance_1(
    values: tuple[float, ...],
) -> None:
    found = [serial_z(np.array(order)) for order in itertools.permutations(values)]
    z = np.array(found, dtype=np.float64)
    assert z.mean() == pytest.approx(0, abs=1e-12)
    assert (z**2).mean() == pytest.approx(1)


def test_the_serial_test_finds_neighbours_that_are_alike_and_that_alternate() -> None:
    x = np.random.default_rng(1).standard_normal(BLOCKS)
    alike = serial_z(x + np.roll(x, 1))
    alternating = serial_z(x - np.roll(x, 1))
    assert alike is not None
    assert alike > 4.5
    assert alternating is not None
    assert alternating < -4.5


def test_the_serial_test_sees_ranks_only() -> None:
    x = np.random.default_rng(1).standard_normal(BLOCKS)
    assert serial_z(np.exp(5 * x)) == serial_z(x)


def test_constants_and_rare_differences_are_not_judged() -> None:
    assert serial_z(np.ones(BLOCKS)) is None
    assert serial_z((np.arange(BLOCKS) < 8).astype(float)) is None
    assert serial_z((np.arange(BLOCKS) % 4 == 0).astype(float)) is not None


def blocks(draw: str, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (BLOCKS, size)
    x = {
        "normal": lambda: rng.standard_normal(shape),
        "squared exponential": lambda: rng.standard_exponential(shape) ** 2,
        "coin": lambda: (rng.random(shape) < 0.3).astype(float),
    }[draw]()
    return x.mean(axis=1), x.var(axis=1, ddof=1)


@pytest.mark.parametrize("draw", ["normal", "squared exponential", "coin"])
def test_independent_samples_have_a_standard_normal_dispersion_or_less(draw: str) -> None:
    found = [dispersion(*blocks(draw, seed, 32), 32) for seed in range(300)]
    z = np.array([test[0] for test in found if test is not None])
    ratios = np.array([test[1] for test in found if test is not None])
    assert len(z) > 200
    # Three bounds of 4.5 standard errors and one of 4.5 sigma in 300: a false alarm in 400 seeds.
    assert abs(z.mean()) < 4.5 / math.sqrt(len(z)) + 0.3 * (draw == "squared exponential")
    assert z.std() < 1 + 4.5 / math.sqrt(2 * len(z))
    assert np.abs(z).max() < 4.5
    assert ratios.mean() == pytest.approx(1, abs=0.05)


def test_dispersion_finds_a_common_part_and_a_balance() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((BLOCKS, 32))
    common = x + 0.3 * rng.standard_normal((BLOCKS, 1))
    balanced = x - 0.5 * x.mean(axis=1, keepdims=True)
    above, below = (
        dispersion(y.mean(axis=1), y.var(axis=1, ddof=1), 32) for y in (common, balanced)
    )
    assert above is not None
    assert below is not None
    assert above[0] > 4.5
    assert above[1] == pytest.approx(1 + 32 * 0.09, rel=0.4)
    assert below[0] < -4.5
    assert below[1] == pytest.approx(0.25, rel=0.4)


@pytest.mark.parametrize("level", [0.0, 0.1, 1e9])
def test_the_limits_of_dispersion_survive_rounding(level: float) -> None:
    x = np.random.default_rng(1).standard_normal((BLOCKS, 32))
    repeated = np.repeat(x[:, :1], 32, axis=1) + level
    half = np.concatenate((x[:, :16], -x[:, :16]), axis=1) + level
    assert dispersion(repeated.mean(axis=1), repeated.var(axis=1, ddof=1), 32) is not None
    found = [dispersion(y.mean(axis=1), y.var(axis=1, ddof=1), 32) for y in (repeated, half)]
    assert [test[0] for test in found if test is not None] == [math.inf, -math.inf]
    constant = np.full((BLOCKS, 32), level)
    assert dispersion(constant.mean(axis=1), constant.var(axis=1, ddof=1), 32) is None


def test_a_mean_of_0_is_told_from_another() -> None:
    x = np.random.default_rng(1).standard_normal(BLOCKS)
    z, shifted = centred_z(x), centred_z(x + 0.5)
    assert z is not None
    assert abs(z) < 4.5
    assert shifted is not None
    assert shifted > 4.5
    assert centred_z(np.zeros(BLOCKS)) is None
    constant = centred_z(np.full(BLOCKS, 0.1))
    assert constant is not None
    assert constant > 1e9


def test_bits_count_the_places_where_samples_differ() -> None:
    assert bits(np.zeros((1, 64))) == 0
    assert bits(np.eye(64)[:1]) == pytest.approx(6)
    assert bits(np.arange(8.0)[np.newaxis]) == pytest.approx(math.log2(math.factorial(8)))
    assert bits(np.array([np.zeros(64), np.arange(64) % 2])) == pytest.approx(
        math.log2(math.comb(64, 32))
    )
