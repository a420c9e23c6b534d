"""Control variates: outputs regressed on columns of known expectation 0, exactly.

Least squares in integers by fraction-free elimination (Bareiss, Mathematics of Computation 22,
1968); nothing is rounded here.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

from aggregator.scatter import Scatter
from protocol.exact import Exact
from protocol.residuals import DEPENDENT_SHIFT


@dataclass(frozen=True, slots=True)
class Fit:
    """The mean of one output, corrected by its controls, and how it varies.

    Attributes
    ----------
    mean
        ȳ - β·c̄.
    variance
        Of that mean: RSS/d (1/N + c̄ᵀ S⁻¹ c̄), S being the controls' scatter; None where nothing
        is left to tell it from.
    degrees
        d = N - 1 - k degrees of freedom with the k controls that were used.
    explained
        Whether all scatter but rounding is explained by the controls, or there is none: then the
        variance says nothing.
    """

    mean: Fraction
    variance: Fraction | None
    degrees: int
    explained: bool


def fit(scatter: Scatter) -> tuple[Fit, ...]:
    """Regress every output on all controls; without controls, the plain means.

    A control is dropped where the controls before it leave at most 2**-40 of its scatter: it is
    constant, or depends on them but for rounding. At most N - 2 are used, so that one degree of
    freedom stays.

    Source: Lavenberg and Welch, Management Science 27 (1981); the variance is that of the
    intercept of a linear regression.
    """
    if not scatter.controls:
        return tuple(_plain(scatter, output) for output in range(scatter.outputs))
    table = _Table(scatter)
    kept = 0
    for control in range(scatter.outputs, len(scatter.sums)):
        if kept < scatter.count - 2 and table.eliminate(control):
            kept += 1
    degrees = scatter.count - 1 - kept
    return tuple(table.fit(output, degrees) for output in range(scatter.outputs))


def _plain(scatter: Scatter, output: int) -> Fit:
    mean, degrees = scatter.mean(output), scatter.count - 1
    if degrees < 1:
        return Fit(mean, None, degrees, explained=False)
    variance = scatter.variance(output) / scatter.count
    return Fit(mean, variance, degrees, explained=variance == 0)


class _Table:
    """The scatter matrix as integers, bordered by the controls' sums, during the elimination.

    After controls with scatter C (integers, determinant `det`) are eliminated, the entry of rows
    i and j is det·(a_ij - b_iᵀ C⁻¹ b_j): the border needs no treatment of its own.
    """

    def __init__(self, scatter: Scatter) -> None:
        self.scatter = scatter
        size = len(scatter.sums)
        self.shift = min(number.shift for number in scatter.matrix)
        numbers = (_scaled(number, self.shift) for number in scatter.matrix)
        self.rows = [list(islice(numbers, row + 1)) for row in range(size)]
        self.whole = [row[-1] for row in self.rows]
        self.sum_shift = min(number.shift for number in scatter.sums)
        border = [
            _scaled(number, self.sum_shift) if column >= scatter.outputs else 0
            for column, number in enumerate(scatter.sums)
        ]
        self.rows.append([*border, 0])
        self.border = size
        self.left = list(range(size + 1))
        self.det = 1

    def eliminate(self, control: int) -> bool:
        """Eliminate a control, or drop it where too little of it is left; say which."""
        pivot = self.rows[control][control]
        self.left.remove(control)
        if pivot << DEPENDENT_SHIFT <= self.det * self.whole[control]:
            return False
        column = {i: self._at(i, control) for i in self.left}
        for i in self.left:
            row = self.rows[i]
            for j in self.left:
                if j <= i:
                    row[j] = (pivot * row[j] - column[i] * column[j]) // self.det
        self.det = pivot
        return True

    def fit(self, output: int, degrees: int) -> Fit:
        """Return what the elimination leaves of an output."""
        n = self.scatter.samples
        # Rows hold the negative of each quadratic form with the border, which began at 0.
        correction = _fraction(self.rows[self.border][output], self.det, self.sum_shift) / n
        mean = self.scatter.mean(output) + correction
        rest = self.rows[output][output]
        explained = rest << DEPENDENT_SHIFT <= self.det * self.whole[output]
        if degrees < 1:
            return Fit(mean, None, degrees, explained)
        distance = -_fraction(
            self.rows[self.border][self.border], self.det, 2 * self.sum_shift - self.shift
        )
        leverage = distance * self.scatter.divisor / (n * n)
        residual = _fraction(max(rest, 0), self.det, self.shift) / self.scatter.divisor
        variance = residual / degrees * (Fraction(1, self.scatter.count) + leverage)
        return Fit(mean, variance, degrees, explained)

    def _at(self, i: int, j: int) -> int:
        return self.rows[i][j] if i >= j else self.rows[j][i]


def _scaled(number: Exact, shift: int) -> int:
    return number.mantissa << (number.shift - shift) if number.mantissa else 0


def _fraction(numerator: int, denominator: int, shift: int) -> Fraction:
    if shift >= 0:
        return Fraction(numerator << shift, denominator)
    return Fraction(numerator, denominator << -shift)
