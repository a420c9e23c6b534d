"""What kernels draw against `protocol.streams`, which the specification's vectors check."""

import hashlib
import math

import numpy as np
import pytest

from consumer.kernels import draws, pi
from consumer.kernels.compiled import inlined
from consumer.kernels.philox import Words, philox4x32
from protocol.streams import BlockStream

STREAMS = [
    BlockStream(0, 0, 0, 2),
    BlockStream(2**64 - 5, 7, 3, 1024),
    BlockStream(81985529216486895, 9999, 2**32 - 1, 600),
]


def rows(stream: BlockStream) -> tuple[np.ndarray, np.ndarray]:
    return np.empty(stream.size // 2), np.empty(stream.size // 2)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("dimension", [0, 251, 2**24 - 1])
def test_uniforms_are_those_of_the_stream(stream: BlockStream, dimension: int) -> None:
    even, odd = rows(stream)
    draws.fill_uniforms(draws.counters(stream), dimension, 0, even, odd)
    expected = stream.uniform_pairs(dimension, 1)
    np.testing.assert_array_equal([even, odd], np.concatenate(expected))


def test_a_part_of_a_row_is_the_same_as_in_the_whole() -> None:
    stream = BlockStream(5, 1, 2, 1000)
    even, odd = rows(stream)
    draws.fill_normals(draws.counters(stream), 3, 0, even, odd)
    part = np.empty((2, 37))
    draws.fill_normals(draws.counters(stream), 3, 101, part[0], part[1])
    np.testing.assert_array_equal(part, [even[101:138], odd[101:138]])


def test_normals_are_box_muller_of_the_uniforms_of_one_counter() -> None:
    stream = BlockStream(11, 1, 5, 512)
    first, second = (row[0] for row in stream.uniform_pairs(3, 1))
    radius = np.sqrt(-2 * np.log(first))
    even, odd = rows(stream)
    draws.fill_normals(draws.counters(stream), 3, 0, even, odd)
    np.testing.assert_allclose(even, radius * np.cos(2 * np.pi * second), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(odd, radius * np.sin(2 * np.pi * second), rtol=1e-12, atol=1e-14)


def test_normals_have_the_moments_of_a_normal() -> None:
    # 262,144 draws, seed fixed; each bound is 4.5 standard errors: a chance of 7e-6 each.
    stream = BlockStream(5, 0, 0, 4096)
    drawn = []
    for dimension in range(64):
        row = rows(stream)
        draws.fill_normals(draws.counters(stream), dimension, 0, *row)
        drawn.extend(row)
    z = np.concatenate(drawn)
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(z**power) - mean) < 4.5 * math.sqrt(variance / z.size)


def test_normals_have_the_bits_they_always_had() -> None:
    stream = BlockStream(2026, 3, 9, 1024)
    digest = hashlib.sha256()
    for dimension in range(16):
        drawn = rows(stream)
        draws.fill_normals(draws.counters(stream), dimension, 0, *drawn)
        for row in drawn:
            digest.update(row.astype("<f8").tobytes())
    assert digest.hexdigest() == (
        "88c6b8318fcf116732b6a31077e5eed6f63626000b254daca59313e36fdd90ef"
    )


@pytest.mark.parametrize("stream", STREAMS)
def test_hits_are_the_darts_inside_the_circle(stream: BlockStream) -> None:
    x, y = (np.concatenate([row[i] for row in stream.uniform_pairs(0, 2)]) for i in (0, 1))
    inside = x * x + y * y < 1
    out = np.empty(stream.size)
    pi.samples(draws.counters(stream), out)
    np.testing.assert_array_equal(out, 4.0 * inside)
    assert pi.hits(draws.counters(stream), stream.size // 2) == np.count_nonzero(inside)


@inlined
def philox(c0: int, c1: int, c2: int, c3: int, k0: int, k1: int) -> Words:
    return philox4x32(
        np.uint64(c0), np.uint64(c1), np.uint64(c2), np.uint64(c3), np.uint64(k0), np.uint64(k1)
    )


@pytest.mark.parametrize(
    ("counter", "key", "output"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(
    counter: list[int], key: list[int], output: list[int]
) -> None:
    assert list(philox(*counter, *key)) == output
