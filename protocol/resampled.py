"""The table of a run whose samples are resampled histories: one row per cell, a column per figure.

What a person wants of these is what happened and how far resampled histories lie apart. The
standard error of their mean says only how many there were, and is never shown as an accuracy.
"""

import math

from protocol.errors import UsageError
from protocol.registry import load_model
from protocol.results import CellResult, Estimate, Result

HISTORY = "history_"
"""An output `history_x` is the value of output `x` that happened."""

ROUNDING = 1e-12
"""A relative standard deviation below this is the rounding of a constant."""


def is_resampled(model: str) -> bool:
    """Say whether a model's samples are resampled histories; those of an unknown one are not."""
    try:
        return load_model(model).resamples
    except UsageError:
        return False


def figure_names(result: Result) -> list[str]:
    """Return the outputs that get a column: what happened stands beside its resampled values."""
    names = list(result.cells[0].outputs)
    return [name for name in names if name.removeprefix(HISTORY) not in set(names) - {name}]


def figures(cell: CellResult, names: list[str]) -> list[str]:
    """Return one text for each figure of a cell."""
    return [figure(cell.outputs[name], cell.outputs.get(HISTORY + name)) for name in names]


def figure(resampled: Estimate, happened: Estimate | None) -> str:
    """Return `value ± standard deviation (lowest … highest quantile)` of one figure.

    The value is what happened, or the mean of the resampled where that is not told.
    """
    value = (happened or resampled).mean
    if value is None:
        return "—"
    spread = resampled.standard_deviation
    if spread is None or spread <= ROUNDING * abs(value):
        return f"{value:.4g}"
    decimals = min(15, max(0, 1 - math.floor(math.log10(spread))))
    text = f"{value:.{decimals}f} ± {spread:.{decimals}f}"
    if len(resampled.quantiles) > 1:
        low, high = resampled.quantiles[0].value, resampled.quantiles[-1].value
        text += f" ({low:.{decimals}f} … {high:.{decimals}f})"
    return text


def explanations(result: Result) -> list[str]:
    """Return the lines that say what the numbers of such a table are."""
    estimates = [estimate for cell in result.cells for estimate in cell.outputs.values()]
    spreads = [e for e in estimates if (e.standard_deviation or 0) > ROUNDING * abs(e.mean or 0)]
    if not spreads:
        return []
    told = any(name.startswith(HISTORY) for name in result.cells[0].outputs)
    value = "what happened" if told else "mean of the resampled histories"
    quantiles = next((e.quantiles for e in spreads if len(e.quantiles) > 1), ())
    between = ""
    if quantiles:
        low, high = quantiles[0].probability, quantiles[-1].probability
        between = f" ({100 * low:.6g} % … {100 * high:.6g} % quantile of them)"
    least = min(cell.samples for cell in result.cells)
    worst = max((e.standard_error or 0) / (e.standard_deviation or 1) for e in spreads)
    return [
        f"each figure: {value} ± standard deviation of {least:,} resampled histories{between}",
        (
            f"simulation error: at most {worst:.2g} of a standard deviation, in the mean of the "
            "resampled histories; more samples lower it, but tell no more about the strategy"
        ),
    ]
