"""The exact statistics of blocks, and their merge: integer addition, so any order gives the same.

Division, square roots and rounding are not here; they happen once, in an estimate.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, model_validator

from protocol.counted import MAX_HISTOGRAMS, Histogram
from protocol.definition import MAX_COLUMNS, MAX_MATRIX_COLUMNS
from protocol.errors import NotFiniteError
from protocol.exact import Column, Exact, column, from_float

if TYPE_CHECKING:
    from protocol.histogram import Tally

_LARGEST = from_float(sys.float_info.max).fraction()
_SMALLEST_SHIFT = -1074
"""Every double is an integer multiple of 2**-1074."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
ExactColumn = Annotated[tuple[InstanceOf[Exact], ...], Field(max_length=MAX_COLUMNS)]


@dataclass(frozen=True, slots=True)
class BlockMoments:
    """What a model returns for one block of m samples, all plain doubles.

    Attributes
    ----------
    sums
        Sum over the samples of each column (outputs first, then controls), length k.
    squares
        Centred second moments Σ (x_i - x̄_i)(x_j - x̄_j) about the block mean: the diagonal (length
        k) without controls, the lower triangle by rows (length k(k+1)/2) with them.
    minimum, maximum
        Smallest and largest sample of each output.
    """

    sums: Sequence[float]
    squares: Sequence[float]
    minimum: Sequence[float]
    maximum: Sequence[float]


class Statistics(BaseModel):
    """Exact sums over B blocks of equal size.

    Attributes
    ----------
    blocks, samples
        B, and n = B·m.
    sums
        Σ s_b for each column.
    cross
        Σ s_b s_bᵀ: diagonal, or lower triangle by rows where there are controls.
    squares
        Σ Q_b, in the same layout.
    residuals
        With controls, Σ q_b of each output: what a regression on the block's own controls leaves
        of its diagonal element of Q_b. Empty without controls, where q_b is that element.
    fourth
        Σ q_b² of each output: how uncertain the variance itself is.
    minimum, maximum
        Of each output, over all samples.
    histograms
        Of each output, over all samples, where the run asks for quantiles; else empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    blocks: Annotated[int, Field(ge=1, le=2**32)]
    samples: Annotated[int, Field(ge=1, le=2**63)]
    sums: ExactColumn
    cross: ExactColumn
    squares: ExactColumn
    residuals: ExactColumn
    fourth: ExactColumn
    minimum: Annotated[tuple[Finite, ...], Field(max_length=MAX_COLUMNS)]
    maximum: Annotated[tuple[Finite, ...], Field(max_length=MAX_COLUMNS)]
    histograms: Annotated[tuple[Histogram, ...], Field(max_length=MAX_HISTOGRAMS)]

    @model_validator(mode="after")
    def _shapes_agree(self) -> Self:
        columns, outputs = len(self.sums), len(self.fourth)
        if self.samples % self.blocks:
            raise ValueError(f"{self.samples} samples in {self.blocks} blocks of equal size")
        if not 1 <= outputs <= columns:
            raise ValueError(f"{outputs} outputs in {columns} columns")
        if columns > outputs and columns > MAX_MATRIX_COLUMNS:
            raise ValueError(f"{columns} columns with controls, allowed are {MAX_MATRIX_COLUMNS}")
        if {len(self.cross), len(self.squares)} != {matrix_size(outputs, columns)}:
            raise ValueError("cross, squares and sums differ in shape")
        if len(self.residuals) != (0 if columns == outputs else outputs):
            raise ValueError(f"{len(self.residuals)} residuals of {outputs} outputs")
        if {len(self.minimum), len(self.maximum)} != {outputs}:
            raise ValueError("minimum, maximum and outputs differ in length")
        if any(low > high for low, high in zip(self.minimum, self.maximum, strict=True)):
            raise ValueError("a minimum lies above its maximum")
        return self

    @model_validator(mode="after")
    def _histograms_count_the_samples(self) -> Self:
        if not self.histograms:
            return self
        if len(self.histograms) != self.outputs:
            raise ValueError(f"{len(self.histograms)} histograms of {self.outputs} outputs")
        import numpy as np

        from protocol.histogram import bin_numbers

        extremes = bin_numbers(np.array([self.minimum, self.maximum])).T.tolist()
        for histogram, ends in zip(self.histograms, extremes, strict=True):
            bins, _ = histogram.arrays()
            if histogram.total != self.samples:
                raise ValueError(f"a histogram counts {histogram.total} of {self.samples} samples")
            if [bins[0], bins[-1]] != ends:
                raise ValueError("a histogram does not reach from the minimum to the maximum")
        return self

    @model_validator(mode="after")
    def _no_other_zero(self) -> Self:
        extremes = (*self.minimum, *self.maximum)
        if any(value == 0 and math.copysign(1, value) < 0 for value in extremes):
            raise ValueError("a minimum or maximum is -0.0, allowed is 0.0")
        return self

    @model_validator(mode="after")
    def _doubles_can_give_it(self) -> Self:
        # All of this holds for sums over doubles and survives a merge; without it one wrong
        # partial would end in a negative variance or in a number that has no wire form.
        blocks, columns, outputs = self.blocks, len(self.sums), len(self.fourth)
        _check_span((*self.sums, *self.squares, *self.residuals), blocks, 1)
        _check_span((*self.cross, *self.fourth), blocks, 2)
        squares, second = self.squares, self.cross
        if columns > outputs:
            diagonal = [diagonal_index(i, outputs, columns) for i in range(columns)]
            squares, second = (tuple([m[i] for i in diagonal]) for m in (squares, second))
        if any(number.mantissa < 0 for number in (*squares, *self.residuals)):
            raise ValueError("a sum of squares is negative")
        if not all(map(_can_be, self.sums, second, repeat(blocks))):
            raise ValueError("cross is less than sums squared divided by blocks")
        if any(q.fraction() < r.fraction() for q, r in zip(squares, self.residuals, strict=False)):
            raise ValueError("a residual is larger than its sum of squares")
        if not all(map(_can_be, self.left, self.fourth, repeat(blocks))):
            raise ValueError("fourth is less than squares squared divided by blocks")
        return self

    @property
    def left(self) -> tuple[Exact, ...]:
        """Σ q_b of each output: its sum of squares within blocks, less what controls explain."""
        return self.residuals or self.squares[: self.outputs]

    @property
    def outputs(self) -> int:
        """How many outputs there are."""
        return len(self.fourth)

    def merge(self, other: "Statistics") -> "Statistics":
        """Return the statistics of both together; shapes must agree."""
        return self.model_copy(
            update={
                "blocks": self.blocks + other.blocks,
                "samples": self.samples + other.samples,
                "sums": _added(self.sums, other.sums),
                "cross": _added(self.cross, other.cross),
                "squares": _added(self.squares, other.squares),
                "residuals": _added(self.residuals, other.residuals),
                "fourth": _added(self.fourth, other.fourth),
                "minimum": tuple(map(min, self.minimum, other.minimum)),
                "maximum": tuple(map(max, self.maximum, other.maximum)),
                "histograms": tuple(
                    [
                        mine.merge(theirs)
                        for mine, theirs in zip(self.histograms, other.histograms, strict=True)
                    ]
                ),
            }
        )


def matrix_size(outputs: int, columns: int) -> int:
    """Return how many numbers a second-moment matrix has on the wire."""
    return columns if columns == outputs else columns * (columns + 1) // 2


def diagonal_index(i: int, outputs: int, columns: int) -> int:
    """Return where the diagonal element of column i stands in a matrix on the wire."""
    return i if columns == outputs else i * (i + 1) // 2 + i


def collect(
    blocks: Iterable[BlockMoments], block_size: int, tally: "Tally | None" = None
) -> Statistics:
    """Sum the moments of blocks exactly.

    Parameters
    ----------
    blocks
        At least one; all of the same shape.
    block_size
        Samples per block.
    tally
        Has counted the samples of the same blocks once these are exhausted, where a run asks for
        quantiles.

    Raises
    ------
    NotFiniteError
        A model returned NaN or an infinity; nothing of it may be merged.
    ValueError
        There is no block, the blocks differ in shape, or a histogram has too many bins.
    """
    rows: list[tuple[Sequence[float], ...]] = []
    for block in blocks:
        row = (block.sums, block.squares, block.minimum, block.maximum)
        # Tested before min and max below, which can hide a NaN.
        if not all(math.isfinite(value) for part in row for value in part):
            raise NotFiniteError(
                "a sample of the model, or the sum of their squares, is not finite"
            )
        rows.append(row)
    if not rows:
        raise ValueError("there is no block to collect")
    sums, squares = (_columns(rows, part) for part in (0, 1))
    outputs, columns = len(rows[0][2]), len(sums)
    pairs = (
        [(i, i) for i in range(columns)]
        if columns == outputs
        else [(i, j) for i in range(columns) for j in range(i + 1)]
    )
    left = _left([row[1] for row in rows], outputs, columns) if columns > outputs else squares
    return Statistics(
        blocks=len(rows),
        samples=len(rows) * block_size,
        sums=tuple(one.total() for one in sums),
        cross=tuple(sums[i].dot(sums[j]) for i, j in pairs),
        squares=tuple(one.total() for one in squares),
        residuals=tuple(one.total() for one in left) if columns > outputs else (),
        fourth=tuple(one.dot(one) for one in left),
        # Adding 0.0 turns -0.0 into 0.0, which compare equal but differ in their bits.
        minimum=tuple(min(column) + 0.0 for column in zip(*(row[2] for row in rows), strict=True)),
        maximum=tuple(max(column) + 0.0 for column in zip(*(row[3] for row in rows), strict=True)),
        histograms=tally.histograms() if tally else (),
    )


def _left(squares: list[Sequence[float]], outputs: int, columns: int) -> list[Column]:
    import numpy as np

    from protocol.residuals import residual_squares

    rows = residual_squares(np.array(squares, dtype=np.float64), outputs, columns).tolist()
    if not all(math.isfinite(value) for row in rows for value in row):
        raise NotFiniteError("a regression of the model's samples on their controls overflows")
    return _columns([(row,) for row in rows], 0)


def _check_span(numbers: Iterable[Exact], count: int, power: int) -> None:
    """Make sure that so many doubles, to the power of 1 or 2, can add up to each number."""
    finest, top = power * _SMALLEST_SHIFT, power * sys.float_info.max_exp
    for number in numbers:
        if number.shift < finest and number.mantissa:
            raise ValueError(f"a sum is no multiple of 2**{finest}")
        reach = number.mantissa.bit_length() + number.shift
        if reach >= top and abs(number.fraction()) > count * _LARGEST**power:
            raise ValueError("a sum is larger than that many doubles can give")


def _can_be(total: Exact, squares: Exact, count: int) -> bool:
    """Say whether `count` numbers can have this sum and sum of squares (Cauchy and Schwarz)."""
    needed, offered = total.mantissa * total.mantissa, squares.mantissa * count
    apart = squares.shift - 2 * total.shift
    return offered << apart >= needed if apart >= 0 else offered >= needed << -apart


def _columns(rows: list[tuple[Sequence[float], ...]], part: int) -> list[Column]:
    return [column(values) for values in zip(*(row[part] for row in rows), strict=True)]


def _added(left: tuple[Exact, ...], right: tuple[Exact, ...]) -> tuple[Exact, ...]:
    return tuple([a + b for a, b in zip(left, right, strict=True)])
