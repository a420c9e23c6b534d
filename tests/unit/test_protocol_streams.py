"""Random streams: known answers stand in the specification's vectors; here, how streams relate."""

import numpy as np
import pytest

from protocol.streams import BlockStream, generator_tag


def test_a_dimension_can_be_computed_on_its_own() -> None:
    stream = BlockStream(seed=7, cell=2, block=3, size=64)
    whole, alone = stream.words(0, 20), stream.words(13, 1)
    for all_of_them, one in zip(whole, alone, strict=True):
        assert np.array_equal(all_of_them[13:14], one)


def test_a_longer_block_begins_with_the_shorter_one() -> None:
    short = BlockStream(1, 0, 0, 8).words(0, 3)
    long = BlockStream(1, 0, 0, 32).words(0, 3)
    assert all(np.array_equal(a, b[:, :4]) for a, b in zip(short, long, strict=True))


@pytest.mark.parametrize(
    "other",
    [
        BlockStream(2, 0, 0, 64),
        BlockStream(1 + 2**32, 0, 0, 64),
        BlockStream(1, 1, 0, 64),
        BlockStream(1, 0, 1, 64),
    ],
)
def test_streams_of_another_seed_cell_or_block_share_nothing(other: BlockStream) -> None:
    one = BlockStream(1, 0, 0, 64)
    pairs = zip(one.words(0, 4), other.words(0, 4), strict=True)
    assert not any(np.any(a == b) for a, b in pairs)
    assert one.generator(5).random() != other.generator(5).random()


def test_purposes_do_not_share_counters() -> None:
    stream = BlockStream(1, 0, 0, 64)
    assert not np.any(stream.words(0, 4, purpose=0)[0] == stream.words(0, 4, purpose=1)[0])


def test_uniforms_have_the_shape_and_lie_strictly_inside_the_unit_interval() -> None:
    even, odd = BlockStream(3, 0, 0, 20_000).uniform_pairs(0, 5)
    assert even.shape == odd.shape == (5, 10_000)
    for uniforms in (even, odd):
        assert 0 < uniforms.min() < uniforms.max() < 1
        # Standard deviation of the mean of 50,000 uniforms: 0.0013.
        assert abs(uniforms.mean() - 0.5) < 0.006


def test_uniforms_are_odd_multiples_of_half_a_step() -> None:
    even, _ = BlockStream(3, 0, 0, 200).uniform_pairs(0, 5)
    scaled = even * 2.0**53
    assert np.array_equal(scaled, np.floor(scaled))
    assert np.all(scaled % 2 == 1)


@pytest.mark.parametrize("seed", [2**63, 2**63 + 1, 2**64 - 1])
def test_seeds_above_two_to_the_63_keep_their_low_bits(seed: int) -> None:
    one, other = BlockStream(seed, 0, 0, 2), BlockStream(seed ^ 1, 0, 0, 2)
    assert one.generator(0).random() != other.generator(0).random()


def test_models_of_different_names_draw_from_different_streams() -> None:
    assert generator_tag("pi") != generator_tag("asian")
    assert 0 <= generator_tag("pi") < 2**64
