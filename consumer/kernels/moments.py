"""Block moments, compiled: the same bits as `protocol.model.moments`, in a fraction of the time."""

import numpy as np
from numpy.typing import NDArray

from consumer.kernels.compiled import compiled
from protocol.statistics import BlockMoments

Doubles = NDArray[np.float64]


def moments(samples: Doubles, outputs: int) -> BlockMoments:
    """Return the moments of samples; see `protocol.model.moments`.

    Parameters
    ----------
    samples
        Shape (columns, m): outputs first, then centred controls.
    outputs
        How many of the columns are outputs.
    """
    samples = np.ascontiguousarray(samples, dtype=np.float64)
    columns = samples.shape[0]
    products = columns if columns == outputs else columns * (columns + 1) // 2
    found = np.empty(columns + products + 2 * outputs)
    _fill_moments(samples, outputs, found)
    values = found.tolist()
    extremes = columns + products
    return BlockMoments(
        sums=values[:columns],
        squares=values[columns:extremes],
        minimum=values[extremes : extremes + outputs],
        maximum=values[extremes + outputs :],
    )


@compiled
def _fill_moments(samples: Doubles, outputs: int, found: Doubles) -> None:
    """Write sums, second moments, minima and maxima, one after the other."""
    columns, size = samples.shape
    centred, room = np.empty((columns, size)), np.empty(size)
    for i in range(columns):
        found[i] = _tree_sum(samples[i], room)
        mean = found[i] / size
        for j in range(size):
            centred[i, j] = samples[i, j] - mean
    place = columns
    for i in range(columns):
        for k in range(i if columns == outputs else 0, i + 1):
            for j in range(size):
                room[j] = centred[i, j] * centred[k, j]
            found[place] = _tree_sum(room, room)
            place += 1
    for i in range(outputs):
        found[place] = _tree_minimum(samples[i], room)
        for j in range(size):
            centred[i, j] = -samples[i, j]
        found[place + outputs] = -_tree_minimum(centred[i], room)
        place += 1


@compiled
def _tree_sum(values: Doubles, room: Doubles) -> float:
    """Return the sum, halving the values each time; `room` may be `values`, which are then lost."""
    length = values.shape[0]
    if length == 1:
        return values[0]  # type: ignore[no-any-return]
    source = values
    while length > 1:
        half = length // 2
        for j in range(half):
            room[j] = source[j] + source[half + j]
        if length % 2:
            room[half] = source[length - 1]
        source, length = room, length - half
    return room[0]  # type: ignore[no-any-return]


@compiled
def _tree_minimum(values: Doubles, room: Doubles) -> float:
    """Return the least value; halving, which vector instructions can do and a loop cannot."""
    length = values.shape[0]
    for j in range(length):
        room[j] = values[j]
    while length > 1:
        half = length // 2
        for j in range(half):
            room[j] = room[half + j] if room[half + j] < room[j] else room[j]
        if length % 2:
            room[half] = room[length - 1]
        length -= half
    return room[0]  # type: ignore[no-any-return]
