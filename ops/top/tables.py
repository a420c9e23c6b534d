"""An overview as tables of one line per row, as many as a terminal has room for; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ops.top.overview import Order, Overview, RunLine
from producer.status_table import plain
from protocol.messages import RunState
from protocol.rate import clock_text, short_number
from protocol.resampled import is_resampled
from protocol.result_texts import with_error
from protocol.rpc_messages import Condition, FleetMember
from protocol.sentences import counted

FRAME_LINES = 6
"""Lines of a screen that are no rows: two above, and before each table a free one and its head."""

STATE_STYLES = {
    "running": "green", "finished": "cyan", "failed": "red", "cancelled": "yellow",
    "loading": "yellow", "draining": "yellow", "suspended": "yellow", "lost": "red",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column: its head, whether it stands right, and the width of a screen that has it."""

    name: str
    right: bool = False
    from_width: int = 0


RUN_COLUMNS = (
    Column("run"), Column("state"), Column("model", from_width=100),
    Column("cells", right=True, from_width=120), Column("done", right=True), Column("estimate"),
    Column("samples", right=True, from_width=120), Column("samples/s", right=True),
    Column("left", right=True), Column("pool", from_width=100),
)  # fmt: skip
CONSUMER_COLUMNS = (
    Column("consumer"), Column("host", from_width=100), Column("pool"), Column("state"),
    Column("slots", right=True), Column("busy", right=True), Column("samples/s", right=True),
    Column("seen", right=True),
    Column("version", from_width=70),
)  # fmt: skip


def screen(overview: Overview, order: Order, size: tuple[int, int], notice: str) -> Group:
    """Return what fills a terminal.

    Parameters
    ----------
    overview
        What is known.
    order
        Of the runs that go on.
    size
        Columns and lines of the terminal.
    notice
        What is wrong, in one line; empty while nothing is.
    """
    width, height = size
    runs, consumers = overview.sorted_runs(order), overview.sorted_consumers()
    for_runs, for_consumers = share_out(height - FRAME_LINES, len(runs), len(consumers))
    second = plain(notice or f"q quits, s sorts the runs (now by: {order})")
    second.stylize("bold yellow" if notice else "dim")
    return Group(
        _one_line(Text(summary(overview), style="bold")),
        _one_line(second),
        *tables(overview, runs[:for_runs], consumers[:for_consumers], width),
    )


def snapshot(overview: Overview, order: Order, width: int) -> Group:
    """Return all that is known, whatever its length."""
    runs, consumers = overview.sorted_runs(order), overview.sorted_consumers()
    return Group(Text(summary(overview)), *tables(overview, runs, consumers, width))


def tables(
    overview: Overview, runs: Sequence[RunLine], consumers: Sequence[FleetMember], width: int
) -> list[RenderableType]:
    """Return both tables with these rows."""
    hidden_runs = overview.total_runs + len(overview.ended) - len(runs)
    hidden_consumers = overview.fleet.total - len(consumers)
    run_table, run_columns = _table(RUN_COLUMNS, width, len(runs), hidden_runs)
    for line in runs:
        _add(run_table, run_columns, _run_texts(line))
    consumer_table, columns = _table(CONSUMER_COLUMNS, width, len(consumers), hidden_consumers)
    for member in consumers:
        _add(consumer_table, columns, _consumer_texts(overview, member))
    return [Text(), run_table, Text(), consumer_table]


def fleet_table(members: Sequence[FleetMember]) -> Table:
    """Return one row per consumer, as wide as it needs to be."""
    table = Table()
    for name in ("consumer", "host", "pool", "state", "slots", "busy", "version"):
        table.add_column(name, justify="right" if name in {"slots", "busy"} else "left")
    for member in members:
        table.add_row(
            member.consumer, member.host, member.pool, _member_state(member),
            f"{member.slots:,}", f"{member.busy:,}", member.version,
        )  # fmt: skip
    return table


def share_out(lines: int, runs: int, consumers: int) -> tuple[int, int]:
    """Return how many rows each table gets: half of the lines, and what the other one leaves."""
    lines = max(lines, 0)
    for_consumers = min(consumers, max(lines // 2, lines - runs))
    return min(runs, lines - for_consumers), for_consumers


def summary(overview: Overview) -> str:
    """Return the first line: what goes on, in numbers."""
    going_on = (
        f"{counted(overview.total_runs, 'run')} going on" if overview.total_runs else "no run"
    )
    fleet = f"{counted(overview.consumers, 'consumer')} with {counted(overview.slots, 'slot')}"
    rate = "" if overview.rate is None else f", {short_number(overview.rate)}samples/s"
    return f"montemq: {going_on}, {fleet}, {overview.busy:,} busy{rate}"


def _table(
    columns: Sequence[Column], width: int, shown: int, hidden: int
) -> tuple[Table, list[Column]]:
    fitting = [column for column in columns if width >= column.from_width]
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="reverse", expand=True)
    for number, column in enumerate(fitting):
        cut = f" ({shown:,} of {shown + hidden:,})" if hidden and not number else ""
        # What people named may be long, and shrinks first.
        fixed = column.name not in {"run", "estimate", "consumer", "host"}
        table.add_column(
            Text(column.name + cut, no_wrap=True, overflow="ellipsis"),
            justify="right" if column.right else "left",
            no_wrap=fixed,
            overflow="ellipsis",
        )
    table.add_column(ratio=1)  # takes what is left, so that the head is as wide as the screen
    return table, fitting


def _add(table: Table, columns: Sequence[Column], texts: dict[str, Text]) -> None:
    table.add_row(*(_one_line(texts[column.name]) for column in columns))


def _run_texts(line: RunLine) -> dict[str, Text]:
    run = line.status
    going_on = run.state is RunState.RUNNING
    return {
        "run": Text(run.run),
        "state": _state(run.state),
        "model": Text(run.model),
        "cells": Text(f"{run.cells:,}"),
        "done": Text(f"{line.share:.1%}"),
        "estimate": _estimate(line),
        "samples": Text(f"{run.samples:,}"),
        "samples/s": _rate(line.rate) if going_on else Text(""),
        "left": Text(clock_text(line.left) if going_on else ""),
        "pool": Text(run.pool),
    }


def _estimate(line: RunLine) -> Text:
    """Return the estimate so far, or why there will be none."""
    run = line.status
    if run.error:
        return plain(run.error)
    headline = line.headline
    if headline is None or is_resampled(run.model):
        return Text("")
    value = with_error(headline.mean, headline.standard_error)
    more = f" (cell 0 of {run.cells:,})" if run.cells > 1 else ""
    return Text(f"{headline.output} {value}{more}")


def _consumer_texts(overview: Overview, member: FleetMember) -> dict[str, Text]:
    style = "" if overview.is_well(member) else "yellow"
    return {
        "consumer": Text(member.consumer),
        "host": Text(member.host),
        "pool": Text(member.pool),
        "state": _member_state(member),
        "slots": Text(f"{member.slots:,}"),
        "busy": Text("" if member.state.is_departed else f"{member.busy:,}"),
        "samples/s": Text("") if member.state.is_departed else _rate(member.samples_per_second),
        "seen": Text(f"{overview.silence(member):.0f} s", style=style),
        "version": Text(member.version),
    }


def _rate(rate: float | None) -> Text:
    return Text("—" if rate is None else short_number(rate).strip())


def _member_state(member: FleetMember) -> Text:
    """Return what a consumer does, and where it is suspended, why."""
    why = f": {member.suspended}" if member.state is Condition.SUSPENDED else ""
    return _state(f"{member.state}{why}")


def _state(state: str) -> Text:
    return Text(state, style=STATE_STYLES.get(state.partition(":")[0], ""))


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
