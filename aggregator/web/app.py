"""HTTP for people, Prometheus, health checks and programs; read-only, on loopback unless told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from aggregator.web.handlers import make_app
from protocol.errors import UsageError
from protocol.tls import TlsFiles

if TYPE_CHECKING:
    from aggregator.service import Aggregator


@asynccontextmanager
async def serve_http(
    aggregator: "Aggregator", address: tuple[str, int], files: TlsFiles | None = None
) -> AsyncIterator[str]:
    """Serve while the context lasts, over TLS with these files; gives the address as a URL.

    Raises
    ------
    UsageError
        The address cannot be listened on.
    """
    host, port = address
    secure = None if files is None else files.for_clients()
    runner = web.AppRunner(make_app(aggregator, host), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=secure)
        try:
            await site.start()
        except OSError as error:
            raise UsageError(f"http = {host}:{port} cannot be listened on: {error}") from error
        bound = runner.addresses[0]
        name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        yield f"{'https' if secure else 'http'}://{name}:{bound[1]}"
    finally:
        await runner.cleanup()
