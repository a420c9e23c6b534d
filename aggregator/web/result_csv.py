"""A result as CSV: one line per cell and output, numbers at full precision."""

import csv
import io

from protocol.results import CellResult, Estimate, Result

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet takes a text that begins so for a formula."""

ESTIMATE = (
    "mean", "standard_error", "ci_low", "ci_high", "confidence", "error_reliable",
    "standard_deviation", "variance_reduction",
)  # fmt: skip


def result_csv(result: Result) -> str:
    """Return the estimates of a run; what cannot be known is empty."""
    params = list(dict.fromkeys(name for cell in result.cells for name in cell.params))
    probabilities = sorted(
        {
            quantile.probability
            for cell in result.cells
            for one in cell.outputs.values()
            for quantile in one.quantiles
        }
    )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(
        ["run", "cell", *(f"param_{name}" for name in params), "state", "samples", "ended_by",
         "output", *ESTIMATE, *(f"quantile_{p!r}" for p in probabilities)]
    )  # fmt: skip
    for number, cell in enumerate(result.cells):
        before = [result.run, number, *(cell.params.get(name) for name in params)]
        for name, estimate in cell.outputs.items():
            values = [*before, *_values(cell, name, estimate, probabilities)]
            writer.writerow([*map(safe, values)])
    return out.getvalue()


def _values(
    cell: CellResult, name: str, estimate: Estimate, probabilities: list[float]
) -> list[object]:
    quantiles = {quantile.probability: quantile.value for quantile in estimate.quantiles}
    return [
        cell.state,
        cell.samples,
        cell.ended_by,
        name,
        *(getattr(estimate, field) for field in ESTIMATE),
        *map(quantiles.get, probabilities),
    ]


def safe(value: object) -> object:
    """Return what stands in a field: of a text that a spreadsheet would compute, the text."""
    if isinstance(value, tuple):
        value = "; ".join(map(str, value))
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value if value is None or isinstance(value, str | bool) else _number(value)


def _number(value: object) -> str:
    return repr(value)
