"""Histograms: bins of doubles, exact merges, and what is refused."""

import itertools
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from protocol.codec import pack, unpack
from protocol.histogram import LAST_BIN, MAX_BINS, Histogram, Tally, bin_edges, bin_numbers
from protocol.model import moments
from protocol.statistics import Statistics, collect


def of(samples: NDArray[np.float64]) -> Histogram:
    tally = Tally(1)
    tally.add(samples[np.newaxis])
    return tally.histograms()[0]


def samples(seed: int = 1, count: int = 5000) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal(count) * np.exp(3 * rng.standard_normal(count))


def test_the_middle_of_a_bin_is_within_one_percent_of_all_its_doubles() -> None:
    for value in np.concatenate((samples(), [sys.float_info.min, sys.float_info.max])):
        low, high = bin_edges(int(bin_numbers(np.array([value]))[0]))
        assert low <= value <= high
        middle = low + (high - low) / 2
        assert max(abs(low - middle), abs(high - middle)) <= 0.008 * abs(value)


def test_bins_are_in_the_order_of_their_doubles_and_leave_no_gap() -> None:
    for number in (-LAST_BIN, -130, -1, 0, 1, 64, 65, 1000, LAST_BIN - 1):
        above = np.nextafter(bin_edges(number)[1], np.inf)
        assert bin_numbers(np.array([above])).tolist() == [number + 1]
    assert bin_edges(LAST_BIN)[1] == sys.float_info.max
    assert bin_edges(-LAST_BIN)[0] == -sys.float_info.max


def test_zero_minus_zero_and_subnormal_numbers_share_a_bin() -> None:
    tiny = np.array([0.0, -0.0, 5e-324, -5e-324, 2.0**-1022, -(2.0**-1022)])
    assert bin_numbers(tiny).tolist() == [0, 0, 0, 0, 1, -1]


def test_histograms_merge_to_the_same_bytes_in_any_order() -> None:
    parts = [samples(seed) for seed in range(4)]
    whole = of(np.concatenate(parts))
    for order in itertools.permutations(parts):
        first, *others = map(of, order)
        for other in others:
            first = first.merge(other)
        assert first == whole
    assert whole.total == 20_000


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1.0, 2.0, 4.0], [2.0, 2.0]),
        ([1.0, 2.0, 4.0], [-5.0, -1.0, 0.0]),
        ([1.0, 2.0, 4.0], [8.0, 9.0]),
        ([1.0, 4.0, 16.0], [2.0, 2.5, 3.0, 4.0, 8.0]),
        ([3.0], [3.0]),
        ([3.0], [5.0]),
    ],
)
def test_a_merge_has_the_bins_of_both_in_order(one: list[float], other: list[float]) -> None:
    whole = of(np.array(one + other))
    assert of(np.array(one)).merge(of(np.array(other))) == whole
    assert of(np.array(other)).merge(of(np.array(one))) == whole


def test_a_merge_leaves_both_sides_as_they_were() -> None:
    one, other = of(samples(1)), of(samples(2))
    one.merge(other)
    assert (one, other) == (of(samples(1)), of(samples(2)))


def test_a_total_is_exact_whatever_the_counts() -> None:
    most = 2**63 - 1
    found = Histogram(bins=(7).to_bytes(4) + (8).to_bytes(4), counts=most.to_bytes(8) * 2)
    assert found.total == 2 * most


def test_counts_are_those_of_the_samples() -> None:
    found = of(np.array([1.0, 2.0, 1.001, -3.0, 0.0, 2.0, 2.0]))
    bins, counts = found.arrays()
    assert bins.tolist() == bin_numbers(np.array([-3.0, 0.0, 1.0, 2.0])).tolist()
    assert counts.tolist() == [1, 1, 2, 3]


def test_a_tally_of_many_blocks_is_that_of_all_samples() -> None:
    tally = Tally(2)
    drawn = samples(count=600_000).reshape(2, 300, 1000)
    for block in range(300):
        tally.add(drawn[:, block])
    assert tally.histograms() == tuple(of(drawn[output].reshape(-1)) for output in range(2))


def test_too_many_bins_are_refused_with_their_number() -> None:
    tally = Tally(1)
    tally.add(np.array([[bin_edges(number)[0] for number in range(1, MAX_BINS + 2)]]))
    with pytest.raises(ValueError, match="into 8193 bins, allowed are 8192"):
        tally.histograms()


def test_the_largest_histogram_fits_a_message() -> None:
    numbers = np.arange(1, MAX_BINS + 1)
    found = of(np.array([bin_edges(int(number))[0] for number in numbers]))
    assert unpack(pack(found.model_dump()), 1 << 20) == found.model_dump()


def big(values: list[int], size: int) -> bytes:
    return b"".join(value.to_bytes(size, "big", signed=value < 0) for value in values)


@pytest.mark.parametrize(
    ("bins", "counts", "sentence"),
    [
        (b"", b"", "at least 4"),
        (big([1], 4), b"", "at least 8"),
        (big([1], 4)[:3] + big([1], 4), big([1], 8), "bytes of bins"),
        (big([1, 2], 4), big([1], 8), "bytes of counts"),
        (big([2, 1], 4), big([1, 1], 8), "ascend"),
        (big([1, 1], 4), big([1, 1], 8), "ascend"),
        (big([LAST_BIN + 1], 4), big([1], 8), "ascend"),
        (big([1, LAST_BIN + 1], 4), big([1, 1], 8), "ascend"),
        (big([-LAST_BIN - 1, 1], 4), big([1, 1], 8), "ascend"),
        (big([-LAST_BIN - 1], 4), big([1], 8), "ascend"),
        (big([1, 2], 4), big([1, 0], 8), "not positive"),
        (big([1, 2], 4), big([1, -1], 8), "not positive"),
        (big([1], 4), big([2**63], 8), "not positive"),
        ("x" * 4, big([1], 8), "valid bytes"),
    ],
)
def test_a_hostile_histogram_is_refused(bins: Any, counts: Any, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Histogram(bins=bins, counts=counts)


def statistics() -> Statistics:
    """Return statistics of two outputs in two blocks of 50, with histograms."""
    tally, drawn = Tally(2), samples(count=200).reshape(2, 2, 50)
    for block in drawn:
        tally.add(block)
    return collect((moments(block, 2) for block in drawn), 50, tally)


def test_statistics_with_histograms_survive_the_wire_and_merge() -> None:
    found = statistics()
    assert Statistics.model_validate(unpack(pack(found.model_dump()), 1 << 20)) == found
    assert [one.total for one in found.merge(found).histograms] == [200, 200]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"histograms": statistics().model_dump()["histograms"][:1]}, "1 histograms of 2 outputs"),
        ({"histograms": statistics().model_dump()["histograms"] * 5}, "at most 8"),
        ({"samples": 102}, "counts 100 of 102 samples"),
        ({"minimum": (-1e9, -1e9)}, "from the minimum to the maximum"),
        ({"maximum": (1e9, 1e9)}, "from the minimum to the maximum"),
    ],
)
def test_histograms_that_do_not_fit_their_statistics_are_refused(
    changes: Mapping[str, Any], sentence: str
) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Statistics.model_validate(statistics().model_dump() | changes)


def test_histograms_merge_only_with_histograms() -> None:
    found = statistics()
    with pytest.raises(ValueError, match=r"shorter|longer"):
        found.merge(found.model_copy(update={"histograms": ()}))
