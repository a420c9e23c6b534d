"""A ledger and a store that are served over HTTP, with no broker behind them."""

import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from aggregator.ledger import Ledger
from aggregator.service import Aggregator, Settings
from aggregator.session import Office, Session
from aggregator.store.sqlite import Store
from aggregator.web.app import serve_http
from protocol.amqp_aio import Link
from protocol.settings import Broker

NOW = 1_000.0
NO_LINK = cast("Link", None)
"""HTTP never touches the broker."""


@dataclass
class Served:
    url: str
    aggregator: Aggregator
    session: Session
    store: Store
    client: aiohttp.ClientSession

    @property
    def ledger(self) -> Ledger:
        return self.session.ledger

    async def get(self, path: str) -> tuple[int, str]:
        url = URL(self.url + path, encoded=True)
        async with self.client.get(url) as answer:
            return answer.status, await answer.text()

    async def json(self, path: str) -> tuple[int, Any]:
        status, text = await self.get(path)
        return status, json.loads(text)

    async def metrics(self) -> dict[str, float]:
        status, text = await self.get("/metrics")
        assert status == 200
        samples = (s for family in text_string_to_metric_families(text) for s in family.samples)
        return {
            name + (str(sorted(labels.values())) if labels else ""): value
            for name, labels, value, *_ in samples
        }

    def commit(self) -> None:
        self.store.commit(self.ledger.take_changes(), self.ledger.epoch)


@asynccontextmanager
async def serving(folder: Path, host: str = "127.0.0.1") -> AsyncIterator[Served]:
    """Serve the store in a folder while the context lasts; its clock stands still."""
    path = folder / "s.sqlite"
    aggregator = Aggregator(Settings(Broker("127.0.0.1", 1, "u", "p", "/"), path))
    with Store(path) as store, ThreadPoolExecutor(1) as executor:
        office = Office(store, executor, aggregator.metrics, lambda: NOW, watch=aggregator.watch)
        ledger = Ledger(store.take_over(), store.active_runs(), store.ended_runs(), store.names())
        aggregator.session = session = Session(NO_LINK, NO_LINK, ledger, office)
        async with serve_http(aggregator, (host, 0)) as url, aiohttp.ClientSession() as client:
            yield Served(url, aggregator, session, store, client)
