"""Sets of block numbers at their edges; the property tests compare them with plain sets."""

from protocol.ranges import Ranges


def test_ranges_that_touch_become_one() -> None:
    assert list(Ranges([(0, 3), (5, 8), (3, 5)])) == [(0, 8)]


def test_an_empty_range_adds_nothing() -> None:
    assert list(Ranges([(4, 4), (7, 6)])) == []


def test_a_range_swallows_all_that_it_covers() -> None:
    assert list(Ranges([(2, 3), (5, 6), (8, 9), (1, 10)])) == [(1, 10)]


def test_overlap_counts_blocks_and_not_ranges() -> None:
    merged = Ranges([(0, 4), (10, 12), (20, 30)])
    assert merged.overlap(2, 25) == 2 + 2 + 5
    assert merged.overlap(4, 10) == 0


def test_gaps_are_what_is_missing_within_the_bounds() -> None:
    merged = Ranges([(0, 4), (10, 12), (20, 30)])
    assert list(merged.gaps(2, 22)) == [(4, 10), (12, 20)]
    assert list(merged.gaps(25, 40)) == [(30, 40)]
    assert list(Ranges().gaps(3, 5)) == [(3, 5)]


def test_the_prefix_ends_at_the_first_missing_block() -> None:
    assert Ranges([(0, 4), (5, 9)]).prefix() == 4
    assert Ranges([(1, 4)]).prefix() == 0
    assert Ranges().prefix() == 0


def test_length_equality_and_text() -> None:
    merged = Ranges([(0, 4), (6, 7)])
    assert len(merged) == 5
    assert merged == Ranges([(6, 7), (2, 4), (0, 2)])
    assert merged != Ranges([(0, 4)])
    assert merged != [(0, 4), (6, 7)]
    assert repr(merged) == "Ranges([(0, 4), (6, 7)])"
