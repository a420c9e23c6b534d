"""The runs that there are as a table for people; their results are in `producer.tables`."""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from protocol.rpc_messages import RunStatus, Status
from protocol.sentences import counted

WIDTH = 200


def print_status(status: Status) -> None:
    """Print runs on stdout."""
    console().print(status_table(status))


def console() -> Console:
    """Return a console on stdout; without a terminal lines are as long as they need to be."""
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def status_table(status: Status) -> Table:
    """Return one row per run."""
    consumers = counted(status.consumers, "live consumer")
    caption = f"{consumers} with {counted(status.slots, 'slot')}"
    if older := status.total - len(status.runs):
        caption += f"; {older:,} older runs are left out: see --limit and --state"
    table = Table(caption=caption, caption_justify="left")
    for name, right in (
        ("run", False), ("state", False), ("model", False), ("cells", True), ("samples", True),
        ("done", True), ("seconds", True), ("pool", False), ("lane", False), ("error", False),
    ):  # fmt: skip
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for run in status.runs:
        table.add_row(
            run.run, run.state, run.model, f"{run.cells:,}", f"{run.samples:,}",
            f"{_share(run):.1%}", f"{run.elapsed_seconds:.1f}",
            run.pool, run.lane, plain(run.error or ""),
        )  # fmt: skip
    return table


def _share(run: RunStatus) -> float:
    """Return how much of a run is done; a time limit may have ended it before anything was."""
    return run.samples / run.total_samples if run.total_samples else 1.0


def plain(text: str) -> Text:
    """Return a text that came from elsewhere: neither rich's markup nor a terminal's codes."""
    return Text("".join(c if c.isprintable() else " " for c in text))
