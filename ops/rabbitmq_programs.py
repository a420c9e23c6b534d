"""Where RabbitMQ's programs are: the system's, or those of another release in a directory.

It starts nothing.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from protocol.errors import UsageError

TREE_VARIABLE = "MONTEMQ_RABBITMQ_TREE"
"""Names a directory with a `usr` that private nodes have instead of the system's."""

SERVER_PLACES = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",  # Debian, Ubuntu, Fedora
    "/opt/rabbitmq/sbin/rabbitmq-server",  # the official container image
    "/usr/local/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
)
"""Where to look before PATH: what Debian has on PATH is a wrapper for the system's own node."""

# A mount namespace of its own: only the program and its children see the other `usr`, data and
# log stay where they are, and the kernel unmounts it when the last of them has ended. Each step
# replaces the one before, which keeps the pid and the death signal.
_ENTER = ("unshare", "--mount", "--propagation", "private", "sh", "-c")
_MOUNTED = 'mount --bind "$0/usr" /usr && exec "$@"'


def rabbitmq_command(program: str = "rabbitmq-server") -> tuple[str, ...]:
    """Return the command line that becomes one of RabbitMQ's programs.

    Raises
    ------
    UsageError
        RabbitMQ is not installed, or not in the directory that `MONTEMQ_RABBITMQ_TREE` names.
    """
    tree = os.environ.get(TREE_VARIABLE)
    if not tree:
        # Beside the server, because what Debian has on PATH wants to be root.
        return (str(Path(find_server()).with_name(program)),)
    place = Path(SERVER_PLACES[0]).with_name(program)
    if not Path(tree, place.relative_to("/")).exists():
        raise UsageError(
            f"{TREE_VARIABLE} = {tree!r} holds no {place}: unset it, or get one with ops/rabbitmq-4"
        )
    return (*_ENTER, _MOUNTED, tree, str(place))


def find_server() -> str:
    """Return the path of the start script of the system's RabbitMQ.

    Raises
    ------
    UsageError
        RabbitMQ is not installed.
    """
    for place in _places():
        path = Path(place).resolve()
        # Debian's wrapper on PATH, which only starts the system's own node, stands alone.
        if os.access(path, os.X_OK) and (path.parent / "rabbitmq-env").exists():
            return str(path)
    raise UsageError(
        "RabbitMQ is not installed: install it with `apt-get install rabbitmq-server` "
        "or from https://www.rabbitmq.com/docs/download"
    )


def _places() -> Iterator[str]:
    yield from SERVER_PLACES
    if on_path := shutil.which("rabbitmq-server"):
        yield on_path
