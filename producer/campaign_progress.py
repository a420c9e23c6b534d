"""Shows a campaign to a person while it goes on: one live line per run, plain lines elsewhere."""

import time
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from producer.campaign import Stage
from producer.campaign_session import RunOutcome
from producer.progress import Pace, estimate_text, fleet_text
from producer.quiet import printable
from producer.session import Update
from protocol.resampled import is_resampled
from protocol.result_texts import with_error
from protocol.results import Result

COLOURS = {Stage.FINISHED: "green", Stage.WAITING: "dim", Stage.RUNNING: "default"}
"""Of the stages that are no trouble; all others are red."""


class CampaignDisplay:
    """A context that shows the runs of a campaign on stderr.

    Parameters
    ----------
    models
        The names of all runs in the order of the file, and of their models.
    console
        Where to show them.
    """

    def __init__(self, models: dict[str, str], console: Console | None = None) -> None:
        self._models = models
        self._console = console or Console(stderr=True)
        self._live = self._console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            disable=not self._live,
        )
        self._tasks: dict[str, TaskID] = {}
        self._paces = {name: Pace() for name in models}
        self._waits: dict[str, tuple[str, ...]] = {}
        self._idle: set[str] = set()

    def __enter__(self) -> Self:
        width = max(map(len, self._models))
        for name in self._models:
            self._tasks[name] = self._bars.add_task(f"{name:{width}}", total=None, text="")
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def waits(self, name: str, others: tuple[str, ...]) -> None:
        """Show what a run still waits for, or that it waits for its turn."""
        if self._waits.get(name) != others:
            self._waits[name] = others
            what = f"for {', '.join(others)}" if others else "its turn"
            self._show(name, Stage.WAITING, f"waiting {what}")
            self._line(name, f"waiting {what}")

    def updated(self, name: str, update: Update) -> None:
        """Show a run's progress."""
        if update.notice is not None:
            self._line(name, update.notice, always=True)
            return
        if update.waits and name not in self._idle:
            self._line(name, f"waiting: {update.waits}", always=True)
        (self._idle.add if update.waits else self._idle.discard)(name)
        share = update.merged_samples / update.total_samples
        estimate = "" if is_resampled(self._models[name]) else estimate_text(update)
        text = "  ".join(filter(None, [f"{share:6.1%}", estimate, fleet_text(update)]))
        self._show(name, Stage.RUNNING, text, share)
        if self._paces[name].due(time.monotonic()):
            self._line(name, text)

    def ended(self, name: str, outcome: RunOutcome) -> None:
        """Show how a run ended."""
        if outcome.result is not None and outcome.state is Stage.FINISHED:
            text, share = f"finished  {_first_estimate(outcome.result)}".rstrip(), 1.0
        else:
            text, share = outcome.error or outcome.state.value, 0.0
        self._show(name, outcome.state, text, share)
        self._line(name, text)

    def _show(self, name: str, stage: Stage, text: str, share: float | None = None) -> None:
        """Change a run's live line; a share of None lets the bar be empty."""
        coloured = f"[{COLOURS.get(stage, 'red')}]{escape(printable(text))}[/]"
        self._bars.update(self._tasks[name], total=1.0, completed=share or 0.0, text=coloured)

    def _line(self, name: str, text: str, *, always: bool = False) -> None:
        """Print a line where there is no live one, or where it must not be overwritten."""
        if always or not self._live:
            self._console.print(
                f"{name}: {printable(text)}", markup=False, highlight=False, soft_wrap=True
            )


def _first_estimate(result: Result) -> str:
    """Return the first cell's first estimate, unless it is no accuracy."""
    if is_resampled(result.model):
        return ""
    name, estimate = next(iter(result.cells[0].outputs.items()))
    more = f"  (cell 0 of {len(result.cells)})" if len(result.cells) > 1 else ""
    return f"{name} {with_error(estimate.mean, estimate.standard_error)}{more}"
