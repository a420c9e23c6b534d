"""Control variates and Sobol: estimates against numpy's least squares on the raw samples."""

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from aggregator.estimates import estimate, estimates
from aggregator.regression import fit
from aggregator.scatter import scatter
from protocol.definition import Method
from protocol.model import moments
from protocol.statistics import BlockMoments, Statistics, collect

Samples = NDArray[np.float64]
Mean = Callable[[Samples], Samples]

BLOCKS, SIZE, OUTPUTS = 40, 16, 2


def samples(controls: int = 3, blocks: int = BLOCKS, seed: int = 1) -> Samples:
    """Return samples of two outputs and of controls, shape (blocks, columns, m)."""
    rng = np.random.default_rng(seed)
    c = rng.standard_normal((controls, controls)) @ rng.standard_normal((controls, blocks * SIZE))
    y = rng.standard_normal((OUTPUTS, controls)) @ c + rng.exponential(size=(2, blocks * SIZE))
    y[1] += 1000.0
    return np.vstack((y, c)).reshape(OUTPUTS + controls, blocks, SIZE).transpose(1, 0, 2)


def collected(blocks: Samples) -> Statistics:
    return collect((moments(np.ascontiguousarray(b), OUTPUTS) for b in blocks), blocks.shape[2])


def observations(blocks: Samples, method: Method) -> Samples:
    """Return what is independent, shape (columns, N)."""
    means = blocks.mean(axis=2).T
    return means if method is Method.SOBOL else blocks.transpose(1, 0, 2).reshape(len(means), -1)


METHODS = pytest.mark.parametrize("method", list(Method))


@METHODS
@pytest.mark.parametrize("controls", [1, 3, 6])
def test_mean_and_error_are_those_of_a_regression_on_the_raw_samples(
    method: Method, controls: int
) -> None:
    blocks = samples(controls)
    raw = observations(blocks, method)
    design = np.vstack((np.ones(raw.shape[1]), raw[OUTPUTS:])).T
    degrees = len(design) - 1 - controls
    for output, answer in enumerate(estimates(collected(blocks), method, 0.95)):
        beta, rss, _, _ = np.linalg.lstsq(design, raw[output])
        variance = rss[0] / degrees * np.linalg.inv(design.T @ design)[0, 0]
        assert answer.mean == pytest.approx(beta[0], rel=1e-12)
        assert answer.standard_error == pytest.approx(math.sqrt(variance), rel=1e-9)


def test_the_interval_has_the_degrees_of_freedom_of_the_regression() -> None:
    answer = estimate(collected(samples(3, blocks=6)), 0, 0.95, Method.SOBOL)
    assert answer.ci_high is not None
    assert answer.mean is not None
    assert answer.standard_error is not None
    t = (answer.ci_high - answer.mean) / answer.standard_error
    assert t == pytest.approx(4.30265272975, rel=1e-9)  # 6 - 1 - 3 = 2 degrees


def test_without_controls_sobol_takes_its_error_from_the_block_means_alone() -> None:
    blocks = samples(0)
    means = blocks.mean(axis=2)
    for output, answer in enumerate(estimates(collected(blocks), Method.SOBOL, 0.95)):
        assert answer.mean == pytest.approx(blocks[:, output].mean(), rel=1e-13)
        expected = means[:, output].std(ddof=1) / math.sqrt(BLOCKS)
        assert answer.standard_error == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("controls", [0, 3])
def test_one_sobol_block_has_a_mean_but_no_error(controls: int) -> None:
    blocks = samples(controls, blocks=1)
    answer = estimate(collected(blocks), 0, 0.95, Method.SOBOL)
    assert answer.mean == pytest.approx(blocks[0, 0].mean(), rel=1e-12)
    assert (answer.standard_error, answer.ci_low, answer.ci_high) == (None, None, None)
    assert (answer.error_reliable, answer.variance_reduction) == (False, None)


def test_no_more_controls_are_used_than_leave_one_degree_of_freedom() -> None:
    for blocks, degrees in ((1, 0), (2, 1), (3, 1), (4, 1), (5, 1), (6, 2)):
        found = fit(scatter(collected(samples(3, blocks)), Method.SOBOL))
        assert [one.degrees for one in found] == [degrees, degrees]


@METHODS
def test_constant_and_dependent_controls_are_dropped(method: Method) -> None:
    plain = samples(2)
    dependent = 0.1 * plain[:, 2:3] - 0.3 * plain[:, 3:4]
    constant = np.zeros_like(dependent)
    wide = np.concatenate((plain[:, :3], constant, plain[:, 3:4], dependent), axis=1)
    found, expected = (fit(scatter(collected(b), method)) for b in (wide, plain))
    for one, other in zip(found, expected, strict=True):
        assert one.degrees == other.degrees
        assert float(one.mean) == pytest.approx(float(other.mean), rel=1e-12)
        assert float(one.variance or 0) == pytest.approx(float(other.variance or 1), rel=1e-9)


def test_a_control_that_explains_everything_leaves_an_error_that_is_not_believed() -> None:
    blocks = samples(1)
    blocks[:, 0] = 0.3 * blocks[:, 2] + 7.0
    for method in Method:
        answer = estimate(collected(blocks), 0, 0.95, method)
        assert answer.mean == pytest.approx(7.0, rel=1e-12)
        assert answer.standard_error == pytest.approx(0.0, abs=1e-9)
        assert (answer.error_reliable, answer.variance_reduction) == (False, None)


def test_what_rounding_leaves_is_not_believed_however_steady_it_is() -> None:
    # 10 - 3²/0.9 is 0 but for rounding, the same in every block.
    block = BlockMoments([1.0, 0.0], [10.0, 3.0, 0.9000000000000002], [0.0], [1.0])
    found = collect([block] * 50, 8)
    assert found.residuals[0].mantissa > 0
    assert not estimate(found, 0, 0.95).error_reliable


def test_a_rare_payoff_behind_a_good_control_is_not_believed() -> None:
    # The control explains all but a jump that 2 of 40 blocks hold: the raw variance is well
    # known, what the control leaves of it is not.
    blocks = samples(1)
    blocks[:, 0] = blocks[:, 2] + np.random.default_rng(3).normal(scale=1e-3, size=(BLOCKS, SIZE))
    jumps = blocks.copy()
    jumps[[5, 9], 0, 3] += 0.5
    for method in (Method.PSEUDO, Method.ANTITHETIC):  # Sobol would need more blocks
        assert estimate(collected(blocks), 0, 0.95, method).error_reliable
        assert not estimate(collected(jumps), 0, 0.95, method).error_reliable


@METHODS
def test_the_factor_compares_with_as_many_samples_without_controls(method: Method) -> None:
    blocks = samples(3)
    plain = blocks[:, 0].std(ddof=1) / math.sqrt(blocks[:, 0].size)
    answer = estimate(collected(blocks), 0, 0.95, method)
    assert answer.standard_error is not None
    assert answer.variance_reduction == pytest.approx((plain / answer.standard_error) ** 2)
    assert answer.standard_deviation == pytest.approx(blocks[:, 0].std(ddof=1))


def test_the_factor_of_plain_sampling_is_one_and_of_antithetic_pairs_unknown() -> None:
    blocks = collected(samples(0))
    assert estimate(blocks, 0, 0.95).variance_reduction == 1.0
    assert estimate(blocks, 0, 0.95, Method.ANTITHETIC).variance_reduction is None
    assert estimate(blocks, 0, 0.95, Method.SOBOL).variance_reduction not in (1.0, None)


def test_an_error_beyond_the_largest_double_is_left_out() -> None:
    # A control far from its expectation 0, without scatter: nothing that an honest model gives.
    blocks = [BlockMoments([s, 1e300], [1.0, 0.0, 1e-300], [0.0], [1.0]) for s in (0.0, 1.0, 0.5)]
    answer = estimate(collect(blocks, 4), 0, 0.95)
    assert answer.standard_error is None
    assert not answer.error_reliable


def test_estimates_take_well_under_ten_milliseconds() -> None:
    rng = np.random.default_rng(9)
    blocks = np.exp(5 * rng.standard_normal((64, 7, 256)))
    found = collect((moments(block, 4) for block in blocks), 256)
    for method in Method:
        seconds = []
        for _ in range(5):
            began = time.thread_time()
            estimates(found, method, 0.95)
            seconds.append(time.thread_time() - began)
        assert min(seconds) < 0.01


def test_statistics_that_no_samples_can_have_do_not_break_the_estimate() -> None:
    # Off-diagonal elements beyond Cauchy and Schwarz: RSS and pivots would be negative.
    good = collected(samples(3))
    big = max(good.squares, key=lambda number: number.fraction())
    off = [i for i in range(15) if i not in (0, 2, 5, 9, 14)]
    wrong = good.model_copy(
        update={"squares": tuple(big if i in off else q for i, q in enumerate(good.squares))}
    )
    for method in Method:
        for answer in estimates(wrong, method, 0.95):
            assert answer.standard_error is None or answer.standard_error >= 0
