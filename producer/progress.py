"""Shows a run to a person while it goes on: a live bar on a terminal, plain lines elsewhere."""

import time
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from producer.attendant import Update
from protocol.messages import TOLD_AUDITS
from protocol.rate import Rate, clock_text, seconds_left, short_number
from protocol.result_texts import with_error
from protocol.sentences import counted

LINE_SECONDS = 5.0
"""How often a line is printed where there is no terminal."""

FIRST_SECONDS = 1.0
"""How long after the first update no line is printed: the result of a short run says it all."""


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
            TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task: TaskID | None = None
        self._rate = Rate()
        self._pace = Pace()
        self._waiting = False

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self._bar.stop()

    def __call__(self, update: Update) -> None:
        """Show an update."""
        if update.notice is not None:
            self._say(update.notice)
            return
        self._tell_when_nobody_works(update)
        rate = self._rate.of(update.merged_samples, time.monotonic())
        left = seconds_left(update.total_samples - update.merged_samples, rate)
        texts = {
            "estimate": estimate_text(update) if self._with_estimate else "",
            "rate": "" if rate is None else f"{short_number(rate)}samples/s",
            "fleet": fleet_text(update),
            "left": clock_text(left),  # rich's own starts anew whenever the total changes
        }
        if update.waits_for_audits:  # nothing is sampled any more
            texts |= {"rate": "", "left": ""}
        if self._task is None:
            self._task = self._bar.add_task(self._run, total=update.total_samples, **_fields(texts))
        self._bar.update(
            self._task,
            total=update.total_samples,
            completed=update.merged_samples,
            **_fields(texts),
        )
        if not self._console.is_terminal and self._pace.due(time.monotonic()):
            share = update.merged_samples / update.total_samples
            parts = (text for name, text in texts.items() if text and name != "left")
            line = "  ".join([f"{self._run}  {share:6.1%}", *parts])
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _tell_when_nobody_works(self, update: Update) -> None:
        if update.waits and not self._waiting:
            self._say(f"waiting: {update.waits}")
        self._waiting = update.waits is not None

    def _say(self, sentence: str) -> None:
        self._console.print(sentence, style="yellow", highlight=False, markup=False, soft_wrap=True)


class Pace:
    """When the next plain line of a run is due."""

    def __init__(self) -> None:
        self._next: float | None = None

    def due(self, now: float) -> bool:
        """Say whether a line is to be printed now; if so, the next one is due later."""
        if self._next is None:
            self._next = now + FIRST_SECONDS
        if now < self._next:
            return False
        self._next = now + LINE_SECONDS
        return True


def _fields(texts: dict[str, str]) -> dict[str, Any]:
    """Return the texts as rich wants them: free fields beside its own typed ones."""
    return dict(texts)


def estimate_text(update: Update) -> str:
    """Return the first estimate so far, empty before there is one."""
    headline = update.headline
    if headline is None:
        return ""
    return f"{headline.output} {with_error(headline.mean, headline.standard_error)}"


def fleet_text(update: Update) -> str:
    """Return how many consumers and slots are live in the run's pool.

    Where all is computed, what the run still waits for tells more, if there is any slot at all.
    """
    fleet = f"{counted(update.consumers, 'consumer')}, {counted(update.slots, 'slot')}"
    if not update.waits_for_audits:
        return fleet
    least = "at least " if update.audits >= TOLD_AUDITS else ""
    text = f"waiting for another machine to audit {least}{counted(update.audits, 'chunk')}"
    return text if update.slots else f"{text}  {fleet}"
