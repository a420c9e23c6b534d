"""Scrambled Sobol points: nets, uniform, independent from block to block."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import qmc

from consumer.kernels import draws, paths, sobol, sobol_table
from consumer.kernels.elementary import normal_cdf, normal_quantile
from protocol.definition import Method
from protocol.streams import BlockStream

Doubles = NDArray[np.float64]


def uniforms(stream: BlockStream, dimensions: int, count: int | None = None) -> Doubles:
    """Return the uniforms behind a block's normals, (dimensions, size)."""
    half = stream.size // 2
    count = count or half
    directions = sobol_table.reversed_directions(dimensions)
    scratch = sobol.Scratch(np.empty((2, count), dtype=np.uint32), np.empty((2, 2 * count)))
    out, row = np.empty((dimensions, stream.size)), np.empty(2 * count)
    for dimension in range(dimensions):
        for first in range(0, half, count):
            sobol.fill_sobol_normals(
                draws.counters(stream), directions, (first, half), scratch, dimension, row
            )
            out[dimension, first : first + count] = [normal_cdf(z) for z in row[:count]]
            out[dimension, half + first : half + first + count] = [
                normal_cdf(z) for z in row[count:]
            ]
    return out


def test_points_before_scrambling_are_those_of_scipy() -> None:
    dimensions, m = 300, 6
    theirs = qmc.Sobol(dimensions, scramble=False, bits=32).random_base2(m) * 2.0**32
    directions = sobol_table.reversed_directions(dimensions)
    points = np.empty(2**m // 4, dtype=np.uint32)
    for dimension in range(dimensions):
        ours = np.empty(2**m, dtype=np.uint32)
        for first in (0, 2**m // 4):
            other_half = sobol.fill_points(directions[dimension], first, 2**m // 2, points)
            ours[first : first + len(points)] = points
            ours[2**m // 2 + first :][: len(points)] = points ^ np.uint32(other_half)
        order = [i ^ (i >> 1) for i in range(2**m)]  # scipy counts in Gray code
        unreversed = [int(f"{x:032b}"[::-1], 2) for x in ours[order].tolist()]
        assert unreversed == theirs[:, dimension].tolist()


def test_the_last_dimension_of_the_table_is_that_of_scipy() -> None:
    theirs = qmc.Sobol(sobol_table.MAX_DIMENSIONS, scramble=False, bits=32).random_base2(5)
    directions = sobol_table.reversed_directions(sobol_table.MAX_DIMENSIONS)[-1]
    points = np.empty(16, dtype=np.uint32)
    sobol.fill_points(directions, 16, 16, points)
    ours = sorted(int(f"{x:032b}"[::-1], 2) for x in points.tolist())
    indices = [i ^ (i >> 1) for i in range(32)]
    expected = sorted(
        int(x) for i, x in zip(indices, theirs[:, -1] * 2.0**32, strict=True) if i >= 16
    )
    assert ours == expected


@pytest.mark.parametrize("block", range(4))
def test_a_scrambled_block_is_a_net(block: int) -> None:
    m, dimensions = 8, 6
    u = uniforms(BlockStream(5, 2, block, 2**m), dimensions)
    for row in u:  # one point in each interval of length 2**-m
        assert sorted(np.floor(row * 2**m)) == list(range(2**m))
    # The first two dimensions are a (0, m, 2)-net: one point in each elementary rectangle.
    for a in range(m + 1):
        boxes = np.floor(u[0] * 2**a) * 2 ** (m - a) + np.floor(u[1] * 2 ** (m - a))
        assert sorted(boxes) == list(range(2**m))


def test_points_do_not_depend_on_the_size_of_a_tile() -> None:
    stream = BlockStream(5, 2, 3, 256)
    whole = uniforms(stream, 4)
    for count in (1, 16, 64):
        np.testing.assert_array_equal(uniforms(stream, 4, count), whole)


def test_blocks_cells_and_dimensions_are_scrambled_apart() -> None:
    one = uniforms(BlockStream(5, 2, 3, 64), 3)
    others = [BlockStream(6, 2, 3, 64), BlockStream(5, 1, 3, 64), BlockStream(5, 2, 4, 64)]
    for other in others:
        assert not np.any(uniforms(other, 3) == one)
    assert len(np.unique(one)) == one.size


def test_every_point_of_a_block_is_uniform_over_the_blocks() -> None:
    # 4,000 blocks, 4 of the points, 16 bins: 12 chi-squares of 15 degrees below 45, which is
    # exceeded with a chance of 8e-5 each.
    u = np.array([uniforms(BlockStream(7, 0, block, 16), 3) for block in range(4000)])
    for dimension in range(3):
        for point in (0, 3, 9, 15):
            counts = np.bincount((16 * u[:, dimension, point]).astype(int), minlength=16)
            assert np.sum((counts - 250.0) ** 2) / 250.0 < 45.0


def block_means(blocks: int, size: int = 64, dimensions: int = 4) -> Doubles:
    """Return the mean over each block of a function whose expectation is 0."""
    means = [uniforms(BlockStream(11, 0, block, size), dimensions) for block in range(blocks)]
    return np.array([np.mean(np.prod(1.0 + 2.0 * (u - 0.5), axis=0)) - 1.0 for u in means])


def test_block_means_are_unbiased_and_uncorrelated() -> None:
    # 2,000 blocks; 4.5 standard errors: a chance of 7e-6 for each of the 9 bounds.
    means = block_means(2000)
    z = means / means.std()
    assert abs(z.mean()) < 4.5 / math.sqrt(len(z))
    for lag in range(1, 9):
        assert abs(np.mean(z[lag:] * z[:-lag])) < 4.5 / math.sqrt(len(z) - lag)


def test_block_means_vary_much_less_than_those_of_independent_points() -> None:
    variance_of_a_sample = (1 + 4 / 12) ** 4 - 1
    assert block_means(200, size=256).var() < variance_of_a_sample / 256 / 20


def test_more_dimensions_than_the_table_has_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 21201 dimensions, not 21202"):
        sobol_table.reversed_directions(21_202)
    with pytest.raises(ValueError, match="at most 21201 dimensions"):
        paths.plan(BlockStream(1, 0, 0, 2), Method.SOBOL, paths.times(np.arange(1.0, 21_203.0)))


def test_a_damaged_table_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = (Path(sobol_table.__file__).parent / sobol_table.FILE).read_bytes()
    (tmp_path / "damaged.bin").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    monkeypatch.setattr(sobol_table, "FILE", str(tmp_path / "damaged.bin"))
    with pytest.raises(RuntimeError, match="is damaged"):
        sobol_table.reversed_directions.__wrapped__(3)


def test_points_are_as_the_page_specifies() -> None:
    """Once more in plain integers, from the sentences and vectors of the specification."""
    page = (Path(__file__).parents[2] / "protocol" / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^```json sobol\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    for row in json.loads(found[1]):
        size, point, dimension = row["block_size"], row["point"], row["dimension"]
        stream = BlockStream(int(row["seed"]), row["cell"], row["block"], size)
        seeds = [int(w[0, 0]) for w in stream.words(dimension, 1, purpose=1, pairs=(0, 1))]
        low = [
            int(w[0, 0])
            for w in stream.words(
                dimension, 1, purpose=2, pairs=(point % (size // 2), point % (size // 2) + 1)
            )
        ][point // (size // 2)]
        y = 0
        for bit, direction in enumerate(
            sobol_table.reversed_directions(dimension + 1)[-1].tolist()
        ):
            y ^= direction if point >> bit & 1 else 0
        y ^= y * 0x3D20ADEA % 2**32
        y = (y + seeds[0]) * (seeds[1] | 1) % 2**32
        y ^= y * 0x05526C56 % 2**32
        y ^= y * 0x53A22864 % 2**32
        high = int(f"{y:032b}"[::-1], 2)
        uniform = (2 * ((high << 32 | low) >> 12) + 1) * 2.0**-53
        assert [f"{high:08x}", f"{low:08x}", uniform.hex()] == [
            row["high"], row["low"], row["uniform"],
        ]  # fmt: skip
        assert row_of_normals(stream, dimension)[point] == normal_quantile(uniform)


def row_of_normals(stream: BlockStream, dimension: int) -> Doubles:
    directions, half = sobol_table.reversed_directions(dimension + 1), stream.size // 2
    scratch = sobol.Scratch(np.empty((2, half), dtype=np.uint32), np.empty((2, stream.size)))
    out = np.empty(stream.size)
    sobol.fill_sobol_normals(draws.counters(stream), directions, (0, half), scratch, dimension, out)
    return out
