"""A plan as a table for people, with the terms that it was computed from."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from producer.pilot import Measured
from producer.plan import ENOUGH_EFFICIENCY, FORMULA, SLOTS, WORTH_SECONDS, Plan, SlotsPlan
from producer.plan_cell import Range
from protocol.definition import Definition, Stop
from protocol.sentences import counted

NOTICEABLE_STRETCH = 1.05


def print_plan(measured: Measured, definition: Definition, console: Console | None = None) -> None:
    """Print a plan on stdout."""
    console = console or Console()
    for line in terms(measured, definition):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    console.print(slots_table(measured.plan, definition.stop.seconds))
    for line in conclusions(measured.plan, definition.stop):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def slots_table(plan: Plan, limit: float | None = None) -> Table:
    """Return one row per number of slots, with the samples within a time limit, if any."""
    table = Table()
    ranges = [_between(row.seconds) for row in plan.slots]
    between = ["between"] if any(ranges) else []
    limited = [] if limit is None else [f"samples in {limit:g} s"]
    for name in ("slots", "chunks", "seconds", *between, "speedup", "efficiency", *limited):
        table.add_column(name, justify="right")
    for row, text in zip(plan.slots, ranges, strict=True):
        table.add_row(
            f"{row.slots}", f"{row.chunks:,}", _number(row.seconds.expected),
            *([text] if between else []), f"{row.speedup:.3g}", f"{row.efficiency:.0%}",
            *([] if limit is None else [_number(row.samples.expected)]),
        )  # fmt: skip
    return table


def terms(measured: Measured, definition: Definition) -> Iterator[str]:
    """Yield what was measured, and what follows for one run."""
    plan, cells = measured.plan, len(definition.cells)
    rest = "" if measured.cells == cells else f" ({measured.cells} of them measured)"
    yield (
        f"{definition.model}: {cells:,} cell{'s' * (cells > 1)}{rest} until {_rule(definition)}; "
        f"a pilot of {measured.seconds:.1f} s: {_runs(measured)}"
    )
    limit, on = definition.stop.seconds, counted(plan.live.slots if plan.live else 1, "slot")
    where = "" if limit is None else f", on {on}"
    yield f"samples       {_range(plan.samples)}, at the checkpoints of the definition{where}"
    if plan.cells_short:
        short = counted(plan.cells_short, "cell")
        yield f"              {short} at the sample limit before the target is reached"
    if limit is not None and plan.cells_cut:
        cut = counted(plan.cells_cut, "cell")
        yield f"              {cut} ended by the limit of {limit:g} s at the last checkpoint before"
    yield f"core seconds  {_range(plan.core_seconds)}"
    yield (
        f"serial        {_number(plan.serial_seconds)} s = latency {_number(plan.latency)} s + "
        f"{counted(plan.chunks, 'chunk')} * {_number(plan.seconds_per_chunk)} s: "
        f"{plan.serial_share:.2%} of the time on one slot"
    )
    if plan.stretch > NOTICEABLE_STRETCH:
        yield f"stretch       {plan.stretch:.3g}: so many seconds a slot takes for a CPU second"
    yield FORMULA


def conclusions(plan: Plan, stop: Stop) -> Iterator[str]:
    """Yield what to make of it."""
    limited = stop.seconds is not None
    yield _uncertainty(plan, targeted=stop.has_target)
    if plan.live is None:
        yield "live now: no slot"
    else:
        between = _between(plan.live.seconds)
        live = _on(plan.live, samples=limited)
        yield f"live now: {live}" + (f" ({between})" if between else "")
    yield _enough(plan.enough_slots)
    one, most = _on(plan.slots[0], samples=limited), _on(plan.best, samples=limited)
    if plan.worth_distributing:
        yield f"{one}, {most}: distribute"
    elif plan.saved_seconds < WORTH_SECONDS:
        overhead = min(plan.serial_seconds, plan.slots[0].seconds.expected)
        yield f"{one}, {_number(overhead)} s of it overhead: do not distribute"
    else:
        alone = _number(plan.best.core_seconds.expected)
        yield f"one core alone takes {alone} s, {most}: do not distribute"


def _enough(slots: int) -> str:
    if slots == SLOTS[-1]:
        return f"up to {slots} slots efficiency is at least {ENOUGH_EFFICIENCY:.0%}"
    return f"beyond {counted(slots, 'slot')} efficiency is below {ENOUGH_EFFICIENCY:.0%}"


def _runs(measured: Measured) -> str:
    """Return the ids of the pilot's runs, which differ in the number at their end."""
    return " … ".join(dict.fromkeys((measured.runs[0], measured.runs[-1])))


def _uncertainty(plan: Plan, *, targeted: bool) -> str:
    """Say what the ranges hold, and what they do not."""
    machines = "how fast the machines are may change"
    if plan.cells_cut:
        return f"how many samples there are in time is up to the machines; {machines}"
    if not targeted:
        return f"the number of samples is certain; {machines}"
    if _between(plan.samples):
        return f"only the number of samples is uncertain here, by two standard errors; {machines}"
    return (
        "only the number of samples is uncertain here, and within two standard errors it ends at "
        f"the same checkpoints; {machines}"
    )


def _rule(definition: Definition) -> str:
    stop = definition.stop
    parts = [
        f"{name} {value:g}"
        for name in ("standard_error", "relative_error")
        if (value := getattr(stop, name)) is not None
    ]
    if parts:
        parts = [f"{' and '.join(parts)} of {', '.join(stop.outputs)}"]
    parts.append(f"{definition.blocks * definition.block_size:,} samples")
    if stop.seconds is not None:
        parts.append(f"{stop.seconds:g} s")
    return " or ".join(parts)


def _on(row: SlotsPlan, *, samples: bool) -> str:
    who = "1 slot takes" if row.slots == 1 else f"{row.slots} slots take"
    what = f" for {_number(row.samples.expected)} samples" if samples else ""
    return f"{who} {_number(row.seconds.expected)} s{what}"


def _range(found: Range) -> str:
    text = f"{_number(found.expected)}"
    between = _between(found)
    return f"{text} ({between})" if between else text


def _between(found: Range) -> str:
    """Return a range, empty where both its ends are written alike."""
    low, high = _number(found.low), _number(found.high)
    return "" if low == high else f"{low} … {high}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"  # noqa: PLR2004 - digits
