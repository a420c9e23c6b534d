import numpy as np
import pytest

from consumer.models.pi import Pi
from protocol.definition import Sampling
from protocol.model import Model, moments, validated
from protocol.statistics import BlockMoments
from protocol.streams import BlockStream


def simulate(model: Model, block: int = 0, size: int = 1024, seed: int = 1) -> BlockMoments:
    return model.simulate(BlockStream(seed, 0, block, size), Sampling(), model.outputs)


def test_pi_counts_the_darts_inside_the_circle() -> None:
    stream = BlockStream(3, 0, 0, 2048)
    even, odd = stream.uniform_pairs(0, 2)
    samples = 4.0 * np.concatenate((np.hypot(*even) < 1, np.hypot(*odd) < 1))
    found = simulate(Pi(), size=2048, seed=3)
    assert found.sums == [samples.sum()]
    assert found.squares[0] == pytest.approx(samples.var() * 2048, rel=1e-14)
    assert (found.minimum, found.maximum) == ([0.0], [4.0])


def test_pi_counts_exactly_what_its_samples_hold() -> None:
    samples = Pi().samples(BlockStream(1, 0, 0, 4096), Sampling(), ("pi",))
    counted, summed = simulate(Pi(), size=4096), moments(samples, 1)
    assert (counted.sums, counted.minimum, counted.maximum) == (
        summed.sums, summed.minimum, summed.maximum,
    )  # fmt: skip
    assert counted.squares[0] == pytest.approx(summed.squares[0], rel=1e-14)


def test_pi_has_the_bits_it_always_had() -> None:
    assert simulate(Pi(), size=65_536).sums == [205_988.0]


def test_parameters_survive_a_round_trip_through_the_definition() -> None:
    assert validated(Pi, Pi().params()) == Pi()
