"""When a cell may stop: reliable errors within their targets, decided without rounding."""

import math
from fractions import Fraction

import numpy as np
import pytest

from aggregator.scatter import scatter
from aggregator.stopping import Target, reached
from protocol.definition import Method
from protocol.model import moments
from protocol.statistics import BlockMoments, Statistics, collect

METHODS = pytest.mark.parametrize("method", list(Method))


def normal(mean: float = 3.0, blocks: int = 256) -> Statistics:
    """Return statistics of two outputs: normal variables of variance 1 and of variance 100."""
    rng = np.random.default_rng(4)
    draws = rng.standard_normal((blocks, 2, 32)) * [[1.0], [10.0]] + mean
    return collect((moments(block, 2) for block in draws), 32)


def error(statistics: Statistics, method: Method, output: int = 0) -> float:
    found = scatter(statistics, method)
    return math.sqrt(found.variance(output) / found.count)


@METHODS
def test_a_target_passes_from_the_error_on_and_not_before(method: Method) -> None:
    found = normal()
    at = error(found, method)
    assert reached(found, method, Target(standard_error=at * 1.000001))
    assert not reached(found, method, Target(standard_error=at * 0.999999))


@METHODS
def test_a_relative_target_is_a_share_of_the_mean_whatever_its_sign(method: Method) -> None:
    for mean in (3.0, -3.0):
        found = normal(mean)
        at = error(found, method) / abs(float(scatter(found, method).mean(0)))
        assert reached(found, method, Target(relative_error=at * 1.000001))
        assert not reached(found, method, Target(relative_error=at * 0.999999))


def test_both_errors_must_be_reached_where_both_are_given() -> None:
    found = normal()
    for target, expected in (
        (Target(1.0, 1.0), True), (Target(1e-6, 1.0), False), (Target(1.0, 1e-6), False),
    ):  # fmt: skip
        assert reached(found, Method.PSEUDO, target) is expected


def test_every_output_named_must_reach_its_target() -> None:
    found = normal()
    target = Target(standard_error=2 * error(found, Method.PSEUDO))
    assert reached(found, Method.PSEUDO, target)
    assert reached(found, Method.PSEUDO, target, (0,))
    assert not reached(found, Method.PSEUDO, target, (1,))
    assert not reached(found, Method.PSEUDO, target, (0, 1))


def test_no_rounding_decides_at_the_limit() -> None:
    # Two blocks of ±1 and their like: n = 4, scatter 4, variance of the mean 4/(4·3) = 1/3.
    found = collect([BlockMoments([0.0], [2.0], [-1.0], [1.0])] * 2, 2)
    variance = scatter(found, Method.PSEUDO).variance(0) / 4
    assert variance == Fraction(1, 3)
    root = math.sqrt(1 / 3)
    below, above = (
        (root, math.nextafter(root, 1)) if Fraction(root) ** 2 < variance
        else (math.nextafter(root, 0), root)
    )  # fmt: skip
    assert reached(found, Method.PSEUDO, Target(standard_error=above))
    assert not reached(found, Method.PSEUDO, Target(standard_error=below))


@METHODS
def test_zero_variance_never_passes(method: Method) -> None:
    constant = collect([BlockMoments([8.0], [0.0], [1.0], [1.0])] * 32, 8)
    assert not reached(constant, method, Target(standard_error=1e9, relative_error=1e9))


@METHODS
def test_a_variance_seen_in_few_blocks_only_never_passes(method: Method) -> None:
    blocks = [BlockMoments([0.0], [0.0], [0.0], [0.0])] * 60
    hits = [BlockMoments([1.0], [0.9], [0.0], [1.0])] * 4
    assert not reached(collect(blocks + hits, 16), method, Target(standard_error=1e9))


@METHODS
def test_the_error_of_few_sobol_blocks_never_passes(method: Method) -> None:
    # 201 block means have 200 degrees of freedom: their variance is known to √(2/200) = 10 %.
    target = Target(standard_error=1e9)
    assert reached(normal(blocks=201), method, target)
    assert reached(normal(blocks=200), method, target) is (method is not Method.SOBOL)


@METHODS
def test_one_block_never_passes(method: Method) -> None:
    assert not reached(normal(blocks=1), method, Target(standard_error=1e9))


def test_a_mean_of_zero_has_no_relative_error_that_could_pass() -> None:
    found = collect([BlockMoments([0.0], [2.0], [-1.0], [1.0])] * 64, 2)
    assert not reached(found, Method.PSEUDO, Target(relative_error=1e9))
    assert reached(found, Method.PSEUDO, Target(standard_error=1.0))


@pytest.mark.parametrize("method", [Method.PSEUDO, Method.SOBOL])
def test_with_controls_the_error_of_the_corrected_mean_counts(method: Method) -> None:
    rng = np.random.default_rng(8)
    control = rng.standard_normal((256, 32))
    noise = rng.standard_normal((256, 32)) * 0.01
    with_control = np.stack((control + noise, control), axis=1)
    found = collect((moments(block, 1) for block in with_control), 32)
    bare = collect((moments(block[:1], 1) for block in with_control), 32)
    target = Target(standard_error=0.001)
    assert reached(found, method, target)
    assert not reached(bare, method, target)
