"""The terminal while something fills it: another screen, keys one by one, and all put back."""

import asyncio
import contextlib
import os
import signal
import termios
import tty
from collections.abc import Callable
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.live import Live

STDIN = 0


class Terminal:
    """A context that owns stdout's screen, and stdin's keys where stdin is a terminal.

    Ctrl-Z gives the terminal back until the shell says `fg`.

    Parameters
    ----------
    draw
        Called when the size has changed, or the screen is ours again.
    pressed
        Called with each key; with an empty text once there will be no more keys.
    """

    def __init__(self, draw: Callable[[], None], pressed: Callable[[str], None]) -> None:
        self._draw, self._pressed = draw, pressed
        self._console = Console()
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._keys = STDIN if os.isatty(STDIN) else None
        self._before: list[Any] = []

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        return self._console.size

    def show(self, what: RenderableType) -> None:
        """Fill the screen."""
        self._live.update(what, refresh=True)

    def __enter__(self) -> Self:
        self._take()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._draw)
        loop.add_signal_handler(signal.SIGTSTP, self._rest)
        if self._keys is not None:
            loop.add_reader(self._keys, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        if self._keys is not None:
            loop.remove_reader(self._keys)
        for number in (signal.SIGWINCH, signal.SIGTSTP):
            loop.remove_signal_handler(number)
        self._give_back()

    def _take(self) -> None:
        if self._keys is not None:
            self._before = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)
        self._live.start()

    def _give_back(self) -> None:
        with contextlib.suppress(OSError, termios.error):  # it may be gone
            self._live.stop()
            if self._keys is not None:
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)

    def _rest(self) -> None:
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self._draw()

    def _read(self) -> None:
        assert self._keys is not None  # noqa: S101 - else nobody reads
        try:
            keys = os.read(self._keys, 64).decode(errors="replace")
        except OSError:  # the terminal is gone
            keys = ""
        if not keys:
            asyncio.get_running_loop().remove_reader(self._keys)
        for key in keys or [""]:
            self._pressed(key)
