"""Which points of a convergence history are kept, for any numbers of samples."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from aggregator.history import MAX_POINTS, MAX_VALUES, MIN_POINTS, point_limit, thinned

limits = st.integers(MIN_POINTS, MAX_POINTS)
ascending = st.builds(
    lambda first, gaps: [first, *(first := first + gap for gap in gaps)],
    st.integers(1, 2**20),
    st.lists(st.integers(1, 2**30), max_size=500),
)


@given(ascending, limits)
def test_few_points_are_kept_in_order_the_first_and_the_last_among_them(
    samples: list[int], limit: int
) -> None:
    kept = thinned(samples, limit)
    assert len(kept) <= limit + 2
    assert kept == sorted(set(kept) & set(samples))
    assert (kept[0], kept[-1]) == (samples[0], samples[-1])


@given(ascending, limits)
def test_thinning_again_drops_nothing_more(samples: list[int], limit: int) -> None:
    kept = thinned(samples, limit)
    assert thinned(kept, limit) == kept


@given(st.integers(1, 2**20), st.integers(1, 2**32), limits)
def test_no_gap_is_wide_on_either_axis(block_size: int, blocks: int, limit: int) -> None:
    step = max(1, blocks // 5_000)
    samples = [block_size * block for block in range(1, blocks + 1, step)]
    growth = 2.0 ** (64 / limit)
    for before, after in pairwise(thinned(samples, limit)):
        gap = after - before - step * block_size  # points lie no closer
        assert gap <= before * (growth - 1) * (1 + 1e-9)
        assert gap <= 2 * samples[-1] / limit


@given(st.integers(1, 10_000), st.integers(1, 256))
def test_a_run_of_many_cells_keeps_fewer_points_of_each(cells: int, outputs: int) -> None:
    limit = point_limit(cells, outputs)
    assert MIN_POINTS <= limit <= MAX_POINTS
    assert limit == MIN_POINTS or limit * cells * outputs <= MAX_VALUES
