"""Statistics: any partition and any order of merging give the same bits, and the true variance."""

import math
import random
from fractions import Fraction
from functools import reduce
from itertools import pairwise

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from protocol.codec import canonical, unpack
from protocol.exact import exact, from_float
from protocol.model import moments
from protocol.statistics import BlockMoments, Statistics, collect

doubles = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
BLOCK_SIZE = 4


@st.composite
def blocks(draw: st.DrawFn) -> BlockMoments:
    extremes = sorted((draw(doubles), draw(doubles)))
    return BlockMoments([draw(doubles)], [draw(positive)], extremes[:1], extremes[1:])


many = st.lists(blocks(), min_size=1, max_size=10)


def bits(statistics: Statistics) -> bytes:
    return canonical(statistics.model_dump())


@given(many, st.sets(st.integers(1, 9)), st.randoms(use_true_random=False))
def test_any_partition_and_order_gives_the_same_bits(
    all_blocks: list[BlockMoments], cuts: set[int], chance: random.Random
) -> None:
    whole = collect(all_blocks, BLOCK_SIZE)
    chance.shuffle(all_blocks)
    edges = [0, *sorted(cut for cut in cuts if cut < len(all_blocks)), len(all_blocks)]
    parts = [collect(all_blocks[a:b], BLOCK_SIZE) for a, b in pairwise(edges)]
    while len(parts) > 1:  # as a tree of any shape
        left, right = (parts.pop(chance.randrange(len(parts))) for _ in range(2))
        parts.append(left.merge(right))
    assert bits(parts[0]) == bits(whole)


@given(many)
def test_what_is_collected_or_merged_passes_validation_after_the_wire(
    all_blocks: list[BlockMoments],
) -> None:
    merged = reduce(Statistics.merge, [collect([block], BLOCK_SIZE) for block in all_blocks])
    fields = unpack(bits(merged), 1 << 20)
    assert bits(Statistics.model_validate(fields)) == bits(merged)


@given(many, doubles, st.integers(-3, 3))
def test_sums_pass_validation_if_and_only_if_so_many_blocks_can_have_them(
    all_blocks: list[BlockMoments], other: float, above: int
) -> None:
    collected = collect(all_blocks, BLOCK_SIZE)
    total, count = from_float(other), collected.blocks
    # Of numbers with this sum, the sum of squares is smallest where all of them are equal.
    least = total.fraction() ** 2 / count
    shift = 2 * total.shift
    cross = exact(math.ceil(least / Fraction(2) ** shift) + above, shift)
    fields = collected.model_dump() | {"sums": (total,), "cross": (cross,)}
    possible = cross.fraction() >= least
    try:
        Statistics.model_validate(fields)
    except ValidationError as error:
        complaint = str(error)
    else:
        complaint = ""
    assert ("cross is less" in complaint) is not possible


def variance_of_mean(found: Statistics) -> Fraction:
    """Return [ΣQ + Σs²/m - (Σs)²/n] / (n(n-1))."""
    n, m = found.samples, found.samples // found.blocks
    between = found.cross[0].fraction() / m - found.sums[0].fraction() ** 2 / n
    return (found.squares[0].fraction() + between) / (n * (n - 1))


def in_blocks(values: list[float]) -> list[float]:
    return values[: len(values) // BLOCK_SIZE * BLOCK_SIZE]


def collected(values: list[float]) -> Statistics:
    blocks = np.array(values).reshape(-1, 1, BLOCK_SIZE)
    return collect((moments(block, 1) for block in blocks), BLOCK_SIZE)


FEWEST, MOST = 2 * BLOCK_SIZE, 6 * BLOCK_SIZE


@given(st.lists(st.integers(-1000, 1000).map(float), min_size=FEWEST, max_size=MOST))
def test_the_variance_is_that_of_two_exact_passes_where_blocks_round_nothing(
    values: list[float],
) -> None:
    # Quarters of integers and their squares are doubles, so that the model's part is exact.
    values = in_blocks(values)
    n, mean = len(values), sum(map(Fraction, values)) / len(in_blocks(values))
    two_passes = sum(((Fraction(x) - mean) ** 2 for x in values), Fraction(0))
    assert variance_of_mean(collected(values)) == two_passes / (n * (n - 1))


@given(st.lists(st.floats(-1000, 1000), min_size=FEWEST, max_size=MOST))
def test_the_variance_of_samples_agrees_with_numpy(values: list[float]) -> None:
    values = in_blocks(values)
    assume(np.ptp(values) > 1e-3)
    found = collected(values)
    assert np.isclose(float(variance_of_mean(found)), np.var(values, ddof=1) / len(values))
    assert np.isclose(float(found.sums[0].fraction() / len(values)), np.mean(values), atol=1e-10)


@given(many)
def test_extremes_and_counts_are_those_of_the_blocks(all_blocks: list[BlockMoments]) -> None:
    found = collect(all_blocks, BLOCK_SIZE)
    assert found.minimum[0] == min(block.minimum[0] for block in all_blocks)
    assert found.maximum[0] == max(block.maximum[0] for block in all_blocks)
    assert (found.blocks, found.samples) == (len(all_blocks), BLOCK_SIZE * len(all_blocks))
    squares = sum((Fraction(block.sums[0]) ** 2 for block in all_blocks), Fraction(0))
    assert found.cross[0].fraction() == squares
    assert found.sums[0] == reduce(
        lambda a, b: a + b, [from_float(block.sums[0]) for block in all_blocks]
    )
