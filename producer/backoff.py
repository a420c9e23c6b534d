"""How long to wait before the next attempt to use a broker; whoever reconnects has one."""

import asyncio
import random

from protocol.settings import LONGEST_RETRY_SECONDS, RETRY_SECONDS


class Backoff:
    """Doubles from one failure to the next, with jitter, until something succeeds."""

    def __init__(self) -> None:
        self._failures = 0

    def succeeded(self) -> None:
        """Begin anew with the next failure."""
        self._failures = 0

    async def sleep(self) -> None:
        """Wait after a failure."""
        delay = min(LONGEST_RETRY_SECONDS, RETRY_SECONDS * 2 ** min(self._failures, 10))
        self._failures += 1
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
