"""What control variates leave of a block's scatter: needed to judge how sure a variance is.

Not an estimate: coefficients of a whole run are fitted elsewhere, from merged sums.
"""

import numpy as np
from numpy.typing import NDArray

DEPENDENT_SHIFT = 40
"""A control of whose scatter those before it leave at most 2**-40 adds nothing but rounding."""


def residual_squares(
    squares: NDArray[np.float64], outputs: int, columns: int
) -> NDArray[np.float64]:
    """Return each block's residual sums of squares, each output regressed on the block's controls.

    Gaussian elimination of the controls, in their order, from the matrix of second moments; a
    dependent control is skipped. Elementwise operations in a fixed order: portable bits.

    Parameters
    ----------
    squares
        Lower triangles by rows, shape (blocks, columns (columns + 1) / 2).
    outputs, columns
        How many columns are outputs, and how many there are.

    Returns
    -------
        Shape (blocks, outputs), none negative; NaN where a matrix overflows.
    """
    places = [(i, j) for i in range(columns) for j in range(i + 1)]
    left = {place: squares[:, at].copy() for at, place in enumerate(places)}
    with np.errstate(all="ignore"):
        for control in range(outputs, columns):
            pivot = left[control, control]
            whole = squares[:, control * (control + 1) // 2 + control]
            used = pivot > 2.0**-DEPENDENT_SHIFT * whole
            rest = [*range(outputs), *range(control + 1, columns)]
            factor = {i: np.where(used, _at(left, i, control) / pivot, 0.0) for i in rest}
            for i in rest:
                for j in rest:
                    if (i, j) in left and (i == j or i >= outputs):
                        left[i, j] -= factor[i] * _at(left, j, control)
        # What is not finite must not vanish in the maximum.
        rows = [
            np.where(np.isfinite(left[i, i]), np.maximum(left[i, i], 0.0), np.nan)
            for i in range(outputs)
        ]
    return np.stack(rows, axis=1)


def _at(
    triangle: dict[tuple[int, int], NDArray[np.float64]], i: int, j: int
) -> NDArray[np.float64]:
    return triangle[i, j] if i >= j else triangle[j, i]
