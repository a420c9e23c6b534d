"""The aggregator as a process: session after session, standing by while another is active."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from aggregator.gauges import Gauges
from aggregator.identity import WrongStoreError, check_with_active
from aggregator.metrics import Metrics
from aggregator.session import Office, Session
from aggregator.standings import AUDIT_SHARE
from aggregator.store.sqlite import StaleEpochError, Store
from aggregator.watch import Watch
from aggregator.web.app import serve_http
from protocol.errors import BrokerError, LockedError, StoreError
from protocol.settings import LONGEST_RETRY_SECONDS, RETRY_SECONDS, Broker
from protocol.tls import TlsFiles

log = logging.getLogger("montemq.aggregator")


@dataclass(frozen=True)
class Settings:
    """How an aggregator is run.

    Attributes
    ----------
    http
        Host and port, port 0 for any free one.
    runbook
        The page, in HTML, that the links of alerts lead to, if there is one.
    audit_share
        Of the chunks of a host that is known, computed again on another one.
    oldest_consumer
        The version that consumers must have at least; any if empty.
    http_tls
        To serve over TLS; with an authority there, clients need a certificate.
    """

    broker: Broker
    store: Path
    http: tuple[str, int] = ("127.0.0.1", 0)
    adopt_store: bool = False
    runbook: Path | None = None
    http_tls: TlsFiles | None = None
    audit_share: float = AUDIT_SHARE
    oldest_consumer: str = ""


class Aggregator:
    """The process: what HTTP shows, and the loop of sessions."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics(version("montemq"))
        self.session: Session | None = None
        self.metrics.registry.register(Gauges(lambda: self.session))
        self.standby_for = "starting"
        self.watch = Watch()
        self._adopt = settings.adopt_store
        self._held: int | None = None

    async def run(self, on_ready: Callable[[str], None] = lambda _: None) -> None:
        """Serve until cancelled.

        Parameters
        ----------
        on_ready
            Called with the HTTP address once the first session is active or stands by.

        Raises
        ------
        StoreError
            The store is wrong, unusable, or was taken over by another aggregator.
        BrokerError
            The broker cannot be used at the start; later losses are waited out.
        """
        with Store(self.settings.store) as store, ThreadPoolExecutor(1, "store") as executor:
            async with serve_http(self, self.settings.http, self.settings.http_tls) as address:
                await self._sessions(store, executor, lambda: on_ready(address))

    async def _sessions(
        self, store: Store, executor: ThreadPoolExecutor, on_ready: Callable[[], None]
    ) -> None:
        office = Office(
            store,
            executor,
            self.metrics,
            steady_clock(),
            self.settings.audit_share,
            self.settings.oldest_consumer,
            watch=self.watch,
        )
        failures, ready = 0, False
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(
                    executor, store.check_epoch, self._held
                )
                session = await Session.begin(self.settings.broker, office, adopt=self._adopt)
                self._adopt, failures = False, 0
                self._activate(session)
                if not ready:
                    on_ready()
                    ready = True
                await session.run()
            except LockedError:
                if self.standby_for != "lock":
                    await check_with_active(self.settings.broker, store)
                    log.info("standing by: another aggregator is active")
                self._stand_by("lock")
                if not ready:
                    on_ready()
                    ready = True
                await asyncio.sleep(RETRY_SECONDS)
            except (StaleEpochError, WrongStoreError):
                raise
            except (BrokerError, StoreError) as error:
                if not ready:
                    raise
                self._stand_by("broker" if isinstance(error, BrokerError) else "store")
                delay = min(LONGEST_RETRY_SECONDS, RETRY_SECONDS * 2**failures)
                delay *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter
                failures = min(failures + 1, 10)
                log.warning("%s; trying again in %.1f s", error, delay)
                await asyncio.sleep(delay)
            finally:
                self.session = None
                self.metrics.active.set(0)
                self.metrics.blocked.set(0)
                self.watch.tell_all()

    def _activate(self, session: Session) -> None:
        self.session = session
        self._held = session.ledger.epoch
        self.standby_for = ""
        self.metrics.active.set(1)
        self.metrics.epoch.set(session.ledger.epoch)
        self.watch.tell_all()

    def _stand_by(self, reason: str) -> None:
        self.standby_for = reason
        self.watch.tell_all()


def steady_clock() -> Callable[[], float]:
    """Return a clock in seconds since the epoch that no adjustment of the system's clock moves."""
    wall, monotonic = time.time(), time.monotonic()
    return lambda: wall + time.monotonic() - monotonic
