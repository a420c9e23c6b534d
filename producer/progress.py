"""Shows a run to a person while it goes on: a live bar on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from producer.session import Update
from producer.tables import with_error

LINE_SECONDS = 5.0
"""How often a line is printed where there is no terminal."""

RATE_SECONDS = 2.0


class ProgressDisplay:
    """A context that shows updates on stderr.

    Parameters
    ----------
    run
        The run's id.
    console
        Where to show them.
    estimate
        Whether to show the first estimate with its standard error: not where that is no accuracy.
    """

    def __init__(self, run: str, console: Console | None = None, *, estimate: bool = True) -> None:
        self._run = run
        self._with_estimate = estimate
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[estimate]}"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[fleet]}"),
            TimeLeft(compact=True),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task: TaskID | None = None
        self._rate = _Rate()
        self._next_line = 0.0
        self._waiting = False

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, update: Update) -> None:
        """Show an update."""
        if update.notice is not None:
            self._console.print(update.notice, style="yellow", highlight=False, markup=False)
        self._tell_when_nobody_works(update)
        rate = self._rate.of(update.merged_samples, time.monotonic())
        texts = {
            "estimate": _estimate(update) if self._with_estimate else "",
            "rate": f"{_short(rate)} samples/s",
            "fleet": _fleet(update),
        }
        if self._task is None:
            self._task = self._bar.add_task(self._run, total=update.total_samples, **_fields(texts))
        self._bar.update(self._task, completed=update.merged_samples, **_fields(texts))
        if not self._console.is_terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            share = update.merged_samples / update.total_samples
            line = "  ".join([f"{self._run}  {share:6.1%}", *(t for t in texts.values() if t)])
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _tell_when_nobody_works(self, update: Update) -> None:
        waiting = not update.slots and update.merged_samples < update.total_samples
        if waiting and not self._waiting:
            self._console.print(
                "waiting: no consumer is live in this run's pool; start `montemq consumer`",
                style="yellow",
                highlight=False,
                markup=False,
            )
        self._waiting = waiting


class _Rate:
    """Samples per second over about the last two seconds."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = []

    def of(self, samples: int, now: float) -> float:
        if not self._points or now - self._points[-1][0] >= RATE_SECONDS / 10:
            self._points.append((now, samples))
        while len(self._points) > 1 and now - self._points[1][0] >= RATE_SECONDS:
            self._points.pop(0)
        since, before = self._points[0]
        return (samples - before) / (now - since) if now > since else 0.0


def _fields(texts: dict[str, str]) -> dict[str, Any]:
    """Return the texts as rich wants them: free fields beside its own typed ones."""
    return dict(texts)


def _estimate(update: Update) -> str:
    headline = update.headline
    if headline is None:
        return ""
    return f"{headline.output} {with_error(headline.mean, headline.standard_error)}"


def _fleet(update: Update) -> str:
    plural = "" if update.consumers == 1 else "s"
    return f"{update.consumers} consumer{plural}, {update.slots} slots"


def _short(number: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g} "
