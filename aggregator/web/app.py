"""HTTP for Prometheus, health checks and programs; read-only, on loopback unless told otherwise."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from protocol.errors import StoreError, UsageError
from protocol.messages import RunState

if TYPE_CHECKING:
    from aggregator.service import Aggregator
    from aggregator.session import Session


@asynccontextmanager
async def serve_http(aggregator: "Aggregator", address: tuple[str, int]) -> AsyncIterator[str]:
    """Serve while the context lasts; gives the address as a URL.

    Raises
    ------
    UsageError
        The address cannot be listened on.
    """
    handlers = _Handlers(aggregator)
    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", handlers.metrics),
            web.get("/healthz", handlers.health),
            web.get("/readyz", handlers.ready),
            web.get("/api/runs", handlers.runs),
            web.get("/api/runs/{run}", handlers.run),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        host, port = address
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise UsageError(f"http = {host}:{port} cannot be listened on: {error}") from error
        bound = runner.addresses[0]
        yield f"http://{bound[0]}:{bound[1]}"
    finally:
        await runner.cleanup()


class _Handlers:
    def __init__(self, aggregator: "Aggregator") -> None:
        self._aggregator = aggregator

    async def metrics(self, _: web.Request) -> web.Response:
        self._refresh()
        body = generate_latest(self._aggregator.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def ready(self, _: web.Request) -> web.Response:
        if self._aggregator.session is not None:
            return web.json_response({"status": "active"})
        waiting = self._aggregator.standby_for
        return web.json_response({"status": "standby", "waiting_for": waiting}, status=503)

    async def runs(self, _: web.Request) -> web.Response:
        ledger = self._session().ledger
        runs = ledger.status(None, self._session().clock())
        return web.json_response([run.model_dump(mode="json") for run in runs])

    async def run(self, request: web.Request) -> web.Response:
        session = self._session()
        try:
            found = await session.result(request.match_info["run"])
        except StoreError as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from None
        if found is None:
            raise web.HTTPNotFound(text="no such run")
        return web.json_response(found.model_dump(mode="json"))

    def _session(self) -> "Session":
        if self._aggregator.session is None:
            raise web.HTTPServiceUnavailable(text="this aggregator stands by")
        return self._aggregator.session

    def _refresh(self) -> None:
        session, metrics = self._aggregator.session, self._aggregator.metrics
        if session is None:
            return
        ledger = session.ledger
        states = Counter(run.status.state for run in ledger.ended.values())
        states[RunState.RUNNING] = len(ledger.active)
        for state in RunState:
            metrics.runs.labels(state.value).set(states[state])
        left = (books.total_blocks - books.merged_blocks for books in ledger.active.values())
        metrics.outstanding.set(sum(left))
        metrics.slots.set(ledger.fleet.slots())
        metrics.consumers.set(ledger.fleet.consumers())
