"""Results as texts for people; numbers are rounded to what their error says is known.

The command line and the page show the same ones; how they are laid out is their own business.
"""

import math
from dataclasses import dataclass

from protocol.audit_odds import audited_text
from protocol.definition import Method, ParamValue
from protocol.resampled import explanations, figure_names, figures, is_resampled
from protocol.results import CellResult, EndedBy, Estimate, Quantile, Result

MAX_LISTED = 3


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; numbers stand right."""

    name: str
    right: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """What a table says of one cell; `output` is None where that is all of them."""

    cell: int
    output: str | None
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResultTable:
    """One row per cell and output; of resampled histories one row per cell."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def with_error(mean: float | None, error: float | None) -> str:
    """Return `mean ± error`, the error with two digits and the mean with as many decimals."""
    if mean is None:
        return "—"
    if not error:
        return f"{mean:.10g}"
    decimals = max(0, 1 - math.floor(math.log10(error)))
    if decimals > 15:  # noqa: PLR2004 - beyond what a double knows
        return f"{mean:.10g} ± {error:.2g}"
    return f"{mean:.{decimals}f} ± {error:.{decimals}f}"


def result_texts(result: Result, cells: int | None = None) -> ResultTable:
    """Return the table of a result.

    Parameters
    ----------
    result
        Whose.
    cells
        How many of them at most; None for all.
    """
    settings = _varying(result)
    before = tuple(map(Column, settings))
    shown = list(enumerate(result.cells[:cells]))
    if is_resampled(result.model):
        names = figure_names(result)
        rows = [
            Row(number, None, (*_settings(cell, settings), *figures(cell, names)))
            for number, cell in shown
        ]
        return ResultTable((*before, *(Column(name, right=True) for name in names)), tuple(rows))
    first = next(iter(result.cells[0].outputs.values()))
    probabilities = _probabilities(result)
    reduced, limited = _is_reduced(result), _may_end_early(result)
    columns = (
        *before,
        Column("output"),
        Column("estimate", right=True),
        Column(f"{first.confidence:.4g} interval", right=True),
        *(Column(f"{100 * p:.6g} % quantile", right=True) for p in probabilities),
        Column("samples", right=True),
        *([Column("variance", right=True)] if reduced else []),
        *([Column("ended by")] if limited else []),
    )
    rows = []
    for number, cell in shown:
        texts = _settings(cell, settings)
        for name, estimate in cell.outputs.items():
            quantiles = {one.probability: _quantile(one) for one in estimate.quantiles}
            values = (
                *texts,
                name,
                with_error(estimate.mean, estimate.standard_error),
                interval_text(estimate),
                *(quantiles.get(p, "—") for p in probabilities),
                f"{cell.samples:,}",
                *([_reduction(estimate)] if reduced else []),
                *([ended_by(cell)] if limited else []),
            )
            rows.append(Row(number, name, values))
    return ResultTable(columns, tuple(rows))


def _reduction(estimate: Estimate) -> str:
    factor = estimate.variance_reduction
    return "—" if factor is None else f"÷ {factor:,.4g}"


def ended_by(cell: CellResult) -> str:
    """Say what ended a cell."""
    if cell.ended_by is EndedBy.SECONDS and cell.checkpoint == 0:
        return f"{cell.ended_by}: no checkpoint was reached"
    return cell.ended_by or "—"


def _may_end_early(result: Result) -> bool:
    """Say whether anything but the sample limit may end a cell, so that it is worth telling."""
    return result.stop.has_target or result.stop.seconds is not None


def _endings(result: Result) -> list[str]:
    """Say what was asked for, what was not reached, and what was computed in vain."""
    stop, parts = result.stop, []
    ended = [cell.ended_by for cell in result.cells]
    if stop.has_target:
        asked = {"standard error": stop.standard_error, "relative error": stop.relative_error}
        texts = [f"{name} {error:g}" for name, error in asked.items() if error is not None]
        parts.append(f"target: {' and '.join(texts)} of {', '.join(stop.outputs)}")
        if missed := ended.count(EndedBy.SAMPLES):
            limit = f"{stop.samples:,} samples"
            parts.append(f"{missed} of {len(ended)} cells reached {limit} before their target")
    if late := ended.count(EndedBy.SECONDS):
        parts.append(
            f"the time limit of {stop.seconds:g} s ended {late} of {len(ended)} cells: "
            "another run may give another answer"
        )
    if overshoot := sum(cell.overshoot for cell in result.cells):
        parts.append(f"{overshoot:,} samples were computed beyond the end of their cells")
    return parts


def _settings(cell: CellResult, varying: list[str]) -> list[str]:
    return [setting_text(cell.params.get(parameter, "")) for parameter in varying]


def setting_text(value: ParamValue) -> str:
    """Return a parameter as a text, of a long list only its beginning and its length."""
    if not isinstance(value, tuple):
        return str(value)
    if len(value) <= MAX_LISTED:
        return ", ".join(map(str, value))
    return f"{value[0]} … ({len(value)})"


def _probabilities(result: Result) -> list[float]:
    """Return which quantiles there are; a cell of which nothing is merged has none yet."""
    estimates = (estimate for cell in result.cells for estimate in cell.outputs.values())
    return sorted({quantile.probability for one in estimates for quantile in one.quantiles})


def _is_reduced(result: Result) -> bool:
    """Say whether anything but plain sampling was done, so that a factor tells something."""
    return result.control_variates or result.sampling == Method.SOBOL


def interval_text(estimate: Estimate) -> str:
    """Return the ends of an interval, with as many decimals as the error says are known."""
    if estimate.ci_low is None or estimate.ci_high is None or not estimate.standard_error:
        return "—"
    decimals = min(15, max(0, 1 - math.floor(math.log10(estimate.standard_error))))
    note = "" if estimate.error_reliable else " (error unreliable)"
    return f"{estimate.ci_low:.{decimals}f} … {estimate.ci_high:.{decimals}f}{note}"


def title(result: Result) -> str:
    """Return the line above a result's table."""
    return f"{result.run}: {result.model} {result.state}, {about(result)}"


def about(result: Result) -> str:
    """Return how a result came about, in a few words."""
    return (
        f"seed {result.seed}, {result.sampling}"
        f"{' with control variates' if result.control_variates else ''}, "
        f"{result.elapsed_seconds:.1f} s, {result.cpu_seconds:.1f} s of CPU"
    )


def footnotes(result: Result, more: str | None = None) -> list[str]:
    """Return the lines below a result's table; `more` tells of what it leaves out."""
    parts = [f"digest {result.digest}" if result.digest else f"no digest: {result.state}"]
    if more:
        parts.append(more)
    if is_resampled(result.model):
        parts = [*explanations(result), *parts]
    if _may_end_early(result):
        parts += _endings(result)
    if _probabilities(result):
        parts.append(_how_well_quantiles_are_known(result))
    estimates = (estimate for cell in result.cells for estimate in cell.outputs.values())
    if not is_resampled(result.model) and any(map(_is_doubtful, estimates)):
        parts.append(_doubt(result))
    if _is_reduced(result):
        pairs = result.sampling == Method.ANTITHETIC
        against = "pairs without control variates" if pairs else "plain samples"
        parts.append(f"variance of the estimate: divided by so much against as many {against}")
    parts += _trust(result)
    return parts


def _trust(result: Result) -> list[str]:
    """Say what is known of the hosts that computed a result."""
    parts, counts = [], result.audits
    if len(result.engines) > 1:
        parts.append(f"computed by different engines: {', '.join(result.engines)}")
    if counts.passed or counts.skipped:
        parts.append(audited_text(counts.passed, counts.skipped))
    if result.suspects:
        parts.append(
            f"doubtful: found wrong since, and in this result: {', '.join(result.suspects)}; "
            f"montemq resume {result.run} computes their part again"
        )
    return parts


def _quantile(quantile: Quantile) -> str:
    """Write a quantile with as many digits as its bin knows, and its interval if it has one."""
    text = f"{quantile.value:.3g}"
    if quantile.ci_low is None or quantile.ci_high is None:
        return text
    return f"{text} ({quantile.ci_low:.3g} … {quantile.ci_high:.3g})"


def _how_well_quantiles_are_known(result: Result) -> str:
    if result.sampling == Method.PSEUDO and not is_resampled(result.model):
        return "quantiles are those of the samples (in brackets: interval), to 0.8 %"
    return "quantiles are those of the samples, to 0.8 %; more samples may move them further"


def _is_doubtful(estimate: Estimate) -> bool:
    return bool(estimate.standard_error) and not estimate.error_reliable


def _doubt(result: Result) -> str:
    """Say why an error may be called unreliable, and what helps."""
    sobol = result.sampling == Method.SOBOL
    needed = f", with sobol more than 200 blocks of {result.block_size:,}" if sobol else ""
    return f"error unreliable: more samples are needed to know the error itself{needed}"


def _varying(result: Result) -> list[str]:
    names = dict.fromkeys(name for cell in result.cells for name in cell.params)
    return [n for n in names if len({str(cell.params.get(n)) for cell in result.cells}) > 1]
