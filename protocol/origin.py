"""What a service says of where a message comes from: this machine, and its own version."""

import re
import socket
from functools import cache
from importlib.metadata import PackageNotFoundError, version

MAX_HOST = 100
"""Characters, so that a name that is made of it fits a `ConsumerName`."""


@cache
def host_name() -> str:
    """Return what this machine is called, in characters that messages allow."""
    allowed = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")
    return allowed[:MAX_HOST] or "unknown"


def release_of(version_text: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with, to be compared; none where there are none."""
    numbers = re.match(r"\d{1,9}(?:\.\d{1,9})*", version_text)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()


@cache
def software_version() -> str:
    """Return which montemq this is."""
    try:
        return version("montemq")
    except PackageNotFoundError:
        return "unknown"
