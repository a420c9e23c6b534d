"""`montemq top` on a terminal: looks again and again, draws, and goes on when services restart."""

import asyncio
import contextlib
import signal
import time

from ops.top.looking import NAME, look
from ops.top.overview import Looks, Order, Overview
from ops.top.tables import screen
from ops.top.terminal import Terminal
from protocol.amqp_aio import Link
from protocol.errors import BrokerError
from protocol.settings import RETRY_SECONDS, Broker

LOOK_SECONDS = 3.0
"""How long an answer may take before the screen says that nobody answers."""

END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class LiveTop:
    """What fills the terminal until somebody ends it.

    Parameters
    ----------
    broker
        Where to ask.
    interval
        Seconds between two looks.
    order
        Of the runs, to begin with.
    """

    def __init__(self, broker: Broker, interval: float, order: Order) -> None:
        self._broker, self._interval, self._order = broker, interval, order
        self._looks = Looks()
        self._overview: Overview | None = None
        self._at = ""
        self._notice = ""
        self._terminal: Terminal | None = None
        self._leaving = contextlib.ExitStack()
        self._looking: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Show everything until `q`, Ctrl-C or SIGTERM.

        Raises
        ------
        BrokerError
            The broker or the aggregator could not be used at the start; later this is waited out.
        """
        for number in END_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._end)
        with self._leaving:
            self._looking = asyncio.ensure_future(self._look_on())
            with contextlib.suppress(asyncio.CancelledError):  # that is how it ends
                await self._looking

    async def _look_on(self) -> None:
        while True:
            try:
                async with await Link.open(self._broker, NAME) as link:
                    while True:
                        self._take_in(await look(link, self._looks, LOOK_SECONDS))
                        await asyncio.sleep(self._interval)
            except BrokerError as error:
                if self._terminal is None:
                    raise
                self._notice = f"as of {self._at}, trying again: {error}"
                self._draw()
            await asyncio.sleep(RETRY_SECONDS)

    def _take_in(self, overview: Overview) -> None:
        self._overview, self._at, self._notice = overview, time.strftime("%H:%M:%S"), ""
        if self._terminal is None:
            self._terminal = self._leaving.enter_context(Terminal(self._draw, self._pressed))
        self._draw()

    def _draw(self) -> None:
        if self._terminal is not None and self._overview is not None:
            size = self._terminal.size
            self._terminal.show(screen(self._overview, self._order, size, self._notice))

    def _pressed(self, key: str) -> None:
        if key in {"q", "Q", ""}:
            self._end()
        elif key == "s":
            self._order = self._order.next
            self._draw()

    def _end(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        self._terminal = None
        self._leaving.close()  # at once, however long it takes to disconnect
