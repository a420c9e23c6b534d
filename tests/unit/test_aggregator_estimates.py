"""Estimates: the numbers, their reliability, and the digest."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from aggregator.books import RunBooks
from aggregator.estimates import estimate
from aggregator.result import digest, result
from aggregator.scatter import of_samples as scatter_of
from aggregator.stopping import variance_is_known
from protocol.definition import Lane
from protocol.exact import Exact, exact
from protocol.messages import RunState
from protocol.model import moments
from protocol.statistics import BlockMoments, Statistics, collect
from tests.support.run_values import RUN, definition, partial, statistics

DIGEST = "89fb90106ae7ea8f40de1097f67aa2cef730d44c898dafe42ee427da2305d319"
"""Of two cells, one of them empty; it must never change without a new version of the protocol."""


def of_samples(samples: Any, block_size: int) -> Statistics:
    """Return the statistics of an array (n, outputs)."""
    blocks = np.asarray(samples, dtype=float).reshape(-1, block_size, np.shape(samples)[1])
    return collect((moments(block.T, block.shape[1]) for block in blocks), block_size)


def variance_of_mean(statistics: Statistics, output: int) -> Fraction:
    return scatter_of(statistics).variance(output) / statistics.samples


def of_squares(*squares: float) -> Statistics:
    """Return statistics whose blocks have these centred second moments."""
    return collect((BlockMoments([0.0], [q], [-9.0], [9.0]) for q in squares), 4)


@pytest.mark.parametrize(("blocks", "block_size"), [(1, 2), (1, 64), (2, 2), (7, 6), (50, 32)])
def test_mean_and_error_are_those_of_the_raw_samples(blocks: int, block_size: int) -> None:
    rng = np.random.default_rng(1)
    samples = rng.exponential(size=(blocks * block_size, 2)) * [1.0, 1e3] + [5.0, 0.0]
    found = of_samples(samples, block_size)
    for output in range(2):
        column = samples[:, output]
        answer = estimate(found, output, 0.95)
        assert answer.mean == pytest.approx(column.mean(), rel=1e-13)
        expected = column.std(ddof=1) / math.sqrt(len(column))
        assert answer.standard_error == pytest.approx(expected, rel=1e-12)


def test_the_variance_is_exact_where_the_samples_are_integers() -> None:
    samples = np.array([[1.0], [2.0], [4.0], [9.0], [3.0], [5.0], [0.0], [8.0]])
    column = [Fraction(int(value)) for value in samples[:, 0]]
    mean = sum(column) / 8
    expected = sum((value - mean) ** 2 for value in column) / (8 * 7)
    assert variance_of_mean(of_samples(samples, 4), 0) == expected


def test_how_samples_fall_into_blocks_does_not_change_the_error() -> None:
    samples = np.arange(24.0)[:, np.newaxis] ** 2
    found = {variance_of_mean(of_samples(samples, size), 0) for size in (2, 4, 8)}
    assert len(found) == 1


def test_a_large_mean_does_not_drown_the_variance() -> None:
    samples = np.array([[1e15], [1e15 + 1], [1e15 + 2], [1e15 + 3]])
    assert variance_of_mean(of_samples(samples, 2), 0) == Fraction(5, 12)


def test_the_interval_is_students_around_the_mean() -> None:
    answer = estimate(of_samples(np.array([[1.0], [2.0], [3.0], [4.0]]), 2), 0, 0.95)
    half = 3.18244630528 * math.sqrt(5 / 12)  # 3 degrees of freedom
    assert answer.ci_low == pytest.approx(2.5 - half, rel=1e-12)
    assert answer.ci_high == pytest.approx(2.5 + half, rel=1e-12)
    assert answer.confidence == 0.95


def test_nothing_merged_gives_no_number() -> None:
    answer = estimate(None, 0, 0.9)
    assert (answer.mean, answer.standard_error, answer.ci_low, answer.ci_high) == (None,) * 4
    assert (answer.error_reliable, answer.confidence) == (False, 0.9)


def test_one_sample_has_a_mean_but_no_error() -> None:
    one = of_squares(0.0).model_copy(update={"samples": 1, "sums": (exact(3),)})
    answer = estimate(one, 0, 0.95)
    assert (answer.mean, answer.standard_error, answer.ci_low, answer.ci_high) == (
        3.0,
        None,
        None,
        None,
    )


def test_a_constant_has_error_zero_that_is_not_believed() -> None:
    answer = estimate(of_samples(np.full((64, 1), 3.0), 4), 0, 0.95)
    assert (answer.mean, answer.standard_error, answer.error_reliable) == (3.0, 0.0, False)
    assert (answer.ci_low, answer.ci_high) == (3.0, 3.0)


def test_an_interval_beyond_the_largest_double_is_left_out() -> None:
    huge = collect(
        [BlockMoments([s], [0.0], [-1e308], [1e308]) for s in (1.7e308, -1.7e308)], block_size=2
    )
    answer = estimate(huge, 0, 0.999999)
    assert answer.mean == 0.0
    assert math.isfinite(answer.standard_error or math.inf)
    assert (answer.ci_low, answer.ci_high) == (None, None)


# Reliability of the error: √(B/(B-1)·Σ(Q-Q̄)²)/ΣQ at most 0.1


def test_one_block_cannot_tell_how_reliable_its_variance_is() -> None:
    assert not variance_is_known(of_squares(4.0), 0)


def test_equal_blocks_are_reliable_from_two_on() -> None:
    assert variance_is_known(of_squares(4.0, 4.0), 0)


def test_zero_variance_is_never_reliable() -> None:
    assert not variance_is_known(of_squares(0.0, 0.0, 0.0), 0)


@pytest.mark.parametrize(("spread", "reliable"), [(10, True), (11, False)])
def test_a_variance_known_to_ten_percent_is_reliable_and_not_beyond(
    spread: int, reliable: bool
) -> None:
    # Two blocks 100 ± s: √(2·2s²)/200 = s/100, so that s = 10 is the limit, exactly.
    assert variance_is_known(of_squares(100.0 - spread, 100.0 + spread), 0) is reliable


def test_reliability_agrees_with_the_formula_in_floating_point() -> None:
    rng = np.random.default_rng(3)
    answers = set()
    for _ in range(200):
        b = int(rng.integers(2, 60))
        q = rng.exponential(size=b) ** rng.uniform(0.2, 1.0) * 7
        relative = math.sqrt(b / (b - 1) * np.sum((q - q.mean()) ** 2)) / q.sum()
        answers.add(relative <= 0.1)
        assert variance_is_known(of_squares(*q), 0) == (relative <= 0.1)
    assert answers == {True, False}


def test_a_payoff_hit_in_one_block_only_is_unreliable() -> None:
    assert not variance_is_known(of_squares(*[0.0] * 999, 1.0), 0)


# Digest


def test_the_digest_is_the_one_on_record() -> None:
    of = definition(cells=2)
    assert digest(of.hash, [statistics(0, 0, 4), None]) == DIGEST


def test_the_digest_does_not_depend_on_how_the_sums_were_split() -> None:
    split = statistics(0, 1, 3).merge(statistics(0, 3, 4)).merge(statistics(0, 0, 1))
    assert digest(b"", [split]) == digest(b"", [statistics(0, 0, 4)])


def changed(value: Any) -> Any:
    if isinstance(value, tuple):
        return (changed(value[0]), *value[1:])
    if isinstance(value, Exact):
        return value + Exact(1, -1000)
    return math.nextafter(value, math.inf) if isinstance(value, float) else value + 1


@pytest.mark.parametrize(
    "field", sorted(Statistics.model_fields.keys() - {"residuals", "histograms"})
)
def test_the_digest_notices_the_last_bit_of(field: str) -> None:
    good = statistics(0, 0, 4, outputs=2)
    other = good.model_copy(update={field: changed(getattr(good, field))})
    assert digest(b"", [other]) != digest(b"", [good])


def test_the_digest_notices_the_definition_and_the_order_of_cells() -> None:
    a, b = statistics(0, 0, 4), statistics(1, 0, 4)
    found = [digest(b"", [a, b]), digest(b"", [b, a]), digest(b"", [a]), digest(b"x", [a, b])]
    assert len(set(found)) == 4


# Results


def books() -> RunBooks:
    return RunBooks(RUN, definition(blocks=32, cells=2), "default", Lane.NORMAL, 100.0)


def test_a_running_result_has_the_estimates_so_far_and_no_digest() -> None:
    run = books()
    run.merge(partial(run.definition, 0, 32))
    answer = result(run, 102.5)
    assert (answer.state, answer.digest, answer.reproducible) == ("running", None, False)
    assert (answer.elapsed_seconds, answer.samples) == (2.5, 32 * 1024)
    assert [cell.state for cell in answer.cells] == ["finished", "running"]
    assert [cell.params for cell in answer.cells] == [{"cell": 0}, {"cell": 1}]
    assert answer.cells[0].outputs["x"] == estimate(statistics(0, 0, 32), 0, 0.95)
    assert answer.cells[1].outputs["x"].mean is None


def test_a_finished_result_has_the_digest_of_all_cells() -> None:
    run = books()
    run.state, run.ended = RunState.FINISHED, 107.0
    for cell in (1, 0):
        run.merge(partial(run.definition, 0, 32, cell))
    answer = result(run, 999.0)
    expected = digest(run.definition.hash, [statistics(0, 0, 32), statistics(1, 0, 32)])
    assert (answer.digest, answer.reproducible) == (expected, True)
    assert (answer.elapsed_seconds, answer.engines) == (7.0, ("portable",))


def test_the_clock_of_a_restarted_aggregator_cannot_make_time_negative() -> None:
    assert result(books(), 50.0).elapsed_seconds == 0.0
