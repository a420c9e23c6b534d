"""Results as tables for people; numbers are rounded to what their error says is known."""

import math
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from producer.resampled import explanations, figure_names, figures, is_resampled
from protocol.definition import Method
from protocol.results import CellResult, Estimate, Result
from protocol.rpc_messages import Status

MAX_ROWS = 200
MAX_LISTED = 3
WIDTH = 200


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


def print_result(result: Result) -> None:
    """Print a result on stdout."""
    console = _console()
    console.print(result_table(result))
    for line in footnotes(result):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def print_status(status: Status) -> None:
    """Print runs on stdout."""
    _console().print(status_table(status))


def _console() -> Console:
    """Return a console on stdout; without a terminal lines are as long as they need to be."""
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def result_table(result: Result) -> Table:
    """Return one row per cell and output; of resampled histories one row per cell."""
    if is_resampled(result.model):
        return _resampled_table(result)
    varying = _varying(result)
    first = next(iter(result.cells[0].outputs.values()))
    table = Table(title=title(result), title_justify="left")
    for name in varying:
        table.add_column(name)
    table.add_column("output")
    table.add_column("estimate", justify="right")
    table.add_column(f"{first.confidence:.4g} interval", justify="right")
    probabilities = _probabilities(result)
    for probability in probabilities:
        table.add_column(f"{100 * probability:.6g} % quantile", justify="right")
    table.add_column("samples", justify="right")
    reduced = _is_reduced(result)
    if reduced:
        table.add_column("variance", justify="right")
    for cell in result.cells[:MAX_ROWS]:
        _add_rows(table, cell, varying, probabilities, reduced=reduced)
    return table


def _resampled_table(result: Result) -> Table:
    varying, names = _varying(result), figure_names(result)
    table = Table(title=title(result), title_justify="left")
    for name in varying:
        table.add_column(name)
    for name in names:
        table.add_column(name, justify="right")
    for cell in result.cells[:MAX_ROWS]:
        table.add_row(*_settings(cell, varying), *figures(cell, names))
    return table


def status_table(status: Status) -> Table:
    """Return one row per run."""
    slots = f"{status.consumers} live consumers with {status.slots} slots"
    table = Table(caption=slots, caption_justify="left")
    for name, right in (
        ("run", False), ("state", False), ("model", False), ("cells", True), ("samples", True),
        ("done", True), ("seconds", True), ("pool", False), ("lane", False), ("error", False),
    ):  # fmt: skip
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for run in status.runs:
        table.add_row(
            run.run, run.state, run.model, f"{run.cells:,}", f"{run.samples:,}",
            f"{run.samples / run.total_samples:.1%}", f"{run.elapsed_seconds:.1f}",
            run.pool, run.lane, _plain(run.error or ""),
        )  # fmt: skip
    return table


def _add_rows(
    table: Table,
    cell: CellResult,
    varying: list[str],
    probabilities: list[float],
    *,
    reduced: bool,
) -> None:
    for name, estimate in cell.outputs.items():
        quantiles = {quantile.probability: quantile.value for quantile in estimate.quantiles}
        factor = estimate.variance_reduction
        table.add_row(
            *_settings(cell, varying),
            name,
            with_error(estimate.mean, estimate.standard_error),
            _interval(estimate),
            *(f"{quantiles[p]:.3g}" if p in quantiles else "—" for p in probabilities),
            f"{cell.samples:,}" if cell.samples else "0",
            *(["—" if factor is None else f"÷ {factor:,.4g}"] if reduced else []),
        )


def _settings(cell: CellResult, varying: list[str]) -> list[Text]:
    """Return a cell's parameters as texts, of a long list only its beginning and its length."""
    texts = []
    for parameter in varying:
        value = cell.params.get(parameter, "")
        if not isinstance(value, tuple):
            texts.append(_plain(str(value)))
        elif len(value) <= MAX_LISTED:
            texts.append(_plain(", ".join(map(str, value))))
        else:
            texts.append(_plain(f"{value[0]} … ({len(value)})"))
    return texts


def _probabilities(result: Result) -> list[float]:
    """Return which quantiles there are; a cell of which nothing is merged has none yet."""
    estimates = (estimate for cell in result.cells for estimate in cell.outputs.values())
    return sorted({quantile.probability for one in estimates for quantile in one.quantiles})


def _is_reduced(result: Result) -> bool:
    """Say whether anything but plain sampling was done, so that a factor tells something."""
    return result.control_variates or result.sampling == Method.SOBOL


def _interval(estimate: Estimate) -> str:
    if estimate.ci_low is None or estimate.ci_high is None or not estimate.standard_error:
        return "—"
    decimals = min(15, max(0, 1 - math.floor(math.log10(estimate.standard_error))))
    note = "" if estimate.error_reliable else " (error unreliable)"
    return f"{estimate.ci_low:.{decimals}f} … {estimate.ci_high:.{decimals}f}{note}"


def title(result: Result) -> str:
    """Return the line above a result's table."""
    return (
        f"{result.run}: {result.model} {result.state}, seed {result.seed}, {result.sampling}"
        f"{' with control variates' if result.control_variates else ''}, "
        f"{result.elapsed_seconds:.1f} s, {result.cpu_seconds:.1f} s of CPU"
    )


def footnotes(result: Result) -> list[str]:
    """Return the lines below a result's table."""
    parts = [f"digest {result.digest}" if result.digest else f"no digest: {result.state}"]
    if len(result.cells) > MAX_ROWS:
        parts.append(f"{len(result.cells) - MAX_ROWS} more cells: see --json")
    if is_resampled(result.model):
        parts = [*explanations(result), *parts]
    if _probabilities(result):
        parts.append("quantiles are known to 0.8 %, however many samples there are")
    estimates = (estimate for cell in result.cells for estimate in cell.outputs.values())
    if not is_resampled(result.model) and any(map(_is_doubtful, estimates)):
        parts.append(_doubt(result))
    if _is_reduced(result):
        pairs = result.sampling == Method.ANTITHETIC
        against = "pairs without control variates" if pairs else "plain samples"
        parts.append(f"variance of the estimate: divided by so much against as many {against}")
    if len(result.engines) > 1:
        parts.append(f"computed by different engines: {', '.join(result.engines)}")
    if result.error:
        parts.append(result.error)
    return parts


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


def _plain(text: str) -> Text:
    """Return a text that came from elsewhere: neither rich's markup nor a terminal's codes."""
    return Text("".join(c if c.isprintable() else " " for c in text))
