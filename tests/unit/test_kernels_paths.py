"""Paths: what a kernel is handed under each sampling method, whatever the tiles."""

import numpy as np
import pytest
from numpy.typing import NDArray

from consumer.kernels import draws, paths
from consumer.kernels.compiled import compiled
from consumer.kernels.paths import Plan, increment, lanes, store, workspace
from protocol.definition import Method
from protocol.streams import BlockStream

Doubles = NDArray[np.float64]
ENDS = np.array([0.5, 0.75, 2.0, 2.25, 3.0])
PATHS = (Method.PSEUDO, Method.ANTITHETIC)


@compiled
def rows_kernel(plan: Plan, shift: float, out: Doubles) -> None:
    """Store (row + shift)**2 of every step: tells z from -z, and an average from a sum."""
    room, values = workspace(plan), lanes(plan)
    for first in range(0, plan.pairs, plan.tile):
        for step in range(plan.steps):
            row = increment(plan, first, step, room)
            for j in range(plan.lanes):
                values[j] = (row[j] + shift) * (row[j] + shift)
            store(plan, first, values, out[step])


def rows(stream: BlockStream, method: Method, tile: int = paths.TILE_PAIRS) -> Doubles:
    out = np.full((len(ENDS), stream.size), np.nan)
    rows_kernel(paths.plan(stream, method, paths.times(ENDS), tile), 0.25, out)
    return out


def plain(stream: BlockStream) -> Doubles:
    """Return the normals of a block, even samples first."""
    out = np.empty((len(ENDS), stream.size))
    half = stream.size // 2
    for step, row in enumerate(out):
        draws.fill_normals(draws.counters(stream), step, 0, row[:half], row[half:])
    return out


@pytest.mark.parametrize("method", PATHS)
@pytest.mark.parametrize("size", [2, 6, 1000, 4096])
def test_samples_do_not_depend_on_the_size_of_a_tile(method: Method, size: int) -> None:
    stream = BlockStream(3, 1, 4, size)
    whole = rows(stream, method, size)
    assert not np.isnan(whole).any()
    for tile in (1, 7, 100, 512):
        if size // tile <= 1000:
            np.testing.assert_array_equal(rows(stream, method, tile), whole)


def test_dimension_i_drives_step_i_under_pseudo() -> None:
    stream = BlockStream(3, 1, 4, 600)
    np.testing.assert_array_equal(rows(stream, Method.PSEUDO), (plain(stream) + 0.25) ** 2)


def test_an_antithetic_sample_is_the_average_along_z_and_minus_z() -> None:
    stream = BlockStream(3, 1, 4, 600)
    z = plain(stream)
    expected = 0.5 * ((z + 0.25) * (z + 0.25) + (-z + 0.25) * (-z + 0.25))
    np.testing.assert_array_equal(rows(stream, Method.ANTITHETIC), expected)


def test_times_give_steps_and_their_roots() -> None:
    times = paths.times(ENDS)
    np.testing.assert_array_equal(times.lengths, [0.5, 0.25, 1.25, 0.25, 0.75])
    np.testing.assert_array_equal(times.roots, np.sqrt(times.lengths))
    assert times.reach > 8.6 * times.roots.sum()
