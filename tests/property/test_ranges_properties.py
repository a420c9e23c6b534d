"""Ranges against a plain set of integers."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from protocol.ranges import Ranges

points = st.integers(0, 60)
spans = st.lists(st.tuples(points, points), max_size=12)


def model(of: list[tuple[int, int]]) -> set[int]:
    return {number for start, stop in of for number in range(start, stop)}


@given(spans)
def test_ranges_hold_what_was_added_as_few_sorted_ranges(added: list[tuple[int, int]]) -> None:
    ranges = Ranges(added)
    assert model(list(ranges)) == model(added)
    assert len(ranges) == len(model(added))
    assert all(start < stop for start, stop in ranges)
    assert all(left[1] < right[0] for left, right in pairwise(ranges))


@given(spans, st.permutations(range(12)))
def test_the_order_of_adding_does_not_matter(
    added: list[tuple[int, int]], order: list[int]
) -> None:
    assert Ranges(added) == Ranges(added[i] for i in order if i < len(added))


@given(spans, points, points)
def test_overlap_and_gaps_divide_a_range(
    added: list[tuple[int, int]], start: int, stop: int
) -> None:
    ranges, inside = Ranges(added), model(added)
    asked = set(range(start, stop))
    gaps = list(ranges.gaps(start, stop))
    assert ranges.overlap(start, max(start, stop)) == len(asked & inside)
    assert model(gaps) == asked - inside
    assert all(left[1] < right[0] for left, right in pairwise(gaps))


@given(spans, points, st.integers(1, 20))
def test_a_range_is_covered_where_all_of_it_is_in(
    added: list[tuple[int, int]], start: int, length: int
) -> None:
    whole = set(range(start, start + length))
    assert Ranges(added).covers(start, start + length) == (whole <= model(added))


@given(spans)
def test_the_prefix_is_the_first_that_is_missing(added: list[tuple[int, int]]) -> None:
    inside = model(added)
    assert Ranges(added).prefix() == next(n for n in range(62) if n not in inside)
