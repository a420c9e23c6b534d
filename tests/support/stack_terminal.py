"""A pseudo-terminal for a process under test: its keyboard, its size, and what stands on it."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Iterator

HOME = "\x1b[H"
BYTES = 1 << 16


class Terminal:
    """One pseudo-terminal; `terminal` makes it.

    Attributes
    ----------
    device
        The end that a process gets as standard input and output.
    """

    def __init__(self, columns: int, lines: int) -> None:
        self._keyboard, self.device = pty.openpty()
        self.resize(columns, lines)
        self._before = termios.tcgetattr(self.device)
        self._text = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def take(self) -> None:
        """Become the terminal of this process's session, so that keys send signals."""
        fcntl.ioctl(self.device, termios.TIOCSCTTY, 0)

    def resize(self, columns: int, lines: int) -> None:
        """Change the size, which signals whoever it is the terminal of."""
        fcntl.ioctl(self.device, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._keyboard, keys.encode())

    @property
    def text(self) -> str:
        """All that was written so far."""
        return self._text.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """What stands on the screen: all since the cursor was last sent to its upper left."""
        plain = re.sub(r"\x1b\[(?!H)[0-9;?]*[A-Za-z]", "", self.text)
        return plain.rpartition(HOME)[2].splitlines()

    def shows(self, *texts: str) -> bool:
        """Say whether some line has all the texts."""
        return any(all(text in line for text in texts) for line in self.lines)

    @property
    def is_left(self) -> bool:
        """Whether the first screen is back, with its cursor."""
        left = self.text.rfind("\x1b[?1049l") > self.text.rfind("\x1b[?1049h")
        visible = self.text.rfind("\x1b[?25h") > self.text.rfind("\x1b[?25l")
        return left and visible

    @property
    def echoes(self) -> bool:
        """Whether keys are treated as at first; of use only while its process lives."""
        return termios.tcgetattr(self.device) == self._before

    def close(self) -> None:
        os.close(self.device)  # the reader ends with the last process that has it
        self._reader.join()
        os.close(self._keyboard)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(self._keyboard, BYTES):
                self._text += piece


@contextlib.contextmanager
def terminal(columns: int = 120, lines: int = 30) -> Iterator[Terminal]:
    """Give a terminal; whoever uses it must have ended when the context does."""
    made = Terminal(columns, lines)
    try:
        yield made
    finally:
        made.close()
