"""Time a typical kernel in this process, for `width`: `python -m consumer.kernels.timing`.

Prints one JSON object: nanoseconds per normal and exponential, and the processor's features.
"""

import json
import sys
import time

import llvmlite.binding as llvm
import numpy as np
from numpy.typing import NDArray

from consumer.kernels.compiled import compiled
from consumer.kernels.draws import Counters, fill_normals
from consumer.kernels.elementary import exp

ROUNDS, ROWS, LANES = 50, 500, 1024


@compiled
def steps(counters: Counters, rows: int, row: NDArray[np.float64]) -> float:
    """Draw rows of normals and add up their exponentials."""
    total, half = np.zeros(row.shape[0]), row.shape[0] // 2
    for dimension in range(rows):
        fill_normals(counters, dimension, 0, row[:half], row[half:])
        for j in range(row.shape[0]):
            total[j] += exp(row[j])
    return total[0]  # type: ignore[no-any-return]


def main() -> None:
    """Time and print."""
    row, counters = np.empty(LANES), Counters(1, 2, 3, 4)
    steps(counters, 1, row)
    best = min(_seconds(counters, row) for _ in range(ROUNDS))
    found = {
        "nanoseconds": 1e9 * best / (ROWS * LANES),
        "host_features": llvm.get_host_cpu_features().flatten(),
    }
    json.dump(found, sys.stdout)


def _seconds(counters: Counters, row: NDArray[np.float64]) -> float:
    start = time.thread_time()
    steps(counters, ROWS, row)
    return time.thread_time() - start


if __name__ == "__main__":
    main()
