"""Tells the aggregator what a producer does for the runs that it leads; no run waits for that.

Who leads nothing says nothing, and whoever the broker does not let speak goes on without.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from producer.tally import Tally
from protocol import topology
from protocol.amqp_aio import Link
from protocol.errors import BrokerError, BrokerRefusedError, TopologyMissingError
from protocol.messages import Leader
from protocol.origin import host_name, software_version

log = logging.getLogger("montemq.producer")

TELL_SECONDS = 2.0
PATIENCE_SECONDS = 1.0
"""How long a word may take: the end of a run waits for the last one."""

Listener = Callable[[Leader, bool], None]
"""Called every two seconds with what there is to say, and whether the broker blocks it."""


class Meter:
    """One producer's voice, over one connection after the other.

    Parameters
    ----------
    listener
        Who hears within this process, also what the broker does not take.

    Attributes
    ----------
    tally
        What the attendants of its runs count.
    """

    def __init__(self, listener: Listener | None = None) -> None:
        self.tally = Tally()
        self._listener = listener
        self._host = host_name()
        self._leader = f"{self._host}-{secrets.token_hex(3)}"
        self._first = True
        self._leads = False  # as last told
        self._told = self.tally.totals(0)
        self._blockings = 0  # of earlier connections
        self._refused_by: Link | None = None

    @asynccontextmanager
    async def telling(self, link: Link) -> AsyncIterator[None]:
        """Tell over a link while the context lasts, and at its end that this producer stops."""
        telling = asyncio.create_task(self._tell(link))
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.wait({telling})
            await self._say(link)
            self._blockings += link.blockings

    async def _tell(self, link: Link) -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            await self._say(link)

    async def _say(self, link: Link) -> None:
        """Say what has changed, or that this producer leads; a listener hears everything."""
        word = self._word(link)
        if self._listener is not None:
            self._listener(word, link.blocked)
        if word.stopped and not self._leads and word.totals == self._told:
            return
        if link.blocked or link.closed.is_set() or link is self._refused_by:
            return
        # Whether it arrives or not: what is lost is not counted, what counts twice would be wrong.
        self._first, self._leads, self._told = False, not word.stopped, word.totals
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await link.tell(topology.TELEMETRY, link.broker.user, word)
        except (BrokerRefusedError, TopologyMissingError) as error:
            self._refused_by = link
            log.info("no metrics of this producer reach the aggregator: %s", error)
        except (BrokerError, TimeoutError):
            pass  # whoever owns the link notices what is wrong with it

    def _word(self, link: Link) -> Leader:
        tally = self.tally
        return Leader(
            leader=self._leader,
            host=self._host,
            version=software_version(),
            first=self._first,
            stopped=not tally.led,
            runs=len(tally.led),
            window=tally.window,
            outstanding=tally.outstanding,
            unconfirmed=tally.unconfirmed,
            totals=tally.totals(self._blockings + link.blockings),
        )
