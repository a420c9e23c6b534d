"""A whole aggregator within the test's own process, and what it says of itself over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import aiormq
from prometheus_client.parser import text_string_to_metric_families

from aggregator.service import Aggregator, Settings
from protocol.amqp_aio import Link
from protocol.rpc_messages import Status, StatusRequest
from protocol.settings import Broker

SECONDS = 20.0


@dataclass
class Running:
    """An aggregator that serves, and a link to the broker beside it."""

    service: Aggregator
    url: str
    link: Link

    async def metrics(self) -> str:
        """Return what Prometheus would read."""
        async with aiohttp.ClientSession() as client, client.get(f"{self.url}/metrics") as answer:
            return await answer.text()

    async def rejected(self) -> dict[str, float]:
        """Return how many messages were refused, by reason."""
        return {
            sample.labels["reason"]: sample.value
            for family in text_string_to_metric_families(await self.metrics())
            for sample in family.samples
            if sample.name == "montemq_messages_rejected_total" and sample.value
        }

    async def send(self, exchange: str, key: str, body: bytes, **properties: Any) -> None:
        """Publish whatever bytes."""
        async with self.link._aside() as channel:
            await channel.basic_publish(
                body,
                exchange=exchange,
                routing_key=key,
                properties=aiormq.spec.Basic.Properties(**properties),
            )

    async def ask(self, within: float = SECONDS) -> Status:
        """Ask for the status of all runs."""
        answer: Status = await self.link.call(StatusRequest(), Status, within)
        return answer


@asynccontextmanager
async def running(
    broker: Broker, store: Path, *, adopt_store: bool = False
) -> AsyncIterator[Running]:
    """Run an aggregator in this process while the context lasts."""
    service = Aggregator(Settings(broker, store, adopt_store=adopt_store))
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(service.run(ready.set_result))
    try:
        async with asyncio.timeout(SECONDS):
            await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        async with await Link.open(broker, "test") as link:
            yield Running(service, ready.result(), link)
    finally:
        task.cancel()
        await asyncio.wait({task})
