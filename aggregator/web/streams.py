"""Server-sent events: they tell a page that there is something new, and it asks for it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from aggregator.watch import Watch

HEARTBEAT_SECONDS = 10.0
PAUSE_SECONDS = 0.25
"""Between two events at least."""

STALL_SECONDS = 5.0
"""Who takes nothing for so long is dropped."""

RETRY_MILLISECONDS = 1_000


async def stream(
    request: web.Request, watch: Watch, topic: str, state: Callable[[], dict[str, Any]]
) -> web.StreamResponse:
    """Tell a client of news until it goes, stalls, or the server ends.

    Parameters
    ----------
    request, watch, topic
        Who wants to hear of what.
    state
        Gives what every event says.
    """
    if watch.is_full:
        raise web.HTTPServiceUnavailable(text="too many pages watch: close one, or try again later")
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    )
    with watch.watching(topic) as watcher:
        await response.prepare(request)
        try:
            await _send(response, f"retry: {RETRY_MILLISECONDS}\n\n")
            has_news = True
            while not watcher.ended:
                text = (
                    f"event: news\ndata: {json.dumps(state())}\n\n" if has_news else ": alive\n\n"
                )
                await _send(response, text)
                await asyncio.sleep(PAUSE_SECONDS)
                has_news = await watcher.news(HEARTBEAT_SECONDS)
        except (ConnectionError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
    return response


async def _send(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(STALL_SECONDS):
        await response.write(text.encode())
