"""Write the table of Sobol's direction numbers that the kernels carry, from scipy's copy of it.

Run as `python -m ops.direction_numbers`; scipy is needed here only. The table is that of Joe and
Kuo, `new-joe-kuo-6.21201`; its licence stands beside it.
"""

import hashlib
import zlib
from importlib.resources import files
from pathlib import Path

import numpy as np

from consumer.kernels import sobol_table


def main() -> None:
    """Write the table, and print the hash that `consumer.kernels.sobol_table` must hold."""
    source = files("scipy.stats") / "_sobol_direction_numbers.npz"
    with source.open("rb") as file:
        numbers = np.load(file)
        rows = np.vstack((numbers["poly"], numbers["vinit"].T)).astype("<u4")
    packed = zlib.compress(rows.tobytes(), 9)
    (Path(sobol_table.__file__).parent / sobol_table.FILE).write_bytes(packed)
    print(hashlib.sha256(packed).hexdigest())  # noqa: T201 - its purpose


if __name__ == "__main__":
    main()
