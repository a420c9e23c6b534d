"""What people see of tables and the like, without a terminal."""

import io

from rich.console import Console


def drawn(what: object, width: int = 160) -> list[str]:
    """Return the lines that something takes on paper of this width."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(what)
    return file.getvalue().splitlines()
