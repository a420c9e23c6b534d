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
METHODS = (Method.PSEUDO, Method.ANTITHETIC)


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


@pytest.mark.parametrize(
    ("method", "size"),
    [(method, size) for method in METHODS for size in (2, 6, 1000, 4096)]
    + [(Method.SOBOL, size) for size in (2, 8, 1024)],
)
def test_samples_do_not_depend_on_the_size_of_a_tile(method: Method, size: int) -> None:
    stream = BlockStream(3, 1, 4, size)
    whole = rows(stream, method, size)
    assert not np.isnan(whole).any()
    for tile in (1, 8, 64, 512) if method is Method.SOBOL else (1, 7, 100, 512):
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


def test_a_bridge_gives_independent_standard_normals() -> None:
    # 512 blocks of 256 points: means over points that are at worst independent, 4.5 standard
    # errors, a chance of 7e-6 for each of 20 bounds.
    drawn = np.concatenate(
        [bridged(BlockStream(3, 0, block, 256), paths.times(ENDS)) for block in range(512)],
        axis=1,
    )
    n, bound = drawn.shape[1], 4.5 / np.sqrt(drawn.shape[1])
    assert np.all(np.abs(drawn.mean(axis=1)) < bound)
    second = drawn @ drawn.T / n
    assert np.all(np.abs(second - np.eye(len(ENDS))) < bound * np.sqrt(1 + np.eye(len(ENDS))))


def test_the_first_dimension_of_a_bridge_gives_the_end_of_the_path() -> None:
    stream = BlockStream(3, 0, 1, 128)
    times = paths.times(ENDS)
    end = times.roots @ bridged(stream, times)
    alone = bridged(stream, paths.times(ENDS[-1:]))[0] * np.sqrt(ENDS[-1])
    np.testing.assert_allclose(end, alone, rtol=1e-13, atol=1e-14)


@compiled
def identity_kernel(plan: Plan, out: Doubles) -> None:
    room = workspace(plan)
    for first in range(0, plan.pairs, plan.tile):
        for step in range(plan.steps):
            store(plan, first, increment(plan, first, step, room), out[step])


def bridged(stream: BlockStream, times: paths.Times) -> Doubles:
    out = np.empty((len(times.roots), stream.size))
    identity_kernel(paths.plan(stream, Method.SOBOL, times), out)
    return out


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 252])
def test_a_bridge_has_the_covariance_of_brownian_motion(steps: int) -> None:
    ends = np.cumsum(np.random.default_rng(steps).uniform(0.1, 1.0, steps))
    built = paths.times(ends).bridge
    assert sorted(built.target) == list(range(steps))
    loadings = np.zeros((steps, steps))  # W = loadings @ z
    for i, target in enumerate(built.target):
        row = np.zeros(steps)
        row[i] = built.scale[i]
        if built.right[i] >= 0:
            row += built.after[i] * loadings[built.right[i]]
        if built.left[i] >= 0:
            row += built.before[i] * loadings[built.left[i]]
        loadings[target] = row
    expected = np.minimum(ends[:, np.newaxis], ends)
    np.testing.assert_allclose(loadings @ loadings.T, expected, rtol=1e-12)
