"""Tells systemd that a service is ready and alive; nothing happens where systemd does not ask.

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

READY = "READY=1"
ALIVE = "WATCHDOG=1"
PER_PERIOD = 4
"""How often in the watchdog's time the service says that it is alive."""


def notify(word: str) -> None:
    """Tell systemd one thing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        # A leading @ stands for a name in the abstract namespace, which begins with a zero byte.
        sender.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        sender.sendall(word.encode())


def watchdog_seconds() -> float | None:
    """Return after how long silence systemd ends this process, None if it does not."""
    pid, microseconds = (os.environ.get(f"WATCHDOG_{name}", "") for name in ("PID", "USEC"))
    if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1e6 or None


@asynccontextmanager
async def watched() -> AsyncIterator[None]:
    """Tell the watchdog that this event loop turns, while the context lasts."""
    seconds = watchdog_seconds()
    if seconds is None:
        yield
        return

    async def tell() -> None:
        while True:
            notify(ALIVE)
            await asyncio.sleep(seconds / PER_PERIOD)

    task = asyncio.create_task(tell())
    try:
        yield
    finally:
        task.cancel()
