"""Says what is wrong with a run, and nothing else; what is shown of its progress is not here."""

import sys
from typing import Self

from producer.attendant import Update


class Quiet:
    """A context that stands where a display would show a run or a campaign.

    Each sentence is printed on stderr once, however often it becomes true.
    """

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Do nothing."""

    def __call__(self, update: Update) -> None:
        """Say what is wrong with the run."""
        self._tell("", update)

    def updated(self, name: str, update: Update) -> None:
        """Say what is wrong with a run of a campaign."""
        self._tell(f"{name}: ", update)

    def waits(self, name: str, others: tuple[str, ...]) -> None:
        """Do nothing."""

    def ended(self, name: str, outcome: object) -> None:
        """Do nothing: the end of the campaign tells what went wrong."""

    def _tell(self, prefix: str, update: Update) -> None:
        if update.notice is not None:
            text = prefix + printable(update.notice)
        elif update.waits:
            text = f"{prefix}waiting: {update.waits}"
        else:
            return
        if text not in self._said:
            self._said.add(text)
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - what is wrong is told


def printable(text: str) -> str:
    """Return a text that came from elsewhere without a terminal's codes."""
    return "".join(c if c.isprintable() else " " for c in text)
