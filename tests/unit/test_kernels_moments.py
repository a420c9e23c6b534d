"""The compiled moments against those of the specification."""

import numpy as np
import pytest

from consumer.kernels.moments import moments
from protocol import model


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 1024, 4097])
@pytest.mark.parametrize(("columns", "outputs"), [(1, 1), (3, 3), (4, 1), (8, 4)])
def test_moments_have_the_bits_of_the_specification(size: int, columns: int, outputs: int) -> None:
    samples = np.random.default_rng(size).standard_normal((columns, size)) * 1e3 + 7.0
    kept = samples.copy()
    assert moments(samples, outputs) == model.moments(samples, outputs)
    np.testing.assert_array_equal(samples, kept)


def test_infinities_and_nan_are_not_hidden() -> None:
    for value in (np.nan, np.inf, -np.inf):
        for place in range(5):
            samples = np.arange(5.0)[np.newaxis].copy()
            samples[0, place] = value
            assert not np.isfinite(moments(samples, 1).sums[0])


def test_rows_that_are_not_contiguous_give_the_same() -> None:
    samples = np.random.default_rng(1).random((100, 3))
    assert moments(samples.T, 2) == model.moments(samples.T, 2)
