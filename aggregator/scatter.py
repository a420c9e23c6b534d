"""How what a run averages scatters: samples where they are independent, block means under Sobol.

All exact: integers and powers of two; nothing here divides or rounds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from protocol.definition import Method
from protocol.exact import Exact, exact
from protocol.statistics import Statistics, diagonal_index


@dataclass(frozen=True, slots=True)
class Scatter:
    """N observations of all columns (outputs, then controls), about their means.

    Attributes
    ----------
    count
        N: samples, or blocks.
    samples
        n; the means are sums / n whatever an observation is.
    outputs
        How many of the columns are outputs.
    sums
        Of each column, over all samples.
    matrix
        Scatter Σ (x_i - x̄_i)(x_j - x̄_j) times `divisor`, in the layout of `Statistics.cross`:
        the lower triangle by rows, without controls the diagonal alone.
    divisor
        A positive integer.
    """

    count: int
    samples: int
    outputs: int
    sums: tuple[Exact, ...]
    matrix: tuple[Exact, ...]
    divisor: int

    @property
    def controls(self) -> int:
        """How many of the columns are controls."""
        return len(self.sums) - self.outputs

    def mean(self, column: int) -> Fraction:
        """Return the mean of a column."""
        return self.sums[column].fraction() / self.samples

    def variance(self, column: int) -> Fraction:
        """Return the sample variance of a column's observations; there are at least two."""
        at = diagonal_index(column, self.outputs, len(self.sums))
        return self.matrix[at].fraction() / (self.divisor * (self.count - 1))


def scatter(statistics: Statistics, method: Method) -> Scatter:
    """Return the scatter of what is independent under a sampling method."""
    return of_block_means(statistics) if method is Method.SOBOL else of_samples(statistics)


def of_samples(statistics: Statistics) -> Scatter:
    """Return the scatter of single samples, all of them independent.

    ΣQ_b + Σs_b s_bᵀ/m - (Σs_b)(Σs_b)ᵀ/n, an identity of the analysis of variance, times n = Bm.
    """
    blocks, n = exact(statistics.blocks), exact(statistics.samples)

    def entry(i: int, j: int, at: int) -> Exact:
        return (
            n * statistics.squares[at]
            + blocks * statistics.cross[at]
            + Exact(-1, 0) * statistics.sums[i] * statistics.sums[j]
        )

    return Scatter(
        count=statistics.samples,
        samples=statistics.samples,
        outputs=statistics.outputs,
        sums=statistics.sums,
        matrix=_entries(statistics, entry),
        divisor=statistics.samples,
    )


def of_block_means(statistics: Statistics) -> Scatter:
    """Return the scatter of block means: under Sobol only blocks are independent.

    [Σs_b s_bᵀ - (Σs_b)(Σs_b)ᵀ/B]/m², times B m².
    """
    blocks = exact(statistics.blocks)
    size = statistics.samples // statistics.blocks

    def entry(i: int, j: int, at: int) -> Exact:
        return (
            blocks * statistics.cross[at] + Exact(-1, 0) * statistics.sums[i] * statistics.sums[j]
        )

    return Scatter(
        count=statistics.blocks,
        samples=statistics.samples,
        outputs=statistics.outputs,
        sums=statistics.sums,
        matrix=_entries(statistics, entry),
        divisor=statistics.blocks * size * size,
    )


def _entries(statistics: Statistics, entry: Callable[[int, int, int], Exact]) -> tuple[Exact, ...]:
    columns = len(statistics.sums)
    if columns == statistics.outputs:
        return tuple(entry(i, i, i) for i in range(columns))
    places = [(i, j) for i in range(columns) for j in range(i + 1)]
    return tuple(entry(i, j, at) for at, (i, j) in enumerate(places))
